//! The layers beside their formulas in float64, on ragged lengths and several threads.
#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss)] // ids of a few hundred

use crate::few;
use crate::gated::{swiglu, swiglu_slopes};
use crate::logits::Shape;
use crate::loss::{loss_and_slopes, Cost};
use crate::norm::{rms_norm, rms_norm_slopes, Given, Weight};
use crate::rope::{turn, Angles};
use crate::statistics::{statistics, statistics_slopes, Statistics};
use crate::sums;

/// Numbers that look random, and are the same each time.
pub(crate) fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn bf16(x: &[f32]) -> Vec<u16> {
    x.iter().map(|x| (x.to_bits() >> 16) as u16).collect()
}

fn wide(x: &[u16]) -> Vec<f32> {
    x.iter().map(|x| f32::from_bits(u32::from(*x) << 16)).collect()
}

fn assert_close(found: &[f32], wanted: impl IntoIterator<Item = f64>, tolerance: f64) {
    let wanted: Vec<f64> = wanted.into_iter().collect();
    assert_eq!(found.len(), wanted.len());
    for (i, (x, y)) in found.iter().zip(&wanted).enumerate() {
        assert!((f64::from(*x) - y).abs() <= tolerance * (1.0 + y.abs()), "at {i}: {x} for {y}");
    }
}

fn wide64(x: &[f32]) -> impl Iterator<Item = f64> + '_ {
    x.iter().map(|x| f64::from(*x))
}

/// Of every kind, for rows of each length.
fn shapes(sizes: &[usize]) -> impl Iterator<Item = Shape> + '_ {
    let kinds = [(None, 1.0), (None, 0.7), (Some(1.5), 1.3)];
    sizes.iter().flat_map(move |&vocab_size| {
        kinds.map(|(softcap, temperature)| Shape { vocab_size, softcap, temperature })
    })
}

#[test]
fn a_row_of_logits_becomes_its_gradient_whatever_its_length() {
    for shape in shapes(&[1, 5, 16, 33, 1000]) {
        let size = shape.vocab_size;
        let logits = numbers(70 * size, 1);
        let targets: Vec<i64> = (0..70).map(|row| (row * 7 % size) as i64).collect();
        let weights = numbers(70, 2);
        let cost = Cost { targets: &targets, weights: &weights, z_loss: 0.01, label_smoothing: 0.1 };
        assert_eq!(cost.obstacle(logits.len(), size), None);
        let mut slopes = logits.clone();
        let loss = loss_and_slopes(&mut slopes, cost, shape, 1);
        let (wanted_loss, wanted) = plain_loss(&logits, cost, shape);
        assert!((loss - wanted_loss).abs() < 1e-5 * (1.0 + wanted_loss.abs()), "{loss} for {wanted_loss}");
        assert_close(&slopes, wanted, 2e-6);
        let mut again = logits.clone();
        assert_eq!(loss.to_bits(), loss_and_slopes(&mut again, cost, shape, 3).to_bits());
        assert_eq!(slopes, again);
    }
}

fn plain_loss(logits: &[f32], cost: Cost, shape: Shape) -> (f64, Vec<f64>) {
    let (mut total, mut slopes) = (0.0, Vec::new());
    let (z_loss, smoothing) = (f64::from(cost.z_loss), f64::from(cost.label_smoothing));
    for (row, (target, weight)) in logits.chunks(shape.vocab_size).zip(cost.targets.iter().zip(cost.weights))
    {
        let row = PlainRow::of(row, shape, *target as usize);
        let weight = f64::from(*weight);
        let spread = row.log_sum - row.mean;
        total +=
            weight * (smoothing * spread - (1.0 - smoothing) * row.logp + z_loss * row.log_sum * row.log_sum);
        let of = [-(1.0 - smoothing), smoothing + 2.0 * z_loss * row.log_sum, -smoothing, 0.0];
        slopes.extend(row.slopes(of.map(|slope| weight * slope)));
    }
    (total, slopes)
}

/// A row's statistics, by their definitions.
struct PlainRow {
    logits: Vec<f64>,
    steepness: Vec<f64>,
    target: usize,
    logp: f64,
    log_sum: f64,
    mean: f64,
    entropy: f64,
}

