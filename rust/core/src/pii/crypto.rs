//! Bitcoin and Ethereum addresses, proved by their checksums.
//!
//! Bitcoin: `Base58Check` of version 0 or 5 (BIP 13), Bech32 and Bech32m (BIP 173, 350).
//! Ethereum: `0x` and forty hexadecimal digits, with the checksum of EIP-55 where both
//! cases occur. They are anchored on a digit: the `1` or `3`, the `1` of `bc1`, the `0`.

use sha2::{Digest, Sha256};
use tiny_keccak::{Hasher, Keccak};

use super::bytes::{before, byte, ends_word, run, starts_word};

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Generator of the Bech32 checksum (BIP 173).
const GENERATOR: [u32; 5] = [0x3B6A_57B2, 0x2650_8E6D, 0x1EA1_19FA, 0x3D42_33DD, 0x2A14_62B3];

/// Start and end of an address whose first digit stands at `digit`.
pub(super) fn span(text: &str, digit: usize) -> Option<(usize, usize)> {
    match (byte(text, digit), before(text, digit, 1).to_ascii_lowercase()) {
        (b'1', b'c' | b'b') => segwit(text, digit.checked_sub(2)?),
        (b'1' | b'3', _) => base58_check(text, digit),
        (b'0', _) if byte(text, digit + 1) == b'x' => ethereum(text, digit),
        _ => None,
    }
}

fn whole_word(text: &str, start: usize, length: usize) -> Option<(usize, usize)> {
    (starts_word(text, start) && ends_word(text, start + length)).then_some((start, start + length))
}

fn base58_check(text: &str, start: usize) -> Option<(usize, usize)> {
    let length = run(text, start, 36, |byte| byte.is_ascii_alphanumeric());
    if !(26..=35).contains(&length) {
        return None;
    }
    let mut decoded = [0_u8; 25];
    for byte in &text.as_bytes()[start..start + length] {
        let mut carry = BASE58.iter().position(|digit| digit == byte)?;
        for place in decoded.iter_mut().rev() {
            carry += usize::from(*place) * 58;
            (*place, carry) = (carry as u8, carry >> 8);
        }
        if carry > 0 {
            return None;
        }
    }
    let sum = Sha256::digest(Sha256::digest(&decoded[..21]));
    (matches!(decoded[0], 0 | 5) && sum[..4] == decoded[21..])
        .then(|| whole_word(text, start, length))
        .flatten()
}

fn segwit(text: &str, start: usize) -> Option<(usize, usize)> {
    let length = run(text, start, 91, |byte| byte.is_ascii_alphanumeric());
    if !matches!(length, 42 | 62) {
        return None; // a key hash and a script or taproot output: all that are in use
    }
    let address = &text[start..start + length];
    if address.bytes().any(|byte| byte.is_ascii_lowercase())
        && address.bytes().any(|byte| byte.is_ascii_uppercase())
    {
        return None;
    }
    let (prefix, data) = address.split_at(2);
    let prefix = prefix.to_ascii_lowercase();
    if prefix != "bc" && prefix != "tb" {
        return None;
    }
    let high = prefix.bytes().map(|byte| byte >> 5).chain([0]);
    let mut sum = high.chain(prefix.bytes().map(|byte| byte & 31)).fold(1, add_to_checksum);
    for byte in data[1..].bytes() {
        let value = BECH32.iter().position(|digit| *digit == byte.to_ascii_lowercase())?;
        sum = add_to_checksum(sum, value as u8);
    }
    matches!(sum, 1 | 0x2BC8_30A3).then(|| whole_word(text, start, length)).flatten()
}

fn add_to_checksum(sum: u32, value: u8) -> u32 {
    let shifted = (sum & 0x01FF_FFFF) << 5 ^ u32::from(value);
    let top = sum >> 25;
    GENERATOR
        .iter()
        .enumerate()
        .filter(|(bit, _)| top >> bit & 1 == 1)
        .fold(shifted, |sum, (_, term)| sum ^ term)
}

fn ethereum(text: &str, start: usize) -> Option<(usize, usize)> {
    if run(text, start + 2, 41, |byte| byte.is_ascii_hexdigit()) != 40 {
        return None;
    }
    let hex = &text.as_bytes()[start + 2..start + 42];
    let distinct = hex.iter().fold(0_u128, |seen, byte| seen | 1 << (byte & 127)).count_ones();
    let mixed = hex.iter().any(u8::is_ascii_lowercase) && hex.iter().any(u8::is_ascii_uppercase);
    let proved = distinct > 4 && (!mixed || has_case_checksum(hex));
    proved.then(|| whole_word(text, start, 42)).flatten()
}

/// EIP-55: a letter is upper case where the hash of the address has a nibble above 7.
fn has_case_checksum(hex: &[u8]) -> bool {
    let mut hash = [0; 32];
    let mut keccak = Keccak::v256();
    keccak.update(&hex.to_ascii_lowercase());
    keccak.finalize(&mut hash);
    hex.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphabetic()).all(|(index, byte)| {
        let nibble = hash[index / 2] >> (4 * (1 - index % 2)) & 15;
        byte.is_ascii_uppercase() == (nibble > 7)
    })
}
