//! Personal data of all kinds: the table of cases, the properties, the actions.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use std::borrow::Cow;
use std::path::Path;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::json;
use triptych_core::pii::{Action, Kind, KindCounts, Policy, PolicyConfig, Scratch, KINDS};

fn table<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A policy with every kind on; pseudonyms by a key in a file.
fn policy(action: Action) -> Policy {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "a key of at least sixteen bytes\n").unwrap();
    let key_file = (action == Action::Pseudonym).then_some(path);
    Policy::new(&PolicyConfig { key_file, ..PolicyConfig::all(action) }).unwrap()
}

fn configured(config: serde_json::Value) -> Policy {
    Policy::new(&serde_json::from_value(config).unwrap()).unwrap()
}

fn applied(policy: &Policy, text: &str) -> String {
    policy.apply(text, &mut Scratch::default(), &mut KindCounts::default()).unwrap().into_owned()
}

#[derive(Deserialize)]
struct Case {
    name: String,
    text: String,
    spans: Vec<(usize, usize, String)>,
}

#[test]
fn every_kind_is_found_where_the_table_says_and_nowhere_else() {
    let (policy, mut scratch) = (policy(Action::Count), Scratch::default());
    for case in table::<Case>("pii_kinds.jsonl") {
        let found: Vec<_> = policy
            .find(&case.text, &mut scratch)
            .iter()
            .map(|span| (&case.text[span.start..span.end], span.kind.name()))
            .collect();
        let expected: Vec<_> =
            case.spans.iter().map(|(start, end, kind)| (&case.text[*start..*end], kind.as_str())).collect();
        assert_eq!(found, expected, "{}", case.name);
    }
}

const REWRITING: [Action; 4] = [Action::Placeholder, Action::Redact, Action::Pseudonym, Action::Mask];

#[test]
fn applying_a_policy_twice_to_the_table_changes_nothing() {
    for action in REWRITING {
        let policy = policy(action);
        for case in table::<Case>("pii_kinds.jsonl") {
            let once = applied(&policy, &case.text);
            assert_eq!(applied(&policy, &once), once, "{action:?}: {}", case.name);
            assert_eq!(once == case.text, case.spans.is_empty(), "{action:?}: {}", case.name);
        }
    }
}