impl PlainRow {
    fn of(row: &[f32], shape: Shape, target: usize) -> Self {
        let temperature = f64::from(shape.temperature);
        let shaped = |x: f64| {
            shape
                .softcap
                .map(f64::from)
                .map_or((x, 1.0), |cap| (cap * (x / cap).tanh(), 1.0 - (x / cap).tanh().powi(2)))
        };
        let (logits, steepness): (Vec<f64>, Vec<f64>) =
            wide64(row).map(shaped).map(|(x, slope)| (x / temperature, slope / temperature)).unzip();
        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
        let log_sum = largest + logits.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
        let mean = logits.iter().sum::<f64>() / row.len() as f64;
        let entropy = logits.iter().map(|x| (log_sum - x) * (x - log_sum).exp()).sum();
        Self { logp: logits[target] - log_sum, logits, steepness, target, log_sum, mean, entropy }
    }

    /// For the slopes of log-probability, log-sum, mean and entropy.
    fn slopes(&self, of: [f64; 4]) -> Vec<f64> {
        let slope = |(id, (x, steepness)): (usize, (&f64, &f64))| {
            let logp = x - self.log_sum;
            let share = of[1] - of[0] - of[3] * (logp + self.entropy);
            let of_target = if id == self.target { of[0] } else { 0.0 };
            (logp.exp() * share + of[2] / self.logits.len() as f64 + of_target) * steepness
        };
        self.logits.iter().zip(&self.steepness).enumerate().map(slope).collect()
    }
}

#[test]
fn statistics_of_rows_and_the_gradient_of_all_four_are_those_of_float64() {
    for shape in shapes(&[1, 21, 1000]) {
        let size = shape.vocab_size;
        let logits: Vec<f32> = numbers(40 * size, 1).iter().map(|x| 8.0 * x).collect();
        let targets: Vec<i64> = (0..40).map(|row| (row * 7 % size) as i64).collect();
        let mut four = [(); 4].map(|()| vec![0.0; 40]);
        let [logps, log_sums, means, entropies] = &mut four;
        statistics(&logits, &targets, shape, Statistics { logps, log_sums, means, entropies }, 2);
        let upstream = [3, 4, 5, 6].map(|seed| numbers(40, seed));
        let rows: Vec<PlainRow> = logits
            .chunks(size)
            .zip(&targets)
            .map(|(row, id)| PlainRow::of(row, shape, *id as usize))
            .collect();
        let wanted: [fn(&PlainRow) -> f64; 4] = [|r| r.logp, |r| r.log_sum, |r| r.mean, |r| r.entropy];
        for (found, wanted) in four.iter().zip(wanted) {
            assert_close(found, rows.iter().map(wanted), 1e-6);
        }
        let mut slopes = logits.clone();
        let [logps, log_sums, means, entropies] = &upstream;
        let given = Statistics { logps: &logps[..], log_sums, means, entropies };
        assert_eq!(given.obstacle(logits.len(), size, &targets), None);
        statistics_slopes(&mut slopes, &targets, shape, &four[3], &given, 2);
        let wanted = rows
            .iter()
            .enumerate()
            .flat_map(|(row, r)| r.slopes([0, 1, 2, 3].map(|i| f64::from(upstream[i][row]))));
        assert_close(&slopes, wanted, 2e-6);
    }
}

#[test]
fn what_stands_behind_the_logits_of_a_row_is_neither_read_nor_written() {
    for shape in shapes(&[1, 21, 64]) {
        let (size, width) = (shape.vocab_size, shape.vocab_size + 16);
        let logits = numbers(40 * size, 1);
        let mut padded: Vec<f32> =
            logits.chunks(size).flat_map(|row| [row, &[f32::NAN; 16]].concat()).collect();
        let targets: Vec<i64> = (0..40).map(|row| (row * 7 % size) as i64).collect();
        let cost = Cost { targets: &targets, weights: &numbers(40, 2), z_loss: 0.01, label_smoothing: 0.1 };
        let of = |logits: &[f32]| {
            let mut four = [(); 4].map(|()| vec![0.0; 40]);
            let [logps, log_sums, means, entropies] = &mut four;
            statistics(logits, &targets, shape, Statistics { logps, log_sums, means, entropies }, 2);
            four
        };
        let four = of(&logits);
        assert_eq!(four, of(&padded));
        let upstream = four.each_ref().map(|numbers| &numbers[..]);
        let [logps, log_sums, means, entropies] = upstream;
        let given = Statistics { logps, log_sums, means, entropies };
        let (mut slopes, mut again) = (logits.clone(), padded.clone());
        statistics_slopes(&mut slopes, &targets, shape, &four[3], &given, 2);
        statistics_slopes(&mut again, &targets, shape, &four[3], &given, 2);
        for (row, wanted) in again.chunks(width).zip(slopes.chunks(size)) {
            assert_eq!(&row[..size], wanted);
            assert!(row[size..].iter().all(|x| x.is_nan()));
        }
        let mut slopes = logits.clone();
        let loss = loss_and_slopes(&mut slopes, cost, shape, 2);
        assert_eq!(loss.to_bits(), loss_and_slopes(&mut padded, cost, shape, 2).to_bits());
        for (row, wanted) in padded.chunks(width).zip(slopes.chunks(size)) {
            assert_eq!(&row[..size], wanted);
            assert!(row[size..].iter().all(|x| x.is_nan()));
        }
    }
}

