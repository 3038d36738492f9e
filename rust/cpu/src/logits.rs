//! Rows of logits: what a softmax sums up of them, and slopes in their place.
//!
//! A row is read three times, each time from the nearest cache, and capped anew each time: kept, capped
//! numbers of bf16 would be rounded twice.

use crate::vector::{tanh, Vector, LOG2_E, MOST_LANES};

/// How what was multiplied becomes the logits of a softmax: capped, then divided by a temperature.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Logits of a row, at least 1. What stands behind them, up to the next row, is not looked at.
    pub vocab_size: usize,
    /// x becomes `softcap * tanh(x / softcap)`.
    pub softcap: Option<f32>,
    /// Above 0.
    pub temperature: f32,
}

/// Calls a function for the kind of a [`Shape`], each of which is compiled by itself.
macro_rules! by_shape {
    ($shape:expr, $shaping:ident => $call:expr) => {
        match ($shape.softcap, 1.0 / $shape.temperature) {
            (None, 1.0) => {
                let $shaping = crate::logits::Plain;
                $call
            }
            (None, factor) => {
                let $shaping = crate::logits::Cooled { factor };
                $call
            }
            (Some(softcap), factor) => {
                let $shaping = crate::logits::Capped { softcap, factor };
                $call
            }
        }
    };
}
pub(crate) use by_shape;

/// One kind of shape.
pub(crate) trait Shaping: Copy + Sync {
    /// The logits.
    fn logits<V: Vector>(self, x: V::Floats) -> V::Floats;
    /// What each logit changes by for each unit of its x.
    fn steepness<V: Vector>(self, logits: V::Floats) -> V::Floats;
}

/// Logits as they are.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

/// Logits times `factor`.
#[derive(Clone, Copy)]
pub(crate) struct Cooled {
    pub factor: f32,
}

/// Logits capped, then times `factor`.
#[derive(Clone, Copy)]
pub(crate) struct Capped {
    pub softcap: f32,
    pub factor: f32,
}

impl Shaping for Plain {
    #[inline(always)]
    fn logits<V: Vector>(self, x: V::Floats) -> V::Floats {
        x
    }
    #[inline(always)]
    fn steepness<V: Vector>(self, _: V::Floats) -> V::Floats {
        V::splat(1.0)
    }
}

impl Shaping for Cooled {
    #[inline(always)]
    fn logits<V: Vector>(self, x: V::Floats) -> V::Floats {
        V::mul(x, V::splat(self.factor))
    }
    #[inline(always)]
    fn steepness<V: Vector>(self, _: V::Floats) -> V::Floats {
        V::splat(self.factor)
    }
}

impl Shaping for Capped {
    #[inline(always)]
    fn logits<V: Vector>(self, x: V::Floats) -> V::Floats {
        let share = tanh::<V>(V::mul(x, V::splat(1.0 / self.softcap)));
        V::mul(share, V::splat(self.softcap * self.factor))
    }
    #[inline(always)]
    fn steepness<V: Vector>(self, logits: V::Floats) -> V::Floats {
        let share = V::mul(logits, V::splat(1.0 / (self.softcap * self.factor)));
        V::mul(V::splat(self.factor), V::sub(V::splat(1.0), V::mul(share, share)))
    }
}

/// What a row of logits sums up to.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    pub largest: f32,
    pub mean: f32,
    /// Sum of e^(logit - `largest`), and its logarithm. Their sum with `largest` in one float32 would
    /// lose the digits of a probability as logits grow.
    pub powers: f32,
    pub log_powers: f32,
}

/// What a loss changes by for each unit of a row's statistics.
#[derive(Clone, Copy)]
pub(crate) struct Upstream {
    pub logp: f32,
    pub log_sum: f32,
    pub mean: f32,
    pub entropy: f32,
}

impl Sums {
    #[inline(always)]
    pub fn of<V: Vector>(row: &[V::Element], shaping: impl Shaping) -> Self {
        let (largest, sum) = largest_and_sum::<V>(row, shaping);
        let powers = sum_of_powers::<V>(row, largest, shaping);
        Self { largest, mean: sum / row.len() as f32, powers, log_powers: powers.ln() }
    }

    /// Logarithm of the sum of e^logit.
    #[inline(always)]
    pub fn log_sum(&self) -> f32 {
        self.largest + self.log_powers
    }

    /// Log-probability of a logit.
    #[inline(always)]
    pub fn logp(&self, logit: f32) -> f32 {
        (logit - self.largest) - self.log_powers
    }

    /// Of the row it was made of: terms of one sign, so that nothing cancels.
    #[inline(always)]
    pub fn entropy<V: Vector>(&self, row: &[V::Element], shaping: impl Shaping) -> f32 {
        let largest = V::splat(self.largest);
        let (chunks, rest) = split::<V>(row);
        let mut sum = V::splat(0.0);
        for run in chunks.chunks(RUN * V::LANES) {
            let mut part = V::splat(0.0);
            for chunk in run.chunks_exact(V::LANES) {
                part = weighed::<V>(V::sub(shaping.logits::<V>(V::widen(chunk)), largest), part);
            }
            sum = V::add(sum, part);
        }
        let tail = V::sub(V::load(&tail::<V>(rest, shaping)), largest);
        self.log_powers - V::sum(weighed::<V>(tail, sum)) / self.powers
    }
}

