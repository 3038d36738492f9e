//! What an expression says, in terms of sets of characters.

/// A part of an expression.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// One character of a set, by the number of its atom.
    Set(usize),
    /// The next character is of a set, or is not: then the end of the text will do too.
    Ahead { atom: usize, negated: bool },
    /// One after the other.
    Concat(Vec<Node>),
    /// The first that leads to a match.
    Either(Vec<Node>),
    /// So many times, without end if `max` is `None`: as often as it goes, or as seldom if it is lazy.
    Repeat { node: Box<Node>, min: usize, max: Option<usize>, lazy: bool },
}

impl Node {
    /// Whether it may match no character.
    pub(super) fn is_nullable(&self) -> bool {
        match self {
            Self::Set(_) => false,
            Self::Ahead { .. } => true,
            Self::Concat(nodes) => nodes.iter().all(Self::is_nullable),
            Self::Either(nodes) => nodes.iter().any(Self::is_nullable),
            Self::Repeat { node, min, .. } => *min == 0 || node.is_nullable(),
        }
    }

    /// Classes that its first character may be of, given the classes of each atom.
    pub(super) fn first(&self, sets: &[u64]) -> u64 {
        match self {
            Self::Set(atom) => sets[*atom],
            Self::Ahead { .. } => 0,
            Self::Concat(nodes) => {
                let needed =
                    nodes.iter().position(|node| !node.is_nullable()).map_or(nodes.len(), |at| at + 1);
                nodes[..needed].iter().fold(0, |all, node| all | node.first(sets))
            }
            Self::Either(nodes) => nodes.iter().fold(0, |all, node| all | node.first(sets)),
            Self::Repeat { node, .. } => node.first(sets),
        }
    }
}
