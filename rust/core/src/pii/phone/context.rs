//! Words around a number that say what it is.

use std::cell::OnceCell;

use super::super::bytes::{before, is_one_of, words_after, words_before};

const MAX_BEFORE_BYTES: usize = 48;
const MAX_AFTER_BYTES: usize = 14;

/// Words before a telephone number, in the languages of the default regions.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "tel", "tele", "telephone", "telephones", "phone", "phones", "ph", "mobile", "mob", "cell", "cellphone", "cellular", "call",
    "called", "calling", "calls", "dial", "dialing", "dialled", "fax", "telefax", "facsimile", "txt", "sms", "whatsapp", "hotline",
    "helpline", "landline", "ring", "rang", "pager", "voicemail", "answering", "tollfree", "desk", "office",
    "contact", "reach", "tél", "téléphone", "téléphoner", "portable", "télécopie", "telefon", "telefonnummer", "rufnummer", "handy", "handynummer",
    "mobil", "mobilnummer", "fon", "anrufen", "teléfono", "telefono", "teléfonos", "móvil", "movil", "celular", "cel", "llame",
    "llamar", "cellulare", "telefone", "telemóvel", "appelez", "telefoon", "mobiel", "puhelin", "puh", "tlf", "imessage", "skype",
    "電話", "電話番号", "电话", "联系电话", "手机", "手機", "전화", "전화번호", "연락처", "телефон", "тел", "моб", "факс", "هاتف", "फोन",
];

/// Of these, words that other numbers follow as well.
const LOOSE: &[&str] =
    &["calls", "called", "calling", "cell", "cel", "office", "desk", "portable", "handy", "fon"];

/// Words before the number of a sender or a receiver.
const PARTIES: &[&str] = &["from", "to", "sender", "von", "de", "da"];

/// Words after one.
const AFTER: &[&str] = &[
    "office", "fax", "mobile", "cell", "home", "work", "phone", "tel", "voice", "desk", "toll", "tollfree",
    "direct",
];

/// Words right before a number of another kind.
#[rustfmt::skip]
const OTHERS: &[&str] = &[
    "isbn", "issn", "order", "orders", "invoice", "ref", "reference", "account", "acct", "serial", "model", "part", "sku", "doi", "rfc",
    "version", "ticket", "case", "tracking", "patent", "ean", "upc", "bug", "issue", "pmid", "oclc", "asin", "lccn", "arxiv",
    "customer", "policy", "transaction", "licence", "license", "id", "ids", "uid", "pid", "iban", "ssn", "docket", "item", "commit", "build", "page", "pages", "pp", "vol",
    "aadhaar", "aadhar", "passport", "vat", "siret", "siren", "gst", "abn", "acn", "tin", "ein", "bic", "card", "timestamp", "epoch",
];

/// The words around one number, read when first asked for.
pub(super) struct Context<'t> {
    text: &'t str,
    start: usize,
    nearest: OnceCell<Option<(bool, usize)>>,
}

impl<'t> Context<'t> {
    pub(super) fn new(text: &'t str, start: usize) -> Self {
        Self { text, start, nearest: OnceCell::new() }
    }

    /// True if a word close before says that it is a number of another kind.
    pub(super) fn denies(&self) -> bool {
        self.before().is_some_and(|(names, _)| !names)
    }

    /// True if a word before it, or right after `end`, says that it is a telephone number.
    /// Before digits in a row the word must stand nearer: they may be anything.
    pub(super) fn names(&self, end: usize, bare: bool) -> bool {
        let named = self.before().is_some_and(|(names, distance)| names && (!bare || distance < 5));
        named || words_after(self.text, end, MAX_AFTER_BYTES).take(1).any(|word| is_one_of(word, AFTER))
    }

    /// True if the word right before says that it is a telephone number.
    pub(super) fn calls(&self) -> bool {
        let word = words_before(self.text, self.start, MAX_BEFORE_BYTES).next();
        self.before() == Some((true, 0)) && word.is_some_and(|word| !is_one_of(word, LOOSE))
    }

    /// True if the word right before says who sent or gets a message.
    pub(super) fn is_party(&self) -> bool {
        let word = words_before(self.text, self.start, MAX_BEFORE_BYTES).next();
        word.is_some_and(|word| is_one_of(word, PARTIES))
    }

    /// True if the word right before is the code of a state, as in `NJ 07062-2054`.
    pub(super) fn follows_state(&self) -> bool {
        let word = words_before(self.text, self.start, 8).next();
        word.is_some_and(|word| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_uppercase()))
    }

    /// Whether the nearest telling word before names a telephone, and how many words lie between; another kind
    /// of number must be named within three.
    fn before(&self) -> Option<(bool, usize)> {
        *self.nearest.get_or_init(|| {
            let mut numbered = false; // the word after is `number`
            words_before(self.text, self.start, MAX_BEFORE_BYTES).enumerate().find_map(|(index, word)| {
                let at = word.as_ptr() as usize - self.text.as_ptr() as usize;
                if before(self.text, at, 1) == b'[' && word == "PHONE" {
                    return None; // our own placeholder
                }
                let after = at + word.len();
                let word = word.to_lowercase();
                let owned = std::mem::replace(&mut numbered, word == "number") && is_one_of(&word, OWNERS);
                if owned || is_one_of(&word, NAMES) {
                    return Some((true, index));
                }
                let denies = || {
                    let between = &self.text[after..self.start];
                    !(ends_sentence(between) || word == "customer" && begins_service(between))
                };
                (index < 3 && is_one_of(&word, OTHERS) && denies()).then_some((false, index))
            })
        })
    }
}

/// True if a sentence ends in `between`: `the policy. Ask at`, but not `order. No.`
fn ends_sentence(between: &str) -> bool {
    between.match_indices(['.', '!', '?']).any(|(at, _)| {
        let next = between[at + 1..].trim_start();
        let word = next.split(|char: char| !char.is_alphabetic()).next().unwrap_or_default();
        next.len() < between.len() - at - 1
            && word.starts_with(char::is_uppercase)
            && !is_one_of(word, &["no", "nr", "num", "number"])
    })
}

/// True after `customer` in `customer service: 1-800-…`: who answers there has a telephone.
fn begins_service(between: &str) -> bool {
    let services = ["service", "services", "support", "care", "relations", "helpline", "hotline", "line"];
    let word = between.split(|char: char| !char.is_alphabetic()).find(|word| !word.is_empty());
    word.is_some_and(|word| is_one_of(word, &services))
}

/// Whose number it is: `my number` is a telephone's.
const OWNERS: &[&str] = &["my", "our", "your", "his", "her", "their", "this", "the"];

/// True if the word that ends at `end` names a telephone, as in `Tel-030`.
pub(super) fn ends_in_name(text: &str, end: usize) -> bool {
    words_before(text, end, 16).next().is_some_and(|word| {
        let start = word.as_ptr() as usize - text.as_ptr() as usize;
        let last = before(text, start, 1); // of `10.1016/j.cell.2008`, a full stop
        let inside = last.is_ascii_alphabetic() || matches!(last, b'.' | b'/' | b'-' | b'_' | b'@');
        // Digits between are the beginning of this number, as the 999 of a pseudonym: `call +999-…`.
        start + word.len() == end && is_one_of(word, NAMES) && !inside
    })
}
