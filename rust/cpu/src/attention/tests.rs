//! Both passes beside attention written out in float64.

use proptest::prelude::*;

use super::forward::{Forward, Worker};
use super::{backward, forward, Dropout, Given, Gradients, Inputs, Output, Problem, BLOCK};
use crate::element::{run, Kernel};
use crate::vector::{tanh, Scalar, Vector};
use crate::Element;

/// A type of elements in tests.
trait Number: Element {
    fn of(x: f64) -> Self;
    fn value(self) -> f64;
    /// Twice what rounding weights and results to the type can do, of the largest number.
    const TOLERANCE: f64;
}

impl Number for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn value(self) -> f64 {
        f64::from(self)
    }
    const TOLERANCE: f64 = 2e-6;
}

impl Number for u16 {
    fn of(x: f64) -> Self {
        ((x as f32).to_bits() >> 16) as u16 // towards zero: any bf16 will do as an input
    }
    fn value(self) -> f64 {
        f64::from(f32::from_bits(u32::from(self) << 16))
    }
    const TOLERANCE: f64 = 8e-3;
}

/// Numbers that look random, and are the same each time.
fn numbers<E: Number>(len: usize, seed: u64) -> Vec<E> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        E::of((state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0)
    };
    (0..len).map(|_| next()).collect()
}

struct Case<E> {
    problem: Problem,
    q: Vec<E>,
    k: Vec<E>,
    v: Vec<E>,
    upstream: Vec<E>,
}

/// Output, three gradients, and what those of sinks are made of.
type Results = [Vec<f64>; 5];

impl<E: Number> Case<E> {
    fn new(problem: Problem) -> Self {
        let of = |heads: usize| problem.num_tokens() * heads * problem.head_dim;
        let (many, few) = (of(problem.heads), of(problem.kv_heads));
        let (q, k, v, upstream) = (numbers(many, 1), numbers(few, 2), numbers(few, 3), numbers(many, 4));
        Self { problem, q, k, v, upstream }
    }