/// `sum + x e^x`
#[inline(always)]
fn weighed<V: Vector>(x: V::Floats, sum: V::Floats) -> V::Floats {
    V::fma(x, power::<V>(x), sum)
}

/// `e^x`
#[inline(always)]
fn power<V: Vector>(x: V::Floats) -> V::Floats {
    V::exp2(V::mul(x, V::splat(LOG2_E)))
}

/// The logit at one place of a row.
#[inline(always)]
pub(crate) fn logit<V: Vector>(x: V::Element, shaping: impl Shaping) -> f32 {
    V::greatest(shaping.logits::<V>(V::splat(V::number(x))))
}

/// Vectors that are summed up before they join the sum of a row: one running sum of 131,072 positive numbers
/// rounds off 1e-5 of it.
const RUN: usize = 128;

/// Below every logit, so that it adds nothing.
const NOTHING: f32 = -1e30;

#[inline(always)]
fn largest_and_sum<V: Vector>(row: &[V::Element], shaping: impl Shaping) -> (f32, f32) {
    let (chunks, rest) = split::<V>(row);
    let (mut largest, mut sum) = (V::splat(NOTHING), V::splat(0.0));
    for run in chunks.chunks(RUN * V::LANES) {
        let mut part = V::splat(0.0);
        for chunk in run.chunks_exact(V::LANES) {
            let x = shaping.logits::<V>(V::widen(chunk));
            largest = V::max(largest, x);
            part = V::add(part, x);
        }
        sum = V::add(sum, part);
    }
    let tail = tail::<V>(rest, shaping);
    let greatest = V::greatest(V::max(largest, V::load(&tail)));
    (greatest, V::sum(sum) + tail[..rest.len()].iter().sum::<f32>())
}

/// Sum of e^(logit - `largest`).
#[inline(always)]
fn sum_of_powers<V: Vector>(row: &[V::Element], largest: f32, shaping: impl Shaping) -> f32 {
    let (chunks, rest) = split::<V>(row);
    let (largest, mut sum) = (V::splat(largest), V::splat(0.0));
    for run in chunks.chunks(RUN * V::LANES) {
        let mut part = V::splat(0.0);
        for chunk in run.chunks_exact(V::LANES) {
            part = V::add(part, power::<V>(V::sub(shaping.logits::<V>(V::widen(chunk)), largest)));
        }
        sum = V::add(sum, part);
    }
    let tail = V::load(&tail::<V>(rest, shaping));
    V::sum(V::add(sum, power::<V>(V::sub(tail, largest))))
}

/// What the slope of every logit of a row is made of.
#[derive(Clone, Copy)]
pub(crate) struct Slopes {
    pub sums: Sums,
    /// Of the row; of no matter where nothing comes from it.
    pub entropy: f32,
    pub upstream: Upstream,
}

impl Slopes {
    /// Numbers of a row become what a loss changes by for each unit of them: with p = e^(logit - log-sum),
    /// p (of log-sum - of logp - of entropy (ln p + entropy)) + of mean / size, and of logp at the target.
    #[inline(always)]
    pub fn replace<V: Vector>(&self, row: &mut [V::Element], target: usize, shaping: impl Shaping) {
        let mean = self.upstream.mean / row.len() as f32;
        let at_target = V::splat(logit::<V>(row[target], shaping));
        let at_target = self.slope::<V>(at_target, mean + self.upstream.logp, shaping);
        let (chunks, rest) = row.split_at_mut(row.len() / V::LANES * V::LANES);
        for chunk in chunks.chunks_exact_mut(V::LANES) {
            let logits = shaping.logits::<V>(V::widen(chunk));
            V::narrow(self.slope::<V>(logits, mean, shaping), chunk);
        }
        let logits = V::load(&tail::<V>(rest, shaping));
        let mut found = [0.0; MOST_LANES];
        V::store(self.slope::<V>(logits, mean, shaping), &mut found);
        for (to, x) in rest.iter_mut().zip(found) {
            *to = V::element(x);
        }
        row[target] = V::element(V::greatest(at_target));
    }

    /// Of logits, to whose slope `more` is added before what they were shaped from is asked.
    #[inline(always)]
    fn slope<V: Vector>(&self, logits: V::Floats, more: f32, shaping: impl Shaping) -> V::Floats {
        let Upstream { logp, log_sum, entropy, .. } = self.upstream;
        let below = V::sub(logits, V::splat(self.sums.largest));
        let share = 1.0 / self.sums.powers;
        let mut shares = V::splat((log_sum - logp) * share);
        if entropy != 0.0 {
            let surprise = V::add(below, V::splat(self.entropy - self.sums.log_powers));
            shares = V::fma(V::splat(-entropy * share), surprise, shares);
        }
        V::mul(V::fma(power::<V>(below), shares, V::splat(more)), shaping.steepness::<V>(logits))
    }
}

/// What fills whole vectors, and the rest.
#[inline(always)]
fn split<V: Vector>(row: &[V::Element]) -> (&[V::Element], &[V::Element]) {
    row.split_at(row.len() / V::LANES * V::LANES)
}

/// Logits of fewer numbers than a vector has lanes, filled up with `NOTHING`.
#[inline(always)]
fn tail<V: Vector>(rest: &[V::Element], shaping: impl Shaping) -> [f32; MOST_LANES] {
    let mut found = [NOTHING; MOST_LANES];
    for (to, x) in found.iter_mut().zip(rest) {
        *to = logit::<V>(*x, shaping);
    }
    found
}
