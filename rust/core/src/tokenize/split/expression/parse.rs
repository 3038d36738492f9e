//! The syntax of Oniguruma (that of Ruby), as far as automata serve it.
//!
//! What stands for one character is not understood but kept as it is written: the engine itself is asked
//! which characters it means. What is not known here is refused, and left to that engine.

use super::nodes::Node;

/// Groups within groups.
const MAX_DEPTH: usize = 32;
/// Characters of an expression; that of `DeepSeek` V3 has 150.
const MAX_LENGTH: usize = 4096;
/// Times that something may be repeated by number.
const MAX_TIMES: usize = 64;
/// Pairs of ASCII letters that one character may stand for where case is ignored (`ß`, `ﬁ`, `ﬆ`).
const FOLDED_PAIRS: [&str; 5] = ["ss", "ff", "fi", "fl", "st"];

/// An expression, and what its sets are written as.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) root: Node,
    /// Expressions that match one character.
    pub(super) atoms: Vec<String>,
}

/// The parts of an expression; `None` if it has one that is not known here.
pub(super) fn parse(regex: &str) -> Option<Parsed> {
    if regex.len() > MAX_LENGTH {
        return None;
    }
    let mut parser = Parser { rest: regex, atoms: Vec::new(), folds: false };
    let root = parser.alternatives(0)?;
    (parser.rest.is_empty() && !root.is_nullable()).then_some(Parsed { root, atoms: parser.atoms })
}

struct Parser<'r> {
    rest: &'r str,
    atoms: Vec<String>,
    /// Within a group that ignores case.
    folds: bool,
}

impl<'r> Parser<'r> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// Takes `prefix` if it comes next.
    fn takes(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take(&mut self, len: usize) -> Option<&'r str> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn alternatives(&mut self, depth: usize) -> Option<Node> {
        let mut found = vec![self.sequence(depth)?];
        while self.takes("|") {
            found.push(self.sequence(depth)?);
        }
        Some(if found.len() == 1 { found.remove(0) } else { Node::Either(found) })
    }

    fn sequence(&mut self, depth: usize) -> Option<Node> {
        let mut nodes = Vec::new();
        while let Some(next) = self.peek() {
            if next == '|' || next == ')' {
                break;
            }
            let folds_before = self.folds;
            let before = self.rest;
            let node = self.item(depth)?;
            let is_folded_group = before.starts_with("(?i:");
            nodes.push(self.repeated(node, folds_before || is_folded_group)?);
        }
        Some(Node::Concat(nodes))
    }

    /// A group, a look ahead, or one character.
    fn item(&mut self, depth: usize) -> Option<Node> {
        if self.takes("$") {
            return Some(self.ahead("[^\\n]", true));
        }
        if self.takes("\\z") {
            return Some(self.ahead("(?m:.)", true));
        }
        if self.rest.starts_with('(') {
            return self.group(depth);
        }
        let len = atom_len(self.rest)?;
        let atom = self.take(len)?;
        self.set(atom)
    }

    fn ahead(&mut self, atom: &str, negated: bool) -> Node {
        Node::Ahead { atom: self.number(atom.to_owned()), negated }
    }

    fn group(&mut self, depth: usize) -> Option<Node> {
        if depth == MAX_DEPTH || self.folds {
            return None;
        }
        let negated = self.rest.starts_with("(?!");
        let looks = self.takes("(?!") || self.takes("(?=");
        self.folds = !looks && self.takes("(?i:");
        let known =
            looks || self.folds || self.takes("(?:") || (self.takes("(") && !self.rest.starts_with('?'));
        if !known {
            return None;
        }
        let node = self.group_content(depth)?;
        match node {
            _ if !looks => Some(node),
            Node::Set(atom) => Some(Node::Ahead { atom, negated }),
            _ => None,
        }
    }

    fn group_content(&mut self, depth: usize) -> Option<Node> {
        let begun = self.rest;
        let node = self.alternatives(depth + 1)?;
        let content = &begun[..begun.len() - self.rest.len()];
        if self.folds && has_folded_pair(content) {
            return None;
        }
        self.folds = false;
        self.takes(")").then(|| simple(node))
    }

    /// One character, given as it is written.
    fn set(&mut self, atom: &str) -> Option<Node> {
        if !self.folds {
            return Some(Node::Set(self.number(atom.to_owned())));
        }
        folds_alone(atom).then(|| Node::Set(self.number(format!("(?i:{atom})"))))
    }

    fn number(&mut self, atom: String) -> usize {
        let known = self.atoms.iter().position(|known| *known == atom);
        known.unwrap_or_else(|| {
            self.atoms.push(atom);
            self.atoms.len() - 1
        })
    }

    /// A node with the quantifier behind it; where case is ignored only `?` is known to keep letters apart.
    fn repeated(&mut self, node: Node, folds: bool) -> Option<Node> {
        let by_number = self.rest.starts_with('{');
        let (min, max) = match self.peek() {
            Some('{') => self.times()?,
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => return Some(node),
        };
        if !by_number {
            self.take(1)?;
        }
        let lazy = !by_number && self.takes("?");
        let keeps = !by_number && !lazy && self.takes("+");
        let is_more = matches!(self.peek(), Some('*' | '+' | '?' | '{'));
        let merges = folds && max != Some(1);
        if is_more || merges || node.is_nullable() {
            return None;
        }
        if keeps {
            return kept(node, min, max);
        }
        Some(Node::Repeat { node: Box::new(node), min, max, lazy })
    }

    /// `{n}`, `{n,}`, `{n,m}` or `{,m}`.
    fn times(&mut self) -> Option<(usize, Option<usize>)> {
        let (inner, rest) = self.rest.strip_prefix('{')?.split_once('}')?;
        let (min, max) = inner.split_once(',').unwrap_or((inner, inner));
        let number = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<usize>().ok().filter(|n| is_number && *n <= MAX_TIMES)
        };
        let least = if min.is_empty() { 0 } else { number(min)? };
        let most = if max.is_empty() { None } else { Some(number(max)?) };
        self.rest = rest;
        let is_known = inner != "," && !inner.is_empty() && most.is_none_or(|most| least <= most && most > 0);
        is_known.then_some((least, most))
    }
}

