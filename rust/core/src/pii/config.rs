//! The configuration of a policy: one key a kind, strict.
//!
//! ```toml
//! [pii]
//! default = "placeholder"
//! email = "pseudonym"
//! phone = { action = "mask", regions = ["US", "GB"] }
//! ipv4 = { action = "placeholder", public_only = true }
//! ssn = "off"
//! key_env = "TRIPTYCH_PII_KEY"
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::action::Action;
use super::kind::Kind;

/// What to do with each kind, and where the key of pseudonyms is (never the key itself).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Action of the kinds that are not named; `off` unless set.
    pub default: Action,
    /// Keys, tokens and passwords.
    #[serde(deserialize_with = "setting")]
    pub secret: Option<KindSetting>,
    /// Email addresses.
    #[serde(deserialize_with = "setting")]
    pub email: Option<EmailSetting>,
    /// Bitcoin and Ethereum addresses.
    #[serde(deserialize_with = "setting")]
    pub crypto: Option<KindSetting>,
    /// Bank account numbers.
    #[serde(deserialize_with = "setting")]
    pub iban: Option<KindSetting>,
    /// Payment cards.
    #[serde(deserialize_with = "setting")]
    pub card: Option<KindSetting>,
    /// IPv6 addresses.
    #[serde(deserialize_with = "setting")]
    pub ipv6: Option<KindSetting>,
    /// Hardware addresses.
    #[serde(deserialize_with = "setting")]
    pub mac: Option<KindSetting>,
    /// IPv4 addresses.
    #[serde(deserialize_with = "setting")]
    pub ipv4: Option<Ipv4Setting>,
    /// Social security numbers of the United States.
    #[serde(deserialize_with = "setting")]
    pub ssn: Option<KindSetting>,
    /// Telephone numbers.
    #[serde(deserialize_with = "setting")]
    pub phone: Option<PhoneSetting>,
    /// Environment variable that holds the key of pseudonyms.
    pub key_env: Option<String>,
    /// File that holds the key of pseudonyms.
    pub key_file: Option<PathBuf>,
    /// Twelve hexadecimal digits that tell this key from others and give nothing of it away. A run notes them, so
    /// that none goes on with another key; who sets them is told of a wrong key before any work is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_check: Option<String>,
}

/// A kind without options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindSetting {
    /// What to do.
    pub action: Action,
}

/// Email, with its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSetting {
    /// What to do.
    pub action: Action,
    /// Also take `name at host dot org` and `name [at] host [dot] org`.
    #[serde(default)]
    pub obfuscated: bool,
}

/// IPv4, with its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipv4Setting {
    /// What to do.
    pub action: Action,
    /// Leave private, loopback, documentation and other special addresses.
    #[serde(default)]
    pub public_only: bool,
}

/// Telephone numbers, with their options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhoneSetting {
    /// What to do.
    pub action: Action,
    /// Regions (ISO 3166-1) whose national forms are taken; international ones always are.
    #[serde(default = "default_regions")]
    pub regions: Vec<String>,
}

/// English, German, French, Spanish, Italian, Portuguese and Dutch are spoken here, and in India.
fn default_regions() -> Vec<String> {
    ["US", "GB", "AU", "IN", "DE", "FR", "ES", "IT", "NL", "PT"].map(str::to_owned).to_vec()
}

impl From<Action> for KindSetting {
    fn from(action: Action) -> Self {
        Self { action }
    }
}

impl From<Action> for EmailSetting {
    fn from(action: Action) -> Self {
        Self { action, obfuscated: false }
    }
}

impl From<Action> for Ipv4Setting {
    fn from(action: Action) -> Self {
        Self { action, public_only: false }
    }
}

impl From<Action> for PhoneSetting {
    fn from(action: Action) -> Self {
        Self { action, regions: default_regions() }
    }
}

impl PolicyConfig {
    /// Every kind, with the same action.
    pub fn all(action: Action) -> Self {
        Self { default: action, ..Self::default() }
    }

    /// The action of each kind, in the order of [`super::KINDS`].
    pub(super) fn action(&self, kind: Kind) -> Action {
        let plain = |setting: &Option<KindSetting>| setting.as_ref().map(|setting| setting.action);
        let named = match kind {
            Kind::Secret => plain(&self.secret),
            Kind::Email => self.email.as_ref().map(|setting| setting.action),
            Kind::Crypto => plain(&self.crypto),
            Kind::Iban => plain(&self.iban),
            Kind::Card => plain(&self.card),
            Kind::Ipv6 => plain(&self.ipv6),
            Kind::Mac => plain(&self.mac),
            Kind::Ipv4 => self.ipv4.as_ref().map(|setting| setting.action),
            Kind::Ssn => plain(&self.ssn),
            Kind::Phone => self.phone.as_ref().map(|setting| setting.action),
        };
        named.unwrap_or(self.default)
    }

    pub(super) fn regions(&self) -> Vec<String> {
        self.phone.as_ref().map_or_else(default_regions, |setting| setting.regions.clone())
    }
}

/// Reads `"action"`, or a table of an action and options.
fn setting<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de> + From<Action>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(SettingVisitor(PhantomData))
}

struct SettingVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + From<Action>> Visitor<'de> for SettingVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an action, as \"placeholder\", or a table, as { action = \"mask\" }")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Option<T>, E> {
        Action::deserialize(name.into_deserializer())
            .map(|action| Some(T::from(action)))
            .map_err(|error: E| E::custom(error))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some).map_err(A::Error::custom)
    }
}
