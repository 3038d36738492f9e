//! Normalizers: what is common is done here, the rest by the `tokenizers` library itself.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::tokenizer::normalizer::Range;
use tokenizers::{NormalizedString, Normalizer as _, NormalizerWrapper};

use super::guard::guarded;

/// The normalizers of a file, in the order in which they run.
#[derive(Debug, Default)]
pub(super) struct Normalizer {
    steps: Vec<Step>,
    /// All steps as the library has them.
    whole: Option<Box<NormalizerWrapper>>,
}

#[derive(Debug)]
enum Step {
    /// Goes before text that is not empty.
    Prepend(String),
    /// Every occurrence of the first, which is not empty, becomes the second.
    Replace(String, String),
    /// Composes characters: nothing to do where all are under U+0300.
    Compose(Box<NormalizerWrapper>),
    /// Any other.
    Library(Box<NormalizerWrapper>),
}

/// The forms of normalizers that are done here.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Known {
    Sequence { normalizers: Vec<Value> },
    Prepend { prepend: String },
    Replace { pattern: ReplacePattern, content: String },
}

#[derive(Deserialize)]
enum ReplacePattern {
    String(String),
    Regex(serde::de::IgnoredAny),
}

impl Normalizer {
    /// The normalizer of a file.
    ///
    /// # Errors
    /// A sentence for one that the library does not know.
    pub(super) fn new(value: Option<&Value>) -> Result<Self, String> {
        let mut normalizer = Self::default();
        if let Some(value) = value.filter(|value| !value.is_null()) {
            normalizer.add(value)?;
            normalizer.whole = Some(wrapper(value)?);
        }
        Ok(normalizer)
    }

    fn add(&mut self, value: &Value) -> Result<(), String> {
        match Known::deserialize(value) {
            Ok(Known::Sequence { normalizers }) => normalizers.iter().try_for_each(|one| self.add(one)),
            Ok(Known::Prepend { prepend }) => {
                self.steps.push(Step::Prepend(prepend));
                Ok(())
            }
            Ok(Known::Replace { pattern: ReplacePattern::String(from), content }) if !from.is_empty() => {
                self.steps.push(Step::Replace(from, content));
                Ok(())
            }
            _ => self.add_library(value),
        }
    }

    fn add_library(&mut self, value: &Value) -> Result<(), String> {
        let wrapper = wrapper(value)?;
        let composes = matches!(&*wrapper, NormalizerWrapper::NFC(_));
        self.steps.push(if composes { Step::Compose(wrapper) } else { Step::Library(wrapper) });
        Ok(())
    }

    /// The text normalized; as it is where nothing changes.
    ///
    /// # Errors
    /// What the library says, as when a pattern takes too long.
    pub(super) fn normalize<'a>(&self, text: &'a str) -> Result<Cow<'a, str>, String> {
        let mut text = Cow::Borrowed(text);
        for step in &self.steps {
            if let Some(changed) = step.normalize(&text)? {
                text = Cow::Owned(changed);
            }
        }
        Ok(text)
    }

    /// Whether the first character of `text` is gone from what normalizing leaves.
    ///
    /// # Errors
    /// As of [`Self::normalize`].
    pub(super) fn drops_start(&self, text: &str) -> Result<bool, String> {
        let Some(whole) = &self.whole else { return Ok(false) };
        guarded(|| {
            let mut normalized = NormalizedString::from(text);
            whole.normalize(&mut normalized)?;
            let all = normalized.slice(Range::Normalized(..));
            Ok(all.is_some_and(|all| all.offsets_original().0 > 0))
        })
    }

    /// The same as an owned string.
    pub(super) fn normalized(&self, text: &str) -> Result<String, String> {
        self.normalize(text).map(Cow::into_owned)
    }
}

impl Step {
    /// The text after this step, `None` if it stays as it is.
    fn normalize(&self, text: &str) -> Result<Option<String>, String> {
        match self {
            Self::Prepend(_) if text.is_empty() => Ok(None),
            Self::Prepend(head) => Ok(Some([head, text].concat())),
            Self::Replace(from, to) => Ok(replaced(text, from, to)),
            Self::Compose(_) if is_composed(text) => Ok(None),
            Self::Compose(wrapper) | Self::Library(wrapper) => library(wrapper, text).map(Some),
        }
    }
}

/// The text with `to` for each `from`, which is not empty; `None` if there is none.
fn replaced(text: &str, from: &str, to: &str) -> Option<String> {
    memchr::memmem::find(text.as_bytes(), from.as_bytes())?;
    let mut replaced = String::with_capacity(text.len() * 3 / 2);
    push_replaced(text, from, to, &mut replaced);
    Some(replaced)
}

/// Appends the text with `to` for each `from`, which is not empty.
pub(super) fn push_replaced(text: &str, from: &str, to: &str, out: &mut String) {
    let mut done = 0;
    let mut replace = |at: usize| {
        out.push_str(&text[done..at]);
        out.push_str(to);
        done = at + from.len();
    };
    match from.as_bytes() {
        [byte] => memchr::memchr_iter(*byte, text.as_bytes()).for_each(&mut replace),
        from => memchr::memmem::find_iter(text.as_bytes(), from).for_each(&mut replace),
    }
    out.push_str(&text[done..]);
}

fn wrapper(value: &Value) -> Result<Box<NormalizerWrapper>, String> {
    let parsed = guarded(|| Ok(serde_json::from_value::<NormalizerWrapper>(value.clone())?));
    parsed.map(Box::new).map_err(|error| format!("a `normalizer` that is not known: {error}"))
}

/// Whether all characters are under U+0300, from where on they can compose: bytes under 0xCC.
fn is_composed(text: &str) -> bool {
    text.bytes().all(|byte| byte < 0xcc)
}

fn library(wrapper: &NormalizerWrapper, text: &str) -> Result<String, String> {
    guarded(|| {
        let mut normalized = NormalizedString::from(text);
        wrapper.normalize(&mut normalized)?;
        Ok(normalized.get().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn steps_run_in_order_here_and_in_the_library() {
        let value = json!({"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Lowercase"},
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
        let normalizer = Normalizer::new(Some(&value)).unwrap();
        assert_eq!(normalizer.steps.len(), 4);
        assert_eq!(normalizer.normalize("E\u{301}a b").unwrap(), "▁éa▁b");
        assert_eq!(normalizer.normalize("").unwrap(), "");
    }

    #[test]
    fn an_unknown_normalizer_is_an_error() {
        assert!(Normalizer::new(Some(&json!({"type": "Shout"}))).unwrap_err().contains("`normalizer`"));
        assert!(Normalizer::new(Some(&json!(7))).is_err());
    }
}
