//! What serde says of a setting that it cannot read, as an error that says what to write.

use serde_json::Value;

use crate::error::{Error, Result};

/// Types as serde calls them, and as people do.
const TYPES: [(&str, &str); 7] = [
    ("usize", "a whole number, at least 0"),
    ("u64", "a whole number, at least 0"),
    ("f64", "a number"),
    ("f32", "a number"),
    ("struct ", "a table"),
    ("a sequence", "a list"),
    ("a boolean", "true or false"),
];

/// The error for a value `found` of the key `key`, of which serde says `message`.
pub(crate) fn wrong(key: &str, found: &str, message: &str) -> Error {
    let (what, expected) = message.rsplit_once(", expected ").unwrap_or(("", message));
    let unknown = |kind: &str| what.strip_prefix(kind).map(|name| name.trim_matches('`'));
    if let Some(name) = unknown("unknown field ") {
        return unknown_name("key", key, name, expected);
    }
    if let Some(name) = unknown("unknown variant ") {
        return unknown_name("value", key, name, expected);
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return invalid(key, &format!("the key {name} in it"), found);
    }
    let plain = TYPES.iter().find(|(serde, _)| expected.starts_with(serde)).map_or(expected, |known| known.1);
    invalid(key, plain, found)
}

/// The error for a table of TOML that held `nan` or `inf`, which this reader makes nulls of; TOML has none.
pub(crate) fn check_finite(key: &str, value: &Value) -> Result<()> {
    if !has_null(value) {
        return Ok(());
    }
    Err(invalid(key, "finite numbers", "nan` or `inf"))
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(table) => table.values().any(has_null),
        _ => false,
    }
}

fn invalid(key: &str, expected: &str, found: &str) -> Error {
    Error::InvalidValue {
        what: format!("key `{key}`"),
        expected: expected.to_owned(),
        found: format!("`{found}`"),
    }
}

/// The valid names are what stands between backticks in what was expected.
fn unknown_name(kind: &'static str, key: &str, name: &str, expected: &str) -> Error {
    let valid: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match Error::unknown_name(kind, name, &valid) {
        Error::UnknownName { what, found, expected, nearest } => {
            Error::UnknownName { what, found, expected: format!("{expected} in `{key}`"), nearest }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::PrepConfig;

    #[test]
    fn a_setting_that_cannot_be_read_is_told_as_what_to_write() {
        let cases = [
            ("threads=-1", "key `threads`: expected a whole number, at least 0, found `-1`", None),
            ("max_bad=much", "key `max_bad`: expected a number, found `\"much\"`", None),
            ("max_bad=nan", "key `max_bad`: expected finite numbers, found `nan` or `inf`", None),
            (
                "rule=[{feature='num_words', min=nan, max=5}]",
                "key `rule`: expected finite numbers, found `nan` or `inf`",
                None,
            ),
            ("rule=[{min=5}]", "key `rule`: expected the key `feature` in it, found `[{\"min\":5}]`", None),
            ("shard=0/2", "key `shard`: expected `i/N`, with i from 1 to N, found `\"0/2\"`", None),
            (
                "language={threshold='x'}",
                "key `language`: expected a number, found `{\"threshold\":\"x\"}`",
                None,
            ),
            ("language=5", "key `language`: expected a table, found `5`", None),
            ("overwrite=1", "key `overwrite`: expected true or false, found `1`", None),
            (
                "format=parque",
                "unknown value `parque`: expected one of `jsonl.zst`, `jsonl`, `parquet` in `format`",
                Some("did you mean `parquet`?"),
            ),
            (
                "language={keeep=['en']}",
                "unknown key `keeep`: expected one of `model`, `keep`, `threshold`, `sha256` in `language`",
                Some("did you mean `keep`?"),
            ),
            (
                "pii={email={action='mask', foo=1}}",
                "unknown key `foo`: expected one of `action`, `obfuscated` in `pii`",
                None,
            ),
        ];
        for (assignment, message, hint) in cases {
            let error = PrepConfig::default().set_assignment(assignment).unwrap_err();
            assert_eq!((error.to_string(), error.hint().as_deref()), (message.to_owned(), hint));
        }
    }
}
