//! Ids of several texts, one after the other.

use super::share;

/// Ids of several texts in one vector, with where each text's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The ids of all texts.
    pub ids: Vec<u32>,
    /// Where the ids of each text end.
    pub ends: Vec<usize>,
}

impl Encoded {
    /// Empty, with room.
    pub(super) fn with_capacity(num_ids: usize, num_texts: usize) -> Self {
        Self { ids: Vec::with_capacity(num_ids), ends: Vec::with_capacity(num_texts) }
    }

    /// Empty again, with the room that it has.
    pub(super) fn cleared(mut self) -> Self {
        self.ids.clear();
        self.ends.clear();
        self
    }

    /// Ends a text.
    pub(super) fn end(&mut self) {
        self.ends.push(self.ids.len());
    }

    /// Consecutive parts as one.
    pub(super) fn joined(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 {
            return parts.pop().unwrap_or_default();
        }
        let mut ends = Vec::with_capacity(parts.iter().map(|part| part.ends.len()).sum());
        let mut num_ids = 0;
        for part in &parts {
            ends.extend(part.ends.iter().map(|end| num_ids + end));
            num_ids += part.ids.len();
        }
        let mut ids = vec![0; num_ids];
        Self::copy_ids(&parts, &mut ids);
        Self { ids, ends }
    }

    /// Copies the ids of consecutive parts to `to`, which is as long as they are, on all threads.
    pub fn copy_ids(parts: &[Self], to: &mut [u32]) {
        let ids: Vec<&[u32]> = parts.iter().map(|part| &*part.ids).collect();
        share::copy_across(to, &ids, share::num_threads());
    }

    /// The ids of each text.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.ids[start..*end])
    }

    /// The ids of each text as vectors of their own.
    pub fn to_vecs(&self) -> Vec<Vec<u32>> {
        self.iter().map(<[u32]>::to_vec).collect()
    }
}
