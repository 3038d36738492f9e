//! An automaton finds what Oniguruma finds, or there is none.

use proptest::prelude::*;
use tokenizers::utils::SysRegex;

use super::{Machine, Sets};

/// Expressions of the files of models, none of which is known by name.
const OF_MODELS: [&str; 14] = [
    // DeepSeek V3
    r"\p{N}{1,3}",
    r"[一-龥\u3040-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
    // DeepSeek Coder
    r"[\r\n]",
    r"\s?\p{L}+",
    r"\s?\p{P}+",
    r"\s+$",
    r"[一-龥ࠀ-一가-퟿]+",
    // BLOOM
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    // Falcon
    r"[0-9][0-9][0-9]",
    // Kimi
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // GPT-4, as tiktoken spells it, with its possessive repetitions
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    // BERT's idea of words
    r"\w+|[^\w\s]",
    r"(?:[a-z]+(?=[A-Z])|[A-Z]?[a-z]*?\d)+|.",
];

fn machine(regex: &str) -> Option<Machine> {
    Machine::new(regex, &mut Sets::default())
}

fn found_by_engine(regex: &str, text: &str) -> Vec<(usize, usize)> {
    SysRegex::new(regex).unwrap().find_iter(text).collect()
}

fn assert_twins(regex: &str, machine: &Machine, text: &str) {
    let found: Vec<(usize, usize)> = machine.find_iter(text).collect();
    assert_eq!(found, found_by_engine(regex, text), "{regex} on {text:?}");
}

#[test]
fn matches_of_models_expressions_are_those_of_the_engine() {
    let texts = [
        "It's 10:45,  don't\n\n\tWAIT!!!\r\n (x1234567) HTTPServer's ÉCOLEs' IT'S \u{17f}'\u{17f} the end  ",
        "नमस्ते दुनिया。今日は世界！ ภาษาไทย العربية٣٤٥٦ \u{301}ABC \u{301}abc ʰAʰB 日AB日 か\u{3099}",
        "  \n \r\n\t\t x\u{a0}\u{2028}\u{85} 😀👩\u{200d}👩 #include <a.h> {\"k\": [1, 2.5e-3]}   ",
        "",
        " ",
        "\n",
    ];
    for regex in OF_MODELS {
        let machine = machine(regex).unwrap_or_else(|| panic!("{regex}"));
        for text in texts {
            assert_twins(regex, &machine, text);
        }
    }
}

#[test]
fn what_an_automaton_cannot_stand_for_is_left_to_the_engine() {
    let others = [
        r"(a)\1",
        r"(?<=a)b",
        r"\bword\b",
        r"a*",
        r"",
        r"x|",
        r"(?!\S)",
        r"(?>a+)b",
        r"(?:a|b)++b",
        r"(?i:ss)",
        r"(?i:fl|x)",
        r"(?i:é)",
        r"(?i:s+)",
        r"(?i:(?:s)s)",
        r"(?i:s){2}",
        r"(?i)s",
        r"^a",
        r"a(?!bc)",
        r"a{1,2}{2}",
        r"a{2}+",
        r"a**",
        r"[]a]",
        r"[^]a]",
        r"\h",
        r"\R",
        r"\X",
        r"[\x80-\xff]",
        r"(?:a?)*b",
        r"(?m:.)",
        r"a{1000}",
        r"(?<name>a)",
        r"{",
        r"a{,}",
        r"(?#x)a",
        r"\p{L",
        r"\x{41 42}",
        r"(?i:\x{df})",
        r"(?i:[a\u00df])",
        r"(?i:\x{73}s)",
        r"(?i:[\w]\d)",
        r"(?i:[[:alpha:]]1)",
        r"(?i:[^\d]1)",
        r"(?:(?:a{64}){64}){64}",
    ];
    for regex in others {
        assert!(machine(regex).is_none(), "{regex}");
    }
}

#[test]
fn searches_that_lead_far_and_nowhere_take_time_that_grows_with_the_text() {
    // DeepSeek Coder's; the others do not end at once, or find something on the way.
    for (regex, piece, last) in [
        (r"\s+$", " ", "0"),
        (r"(?:ab|b[ac])+z|[^a]", "ab", "c"),
        (r"a|a+b", "a", "c"),
        (r"[^x]?\s*[\r\n]|.", "\u{2028}", "x"),
    ] {
        let machine = machine(regex).unwrap();
        let text = |times: usize| piece.repeat(times) + last;
        assert_twins(regex, &machine, &text(300));
        let found = machine.find_iter(&text(1 << 20)).count();
        assert!(found == 0 || found >= 1 << 20, "{regex}: {found}");
    }
}

#[test]
fn the_automata_of_a_file_ask_for_a_number_of_sets_in_all() {
    let mut sets = Sets::default();
    let machines = (0..1000).filter(|_| Machine::new(r"\s+a", &mut sets).is_some());
    assert_eq!(machines.count(), 128);
}

/// Sets, with the quantifiers that each may have.
fn item() -> impl Strategy<Value = String> {
    let sets = [
        "a",
        "b",
        " ",
        "'",
        "é",
        r"\s",
        r"\S",
        r"\p{L}",
        r"\p{N}",
        r"\p{M}",
        r"[ab]",
        r"[^a\s]",
        r"[^\r\n\p{L}]",
        r"\n",
        r"\d",
        r"\w",
        ".",
        r"[[:alpha:]&&[^b]]",
        r"\.",
        r"(?i:'s|'t|k)",
        "(?:ab|a)",
        "(a|ab)",
        "(?:a|é+b)",
        "(?i:[sk])",
    ];
    let quantifiers =
        ["", "", "", "", "*", "+", "?", "??", "*?", "+?", "{2}", "{1,3}", "{2,}", "?+", "++", "*+"];
    let look = ["", "", "", "", "", "", r"(?!\S)", r"(?=\s)", r"(?!a)", "$", r"(?=[b ])", r"\z"];
    (
        proptest::sample::select(sets.to_vec()),
        proptest::sample::select(quantifiers.to_vec()),
        proptest::sample::select(look.to_vec()),
    )
        .prop_map(|(set, quantifier, look)| [set, quantifier, look].concat())
}

fn sequence() -> impl Strategy<Value = String> {
    proptest::collection::vec(item(), 1..4).prop_map(|items| items.concat())
}

fn expression() -> impl Strategy<Value = String> {
    let group =
        (proptest::collection::vec(sequence(), 1..3), proptest::sample::select(vec!["", "?", "+", "{1,2}"]))
            .prop_map(|(parts, quantifier)| format!("(?:{}){quantifier}", parts.join("|")));
    let part = prop_oneof![4 => sequence(), 1 => (sequence(), group, sequence()).prop_map(|(a, b, c)| [a, b, c].concat())];
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("|"))
}

fn text() -> impl Strategy<Value = String> {
    let chars: Vec<char> = "aaabb'sStkK\u{212a}ſéÉ1९ \u{a0}\n\r.\u{301}ﬆß".chars().collect();
    proptest::collection::vec(proptest::sample::select(chars), 0..16).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn matches_are_those_of_the_engine(regex in expression(), texts in proptest::collection::vec(text(), 40)) {
        prop_assume!(SysRegex::new(&regex).is_ok());
        if let Some(machine) = machine(&regex) {
            for text in &texts {
                assert_twins(&regex, &machine, text);
            }
        }
    }
}
