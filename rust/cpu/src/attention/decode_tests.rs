//! A new token beside attention over the whole document, whose last query it is.

use super::decode::{decode, Decoding, Stored};
use super::{forward, Inputs, Output, Problem};
use crate::layer_tests::numbers;

const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const DIM: usize = 32;

fn rules(lengths: &[usize]) -> Decoding {
    Decoding {
        lengths: lengths.to_vec(),
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: DIM,
        window: None,
        scale: 0.4,
        softcap: None,
        sinks: Vec::new(),
    }
}

/// The last query of each document, by the attention of all of them.
fn whole(decoding: &Decoding, [q, k, v]: &[Vec<f32>; 3]) -> Vec<f32> {
    let mut boundaries = vec![0];
    decoding.lengths.iter().for_each(|len| boundaries.push(boundaries[boundaries.len() - 1] + len));
    let Decoding { window, scale, softcap, .. } = *decoding;
    let problem = Problem {
        boundaries: boundaries.clone(),
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: DIM,
        causal: true,
        window,
        scale,
        softcap,
        sinks: decoding.sinks.clone(),
        pairs: Vec::new(),
        dropout: None,
    };
    let (mut mixed, mut log_sums) = (vec![0.0; q.len()], vec![0.0; q.len() / DIM]);
    forward(&problem, Inputs { q, k, v }, Output { mixed: &mut mixed, log_sums: &mut log_sums }, 1);
    boundaries[1..]
        .iter()
        .flat_map(|end| mixed[(end - 1) * HEADS * DIM..end * HEADS * DIM].to_vec())
        .collect()
}

/// Each document's rows in a cache of `capacity` slots, (sequences, heads, slots, dim).
fn cached(rows: &[f32], lengths: &[usize], capacity: usize) -> Vec<f32> {
    let mut cache = vec![f32::NAN; lengths.len() * KV_HEADS * capacity * DIM];
    let mut rows = rows.chunks_exact(DIM);
    for (sequence, len) in lengths.iter().enumerate() {
        for slot in 0..*len {
            for head in 0..KV_HEADS {
                let at = ((sequence * KV_HEADS + head) * capacity + slot) * DIM;
                cache[at..at + DIM].copy_from_slice(rows.next().unwrap_or_default());
            }
        }
    }
    cache
}

#[test]
fn a_new_token_is_the_last_query_of_its_document() {
    let lengths = [1, 70, 130, 64];
    let (total, capacity) = (lengths.iter().sum::<usize>(), 140);
    let sizes = [HEADS, KV_HEADS, KV_HEADS];
    let inputs = [0, 1, 2].map(|i| numbers(total * sizes[i] * DIM, 1 + i as u32));
    let variants: [fn(&mut Decoding); 4] = [
        |_| (),
        |rules| rules.window = Some(50),
        |rules| rules.softcap = Some(2.0),
        |rules| rules.sinks = vec![0.5, -1.0, 3.0, 0.0],
    ];
    for change in variants {
        let mut rules = rules(&lengths);
        change(&mut rules);
        let [k, v] = [1, 2].map(|i| cached(&inputs[i], &lengths, capacity));
        let ends: Vec<usize> = lengths
            .iter()
            .scan(0, |end, len| {
                *end += len;
                Some(*end)
            })
            .collect();
        let q: Vec<f32> = ends
            .iter()
            .flat_map(|end| inputs[0][(end - 1) * HEADS * DIM..end * HEADS * DIM].to_vec())
            .collect();
        let strides = [KV_HEADS * capacity * DIM, DIM, capacity * DIM];
        let (keys, values) = (Stored { numbers: &k[..], strides }, Stored { numbers: &v[..], strides });
        assert_eq!(rules.obstacle(q.len(), [keys, values]), None);
        let mut mixed = vec![0.0; q.len()];
        decode(&rules, &q, keys, values, &mut mixed, 2);
        for (found, wanted) in mixed.iter().zip(whole(&rules, &inputs)) {
            assert!((found - wanted).abs() < 3e-6, "{found} for {wanted} of {rules:?}");
        }
        let narrow = |x: &[f32]| -> Vec<u16> { x.iter().map(|x| (x.to_bits() >> 16) as u16).collect() };
        let (q, k, v) = (narrow(&q), narrow(&k), narrow(&v));
        let mut close = vec![0; q.len()];
        let (keys, values) = (Stored { numbers: &k[..], strides }, Stored { numbers: &v[..], strides });
        decode(&rules, &q, keys, values, &mut close, 1);
        for (found, wanted) in close.iter().zip(&mixed) {
            let found = f32::from_bits(u32::from(*found) << 16);
            assert!((found - wanted).abs() < 4e-2, "{found} for {wanted}");
        }
    }
}

#[test]
fn a_long_document_is_shared_by_threads_which_change_no_bit() {
    let lengths = [2500, 1, 1100];
    let total = lengths.iter().sum::<usize>();
    let inputs =
        [(HEADS, 1), (KV_HEADS, 2), (KV_HEADS, 3)].map(|(heads, seed)| numbers(total * heads * DIM, seed));
    for (window, sinks, parts) in
        [(None, vec![], 2 * 6), (Some(1300), vec![0.5, -1.0, 9.0, 0.0], 2 * 5), (Some(1024), vec![], 2 * 3)]
    {
        let rules = Decoding { window, sinks, ..rules(&lengths) };
        assert_eq!(rules.parts().len(), parts);
        let [k, v] = [1, 2].map(|i| cached(&inputs[i], &lengths, 2500));
        let strides = [KV_HEADS * 2500 * DIM, DIM, 2500 * DIM];
        let stored = [&k, &v].map(|numbers| Stored { numbers: &numbers[..], strides });
        let row = |end: usize| inputs[0][(end - 1) * HEADS * DIM..end * HEADS * DIM].to_vec();
        let q: Vec<f32> = [2500, 2501, 3601].into_iter().flat_map(row).collect();
        let by = |num_threads| {
            let mut mixed = vec![0.0; q.len()];
            decode(&rules, &q, stored[0], stored[1], &mut mixed, num_threads);
            mixed
        };
        for (found, wanted) in by(1).iter().zip(whole(&rules, &inputs)) {
            assert!((found - wanted).abs() < 3e-6, "{found} for {wanted} of {rules:?}");
        }
        for num_threads in [2, 5] {
            assert_eq!(by(num_threads), by(1), "{num_threads} threads");
        }
    }
}

#[test]
fn what_is_not_stored_is_not_read() {
    let numbers = numbers(2 * 4 * DIM, 1);
    let stored =
        |slots| Stored { numbers: &numbers[..], strides: [slots * KV_HEADS * DIM, KV_HEADS * DIM, DIM] };
    let queries = HEADS * DIM;
    assert_eq!(rules(&[4]).obstacle(queries, [stored(4); 2]), None);
    assert!(rules(&[5]).obstacle(queries, [stored(4); 2]).is_some());
    assert!(rules(&[0]).obstacle(queries, [stored(4); 2]).is_some());
    assert!(rules(&[4, 4]).obstacle(2 * queries, [stored(4); 2]).is_some());
    assert!(rules(&[4]).obstacle(queries - 1, [stored(4); 2]).is_some());
    let far = Stored { numbers: &numbers[..], strides: [usize::MAX, usize::MAX, 1] };
    assert!(rules(&[4, 1]).obstacle(2 * queries, [far; 2]).is_some());
}