    fn inputs(&self) -> Inputs<'_, E> {
        Inputs { q: &self.q, k: &self.k, v: &self.v }
    }

    fn computed(&self, num_threads: usize) -> Results {
        let p = &self.problem;
        assert_eq!(p.obstacle([self.q.len(), self.k.len(), self.v.len()]), None);
        let mut mixed = vec![E::default(); self.q.len()];
        let mut log_sums = vec![0.0; p.num_tokens() * p.heads];
        forward(p, self.inputs(), Output { mixed: &mut mixed, log_sums: &mut log_sums }, num_threads);
        let [mut q, mut k, mut v] =
            [self.q.len(), self.k.len(), self.v.len()].map(|len| vec![E::default(); len]);
        let given = Given { mixed: &mixed, log_sums: &log_sums, upstream: &self.upstream };
        let mut totals = vec![0.0; log_sums.len()];
        let gradients = Gradients { q: &mut q, k: &mut k, v: &mut v, totals: &mut totals };
        backward(p, self.inputs(), given, gradients, num_threads);
        let [mixed, q, k, v] = [mixed, q, k, v].map(|found| found.into_iter().map(Number::value).collect());
        [mixed, q, k, v, totals.into_iter().map(f64::from).collect()]
    }

    /// By the definition, a query at a time.
    fn expected(&self) -> Results {
        let (many, few) = (self.q.len(), self.k.len());
        let mut found = [many, many, few, few, many / self.problem.head_dim].map(|len| vec![0.0; len]);
        for (document, edges) in self.problem.boundaries.windows(2).enumerate() {
            for head in 0..self.problem.heads {
                for i in 0..edges[1] - edges[0] {
                    let seen = (0..edges[1] - edges[0]).filter(|j| self.sees(document, i, *j)).collect();
                    self.query(edges[0], i, seen, head, &mut found);
                }
            }
        }
        found
    }

    fn sees(&self, document: usize, i: usize, j: usize) -> bool {
        let p = &self.problem;
        let [chosen, rejected] = p.pairs.get(document).copied().unwrap_or([0, 0]);
        (!p.causal || j <= i)
            && p.window.is_none_or(|window| i - j < window)
            && !(i >= rejected && (chosen..rejected).contains(&j))
    }

    /// A score as it goes into the softmax, and what it changes by for each unit of the product.
    fn score(&self, product: f64) -> (f64, f64) {
        let (product, scale) = (product * f64::from(self.problem.scale), f64::from(self.problem.scale));
        self.problem.softcap.map_or((product, scale), |softcap| {
            let share = (product / f64::from(softcap)).tanh();
            (share * f64::from(softcap), scale * (1.0 - share * share))
        })
    }

    fn query(&self, start: usize, i: usize, seen: Vec<usize>, head: usize, found: &mut Results) {
        let p = &self.problem;
        let (dim, kv_head) = (p.head_dim, p.kv_head(head));
        let at = p.at(start + i, head, p.heads);
        let key = |j: usize| p.at(start + j, kv_head, p.kv_heads);
        let dot = |a: &[E], b: &[E]| -> f64 { a.iter().zip(b).map(|(x, y)| x.value() * y.value()).sum() };
        let scores: Vec<(f64, f64)> =
            seen.iter().map(|j| self.score(dot(&self.q[at..at + dim], &self.k[key(*j)..][..dim]))).collect();
        let sink = p.sinks.get(head).map_or(f64::MIN, |sink| f64::from(*sink));
        let largest = scores.iter().map(|score| score.0).fold(sink, f64::max);
        let exps: Vec<f64> = scores.iter().map(|score| (score.0 - largest).exp()).collect();
        let sum: f64 = exps.iter().sum::<f64>() + (sink - largest).exp();
        let upstream = &self.upstream[at..at + dim];
        let kept = |j: usize| p.dropout.map_or(1.0, |dropout| factor(dropout, head, i, j));
        let upstream_of = |j: usize| kept(j) * dot(upstream, &self.v[key(j)..][..dim]);
        let inner: f64 = seen.iter().zip(&exps).map(|(j, exp)| exp / sum * upstream_of(*j)).sum();
        found[4][head * p.num_tokens() + start + i] = inner;
        for ((j, exp), (_, steepness)) in seen.into_iter().zip(exps).zip(scores) {
            let (weight, kept) = (exp / sum, kept(j));
            let slope = weight * (upstream_of(j) - inner) * steepness;
            for c in 0..dim {
                found[0][at + c] += kept * weight * self.v[key(j) + c].value();
                found[1][at + c] += slope * self.k[key(j) + c].value();
                found[2][key(j) + c] += slope * self.q[at + c].value();
                found[3][key(j) + c] += kept * weight * self.upstream[at + c].value();
            }
        }
    }

    /// Within `tolerances` times the type's.
    fn check(&self, tolerances: f64) {
        let (computed, expected) = (self.computed(1), self.expected());
        for (which, (found, wanted)) in computed.iter().zip(&expected).enumerate() {
            // Where documents have one token, the slopes of queries and keys are differences of equal numbers,
            // which leave what those were rounded by: they are compared with the inputs.
            let least = if matches!(which, 1 | 2) { 1.0 } else { 1e-3 };
            let largest = wanted.iter().fold(least, |most: f64, x| most.max(x.abs()));
            for (i, (x, y)) in found.iter().zip(wanted).enumerate() {
                assert!(
                    (x - y).abs() <= tolerances * E::TOLERANCE * largest,
                    "{which} at {i}: {x} for {y} in {:?}",
                    self.problem
                );
            }
        }
        assert_eq!(self.computed(3), computed, "threads changed bits");
    }
}

