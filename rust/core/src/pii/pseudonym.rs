//! Keyed pseudonyms: the same value has the same pseudonym in every document.
//!
//! HMAC-SHA-256 (RFC 2104) over the kind and the normalised value, so neither order nor
//! threads matter, and without the key a pseudonym can neither be reversed nor tested
//! against a guess. Each has a form that its finder never takes, so that replacing twice
//! changes nothing: `user-…@example.org`, the calling code 999, the networks 240/8 and
//! `3fff::/20`, hardware addresses of 02:00:00, cards and SSNs that begin with 0.

use std::fmt::Write as _;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::kind::Kind;
use crate::error::{Error, Result};

const BLOCK_BYTES: usize = 64;
const MIN_KEY_BYTES: usize = 16;

/// A key, ready to use. It is never shown: not by `Debug`, not in an error.
#[derive(Clone)]
pub(super) struct Key {
    inner: Sha256,
    outer: Sha256,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// The key in the environment variable `name`.
    pub(super) fn from_env(name: &str) -> Result<Self> {
        let key = std::env::var_os(name).unwrap_or_default();
        Self::checked(key.as_encoded_bytes(), &format!("environment variable `{name}`"))
    }

    /// The key in a file; line ends at its end do not count.
    pub(super) fn from_file(path: &Path) -> Result<Self> {
        let key = std::fs::read(path).map_err(Error::io("read the key of pseudonyms in", path))?;
        let end = key.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |at| at + 1);
        Self::checked(&key[..end], &format!("file `{}`", path.display()))
    }

    fn checked(key: &[u8], place: &str) -> Result<Self> {
        if key.len() < MIN_KEY_BYTES {
            return Err(Error::InvalidValue {
                what: format!("key of pseudonyms in {place}"),
                expected: format!("at least {MIN_KEY_BYTES} bytes"),
                found: format!("{} bytes", key.len()),
            });
        }
        Ok(Self::new(key))
    }

    pub(super) fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK_BYTES];
        if key.len() > BLOCK_BYTES {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let begun = |pad: u8| Sha256::new().chain_update(block.map(|byte| byte ^ pad));
        Self { inner: begun(0x36), outer: begun(0x5C) }
    }

    fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let inner = parts.iter().fold(self.inner.clone(), Sha256::chain_update);
        self.outer.clone().chain_update(inner.finalize()).finalize().into()
    }

    /// What tells this key from others: the hash of a text that is no value of any kind, cut to 48 bits.
    pub(super) fn check(&self) -> String {
        let hash = self.hmac(&[b"key check"]);
        hash[..6].iter().fold(String::new(), |check, byte| check + &format!("{byte:02x}"))
    }

    /// Appends the pseudonym of `value`.
    pub(super) fn write(&self, kind: Kind, value: &str, out: &mut String) {
        let hash = self.hmac(&[kind.name().as_bytes(), &[0], normalized(kind, value).as_bytes()]);
        let number =
            u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]);
        let digits = number % 10_000_000_000;
        let written = match kind {
            Kind::Email => write!(out, "user-{number:016x}@example.org"),
            Kind::Phone => write!(out, "+999-{:05}-{:05}", digits / 100_000, digits % 100_000),
            Kind::Ssn => write!(out, "000-{:02}-{:04}", digits / 10_000 % 100, digits % 10_000),
            Kind::Card => write!(
                out,
                "0000-{:04}-{:04}-{:04}",
                number >> 40 & 0xFFF,
                digits / 10_000 % 10_000,
                digits % 10_000
            ),
            Kind::Ipv4 => write!(out, "240.{}.{}.{}", hash[0], hash[1], hash[2]),
            Kind::Ipv6 => {
                write!(out, "3fff:{:x}:{:x}:{:x}::1", number >> 52, number >> 16 & 0xFFFF, number & 0xFFFF)
            }
            Kind::Mac => write!(out, "02:00:00:{:02x}:{:02x}:{:02x}", hash[0], hash[1], hash[2]),
            Kind::Iban => write!(out, "XX00TRIP{number:016X}"),
            Kind::Crypto => write!(out, "wallet-{number:016x}"),
            Kind::Secret => write!(out, "secret-{number:016x}"),
        };
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }
}

/// The value as it is the same in all its spellings.
fn normalized(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Email => value.to_lowercase(),
        Kind::Phone => value.chars().filter(|char| char.is_ascii_digit() || *char == '+').collect(),
        Kind::Card | Kind::Ssn => value.chars().filter(char::is_ascii_digit).collect(),
        Kind::Iban => {
            value.chars().filter(char::is_ascii_alphanumeric).map(|char| char.to_ascii_uppercase()).collect()
        }
        Kind::Mac => {
            value.chars().filter(char::is_ascii_hexdigit).map(|char| char.to_ascii_lowercase()).collect()
        }
        Kind::Ipv6 => value
            .parse::<std::net::Ipv6Addr>()
            .map_or_else(|_| value.to_owned(), |address| address.to_string()),
        Kind::Ipv4 | Kind::Crypto | Kind::Secret => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_hmac_sha_256() {
        // RFC 4231, test cases 2 and 6: a short key, and one longer than a block.
        let short = Key::new(b"Jefe").hmac(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(short[..4], [0x5B, 0xDC, 0xC1, 0x46]);
        let long = Key::new(&[0xAA; 131]).hmac(&[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(long[..4], [0x60, 0xE4, 0x31, 0x59]);
    }

    #[test]
    fn spellings_of_one_value_share_a_pseudonym_and_the_key_decides_it() {
        let write = |key: &[u8], kind, value| {
            let mut out = String::new();
            Key::new(key).write(kind, value, &mut out);
            out
        };
        let key = b"0123456789abcdef";
        assert_eq!(write(key, Kind::Email, "Joe@X.com"), write(key, Kind::Email, "joe@x.com"));
        assert_eq!(write(key, Kind::Card, "4111 1111 1111 1111"), write(key, Kind::Card, "4111111111111111"));
        assert_eq!(write(key, Kind::Ipv6, "fe80:0::1"), write(key, Kind::Ipv6, "fe80::1"));
        assert_ne!(
            write(key, Kind::Email, "joe@x.com"),
            write(b"0123456789abcdeF", Kind::Email, "joe@x.com")
        );
    }

    #[test]
    fn a_short_key_is_an_error_that_does_not_show_it() {
        let error = Key::checked(b"hunter2", "file `k`").unwrap_err().to_string();
        assert!(error.contains("at least 16 bytes") && !error.contains("hunter2"), "{error}");
        assert_eq!(format!("{:?}", Key::new(b"hunter2")), "Key");
    }
}