/// Pieces of what finders look at, joined in any order.
fn text_of_pieces() -> impl Strategy<Value = String> {
    let pieces = [
        "joe@host.org",
        "@",
        ".",
        "-",
        " ",
        "\n",
        ":",
        "::",
        "/",
        "+",
        "(",
        ")",
        "415-555-2671",
        "+1",
        "44",
        "020",
        "7946 0958",
        "192.168.1.1",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        "2001:db8::1",
        "00:1A:2b:3c:4d:5e",
        "521-44-9382",
        "password = ",
        "\"",
        "W!nter2024x",
        "tel ",
        "é",
        "用",
        "a",
        "Z",
        "0",
        "7",
        "1.2",
        "ghp_",
        "1234567890abcdefABCDEF1234567890abcd",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "://",
        "x12",
        "[IP]",
        "user-",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "\\n",
        "\\tTel",
        "011",
        "08002b:",
        "電話番号は",
        "size=",
        "WhatsApp",
        "%3A",
        "http",
        "*",
        "999",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn spans_are_sorted_and_apart_and_on_characters(text in prop_oneof![text_of_pieces(), any::<String>()]) {
        let (policy, mut scratch) = (policy(Action::Count), Scratch::default());
        let spans = policy.find(&text, &mut scratch);
        prop_assert!(spans.iter().all(|span| span.start < span.end && text.get(span.start..span.end).is_some()));
        prop_assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    #[test]
    fn replacing_twice_changes_nothing(text in prop_oneof![text_of_pieces(), any::<String>()]) {
        for action in REWRITING {
            let policy = policy(action);
            let once = applied(&policy, &text);
            prop_assert_eq!(&applied(&policy, &once), &once, "{:?} of {:?}", action, text);
        }
    }
}

#[test]
fn each_action_does_what_it_says() {
    let text = "mail Joe@host.org, call 415-555-2671, from 198.51.100.7";
    let expected = [
        (Action::Placeholder, "mail [EMAIL], call [PHONE], from [IP]"),
        (Action::Redact, "mail , call , from "),
        (Action::Mask, "mail ***@host.org, call ***-***-2671, from 198.51.*.*"),
        (Action::Count, text),
        (Action::Off, text),
    ];
    for (action, expected) in expected {
        assert_eq!(applied(&policy(action), text), expected, "{action:?}");
    }
    let mut counts = KindCounts::default();
    let dropped = configured(json!({"ipv4": "drop", "email": "count"}));
    assert_eq!(dropped.apply(text, &mut Scratch::default(), &mut counts), Err(Kind::Ipv4));
    assert_eq!((Kind::Ipv4.reason(), counts.get(Kind::Ipv4), counts.get(Kind::Phone)), ("pii_ipv4", 1, 0));
}

#[test]
fn the_same_value_has_the_same_pseudonym_wherever_it_stands() {
    let policy = policy(Action::Pseudonym);
    let alone = applied(&policy, "Joe@host.org");
    assert!(alone.starts_with("user-") && alone.ends_with("@example.org"), "{alone}");
    let among = applied(&policy, "ann@host.org wrote to joe@host.org and joe@HOST.org");
    assert_eq!(among.matches(&alone).count(), 2, "{among}");
}

#[test]
fn a_text_without_a_match_is_not_copied() {
    let policy = policy(Action::Placeholder);
    let text = "at 10:30, see a@b and 1.2.3 of 2019-04-05";
    let kept = policy.apply(text, &mut Scratch::default(), &mut KindCounts::default());
    assert!(matches!(kept, Ok(Cow::Borrowed(_))));
}

#[test]
fn options_widen_and_narrow_what_is_found() {
    let said = configured(json!({"email": {"action": "placeholder", "obfuscated": true}}));
    assert_eq!(
        applied(&said, "joe at host dot org, ann [at] mail (dot) host [dot] org; look at it"),
        "[EMAIL], [EMAIL]; look at it"
    );
    assert_eq!(
        applied(&said, "Ann <ann at host.org>, E-Mail: joe at host.org or bob\nbob at host.org\n"),
        "Ann <[EMAIL]>, E-Mail: [EMAIL] or bob\n[EMAIL]\n"
    );
    let prose = "Our friends at Digital.gov wrote it; it is available at www.example.com, look at host.org";
    assert_eq!(applied(&said, prose), prose);
    let public = configured(json!({"ipv4": {"action": "placeholder", "public_only": true}}));
    assert_eq!(applied(&public, "10.0.0.1 127.0.0.1 81.2.69.142"), "10.0.0.1 127.0.0.1 [IP]");
    let spain = configured(json!({"phone": {"action": "placeholder", "regions": ["ES"]}}));
    assert_eq!(applied(&spain, "91 123 45 67 or 020 7946 0958"), "[PHONE] or 020 7946 0958");
}

#[test]
fn a_configuration_is_strict_and_its_faults_name_the_remedy() {
    let refused =
        |config: serde_json::Value| serde_json::from_value::<PolicyConfig>(config).unwrap_err().to_string();
    assert!(refused(json!({"emial": "mask"})).contains("unknown field `emial`"));
    assert!(refused(json!({"email": "hide"})).contains("unknown variant `hide`"));
    assert!(refused(json!({"email": {"action": "mask", "public_only": true}})).contains("public_only"));
    assert!(refused(json!({"email": 3})).contains("an action"));
    let fault = |config: serde_json::Value| {
        Policy::new(&serde_json::from_value(config).unwrap()).unwrap_err().to_string()
    };
    assert!(fault(json!({"phone": {"action": "mask", "regions": ["UK"]}})).contains("`UK`"));
    assert!(fault(json!({"email": "pseudonym"})).contains("`key_env` and `key_file`"));
    assert!(fault(json!({"email": "pseudonym", "key_env": "TRIPTYCH_NO_SUCH_KEY"})).contains("0 bytes"));
    let config: PolicyConfig = toml::from_str("default = \"mask\"\nphone = { action = \"drop\" }").unwrap();
    let again: PolicyConfig = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn the_table_of_kinds_is_whole() {
    let policy = policy(Action::Count);
    let cases = table::<Case>("pii_kinds.jsonl");
    for row in &KINDS {
        assert!(
            cases.iter().any(|case| case.spans.iter().any(|span| span.2 == row.name)),
            "no case of {}",
            row.name
        );
    }
    assert!(!policy.is_off());
}

/// Least recall and precision of a kind over the labelled set; both versions of IP count as one there.
const FLOORS: [(&str, f64, f64); 6] = [
    ("email", 0.99, 0.98),
    ("ip", 0.99, 0.98),
    ("phone", 0.90, 0.90),
    ("card", 0.99, 0.99),
    ("iban", 0.99, 0.99),
    ("ssn", 0.99, 0.99),
];

#[derive(Deserialize)]
struct Labelled {
    text: String,
    spans: Vec<(usize, usize, String)>,
}

/// Labels found, labels in all, matches that no label overlaps.
#[derive(Default)]
struct Tally {
    found: usize,
    labels: usize,
    wrong: usize,
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Ipv4 | Kind::Ipv6 => "ip",
        other => other.name(),
    }
}

fn tally(policy: &Policy, cases: &[Labelled], kind: &str) -> Tally {
    let (mut tally, mut scratch) = (Tally::default(), Scratch::default());
    for case in cases {
        let found: Vec<_> =
            policy.find(&case.text, &mut scratch).iter().filter(|span| label(span.kind) == kind).collect();
        let labels: Vec<_> = case.spans.iter().filter(|span| span.2 == kind).collect();
        let overlap = |start: usize, end: usize, from: usize, to: usize| start < to && from < end;
        tally.labels += labels.len();
        tally.found += labels
            .iter()
            .filter(|at| found.iter().any(|span| overlap(span.start, span.end, at.0, at.1)))
            .count();
        tally.wrong += found
            .iter()
            .filter(|span| !labels.iter().any(|at| overlap(span.start, span.end, at.0, at.1)))
            .count();
    }
    tally
}

#[test]
fn recall_and_precision_stay_above_their_floors_on_the_labelled_set() {
    assert_floors(&table("pii_labelled.jsonl"), &FLOORS);
}

#[test]
fn recall_and_precision_stay_above_their_floors_on_other_forms_and_on_real_lines() {
    let mut cases: Vec<Labelled> = table("pii_forms.jsonl");
    cases.extend(table::<Labelled>("pii_real.jsonl"));
    assert_floors(&cases, &FLOORS[..5]); // SSNs have no other forms
}

#[allow(clippy::print_stdout)] // `--nocapture` shows the table of `docs/pii.md`
fn assert_floors(cases: &[Labelled], floors: &[(&str, f64, f64)]) {
    let policy = policy(Action::Count);
    for (kind, min_recall, min_precision) in floors {
        let Tally { found, labels, wrong } = tally(&policy, cases, kind);
        let recall = found as f64 / labels as f64;
        let precision = found as f64 / (found + wrong) as f64;
        println!("{kind:6} labels {labels:4} recall {recall:.3} precision {precision:.3}");
        assert!(labels > 40 && recall >= *min_recall, "{kind}: recall {recall:.3}");
        assert!(precision >= *min_precision, "{kind}: precision {precision:.3}");
    }
}

/// A text of one of our secrets' forms, by prefix; made up, none was ever live.
#[test]
fn secrets_of_many_services_are_found_by_their_form() {
    let random = "q7Zp2LxW9vKd4TnRs8YbHc3MfGj6AeUw5BtVkXyE1oNhQzCi0PaSrDmFgJlIuO2x7Wq9Lp4";
    let hex = "3f9a1c7e5b2d8046af13c9d7e85b20641d7c3a9f5e8b02461c7d9e3fa5b80264";
    let found = policy(Action::Count);
    let cases = [
        ("AKIA", "Q7ZP2LXW9VKD4TNR".to_owned()),
        ("ghp_", random[..36].to_owned()),
        ("glpat-", random[..20].to_owned()),
        ("xoxb-", format!("123456789012-{}", &random[..24])),
        ("sk_live_", random[..24].to_owned()),
        ("AIza", random[..35].to_owned()),
        ("sk-proj-", random[..48].to_owned()),
        ("sk-ant-", format!("api03-{}", &random[..60])),
        ("npm_", random[..36].to_owned()),
        ("pypi-AgE", random[..60].to_owned()),
        ("hf_", random[..34].to_owned()),
        ("dop_v1_", hex.to_owned()),
        ("SG.", format!("{}.{}", &random[..22], &random[..43])),
        ("shpat_", hex[..32].to_owned()),
        ("hvs.", random[..60].to_owned()),
    ];
    for (prefix, rest) in cases {
        let text = format!("export KEY={prefix}{rest}\n");
        let spans = found.find(&text, &mut Scratch::default()).to_vec();
        assert_eq!(spans.len(), 1, "{prefix}");
        assert_eq!(
            (spans[0].kind, &text[spans[0].start..spans[0].end]),
            (Kind::Secret, &text[11..text.len() - 1])
        );
    }
    let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{random}\n{random}\n-----END RSA PRIVATE KEY-----");
    assert_eq!(applied(&policy(Action::Placeholder), &format!("a\n{pem}\nb")), "a\n[SECRET]\nb");
}
