//! Checks Thrift in compact form, in which Parquet describes itself, before a decoder sees it: every
//! length has to fit into the bytes that follow, since the decoder reserves memory by what they say.

/// Levels of structures and lists; Parquet has seven.
const MAX_DEPTH: usize = 24;

/// Fewest bytes of a structure in a list: that of a key with an empty name.
const MIN_STRUCT_BYTES: usize = 3;

/// Types of fields and elements.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// The bytes end inside the structure: more may make it whole.
const CUT: &str = "its description ends early";

type Checked<T> = Result<T, &'static str>;

/// Length of the structure with which `bytes` begin. `on_integer` is given each integer that stands in the
/// structure itself or one level below, with the number of the field that holds it and its own (0 for none), and 0 for
/// each structure that stands in the structure itself.
///
/// # Errors
/// What is wrong; [`is_cut`] tells if more bytes may help.
pub(super) fn check(bytes: &[u8], on_integer: &mut dyn FnMut((i16, i16), i64)) -> Checked<usize> {
    let mut cursor = Cursor { bytes, at: 0, on_integer };
    cursor.structure(0, (0, 0))?;
    Ok(cursor.at)
}

/// True if the bytes just ended.
pub(super) fn is_cut(reason: &str) -> bool {
    reason == CUT
}

struct Cursor<'b, 'f> {
    bytes: &'b [u8],
    at: usize,
    on_integer: &'f mut dyn FnMut((i16, i16), i64),
}

impl Cursor<'_, '_> {
    fn byte(&mut self) -> Checked<u8> {
        let byte = *self.bytes.get(self.at).ok_or(CUT)?;
        self.at += 1;
        Ok(byte)
    }

    fn pass(&mut self, count: u64) -> Checked<()> {
        if count > (self.bytes.len() - self.at) as u64 {
            return Err(CUT);
        }
        self.at += count as usize;
        Ok(())
    }

    fn varint(&mut self) -> Checked<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is too long")
    }

    fn integer(&mut self) -> Checked<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Fields up to the mark of the end. `path` is the field that holds the structure.
    fn structure(&mut self, depth: usize, path: (i16, i16)) -> Checked<()> {
        if depth > MAX_DEPTH {
            return Err("its description is nested too deeply");
        }
        let mut field = 0_i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            field = match head >> 4 {
                0 => self.integer()? as i16,
                step => field.wrapping_add(i16::from(step)),
            };
            let place = if depth == 0 { (field, 0) } else { (path.0, field) };
            self.value(head & 0x0f, depth, place)?;
        }
    }

    fn value(&mut self, kind: u8, depth: usize, place: (i16, i16)) -> Checked<()> {
        match kind {
            TRUE | FALSE => Ok(()), // in a field, the type is the value
            BYTE => self.pass(1),
            4..=I64 => {
                let value = self.integer()?;
                if depth <= 1 {
                    (self.on_integer)(place, value);
                }
                Ok(())
            }
            DOUBLE => self.pass(8),
            BINARY => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST | SET => self.list(depth + 1),
            MAP => self.map(depth + 1),
            STRUCT => {
                if depth == 0 {
                    (self.on_integer)(place, 0);
                }
                self.structure(depth + 1, place)
            }
            _ => Err("its description has a field of an unknown type"),
        }
    }

    fn list(&mut self, depth: usize) -> Checked<()> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        let kind = head & 0x0f;
        let least = if kind == STRUCT { MIN_STRUCT_BYTES } else { 1 };
        self.check_count(count, least)?;
        (0..count).try_for_each(|_| self.element(kind, depth))
    }

    fn map(&mut self, depth: usize) -> Checked<()> {
        let count = self.varint()?;
        if count == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        self.check_count(count, 2)?;
        (0..count).try_for_each(|_| {
            self.element(kinds >> 4, depth)?;
            self.element(kinds & 0x0f, depth)
        })
    }

    fn check_count(&self, count: u64, least: usize) -> Checked<()> {
        if count > ((self.bytes.len() - self.at) / least) as u64 {
            return Err("a list is longer than what follows it");
        }
        Ok(())
    }

    /// A value in a list or map, where also a truth value takes a byte.
    fn element(&mut self, kind: u8, depth: usize) -> Checked<()> {
        match kind {
            TRUE | FALSE => self.pass(1),
            _ if depth > MAX_DEPTH => Err("its description is nested too deeply"),
            _ => self.value(kind, depth.max(2), (0, 0)), // no integer of a list is asked for
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Integers = Vec<((i16, i16), i64)>;

    fn integers(bytes: &[u8]) -> Checked<(usize, Integers)> {
        let mut found = Vec::new();
        let length = check(bytes, &mut |place, value| found.push((place, value)))?;
        Ok((length, found))
    }

    #[test]
    fn integers_are_found_at_the_top_and_one_level_below() {
        // 1: i32 -1, 3: {1: i64 300, 2: [i32 5]}, 4: true, then what follows
        let bytes = [0x15, 0x01, 0x2c, 0x16, 0xd8, 0x04, 0x19, 0x15, 0x0a, 0x00, 0x11, 0x00, 0xaa];
        assert_eq!(integers(&bytes), Ok((12, vec![((1, 0), -1), ((3, 0), 0), ((3, 1), 300)])));
    }

    #[test]
    fn lengths_beyond_the_bytes_and_nesting_are_refused_and_a_cut_is_told_apart() {
        assert!(is_cut(integers(&[0x15]).unwrap_err()));
        assert!(is_cut(integers(&[0x18, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]).unwrap_err()));
        let list = [0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00, 0x00];
        assert_eq!(integers(&list), Err("a list is longer than what follows it"));
        assert_eq!(integers(&[0x1c; 100]), Err("its description is nested too deeply"));
        assert_eq!(integers(&[0x1f, 0x00]), Err("its description has a field of an unknown type"));
        assert_eq!(integers(&[&[0x15][..], &[0xff; 11]].concat()), Err("a number is too long"));
    }
}
