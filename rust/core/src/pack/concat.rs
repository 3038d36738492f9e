//! Concatenate and chunk: documents one after another, a row ends where it is full.
//!
//! Every slot but the last row's is used, and a cut falls in almost every row: on short
//! documents most cuts hit ones that would have fitted (Ding et al. 2024). Counted, not hidden.

use super::{Packing, Rows, Segment, Strategy};

/// Packs documents in the order in which they are stored.
pub(super) fn pack(lengths: &[u32], seq_len: u32) -> Packing {
    let mut rows = Rows::new(Strategy::Concat, seq_len);
    for (tokens, document) in lengths.iter().zip(0..) {
        append(&mut rows, document, *tokens);
    }
    rows.finish()
}

fn append(rows: &mut Rows, document: u32, tokens: u32) {
    let mut start = 0;
    while start < tokens {
        if rows.room == 0 {
            rows.begin();
        }
        if start > 0 {
            rows.count_cut(tokens);
        }
        let length = rows.room.min(tokens - start);
        rows.push(Segment { document, start, length });
        start += length;
    }
}
