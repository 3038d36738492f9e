//! The kinds of personal data, in the order of their precedence.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// A kind of personal data. Where two overlap, the one that stands first here is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A key, token, password or private key.
    Secret,
    /// An email address.
    Email,
    /// The address of a Bitcoin or Ethereum account.
    Crypto,
    /// An international bank account number.
    Iban,
    /// The number of a payment card.
    Card,
    /// An IPv6 address.
    Ipv6,
    /// The hardware address of a network interface.
    Mac,
    /// An IPv4 address.
    Ipv4,
    /// A social security number of the United States.
    Ssn,
    /// A telephone number.
    Phone,
}

/// What is said of a kind elsewhere.
pub struct KindRow {
    /// The kind.
    pub kind: Kind,
    /// Its key in a configuration.
    pub name: &'static str,
    /// What `placeholder` writes.
    pub tag: &'static str,
    /// Why `drop` rejects a document.
    pub reason: &'static str,
}

const fn row(kind: Kind, name: &'static str, tag: &'static str, reason: &'static str) -> KindRow {
    KindRow { kind, name, tag, reason }
}

/// All kinds, in the order of [`Kind`].
pub static KINDS: [KindRow; 10] = [
    row(Kind::Secret, "secret", "[SECRET]", "pii_secret"),
    row(Kind::Email, "email", "[EMAIL]", "pii_email"),
    row(Kind::Crypto, "crypto", "[CRYPTO]", "pii_crypto"),
    row(Kind::Iban, "iban", "[IBAN]", "pii_iban"),
    row(Kind::Card, "card", "[CARD]", "pii_card"),
    row(Kind::Ipv6, "ipv6", "[IP]", "pii_ipv6"),
    row(Kind::Mac, "mac", "[MAC]", "pii_mac"),
    row(Kind::Ipv4, "ipv4", "[IP]", "pii_ipv4"),
    row(Kind::Ssn, "ssn", "[SSN]", "pii_ssn"),
    row(Kind::Phone, "phone", "[PHONE]", "pii_phone"),
];

impl Kind {
    /// The key of the kind in a configuration, as in `email`.
    pub fn name(self) -> &'static str {
        KINDS[self as usize].name
    }

    /// The typed placeholder, as in `[EMAIL]`.
    pub fn tag(self) -> &'static str {
        KINDS[self as usize].tag
    }

    /// The reason of a document that is dropped for it, as in `pii_email`.
    pub fn reason(self) -> &'static str {
        KINDS[self as usize].reason
    }
}

/// Matches of each kind, on which any action was taken, counting included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindCounts([u64; KINDS.len()]);

impl KindCounts {
    /// Matches of `kind`.
    pub fn get(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Adds matches of one kind.
    pub fn add(&mut self, kind: Kind, count: u64) {
        self.0[kind as usize] += count;
    }

    /// Adds the counts of another thread or file.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    /// Name and count of the kinds that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        KINDS.iter().zip(self.0).filter(|(_, count)| *count > 0).map(|(row, count)| (row.name, count))
    }
}

impl Serialize for KindCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, count) in self.iter() {
            map.serialize_entry(name, &count)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_precedence() {
        for (index, row) in KINDS.iter().enumerate() {
            assert_eq!(row.kind as usize, index);
            assert_eq!(row.reason, format!("pii_{}", row.name));
        }
    }
}
