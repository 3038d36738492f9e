//! What rounds over the whole text leave: a long list under one word, of which each round takes the next few values.
//!
//! `SSN: 123 45 6789, 234 56 7891, …`: the word speaks for what stands near it, and a value that is replaced
//! brings the next ones nearer. A window goes over the text, and in it rounds are repeated until nothing is found;
//! so the time is linear in the text, however long the list.

use super::kind::{Kind, KindCounts};
use super::policy::{floor, Policy, Scratch, REACH_BYTES};

/// New text of a window.
const STEP_BYTES: usize = 1 << 10;
/// Text behind what is searched, which the longest match (a private key, a web token) may need.
const AHEAD_BYTES: usize = 28 << 10;
/// Text before the end of what was searched that the next window searches again.
const AGAIN_BYTES: usize = 2 * REACH_BYTES;

/// The text in which nothing more is found.
///
/// # Errors
/// The kind for which the document is to be rejected.
pub(super) fn to_the_end(
    policy: &Policy,
    text: &str,
    scratch: &mut Scratch,
    counts: &mut KindCounts,
) -> Result<String, Kind> {
    let (mut done, mut window, mut rest) = (String::with_capacity(text.len()), String::new(), text);
    loop {
        let missing = (AGAIN_BYTES + REACH_BYTES + STEP_BYTES + AHEAD_BYTES).saturating_sub(window.len());
        let (new, later) = rest.split_at(floor(rest, rest.len().min(missing)));
        (window, rest) = (window + new, later);
        let from = if done.is_empty() { 0 } else { floor(&window, REACH_BYTES) };
        let to = settle(policy, &mut window, from, scratch, counts)?;
        if to == window.len() && rest.is_empty() {
            return Ok(done + &window);
        }
        let known = floor(&window, to.saturating_sub(AGAIN_BYTES + REACH_BYTES));
        done.push_str(&window[..known]);
        window.drain(..known);
    }
}

/// Rounds over the beginning of the window, from `from` on, until nothing is found; gives the end of what was searched.
fn settle(
    policy: &Policy,
    window: &mut String,
    from: usize,
    scratch: &mut Scratch,
    counts: &mut KindCounts,
) -> Result<usize, Kind> {
    let mut to = 0;
    for _ in 0..window.len() {
        to = floor(window, window.len().min(from + AGAIN_BYTES + STEP_BYTES));
        policy.find_within(window, from..to, scratch);
        if scratch.taken().is_empty() {
            break;
        }
        policy.account(scratch.taken(), counts)?;
        *window = policy.rewrite(window, scratch);
    }
    Ok(to)
}
