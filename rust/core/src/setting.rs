//! What serde says of a setting that it cannot read, as an error that says what to write.

use crate::error::Error;

/// Types as serde calls them, and as people do.
const TYPES: [(&str, &str); 6] = [
    ("usize", "a whole number, at least 0"),
    ("u64", "a whole number, at least 0"),
    ("f64", "a number"),
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
    let plain = TYPES.iter().find(|(serde, _)| expected.starts_with(serde)).map_or(expected, |known| known.1);
    Error::InvalidValue {
        what: format!("key `{key}`"),
        expected: plain.to_owned(),
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
            ("language=5", "key `language`: expected a table, found `5`", None),
            ("overwrite=1", "key `overwrite`: expected true or false, found `1`", None),
            (
                "format=parque",
                "unknown value `parque`: expected one of `jsonl.zst`, `jsonl`, `parquet` in `format`",
                Some("did you mean `parquet`?"),
            ),
            (
                "language={keeep=['en']}",
                "unknown key `keeep`: expected one of `model`, `keep`, `threshold` in `language`",
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
