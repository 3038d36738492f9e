//! Ids of several texts, one after the other.

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

    /// Appends those of other texts.
    pub(super) fn append(&mut self, other: &Self) {
        let num_ids = self.ids.len();
        self.ids.extend_from_slice(&other.ids);
        self.ends.extend(other.ends.iter().map(|end| num_ids + end));
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
