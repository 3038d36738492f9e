//! Words around a number that say what it is.

use std::cell::OnceCell;

use super::super::bytes::{before, is_one_of, is_unspaced, run_before, words_after, words_before};

const MAX_BEFORE_BYTES: usize = 48;
const MAX_AFTER_BYTES: usize = 14;

/// Words before a telephone number, in the languages of the default regions and of others that many write.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "tel", "tele", "telephone", "telephones", "phone", "phones", "ph", "mobile", "mob", "cell", "cellphone", "cellular", "call",
    "called", "calling", "calls", "dial", "dialing", "dialled", "fax", "telefax", "facsimile", "txt", "sms", "whatsapp", "hotline",
    "helpline", "landline", "ring", "rang", "pager", "voicemail", "answering", "tollfree", "desk", "office",
    "contact", "reach", "tél", "téléphone", "téléphoner", "portable", "télécopie", "telefon", "telefonnummer", "rufnummer", "handy", "handynummer",
    "mobil", "mobilnummer", "fon", "anrufen", "teléfono", "telefono", "teléfonos", "móvil", "movil", "celular", "cel", "llame",
    "llamar", "cellulare", "telefone", "telemóvel", "appelez", "telefoon", "mobiel", "puhelin", "puh", "tlf", "imessage", "skype",
    "tfno", "tlfno", "telef", "ligue", "ligar", "llámenos", "chiamare", "chiamate", "bellen", "mobieltje", "mobiltelefon", "telefonisch",
    "puhelinnumero", "telefonu", "telefonszám", "zadzwoń", "zadzwonić", "volejte", "hívja", "sunați", "soita", "telepon", "hubungi",
    "τηλ", "τηλέφωνο", "τηλεφώνου", "καλέστε", "κινητό", "телефон", "телефону", "телефона", "телефоны", "тел", "моб", "факс", "звоните",
    "позвоните", "звонить", "телефонуйте", "طلفون", "هاتف", "جوال", "اتصل", "טלפון", "נייד", "फोन", "फ़ोन", "मोबाइल",
];

/// The same in scripts that are written without spaces or join particles to words: `電話番号は`, `请拨打`.
const UNSPACED: &[&str] = &[
    "電話",
    "电话",
    "手机",
    "手機",
    "携帯",
    "拨打",
    "致电",
    "撥打",
    "來電",
    "热线",
    "전화",
    "연락처",
    "휴대폰",
    "โทร",
];

/// Of these, words that other numbers follow as well.
const LOOSE: &[&str] =
    &["calls", "called", "calling", "cell", "cel", "office", "desk", "portable", "handy", "fon"];

/// Words before the number of a sender or a receiver.
const PARTIES: &[&str] = &["from", "to", "sender", "von", "de", "da"];

/// Words between the name of another kind and its number: `account no. 4155552671`.
const LINKS: &[&str] = &[
    "no",
    "nr",
    "num",
    "number",
    "numbers",
    "id",
    "ids",
    "code",
    "is",
    "was",
    "are",
    "ref",
    "reference",
    "the",
    "your",
];

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
    nearest: OnceCell<Option<Telling>>,
}

/// The nearest word that tells what a number is.
#[derive(Debug, Clone, Copy)]
struct Telling {
    /// True if it names a telephone, false if another kind of number.
    names: bool,
    /// Words between it and the number.
    distance: usize,
    /// True if those only link the two, as the `no` of `account no. 4155552671`.
    linked: bool,
}

impl<'t> Context<'t> {
    pub(super) fn new(text: &'t str, start: usize) -> Self {
        Self { text, start, nearest: OnceCell::new() }
    }

    /// True if a word close before says that it is a number of another kind. Of a number whose form is proof
    /// enough it must be the name: `your account statement for 07700 900123`.
    pub(super) fn denies(&self, proved: bool) -> bool {
        self.before().is_some_and(|told| !told.names && (told.linked || !proved))
    }

    /// True if a word before it, or right after `end`, says that it is a telephone number.
    /// Before digits in a row the word must stand nearer: they may be anything.
    pub(super) fn names(&self, end: usize, bare: bool) -> bool {
        let named = self.before().is_some_and(|told| told.names && (!bare || told.distance < NEAR));
        named
            || words_after(self.text, end, MAX_AFTER_BYTES).take(1).any(|word| {
                // What a colon or a sign of equality follows is the name of the next value.
                let next = &self.text[self.place_of(word) + word.len()..];
                is_one_of(word, AFTER) && !next.trim_start_matches(['"', '\'', ' ']).starts_with([':', '='])
            })
    }

    /// True if the word right before says that it is a telephone number.
    pub(super) fn calls(&self) -> bool {
        let word = words_before(self.text, self.start, MAX_BEFORE_BYTES).next();
        self.before().is_some_and(|told| told.names && told.distance == 0)
            && word.is_some_and(|word| !is_one_of(word, LOOSE))
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

    /// The nearest telling word before; another kind of number must be named within three.
    fn before(&self) -> Option<Telling> {
        *self.nearest.get_or_init(|| {
            let mut numbered = false; // the word after is `number`
            let mut linked = true;
            let key = self.key_start();
            let words = words_before(self.text, self.start, MAX_BEFORE_BYTES).enumerate();
            words.take_while(|(_, word)| self.place_of(word) >= key).find_map(|(distance, word)| {
                let at = self.place_of(word);
                if before(self.text, at, 1) == b'[' && word == "PHONE" {
                    return None; // our own placeholder
                }
                let after = at + word.len();
                let word = word.to_lowercase();
                let owned = std::mem::replace(&mut numbered, word == "number") && is_one_of(&word, OWNERS);
                if owned || is_name(&word) && (distance < NEAR || !is_one_of(&word, LOOSE)) {
                    return Some(Telling { names: true, distance, linked });
                }
                let denies = || {
                    let between = &self.text[after..self.start];
                    !(ends_sentence(between) || word == "customer" && begins_service(between))
                };
                let other = is_one_of(&word, OTHERS);
                if distance < 3 && other && denies() {
                    return Some(Telling { names: false, distance, linked });
                }
                linked &= other || is_one_of(&word, LINKS);
                None
            })
        })
    }

    fn place_of(&self, word: &str) -> usize {
        word.as_ptr() as usize - self.text.as_ptr() as usize
    }

    /// Where the words that may tell begin: of `size=4011376640`, at the name that the value is given to.
    fn key_start(&self) -> usize {
        if before(self.text, self.start, 1) != b'=' {
            return 0;
        }
        let end = self.start - 1;
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let start = end - run_before(self.text, end, MAX_BEFORE_BYTES, is_key);
        let names_nothing =
            is_one_of(&self.text[start..end], &["", "value", "number", "num", "no", "nr", "n"]);
        if names_nothing {
            0
        } else {
            start
        }
    }
}

/// Words between, at most, where a word that other numbers follow as well, or one before bare digits, still tells.
const NEAR: usize = 5;

/// True if a word in lower case names a telephone.
fn is_name(word: &str) -> bool {
    is_one_of(word, NAMES) || word.chars().next_back().is_some_and(is_unspaced) && ends_in_unspaced_name(word)
}

/// True for `携帯電話番号は`: one of the names, and then nothing but `number` and particles.
fn ends_in_unspaced_name(word: &str) -> bool {
    const PARTICLES: &str = "号码號碼番是为為至到をはがも번호는은로을를이가에";
    UNSPACED
        .iter()
        .filter_map(|name| word.rfind(name).map(|at| &word[at + name.len()..]))
        .any(|rest| rest.chars().all(|char| PARTICLES.contains(char)))
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
