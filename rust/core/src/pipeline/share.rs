//! The share of a run that one of several machines takes, as `2/5`.

use serde::{Deserialize, Serialize};

/// Files a machine must have on average for whole files to be shared out, not blocks of each:
/// with 8, the slowest has at most an eighth more than it would have of blocks.
const FILES_EACH: usize = 8;

/// Number `index` of `count` shares, counted from 0; written from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Share {
    /// Which share.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

impl Default for Share {
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl Share {
    /// True if there are others.
    pub fn is_part(self) -> bool {
        self.count > 1
    }

    /// True if this share has blocks of the file, of so many.
    pub(super) fn has_file(self, file: usize, num_files: usize) -> bool {
        !self.takes_files(num_files) || file % self.count == self.index
    }

    /// True if this share has the block, counted in its file.
    pub(super) fn has_block(self, file: usize, block: usize, num_files: usize) -> bool {
        if self.takes_files(num_files) {
            return self.has_file(file, num_files);
        }
        (file + block) % self.count == self.index
    }

    fn takes_files(self, num_files: usize) -> bool {
        num_files >= FILES_EACH * self.count
    }
}

impl TryFrom<String> for Share {
    /// What is expected; the key and what was found are said by whoever reads it.
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let numbers = text.split_once('/').map(|(index, count)| (index.trim().parse(), count.trim().parse()));
        match numbers {
            Some((Ok(number @ 1..), Ok(count))) if number <= count => Ok(Self { index: number - 1, count }),
            _ => Err("`i/N`, with i from 1 to N"),
        }
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        format!("{}/{}", share.index + 1, share.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_of_a_number_and_nothing_else() {
        let share = |text: &str| Share::try_from(text.to_owned());
        assert_eq!(share("2/5").unwrap(), Share { index: 1, count: 5 });
        for text in ["", "2", "0/5", "6/5", "1/0", "-1/2", "1/2/3"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_block_is_in_exactly_one_share() {
        for num_files in [1, 3, 40] {
            for (file, block) in (0..num_files).flat_map(|file| (0..7).map(move |block| (file, block))) {
                let shares = (0..4).map(|index| Share { index, count: 4 });
                let having = shares.filter(|share| {
                    share.has_file(file, num_files) && share.has_block(file, block, num_files)
                });
                assert_eq!(having.count(), 1, "block {block} of file {file} of {num_files}");
            }
        }
    }
}