fn problem(lens: &[usize], group: usize, kv_heads: usize, head_dim: usize) -> Problem {
    let mut boundaries = vec![0];
    for len in lens {
        boundaries.push(boundaries[boundaries.len() - 1] + len);
    }
    let heads = kv_heads * group;
    let (sinks, pairs, dropout) = (Vec::new(), Vec::new(), None);
    let (causal, window, softcap, scale) = (true, None, None, 0.3);
    Problem { boundaries, heads, kv_heads, head_dim, causal, window, scale, softcap, sinks, pairs, dropout }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn both_passes_are_those_of_float64(
        lens in prop::collection::vec(0_usize..200, 1..4),
        (group, kv_heads, lanes) in (1_usize..4, 1_usize..3, 1_usize..7),
        (causal, window) in (any::<bool>(), prop::option::of(1_usize..150)),
        scale in 0.01_f32..0.5,
    ) {
        let mut problem = problem(&lens, group, kv_heads, 16 * lanes);
        problem.scale = scale;
        (problem.causal, problem.window) = (causal || window.is_some(), window);
        Case::<f32>::new(problem.clone()).check(1.0);
        Case::<u16>::new(problem).check(1.0);
    }

    #[test]
    fn caps_sinks_and_pairs_are_those_of_float64(
        lens in prop::collection::vec(0_usize..200, 1..4),
        (group, kv_heads, lanes) in (1_usize..3, 1_usize..3, 1_usize..5),
        softcap in prop::option::of(0.5_f32..60.0),
        sinks in prop::option::of(prop::collection::vec(-9.0_f32..9.0, 4)),
        percents in prop::option::of((0_usize..=100, 0_usize..=100)),
    ) {
        let mut problem = problem(&lens, group, kv_heads, 16 * lanes);
        problem.softcap = softcap;
        problem.sinks = sinks.map_or_else(Vec::new, |sinks| sinks[..problem.heads].to_vec());
        problem.pairs = percents.map_or_else(Vec::new, |(first, rest)| pairs(&lens, first, rest));
        Case::<f32>::new(problem.clone()).check(2.0);
        Case::<u16>::new(problem).check(1.0);
    }
}

/// Two responses in each document, at a percentage of it and at one of the rest.
fn pairs(lens: &[usize], first: usize, rest: usize) -> Vec<[usize; 2]> {
    let places = lens.iter().map(|len| (len, len * first / 100));
    places.map(|(len, at)| [at, at + (len - at) * rest / 100]).collect()
}

#[test]
fn blocks_that_a_pair_hides_are_left_out_and_nothing_else() {
    let mut problem = problem(&[1000], 1, 1, 16);
    for pair in [[100, 600], [64, 512], [0, 0], [1000, 1000], [0, 999], [0, 1000], [500, 500]] {
        problem.pairs = vec![pair];
        Case::<f32>::new(problem.clone()).check(1.0);
    }
}

/// What one weight is multiplied by.
fn factor(dropout: Dropout, head: usize, i: usize, j: usize) -> f64 {
    let mut row = [0.0; BLOCK];
    dropout.factors_of(&mut row, head, i, j / BLOCK);
    f64::from(row[j % BLOCK])
}

#[test]
fn dropped_weights_neither_pass_on_nor_learn_and_the_others_make_up_for_them() {
    for (share, causal, lens) in
        [(0.1, true, &[70, 3][..]), (0.5, false, &[90]), (0.9, true, &[20, 1]), (1e-9, true, &[65])]
    {
        let mut problem = problem(lens, 2, 1, 32);
        problem.causal = causal;
        problem.dropout = Dropout::new(share, 0x1234_5678_9ABC_DEF0);
        Case::<f32>::new(problem.clone()).check(8.0); // what is kept is multiplied by up to 10
        problem.sinks = vec![0.5, -2.0];
        problem.softcap = Some(0.7);
        Case::<u16>::new(problem).check(8.0);
    }
}

