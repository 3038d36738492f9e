//! Scripts: many name their language at once, four hold several and have a table of the model.

/// A run of code points of one script.
struct Range(u32, u32, Script);

/// A script, by its place: the first four have tables in the model, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Script(pub u8);

/// Not a letter of any script we know.
pub(super) const NONE: Script = Script(NUM_SCRIPTS as u8);
/// Scripts with a table: Latin, Cyrillic, Arabic, Devanagari.
pub(super) const NUM_TABLES: usize = 4;
/// Scripts in all.
pub(super) const NUM_SCRIPTS: usize = NUM_TABLES + ONE_LANGUAGE.len();
pub(super) const KANA: Script = Script(5);
pub(super) const HAN: Script = Script(6);
const HANGUL: Script = Script(4);

/// Languages of the scripts after the tables. Yiddish goes by `he`, Assamese by `bn`, Tigrinya by `am`.
pub(super) const ONE_LANGUAGE: [&str; 22] = [
    "ko", "ja", "zh", "el", "hy", "he", "bn", "pa", "gu", "or", "ta", "te", "kn", "ml", "si", "th", "lo",
    "bo", "my", "ka", "am", "km",
];

/// Letters and marks, in ascending order. Digits and punctuation inside a block are left out
/// where the tables would see them: what is no letter is the end of a word.
#[rustfmt::skip]
const RANGES: [Range; 50] = [
    Range(0x41, 0x5a, Script(0)), Range(0x61, 0x7a, Script(0)), Range(0xc0, 0xd6, Script(0)),
    Range(0xd8, 0xf6, Script(0)), Range(0xf8, 0x24f, Script(0)), Range(0x300, 0x36f, Script(0)),
    Range(0x370, 0x3ff, Script(7)), Range(0x400, 0x52f, Script(1)), Range(0x531, 0x587, Script(8)),
    Range(0x591, 0x5f2, Script(9)), Range(0x620, 0x65f, Script(2)), Range(0x66e, 0x6d3, Script(2)),
    Range(0x6d5, 0x6ef, Script(2)), Range(0x6fa, 0x6ff, Script(2)), Range(0x750, 0x77f, Script(2)),
    Range(0x900, 0x963, Script(3)), Range(0x970, 0x97f, Script(3)), Range(0x980, 0x9e3, Script(10)),
    Range(0xa01, 0xa5e, Script(11)), Range(0xa70, 0xa75, Script(11)), Range(0xa81, 0xae3, Script(12)),
    Range(0xb01, 0xb63, Script(13)), Range(0xb82, 0xbd7, Script(14)), Range(0xc00, 0xc63, Script(15)),
    Range(0xc80, 0xce3, Script(16)), Range(0xd00, 0xd63, Script(17)), Range(0xd81, 0xddf, Script(18)),
    Range(0xe01, 0xe4e, Script(19)), Range(0xe81, 0xecd, Script(20)), Range(0xf40, 0xfbc, Script(21)),
    Range(0x1000, 0x103f, Script(22)), Range(0x1050, 0x109d, Script(22)), Range(0x10a0, 0x10ff, Script(23)),
    Range(0x1100, 0x11ff, HANGUL), Range(0x1200, 0x135f, Script(24)), Range(0x1780, 0x17d3, Script(25)),
    Range(0x1c90, 0x1cbf, Script(23)), Range(0x1e00, 0x1eff, Script(0)), Range(0x1f00, 0x1fff, Script(7)),
    Range(0x2d00, 0x2d2d, Script(23)), Range(0x3041, 0x30ff, KANA), Range(0x3131, 0x318e, HANGUL),
    Range(0x31f0, 0x31ff, KANA), Range(0x3400, 0x4dbf, HAN), Range(0x4e00, 0x9fff, HAN),
    Range(0xac00, 0xd7a3, HANGUL), Range(0xf900, 0xfaff, HAN), Range(0xff66, 0xff9f, KANA),
    Range(0x20000, 0x2fa1f, HAN), Range(0x30000, 0x323af, HAN),
];

/// A letter in lower case, with its script; 0 if it is no letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Letter {
    pub folded: u16,
    pub script: Script,
}

/// Code points below this are looked up, the others searched.
const TABLE_LEN: u32 = 0x2000;

/// Every code point's letter.
pub(super) struct Letters(Vec<Letter>);

impl Letters {
    pub fn new() -> Self {
        Self((0..TABLE_LEN).map(search).collect())
    }

    /// The letter that `char` is.
    #[inline]
    pub fn of(&self, char: char) -> Letter {
        let code = char as u32;
        self.0.get(code as usize).copied().unwrap_or_else(|| search(code))
    }
}

fn search(code: u32) -> Letter {
    let index = RANGES.partition_point(|range| range.1 < code);
    let script = RANGES.get(index).filter(|range| range.0 <= code).map_or(NONE, |range| range.2);
    let folded = if script == NONE { 0 } else { fold(code) };
    Letter { folded, script }
}

/// Lower case where that is one character. Code points past 16 bits have no table, so 1 stands for them.
fn fold(code: u32) -> u16 {
    let mut lower = char::from_u32(code).into_iter().flat_map(char::to_lowercase);
    let folded = match (lower.next(), lower.next()) {
        (Some(char), None) => char as u32,
        _ => code,
    };
    u16::try_from(folded).unwrap_or(1)
}

/// What a letter counts for when scripts are compared. A syllable or a word sign is several letters of
/// Latin; and Latin counts least, as addresses, names and commands stand in texts of every script.
pub(super) fn weight(script: Script) -> u32 {
    match script {
        Script(0) => 1,
        HAN | HANGUL => 4,
        KANA => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_ascend_so_that_they_can_be_searched() {
        assert!(RANGES.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert!(RANGES.iter().all(|range| range.0 <= range.1 && usize::from(range.2 .0) < NUM_SCRIPTS));
    }

    #[test]
    fn a_letter_is_lower_case_and_has_its_script() {
        let letters = Letters::new();
        let script = |char| letters.of(char).script.0;
        assert_eq!(letters.of('Ж'), Letter { folded: 'ж' as u16, script: Script(1) });
        assert_eq!([script('ß'), script('ع'), script('क'), script('한')], [0, 2, 3, 4]);
        assert_eq!([script('×'), script('5'), script(' '), script('🎉'), script('٣')], [NONE.0; 5]);
        assert_eq!(ONE_LANGUAGE[usize::from(script('ქ')) - NUM_TABLES], "ka");
        assert_eq!(ONE_LANGUAGE[usize::from(script('ខ')) - NUM_TABLES], "km");
        assert_eq!(ONE_LANGUAGE[usize::from(script('𠀋')) - NUM_TABLES], "zh");
    }
}
