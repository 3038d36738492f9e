//! Work shared out on threads that end with it: so it also works in a process that was forked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Size of a part, in the unit of the caller: small enough that threads end together.
const PART_SIZE: usize = 128 << 10;

/// Parts for each thread that may be done before one that takes long: 8 MiB.
const AHEAD_PARTS: usize = 64;

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
    let mut results = Vec::new();
    let take = |result| {
        results.push(result);
        Ok(())
    };
    in_order(items, num_threads, size, |part| Ok(work(part)), take)
        .unwrap_or_else(|never: Infallible| match never {});
    results
}

/// Does `work` on consecutive parts of `items`, on up to `num_threads` threads, and gives each result to `take` in
/// order, on the thread that made the one that was missing, where it is still near.
///
/// # Errors
/// The first that `work` or `take` gave, in the order of the parts.
pub(super) fn in_order<T: Sync, R: Send, E: Send>(
    items: &[T],
    num_threads: usize,
    size: impl Fn(&T) -> usize,
    work: impl Fn(&[T]) -> Result<R, E> + Sync,
    mut take: impl FnMut(R) -> Result<(), E> + Send,
) -> Result<(), E> {
    let parts = parts(items, size, PART_SIZE);
    if num_threads <= 1 {
        return parts.into_iter().try_for_each(|part| take(work(&items[part])?));
    }
    let (line, take) = (Line::new(parts.len(), AHEAD_PARTS * num_threads), Mutex::new(take));
    let run = || {
        let _guard = EndIfPanicking(&line);
        while let Some(part) = line.next() {
            line.put(part, work(&items[parts[part].clone()]), &take);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..num_threads.min(parts.len()) {
            scope.spawn(run);
        }
        run();
    });
    let failed = line.state().failed.take();
    failed.map_or(Ok(()), Err)
}

/// Results that wait for those before them.
struct Line<R, E> {
    state: Mutex<State<R, E>>,
    /// Some were taken, or it is over.
    moved: Condvar,
    num_parts: usize,
    /// Most parts that may be begun and not taken.
    max_ahead: usize,
}

struct State<R, E> {
    num_begun: usize,
    num_taken: usize,
    /// What was made of the parts from the first that is not taken.
    waiting: VecDeque<Option<Result<R, E>>>,
    /// A thread takes what there is.
    is_taking: bool,
    is_over: bool,
    failed: Option<E>,
}

impl<R, E> Line<R, E> {
    fn new(num_parts: usize, max_ahead: usize) -> Self {
        let state = State {
            num_begun: 0,
            num_taken: 0,
            waiting: VecDeque::new(),
            is_taking: false,
            is_over: false,
            failed: None,
        };
        Self { state: Mutex::new(state), moved: Condvar::new(), num_parts, max_ahead }
    }

    fn state(&self) -> MutexGuard<'_, State<R, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next part to do; waits while too many are ahead of one that takes long.
    fn next(&self) -> Option<usize> {
        let mut state = self.state();
        while !state.is_over && state.num_begun - state.num_taken >= self.max_ahead {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_over || state.num_begun == self.num_parts {
            return None;
        }
        state.num_begun += 1;
        state.waiting.push_back(None);
        Some(state.num_begun - 1)
    }

    /// Puts in what was made of a part, and takes what is next, unless another thread does.
    fn put(&self, part: usize, made: Result<R, E>, take: &Mutex<impl FnMut(R) -> Result<(), E>>) {
        let mut state = self.state();
        if state.is_over {
            return;
        }
        let place = part - state.num_taken;
        state.waiting[place] = Some(made);
        if state.is_taking {
            return;
        }
        state.is_taking = true;
        while let Some(Some(made)) = state.waiting.front_mut().map(Option::take) {
            drop(state);
            let taken = made.and_then(|made| take.lock().unwrap_or_else(PoisonError::into_inner)(made));
            state = self.state();
            state.end_take(taken);
            self.moved.notify_all();
        }
        state.is_taking = false;
    }
}

impl<R, E> State<R, E> {
    /// Counts what was taken, or ends all with what went wrong.
    fn end_take(&mut self, taken: Result<(), E>) {
        self.num_taken += 1;
        self.waiting.pop_front();
        if let Err(error) = taken {
            self.failed = Some(error);
            self.is_over = true;
            self.waiting.clear();
        }
    }
}

/// Lets no thread wait for one that is gone.
struct EndIfPanicking<'a, R, E>(&'a Line<R, E>);

impl<R, E> Drop for EndIfPanicking<'_, R, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state().is_over = true;
            self.0.moved.notify_all();
        }
    }
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
    fn results_are_taken_in_order_on_any_number_of_threads() {
        let items: Vec<usize> = (0..4000).collect();
        for num_threads in [1, 2, 7] {
            let (mut found, mut num_calls) = (Vec::new(), 0);
            let take = |part: Vec<usize>| {
                num_calls += 1;
                found.extend(part);
                Ok::<_, ()>(())
            };
            // The first part takes long, so that the others run ahead of it.
            let work = |part: &[usize]| {
                std::thread::sleep(std::time::Duration::from_millis(if part[0] == 0 { 50 } else { 0 }));
                Ok(part.to_vec())
            };
            in_order(&items, num_threads, |_| PART_SIZE, work, take).unwrap();
            assert_eq!((found == items, num_calls), (true, items.len()));
        }
    }

    #[test]
    fn of_several_errors_the_first_in_order_ends_all_on_any_number_of_threads() {
        let items: Vec<usize> = (0..1000).collect();
        for num_threads in [1, 2, 7] {
            let work = |part: &[usize]| if part[0] % 100 == 99 { Err(part[0]) } else { Ok(part[0]) };
            let run = |first_refused: usize| {
                let mut taken = Vec::new();
                let take = |number| {
                    taken.push(number);
                    if number >= first_refused {
                        Err(number)
                    } else {
                        Ok(())
                    }
                };
                let error = in_order(&items, num_threads, |_| PART_SIZE, work, take).unwrap_err();
                (error, taken.len())
            };
            assert_eq!((run(usize::MAX), run(7)), ((99, 99), (7, 8)));
        }
    }

    #[test]
    fn a_panic_of_one_thread_ends_all() {
        let items: Vec<usize> = (0..1000).collect();
        let work = |part: &[usize]| if part[0] == 3 { panic!() } else { Ok::<_, ()>(()) };
        let run = || in_order(&items, 3, |_| PART_SIZE, work, Ok);
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
