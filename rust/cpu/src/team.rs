//! Threads that share work, and memory that they write in turns.
//!
//! Inside a process that has torch, work runs on the threads of its OpenMP: after each operator
//! they spin for some milliseconds, waiting for the next, and threads of our own would have
//! to share the cores with them.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Indices below a number, each handed out once, to whichever thread asks first.
pub struct Queue {
    next: AtomicUsize,
    end: usize,
}

impl Queue {
    /// All from 0 to `end - 1`.
    pub fn new(end: usize) -> Self {
        Self { next: AtomicUsize::new(0), end }
    }

    /// The next one, until there are none.
    pub fn draw(&self) -> Option<usize> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.end).then_some(index)
    }
}

/// Calls `work` on each of at most `num_threads` threads, and returns when all are done.
///
/// # Panics
/// If `work` does, once all threads are done.
pub fn on_threads(num_threads: usize, work: impl Fn() + Sync) {
    if num_threads <= 1 {
        return work();
    }
    let panicked = AtomicBool::new(false);
    let guarded = || {
        if catch_unwind(AssertUnwindSafe(&work)).is_err() {
            panicked.store(true, Ordering::Relaxed);
        }
    };
    if !openmp::run(num_threads, &guarded) {
        std::thread::scope(|scope| {
            (1..num_threads).for_each(|_| drop(scope.spawn(guarded)));
            guarded();
        });
    }
    assert!(!panicked.into_inner(), "a thread of a kernel panicked");
}

#[cfg(target_os = "linux")]
mod openmp {
    use std::ffi::{c_uint, c_void};
    use std::mem::transmute;
    use std::sync::OnceLock;

    /// `GOMP_parallel(function, data, num_threads, flags)`: GCC's since 4.9, LLVM's and Intel's too.
    type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

    /// Runs `work` on threads of the process's OpenMP; false if it has none.
    pub fn run<F: Fn() + Sync>(num_threads: usize, work: &F) -> bool {
        extern "C" fn call<F: Fn()>(data: *mut c_void) {
            // Sound: `data` is the `work` below, which outlives the call that runs us.
            unsafe { (*data.cast_const().cast::<F>())() }
        }
        static FOUND: OnceLock<Option<Parallel>> = OnceLock::new();
        let Some(parallel) = *FOUND.get_or_init(find) else { return false };
        let data = std::ptr::from_ref(work).cast_mut().cast();
        // Sound: `work` is shared by reference, and does not unwind into C.
        unsafe { parallel(call::<F>, data, num_threads as c_uint, 0) };
        true
    }

    fn find() -> Option<Parallel> {
        // Sound: the name ends in a zero; what has it has this signature.
        unsafe {
            let found = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
            (!found.is_null()).then(|| transmute::<*mut c_void, Parallel>(found))
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod openmp {
    /// Elsewhere we have threads of our own.
    pub fn run<F: Fn() + Sync>(_num_threads: usize, _work: &F) -> bool {
        false
    }
}

/// A slice of which threads write distinct parts.
pub struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// Sound as far as the promise of `part` is kept.
unsafe impl<T: Send> Send for Parts<'_, T> {}
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Of `slice`, which is borrowed as long.
    pub fn of(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// `len` numbers from `start`.
    ///
    /// # Safety
    /// No two parts that live at once overlap.
    ///
    /// # Panics
    /// The part does not lie in the slice.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a part outside of its slice");
        // Sound: inside of the slice, by the line above, and no other's, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}
