//! A deterministic automaton over classes of characters that finds the match a backtracking engine finds.
//!
//! A state is the list of places in the expression that may come next, the preferred one first; a place
//! behind one at which the expression is through is never tried (Cox 2010, "Regular Expression Matching in
//! the Wild", leftmost-first). What is asked of the next character is answered when it is read.

use std::collections::HashMap;

use super::nodes::Node;

/// Places of an expression, repetitions written out.
const MAX_PLACES: usize = 2000;
/// States of the automaton: at 20 classes 80 KB, which stays in a core's own cache.
const MAX_STATES: usize = 2000;

/// One step of the expression.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// One character of these classes, then the next place.
    Take(u64),
    /// The next character is of these classes; then the next place.
    Ahead(u64),
    /// Either of two places, the first preferred.
    Split(usize, usize),
    Jump(usize),
    Match,
}

/// The states, and what leads from one to another.
#[derive(Debug)]
pub(super) struct Automaton {
    /// By state and class: twice where the next state begins here, and one more if there is a match before
    /// that character.
    steps: Vec<u32>,
    classes: usize,
    /// Classes of the first character of a match.
    first: u64,
}

impl Automaton {
    /// The state before the first character. A state is where it begins in the table.
    pub(super) const START: usize = 0;

    /// The state that nothing follows.
    #[inline]
    pub(super) fn dead(&self) -> usize {
        self.classes
    }

    /// The automaton of an expression, given the classes of each atom; the last class is the end of the text.
    ///
    /// `None` if it is too large.
    pub(super) fn new(root: &Node, sets: &[u64], classes: usize) -> Option<Self> {
        let mut program = Program { places: Vec::new(), sets, end: 1 << (classes - 1) };
        program.add(root)?;
        program.places.push(Place::Match);
        let mut automaton = Self { steps: Vec::new(), classes, first: root.first(sets) };
        automaton.fill(&program.places)?;
        Some(automaton)
    }

    /// Whether a match may begin with a character of the class.
    #[inline]
    pub(super) fn may_begin(&self, class: usize) -> bool {
        self.first >> class & 1 == 1
    }

    /// The state after a character, and whether there is a match before it.
    #[inline]
    pub(super) fn step(&self, state: usize, class: usize) -> (usize, bool) {
        let step = self.steps[state + class];
        ((step >> 1) as usize, step & 1 == 1)
    }

    fn fill(&mut self, places: &[Place]) -> Option<()> {
        let mut numbers = HashMap::from([(vec![0], 0), (Vec::new(), 1)]);
        let mut states = vec![vec![0], Vec::new()];
        let mut done = 0;
        while done < states.len() {
            for class in 0..self.classes {
                let (next, is_match) = follow(places, &states[done], 1 << class, class + 1 == self.classes);
                let number = *numbers.entry(next).or_insert_with_key(|next| {
                    states.push(next.clone());
                    states.len() - 1
                });
                let begin = u32::try_from(number * self.classes).ok()?;
                self.steps.push(begin << 1 | u32::from(is_match));
            }
            done += 1;
            if states.len() > MAX_STATES {
                return None;
            }
        }
        Some(())
    }
}

/// The places after a character of a class, and whether the expression is through before it.
fn follow(places: &[Place], state: &[usize], class: u64, is_end: bool) -> (Vec<usize>, bool) {
    let (mut next, mut seen) = (Vec::new(), vec![false; places.len()]);
    let mut left: Vec<usize> = state.iter().rev().copied().collect();
    while let Some(at) = left.pop() {
        if std::mem::replace(&mut seen[at], true) {
            continue;
        }
        match places[at] {
            Place::Take(classes) if classes & class != 0 && !is_end => {
                if !next.contains(&(at + 1)) {
                    next.push(at + 1);
                }
            }
            Place::Ahead(classes) if classes & class != 0 => left.push(at + 1),
            Place::Take(_) | Place::Ahead(_) => {}
            Place::Split(first, second) => left.extend([second, first]),
            Place::Jump(to) => left.push(to),
            Place::Match => return (next, true),
        }
    }
    (next, false)
}

struct Program<'s> {
    places: Vec<Place>,
    sets: &'s [u64],
    /// The class of the end of the text.
    end: u64,
}

impl Program<'_> {
    fn add(&mut self, node: &Node) -> Option<()> {
        if self.places.len() > MAX_PLACES {
            return None;
        }
        match node {
            Node::Set(atom) => self.places.push(Place::Take(self.sets[*atom])),
            Node::Ahead { atom, negated: false } => self.places.push(Place::Ahead(self.sets[*atom])),
            Node::Ahead { atom, negated: true } => {
                let others = !self.sets[*atom] & (self.end | (self.end - 1));
                self.places.push(Place::Ahead(others));
            }
            Node::Concat(nodes) => nodes.iter().try_for_each(|node| self.add(node))?,
            Node::Either(nodes) => self.add_either(nodes)?,
            Node::Repeat { node, min, max, lazy } => self.add_repeat(node, *min, *max, *lazy)?,
        }
        Some(())
    }

    fn add_either(&mut self, nodes: &[Node]) -> Option<()> {
        let (last, others) = nodes.split_last()?;
        let mut jumps = Vec::new();
        for node in others {
            let split = self.hold();
            self.add(node)?;
            jumps.push(self.hold());
            self.places[split] = Place::Split(split + 1, self.places.len());
        }
        self.add(last)?;
        for jump in jumps {
            self.places[jump] = Place::Jump(self.places.len());
        }
        Some(())
    }

    /// A place that is filled in later.
    fn hold(&mut self) -> usize {
        self.places.push(Place::Match);
        self.places.len() - 1
    }

    fn add_repeat(&mut self, node: &Node, min: usize, max: Option<usize>, lazy: bool) -> Option<()> {
        for _ in 0..min {
            self.add(node)?;
        }
        let mut splits = Vec::new();
        for _ in min..max.unwrap_or(min + 1) {
            splits.push(self.hold());
            self.add(node)?;
        }
        if max.is_none() {
            self.places.push(Place::Jump(splits[0]));
        }
        let end = self.places.len();
        for split in splits {
            self.places[split] =
                if lazy { Place::Split(end, split + 1) } else { Place::Split(split + 1, end) };
        }
        Some(())
    }
}