#[test]
fn probabilities_of_large_logits_have_all_their_digits() {
    let (rows, size) = (40, 100);
    let mut logits: Vec<f32> = numbers(rows * size, 1).iter().map(|x| 1e4 * x).collect();
    for row in logits.chunks_mut(size) {
        (row[3], row[4]) = (3e4, 3e4 - 0.5); // two that share the probability
    }
    let targets = vec![3; rows];
    let shape = Shape { vocab_size: size, softcap: None, temperature: 1.0 };
    let cost = Cost { targets: &targets, weights: &vec![1.0; rows], z_loss: 0.0, label_smoothing: 0.0 };
    let (wanted_loss, wanted) = plain_loss(&logits, cost, shape);
    let mut slopes = logits.clone();
    let loss = loss_and_slopes(&mut slopes, cost, shape, 2);
    assert!((loss - wanted_loss).abs() < 1e-6 * wanted_loss, "{loss} for {wanted_loss}");
    assert_close(&slopes, wanted.clone(), 2e-7);
    let (logps, none) = (vec![-1.0; rows], vec![0.0; rows]);
    let upstream = Statistics { logps: &logps[..], log_sums: &none, means: &none, entropies: &[] };
    statistics_slopes(&mut logits, &targets, shape, &[], &upstream, 2);
    assert_close(&logits, wanted, 2e-7);
}

#[test]
fn a_target_outside_of_the_logits_is_named() {
    let weights = [1.0, 1.0];
    let cost = |targets| Cost { targets, weights: &weights, z_loss: 0.0, label_smoothing: 0.0 };
    assert_eq!(cost(&[0, 3]).obstacle(8, 4), None);
    assert!(cost(&[0, 4]).obstacle(8, 4).is_some_and(|why| why.contains("a target of 4 in 4 logits")));
    assert!(cost(&[0, -1]).obstacle(8, 4).is_some());
    assert!(cost(&[0, 1]).obstacle(7, 3).is_some());
    assert!(cost(&[0, 3]).obstacle(8, 3).is_some_and(|why| why.contains("a target of 3 in 3 logits")));
    for vocab_size in [0, 5] {
        assert!(cost(&[0, 0]).obstacle(8, vocab_size).is_some_and(|why| why.contains("in rows of 4")));
    }
}

#[test]
fn products_of_few_rows_are_those_of_float64_and_of_each_row_alone() {
    let (width, outputs) = (96, 37);
    let weight = numbers(outputs * width, 2);
    for num_rows in 1..=few::MOST_ROWS {
        let x = numbers(num_rows * width, 1);
        let dot = |a: &[f32], b: &[f32]| -> f64 { wide64(a).zip(wide64(b)).map(|(x, y)| x * y).sum() };
        let mut product = vec![0.0; num_rows * outputs];
        few::multiply(&x, &weight, &mut product, num_rows, 2);
        let wanted = x.chunks(width).flat_map(|x| weight.chunks(width).map(move |w| dot(x, w)));
        assert_close(&product, wanted, 1e-6);
        let mut alone = vec![0.0; outputs];
        few::multiply(&x[..width], &weight, &mut alone, 1, 1);
        assert_eq!(product[..outputs], alone);
        let (x, weight) = (bf16(&x), bf16(&weight));
        let mut product = vec![0; num_rows * outputs];
        few::multiply(&x, &weight, &mut product, num_rows, 2);
        let (x, weight) = (wide(&x), wide(&weight));
        let wanted: Vec<f64> = x
            .chunks(width)
            .flat_map(|x| weight.chunks(width).map(|w| dot(x, w)).collect::<Vec<_>>())
            .collect();
        assert_close(&wide(&product), wanted, 4e-3);
    }
    assert_eq!(few::obstacle([64, 320, 20], 2), None);
    for (lens, rows) in [([288, 320, 90], 9), ([64, 320, 20], 0), ([48, 240, 20], 2), ([64, 300, 20], 2)] {
        assert!(few::obstacle(lens, rows).is_some());
    }
}