#[test]
fn the_share_of_dropped_weights_is_what_was_asked_for() {
    assert!(Dropout::new(0.0, 1).is_none());
    let dropout = Dropout::new(0.3, 1);
    let kept = (0..200).flat_map(|i| (0..200).map(move |j| factor(dropout.unwrap(), i % 3, i, j)));
    let kept: Vec<f64> = kept.collect();
    let dropped = kept.iter().filter(|factor| **factor == 0.0).count() as f64 / kept.len() as f64;
    assert!((dropped - 0.3).abs() < 5.0 * (0.21 / kept.len() as f64).sqrt(), "{dropped}");
    assert!((kept.iter().sum::<f64>() / kept.len() as f64 - 1.0).abs() < 0.02);
}

#[test]
fn a_document_of_one_token_passes_on_its_value_and_learns_of_that_alone() {
    for head_dim in [16, 96] {
        Case::<f32>::new(problem(&[1], 2, 1, head_dim)).check(1.0);
        Case::<u16>::new(problem(&[1, 1], 1, 2, head_dim)).check(1.0);
    }
}

#[test]
fn large_scores_neither_overflow_nor_hide_what_is_seen() {
    let mut problem = problem(&[130], 1, 1, 16);
    problem.scale = 300.0; // scores of a thousand, whose float32 are 1e-4 apart
    Case::<f32>::new(problem).check(100.0);
}

/// By its norm, how far what was computed is off.
fn relative(found: &[f64], wanted: &[f64]) -> f64 {
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(wanted).map(|(x, y)| x - y)) / norm(&mut wanted.iter().copied())
}

#[test]
fn scores_of_any_size_pass_on_what_is_seen_and_the_gradient_of_it() {
    for scale in [1e4, 1e6, 1e10, 1e13, 1e32] {
        let mut problem = problem(&[130, 1, 40], 1, 1, 16);
        problem.scale = scale;
        let case = Case::<f32>::new(problem);
        let (computed, expected) = (case.computed(1), case.expected());
        for which in [0, 3] {
            let off = relative(&computed[which], &expected[which]);
            assert!(off < 1e-4, "{which} off by {off} at a scale of {scale}");
        }
    }
}

#[test]
fn a_query_that_sees_one_key_moves_neither() {
    for (lens, window, softcap) in
        [(&[1; 9][..], None, None), (&[100], Some(1), None), (&[1, 1], None, Some(2.0))]
    {
        let mut problem = problem(lens, 2, 1, 64);
        (problem.window, problem.softcap) = (window, softcap);
        for scale in [0.3, 300.0] {
            problem.scale = scale;
            let (float32, bf16) = (Case::<f32>::new(problem.clone()), Case::<u16>::new(problem.clone()));
            for [_, q, k, ..] in [float32.computed(1), bf16.computed(1)] {
                // The least weight, of what is hidden, is 0 with AVX-512 alone: else 1.2e-38.
                assert!(q.iter().chain(&k).all(|x| x.abs() < 1e-30), "{problem:?}");
            }
        }
    }
}

#[test]
fn gradients_of_few_keys_are_rounded_once() {
    for (lens, window, sinks) in
        [(&[300][..], Some(2), 0), (&[1; 40], None, 2), (&[2; 20], None, 0), (&[64; 3], None, 0)]
    {
        let mut problem = problem(lens, 1, 2, 64);
        (problem.window, problem.sinks) = (window, vec![0.5, -1.0][..sinks].to_vec());
        let case = Case::<u16>::new(problem);
        let (computed, expected) = (case.computed(1), case.expected());
        for which in [1, 2] {
            let off = relative(&computed[which], &expected[which]);
            assert!(off < 3e-3, "{which} off by {off} of {:?}", case.problem);
        }
    }
}

