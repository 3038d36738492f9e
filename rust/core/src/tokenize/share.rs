//! Work shared out on threads that end with it: so it also works in a process that was forked.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Size of a part, in the unit of the caller: small enough that threads end together.
const PART_SIZE: usize = 128 << 10;

/// Parts of a wave for each thread: 8 MiB, of whose time threads wait about a hundredth for the last.
const WAVE_PARTS: usize = 64;

/// Threads to use: those of the pool that this runs in, or as many as the machine runs at once.
pub(super) fn num_threads() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Does `work` on consecutive parts of `items`, on up to `num_threads` threads; results are in order.
pub(super) fn across<T: Sync, R: Send>(
    items: &[T],
    num_threads: usize,
    size: impl Fn(&T) -> usize,
    work: impl Fn(&[T]) -> R + Sync,
) -> Vec<R> {
    if num_threads <= 1 {
        return vec![work(items)];
    }
    let parts = parts(items, size, PART_SIZE);
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((part.start, work(&items[part.clone()])));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..num_threads.min(parts.len())).map(|_| scope.spawn(take)).collect();
        let mut done = take();
        for thread in threads {
            done.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(start, _)| *start);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Copies the parts one after the other to `all`, which is as long as they are, on up to `num_threads` threads:
/// new memory is slow where it is first written to.
pub(super) fn copy_across(all: &mut [u32], parts: &[&[u32]], num_threads: usize) {
    let share = all.len().div_ceil(num_threads.max(1)).max(PART_SIZE);
    std::thread::scope(|scope| {
        let (mut rest, mut parts) = (all, parts);
        while !parts.is_empty() {
            let mut sum = 0;
            let is_below_share = |part: &&&[u32]| {
                let before = sum;
                sum += part.len();
                before < share
            };
            let (some, left) = parts.split_at(parts.iter().take_while(is_below_share).count());
            let (to, after) = rest.split_at_mut(some.iter().map(|part| part.len()).sum());
            (rest, parts) = (after, left);
            if parts.is_empty() {
                copy(to, some);
            } else {
                scope.spawn(move || copy(to, some));
            }
        }
    });
}

fn copy(mut to: &mut [u32], parts: &[&[u32]]) {
    for part in parts {
        let (here, rest) = to.split_at_mut(part.len());
        here.copy_from_slice(part);
        to = rest;
    }
}

/// Consecutive ranges whose results are used before the next are begun: one part on one thread, which is
/// then still near; on several as many parts as let threads end together.
pub(super) fn waves<T>(items: &[T], num_threads: usize, size: impl Fn(&T) -> usize) -> Vec<Range<usize>> {
    let num_parts = if num_threads > 1 { WAVE_PARTS * num_threads } else { 1 };
    parts(items, size, PART_SIZE * num_parts)
}

/// Consecutive ranges of about `part_size`.
fn parts<T>(items: &[T], size: impl Fn(&T) -> usize, part_size: usize) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0);
    for (index, item) in items.iter().enumerate() {
        sum += size(item);
        if sum >= part_size {
            parts.push(start..index + 1);
            (start, sum) = (index + 1, 0);
        }
    }
    if start < items.len() {
        parts.push(start..items.len());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_on_any_number_of_threads() {
        let items: Vec<usize> = (0..1000).collect();
        for num_threads in [1, 2, 7] {
            let found = across(&items, num_threads, |item| item * 100, <[usize]>::to_vec);
            assert!(num_threads == 1 || found.len() > 10);
            assert_eq!(found.concat(), items);
        }
        assert!(across(&[(); 0], 3, |()| 1, |_| ()).is_empty());
    }

    #[test]
    fn parts_are_joined_in_order_on_any_number_of_threads() {
        let parts: Vec<Vec<u32>> = (0..40).map(|part| (0..part * 1000).collect()).collect();
        let parts: Vec<&[u32]> = parts.iter().map(Vec::as_slice).collect();
        for num_threads in [0, 1, 2, 7] {
            for parts in [&parts[..], &parts[..1], &[]] {
                let mut all = vec![7; parts.iter().map(|part| part.len()).sum()];
                copy_across(&mut all, parts, num_threads);
                assert_eq!(all, parts.concat());
            }
        }
    }
}