#[test]
fn a_gate_and_its_slopes_are_those_of_float64() {
    let len = 16 * 1001;
    let [gate, up, upstream] = [1, 2, 3].map(|seed| numbers(len, seed));
    let mut gated = vec![0.0; len];
    swiglu(&gate, &up, &mut gated, 2);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let pairs = || wide64(&gate).zip(wide64(&up));
    assert_close(&gated, pairs().map(|(g, u)| g * sigmoid(g) * u), 1e-6);
    let (mut of_gate, mut of_up) = (vec![0.0; len], vec![0.0; len]);
    swiglu_slopes([&gate, &up, &upstream], [&mut of_gate, &mut of_up], 2);
    let slope = |g: f64| sigmoid(g) * (1.0 + g * (1.0 - sigmoid(g)));
    assert_close(&of_gate, pairs().zip(wide64(&upstream)).map(|((g, u), y)| y * u * slope(g)), 1e-6);
    assert_close(&of_up, pairs().zip(wide64(&upstream)).map(|((g, _), y)| y * g * sigmoid(g)), 1e-6);
}

#[test]
fn what_was_turned_and_turned_back_is_what_it_was() {
    let (tokens, heads, half) = (35, 3, 16);
    let x = numbers(tokens * heads * 2 * half, 1);
    let angles = numbers(tokens * half, 2);
    let cos: Vec<f32> = angles.iter().map(|angle| angle.cos()).collect();
    let sin: Vec<f32> = angles.iter().map(|angle| angle.sin()).collect();
    let mut to = Angles { cos: &cos, sin: &sin, half, sign: 1.0 };
    let (mut turned, mut back) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    turn(&x, &mut turned, to, 2);
    let first = f64::from(x[0]) * f64::from(cos[0]) - f64::from(x[half]) * f64::from(sin[0]);
    assert_close(&turned[..1], [first], 1e-6);
    to.sign = -1.0;
    turn(&turned, &mut back, to, 1);
    assert_close(&back, wide64(&x), 1e-6);
    assert!(to.obstacle(x.len() - 1).is_some());
}

#[test]
fn a_norm_and_its_slopes_are_those_of_float64() {
    let (rows, width) = (70, 48);
    let (x, weight) = (numbers(rows * width, 1), numbers(width, 2));
    let upstream = bf16(&numbers(rows * width, 3));
    let scale = Weight { weight: &weight, plus: 1.0 };
    let (mut normed, mut factors) = (vec![0; x.len()], vec![0.0; rows]);
    rms_norm(&x, scale, 1e-5, &mut normed, &mut factors, 2);
    let (mut of_x, mut of_weight) = (vec![0.0; x.len()], vec![0.0; width]);
    let given = Given { x: &x, weight: scale, factors: &factors, upstream: &upstream };
    rms_norm_slopes(given, &mut of_x, &mut of_weight, 2);
    let (mut wanted, mut wanted_x, mut wanted_weight) = (Vec::new(), Vec::new(), vec![0.0; width]);
    for (x, y) in x.chunks(width).zip(wide(&upstream).chunks(width)) {
        let mean = wide64(x).map(|x| x * x).sum::<f64>() / width as f64;
        let factor = 1.0 / (mean + 1e-5).sqrt();
        let column = |c: usize| (f64::from(x[c]) * factor, f64::from(weight[c]) + 1.0, f64::from(y[c]));
        let inner = (0..width).map(column).map(|(n, w, y)| n * w * y).sum::<f64>() / width as f64;
        for (c, of_weight) in wanted_weight.iter_mut().enumerate() {
            let (n, w, y) = column(c);
            wanted.push(n * w);
            wanted_x.push(factor * (w * y - n * inner));
            *of_weight += n * y;
        }
    }
    assert_close(&wide(&normed), wanted, 4e-3);
    assert_close(&of_x, wanted_x, 1e-5);
    assert_close(&of_weight, wanted_weight, 1e-5);
}

#[test]
fn a_sum_of_bf16_is_that_of_float32_whatever_the_threads() {
    let len = 4096 * 67 + 16;
    let (mut sums, added) = (numbers(len, 1), bf16(&numbers(len, 2)));
    let wanted: Vec<f32> = sums.iter().zip(wide(&added)).map(|(x, y)| x + y).collect();
    let mut again = sums.clone();
    sums::add(&mut sums, &added, 1);
    sums::add(&mut again, &added, 3);
    assert_eq!(sums, wanted);
    assert_eq!(again, wanted);
}