#[test]
fn a_document_has_the_same_bits_wherever_it_is_packed() {
    let dim = 2 * 32;
    let alone = Case::<f32>::new(problem(&[100], 1, 2, 32));
    let mut packed = Case::<f32>::new(problem(&[70, 100], 1, 2, 32));
    for (to, from) in [
        (&mut packed.q, &alone.q),
        (&mut packed.k, &alone.k),
        (&mut packed.v, &alone.v),
        (&mut packed.upstream, &alone.upstream),
    ] {
        to[70 * dim..].copy_from_slice(from);
    }
    let (alone, packed) = (alone.computed(1), packed.computed(2));
    alone[..4].iter().zip(&packed[..4]).for_each(|(one, both)| assert_eq!(one[..], both[70 * dim..]));
    for (one, both) in alone[4].chunks(100).zip(packed[4].chunks(170)) {
        assert_eq!(one, &both[70..]);
    }
}

#[test]
fn threads_that_share_a_head_change_no_bit() {
    for (lens, window, causal) in [
        (&[1400, 90][..], None, true),
        (&[1100], Some(300), true),
        (&[1600], Some(64), true),
        (&[1030], None, false),
    ] {
        let mut problem = problem(lens, 1, 1, 16);
        (problem.causal, problem.window) = (causal, window);
        problem.sinks = vec![0.5];
        problem.dropout = Dropout::new(0.1, 7);
        let (float32, bf16) = (Case::<f32>::new(problem.clone()), Case::<u16>::new(problem));
        let by_one = (float32.computed(1), bf16.computed(1));
        for num_threads in [2, 3, 16] {
            assert_eq!((float32.computed(num_threads), bf16.computed(num_threads)), by_one, "{num_threads}");
        }
    }
}

#[test]
fn a_head_is_cut_where_a_thread_would_have_nothing_to_do_and_nowhere_else() {
    for (lens, heads, num_threads, shares, tasks) in [
        (&[4096][..], 1, 1, 1, 1),
        (&[4096], 1, 2, 4, 4),
        (&[4096], 1, 16, 16, 8),
        (&[4096], 3, 2, 6, 6),
        (&[4096], 8, 2, 8, 8),
        (&[100], 1, 16, 1, 1),
        (&[64; 40], 1, 16, 40, 40),
        (&[4096, 64, 64], 1, 2, 6, 6),
        (&[], 1, 2, 0, 0),
    ] {
        let problem = problem(lens, 1, heads, 16);
        let found = (problem.shares(num_threads).len(), problem.tasks(16, num_threads).all.len());
        assert_eq!(found, (shares, tasks), "{lens:?}, {heads} heads, {num_threads} threads");
    }
}

#[test]
fn what_does_not_fit_is_a_sentence() {
    let mut wrong = problem(&[4], 1, 2, 16);
    assert_eq!(wrong.obstacle([128, 128, 128]), None);
    assert!(wrong.obstacle([128, 128, 127]).is_some_and(|why| why.starts_with("elements")));
    let endless = problem(&[1 << 60], 1, 16, 16); // 2^68 elements, of which 64 bits hold none
    assert!(endless.obstacle([0; 3]).is_some_and(|why| why.starts_with("elements")));
    wrong.heads = 3;
    assert!(wrong.obstacle([128, 128, 128]).is_some_and(|why| why.starts_with("heads")));
    wrong = problem(&[4], 1, 2, 24);
    assert!(wrong.obstacle([0, 0, 0]).is_some_and(|why| why.starts_with("head_dim")));
    wrong = problem(&[4], 1, 2, 16);
    wrong.scale = -1.0;
    assert!(wrong.obstacle([128, 128, 128]).is_some_and(|why| why.starts_with("scale")));
    wrong = problem(&[4], 1, 2, 16);
    wrong.sinks = vec![0.0];
    assert!(wrong.obstacle([128, 128, 128]).is_some_and(|why| why.starts_with("sinks")));
    wrong = problem(&[4], 1, 2, 16);
    wrong.pairs = vec![[3, 5]];
    assert!(wrong.obstacle([128, 128, 128]).is_some_and(|why| why.starts_with("pairs")));
    wrong.boundaries = vec![0, 4, 2];
    assert!(wrong.obstacle([0, 0, 0]).is_some_and(|why| why.starts_with("documents")));
}

