//! A histogram as SVG: bars, and what a threshold anywhere would keep.

use std::fmt::Write as _;

use super::histogram::Histogram;
use super::report::value;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 120.0;
/// Below the bars, for the numbers.
const FOOT: f64 = 16.0;

impl Histogram {
    /// The largest threshold that, as the smallest value that passes, keeps at least this share.
    pub fn minimum_keeping(&self, share: f64) -> f64 {
        let (all, mut below) = ((self.defined() + self.undefined()) as f64, 0);
        let mut threshold = 0.0;
        for (index, counts) in &self.buckets {
            if (all - below as f64) < share * all {
                break;
            }
            threshold = self.low(*index);
            below += counts.iter().sum::<u64>();
        }
        threshold
    }

    /// The smallest bucket's end that, as the largest value that passes, keeps at least this share.
    pub fn maximum_keeping(&self, share: f64) -> f64 {
        let (all, mut below) = ((self.defined() + self.undefined()) as f64, self.undefined());
        for (index, counts) in &self.buckets {
            below += counts.iter().sum::<u64>();
            if below as f64 >= share * all {
                return self.low(index + 1);
            }
        }
        0.0
    }
}

/// The chart of a histogram that holds something.
pub(super) fn chart(histogram: &Histogram) -> String {
    let indices = || histogram.buckets.keys().copied();
    let (Some(first), Some(last)) = (indices().next(), indices().next_back()) else { return String::new() };
    let step = WIDTH / f64::from(last - first + 1);
    let most = histogram.buckets.values().map(|counts| counts.iter().sum::<u64>()).max().unwrap_or(1);
    let all = (histogram.defined() + histogram.undefined()) as f64;
    let (mut below, always) = (histogram.undefined(), histogram.undefined() as f64 / all);
    let (mut bars, mut at_most) = (String::new(), vec![(0.0, always)]);
    for (index, [kept, rejected]) in &histogram.buckets {
        let left = step * f64::from(index - first);
        let height = |count: u64| HEIGHT * count as f64 / most as f64;
        let (dark, light) = (height(*kept), height(*rejected));
        bars += &bar("k", left, HEIGHT - dark, step, dark);
        bars += &bar("r", left, HEIGHT - dark - light, step, light);
        at_most.push((left, below as f64 / all));
        below += kept + rejected;
        at_most.push((left + step, below as f64 / all));
    }
    let foot = foot(histogram, first, last);
    let (solid, dashed) =
        (line("a", &at_most, |share| share), line("b", &at_most, |share| 1.0 + always - share));
    format!("<svg viewBox='0 0 {WIDTH} {}' role='img'>{bars}{solid}{dashed}{foot}</svg>\n", HEIGHT + FOOT)
}

fn bar(class: &str, left: f64, top: f64, width: f64, height: f64) -> String {
    if height <= 0.0 {
        return String::new();
    }
    format!("<rect class='{class}' x='{left:.1}' y='{top:.1}' width='{width:.1}' height='{height:.1}'/>")
}

fn line(class: &str, points: &[(f64, f64)], share: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    for (left, below) in points {
        let _ = write!(path, "{left:.1},{:.1} ", HEIGHT * (1.0 - share(*below)));
        // a String takes all
    }
    format!("<polyline class='{class}' points='{}'/>", path.trim_end())
}

/// Values under the left end, the quarters and the right end.
fn foot(histogram: &Histogram, first: u16, last: u16) -> String {
    let label = |quarter: u16| {
        let index = first + (last + 1 - first) * quarter / 4;
        let anchor = ["start", "middle", "middle", "middle", "end"][usize::from(quarter)];
        let left = WIDTH * f64::from(index - first) / f64::from(last + 1 - first);
        let low = value(histogram.low(index));
        format!("<text x='{left:.1}' y='{}' text-anchor='{anchor}'>{low}</text>", HEIGHT + 12.0)
    };
    (0..=4).map(label).collect()
}