/// What gives nothing back: of a set that is as often as it goes, and none of the set may come next.
fn kept(node: Node, min: usize, max: Option<usize>) -> Option<Node> {
    let Node::Set(atom) = node else { return None };
    let none_next = Node::Ahead { atom, negated: true };
    if max == Some(1) {
        return Some(Node::Either(vec![node, none_next]));
    }
    let repeat = Node::Repeat { node: Box::new(node), min, max, lazy: false };
    Some(Node::Concat(vec![repeat, none_next]))
}

/// A sequence of one is that one.
fn simple(node: Node) -> Node {
    match node {
        Node::Concat(mut nodes) if nodes.len() == 1 => nodes.remove(0),
        node => node,
    }
}

/// Whether what is written stands for single characters also where case is ignored: `ß`, however it is spelt
/// or named, is `ss` there, and within a class too.
fn folds_alone(atom: &str) -> bool {
    match atom.as_bytes() {
        [byte] => byte.is_ascii(),
        [b'\\', byte, ..] => !matches!(byte, b'x' | b'u' | b'p' | b'P'),
        [b'[', within @ ..] => {
            let is_listed = |byte: &u8| byte.is_ascii() && !matches!(byte, b'\\' | b'[' | b'^' | b'&');
            within.iter().all(is_listed)
        }
        _ => false,
    }
}

fn has_folded_pair(content: &str) -> bool {
    let content = content.to_ascii_lowercase();
    FOLDED_PAIRS.iter().any(|pair| content.contains(pair))
}

/// Bytes of what stands for one character at the start of `rest`.
fn atom_len(rest: &str) -> Option<usize> {
    let first = rest.chars().next()?;
    match first {
        '\\' => escape_len(rest),
        '[' => class_len(rest),
        '*' | '+' | '?' | '{' | '^' | '$' | '(' | ')' | '|' => None,
        _ => Some(first.len_utf8()),
    }
}

/// Of an escape that stands for one character.
fn escape_len(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    match bytes.get(1)? {
        b'p' | b'P' => braced_len(rest, 2),
        b'x' => braced_len(rest, 2).filter(|len| is_code(&rest[3..len - 1])),
        b'u' => {
            let digits = bytes.get(2..6)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(6)
        }
        b'r' | b'n' | b't' | b'f' | b'v' | b'a' | b'e' | b's' | b'S' | b'd' | b'D' | b'w' | b'W' => Some(2),
        byte if byte.is_ascii_punctuation() => Some(2),
        _ => None,
    }
}

/// Whether it is the hexadecimal number of one character: several in a row are several characters.
fn is_code(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Of `{…}` that begins at `at`, with what is before it.
fn braced_len(rest: &str, at: usize) -> Option<usize> {
    let inner = rest.get(at..)?.strip_prefix('{')?;
    Some(at + inner.find('}')? + 2)
}

/// Of `[:name:]`.
fn named_len(rest: &str) -> Option<usize> {
    let (name, _) = rest.strip_prefix("[:")?.split_once(":]")?;
    let letters = name.strip_prefix('^').unwrap_or(name);
    letters.bytes().all(|byte| byte.is_ascii_alphabetic()).then_some(name.len() + 4)
}

/// Of a class in brackets, which may hold others.
fn class_len(rest: &str) -> Option<usize> {
    let (mut at, mut depth) = (0, 0);
    loop {
        let left = rest.get(at..)?;
        let first = left.chars().next()?;
        match first {
            '[' if depth > 0 && left.starts_with("[:") => at += named_len(left)?,
            '[' => {
                depth += 1;
                at += if left.starts_with("[^") { 2 } else { 1 };
                // A bracket that comes first is a character to some, and the end to others.
                if rest[at..].starts_with(']') {
                    return None;
                }
            }
            ']' => {
                (depth, at) = (depth - 1, at + 1);
                if depth == 0 {
                    return Some(at);
                }
            }
            '\\' => at += escape_len(left)?,
            _ => at += first.len_utf8(),
        }
    }
}