/// Attention by given vectors.
fn mixed_by<V: Vector<Element = f32>>(case: &Case<f32>) -> Vec<f32> {
    let p = &case.problem;
    let (mut mixed, mut log_sums) = (vec![0.0; case.q.len()], vec![0.0; p.num_tokens() * p.heads]);
    let output = Output { mixed: &mut mixed, log_sums: &mut log_sums };
    run::<V>(Worker(&Forward::new(p, case.inputs(), output, 1)));
    mixed
}

#[test]
fn vectors_and_single_numbers_agree() {
    let case = Case::<f32>::new(problem(&[90, 20], 2, 1, 48));
    let one_by_one = mixed_by::<Scalar>(&case);
    for (one, other) in case.computed(1)[0].iter().zip(&one_by_one) {
        assert!((one - f64::from(*other)).abs() < 2e-6, "{one} for {other}");
    }
}

/// Powers of 2 as vectors have them.
struct Powers<'a>(&'a [f32], &'a mut [f32]);

impl Kernel<f32> for Powers<'_> {
    #[inline(always)]
    fn compute<V: Vector<Element = f32>>(self) {
        for (from, to) in self.0.chunks_exact(V::LANES).zip(self.1.chunks_exact_mut(V::LANES)) {
            V::store(V::exp2(V::load(from)), to);
        }
    }
}

#[test]
fn tangents_are_exact_to_a_few_units_and_keep_what_is_not_a_number() {
    let exact = |x: f32| f64::from(x).tanh();
    let numbers: Vec<f32> = (-4000..4000)
        .map(|i| i as f32 / 317.0)
        .chain((0..32).map(|i| 0.5_f32.powi(i)))
        .chain([f32::NEG_INFINITY; 16])
        .chain([f32::NAN; 16])
        .collect();
    let mut found = vec![0.0; numbers.len()];
    <f32 as Element>::with_vectors(Tangents(&numbers, &mut found));
    assert!(found[found.len() - 1].is_nan());
    for (x, tangent) in numbers.iter().zip(&found).filter(|(x, _)| !x.is_nan()) {
        let wanted = exact(*x);
        assert!(
            (f64::from(*tangent) - wanted).abs() <= 5e-7 * wanted.abs(),
            "tanh({x}): {tangent} for {wanted}"
        );
    }
}

/// Hyperbolic tangents as vectors have them.
struct Tangents<'a>(&'a [f32], &'a mut [f32]);

impl Kernel<f32> for Tangents<'_> {
    #[inline(always)]
    fn compute<V: Vector<Element = f32>>(self) {
        for (from, to) in self.0.chunks_exact(V::LANES).zip(self.1.chunks_exact_mut(V::LANES)) {
            V::store(tanh::<V>(V::load(from)), to);
        }
    }
}

#[test]
fn powers_of_two_are_exact_to_a_few_units_vanish_far_below_and_keep_what_is_not_a_number() {
    let exponents: Vec<f32> = (0..4096)
        .map(|i| (i as f32 - 3072.0) / 24.0)
        .chain([f32::NEG_INFINITY; 16])
        .chain([f32::NAN; 16])
        .collect();
    let mut powers = vec![0.0; exponents.len()];
    <f32 as Element>::with_vectors(Powers(&exponents, &mut powers));
    assert!(powers[powers.len() - 1].is_nan());
    for (x, power) in exponents.iter().zip(&powers).filter(|(x, _)| !x.is_nan()) {
        let wanted = f64::from(*x).exp2();
        assert!((f64::from(*power) - wanted).abs() <= 1.3e-7 * wanted + 2e-38, "2^{x}: {power} for {wanted}");
    }
}
