//! Characters that an expression does not tell apart are one class.

use std::collections::HashMap;

use tokenizers::utils::SysRegex;

use crate::tokenize::guard::guarded;

/// Classes of characters; that of the end of the text comes on top.
pub(super) const MAX_CLASSES: usize = 62;
/// Atoms of an expression.
const MAX_ATOMS: usize = 128;
/// Code points of a block.
const BLOCK: usize = 128;

/// The class of every character, and one for the end of the text.
#[derive(Debug)]
pub(super) struct Alphabet {
    ascii: [u8; BLOCK],
    /// Block of each 128 code points.
    stage: Vec<u16>,
    blocks: Vec<[u8; BLOCK]>,
    end: u8,
}

impl Alphabet {
    /// The classes that some expressions, of one character each, need; and of each expression the classes
    /// that it means, as bits. `None` if there are too many.
    pub(super) fn new(atoms: &[String]) -> Option<(Self, Vec<u64>)> {
        if atoms.len() > MAX_ATOMS {
            return None;
        }
        let members = members(atoms)?;
        let (class_of, classes) = partition(&members);
        if classes.len() > MAX_CLASSES {
            return None;
        }
        let set = |atom: usize| {
            let holding = classes.iter().enumerate().filter(|(_, atoms)| *atoms >> atom & 1 == 1);
            holding.fold(0, |all, (class, _)| all | 1 << class)
        };
        let sets = (0..atoms.len()).map(set).collect();
        Some((Self::staged(&class_of, u8::try_from(classes.len()).ok()?), sets))
    }

    fn staged(class_of: &[u8], end: u8) -> Self {
        let (mut numbers, mut blocks, mut stage) = (HashMap::new(), Vec::new(), Vec::new());
        for block in class_of.chunks_exact(BLOCK) {
            let block: [u8; BLOCK] = std::array::from_fn(|code| block[code]);
            let number = *numbers.entry(block).or_insert_with(|| {
                blocks.push(block);
                blocks.len() - 1
            });
            // There are 8,704 blocks.
            stage.push(u16::try_from(number).unwrap_or(u16::MAX));
        }
        Self { ascii: blocks[usize::from(stage[0])], stage, blocks, end }
    }

    /// Classes, that of the end included.
    pub(super) fn len(&self) -> usize {
        usize::from(self.end) + 1
    }

    /// Class and bytes of the character that begins at `at`; no bytes at the end of the text, which is UTF-8.
    #[inline]
    pub(super) fn class_at(&self, text: &[u8], at: usize) -> (usize, usize) {
        match text.get(at) {
            None => (usize::from(self.end), 0),
            Some(byte) => match self.ascii.get(usize::from(*byte)) {
                Some(class) => (usize::from(*class), 1),
                None => self.long_class_at(text, at, *byte),
            },
        }
    }

    #[inline]
    fn long_class_at(&self, text: &[u8], at: usize, first: u8) -> (usize, usize) {
        let low = |offset: usize| text.get(at + offset).map_or(0, |byte| usize::from(byte & 0x3f));
        let first = usize::from(first);
        let (code, len) = match first {
            0..0xe0 => ((first & 0x1f) << 6 | low(1), 2),
            0xe0..0xf0 => ((first & 0x0f) << 12 | low(1) << 6 | low(2), 3),
            _ => ((first & 7) << 18 | low(1) << 12 | low(2) << 6 | low(3), 4),
        };
        let block = usize::from(self.stage[code / BLOCK]);
        (usize::from(self.blocks[block][code % BLOCK]), len)
    }
}

/// Of every code point the atoms that match it, as bits.
fn members(atoms: &[String]) -> Option<Vec<u128>> {
    let every: String = ('\0'..=char::MAX).collect();
    let mut members = vec![0; char::MAX as usize + 1];
    for (number, atom) in atoms.iter().enumerate() {
        let regex = SysRegex::new(&format!("(?:{atom})+")).ok()?;
        let runs = guarded(|| Ok(regex.find_iter(&every).collect::<Vec<_>>())).ok()?;
        for char in runs.into_iter().flat_map(|(start, end)| every[start..end].chars()) {
            members[char as usize] |= 1 << number;
        }
    }
    Some(members)
}

/// The class of every code point, and of every class the atoms that match it.
fn partition(members: &[u128]) -> (Vec<u8>, Vec<u128>) {
    let mut classes: Vec<u128> = Vec::new();
    let mut numbers = HashMap::new();
    let mut last = (members[0], 0_u8);
    let mut class_of = Vec::with_capacity(members.len());
    for (code, atoms) in members.iter().enumerate() {
        if code == 0 || *atoms != last.0 {
            let number = *numbers.entry(*atoms).or_insert_with(|| {
                classes.push(*atoms);
                classes.len() - 1
            });
            // More than that are refused by who asks.
            last = (*atoms, u8::try_from(number).unwrap_or(u8::MAX));
        }
        class_of.push(last.1);
    }
    (class_of, classes)
}
