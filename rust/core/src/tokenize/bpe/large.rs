//! Memory that is read in no order: large pages are asked for it before it is touched.
//!
//! With small pages the processor would look for the page of an element longer than for the
//! element.

use std::marker::PhantomData;

use bytemuck::Pod;
use memmap2::MmapMut;

/// A large page of x86-64 and arm64.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// Elements that are zero at first.
#[derive(Debug)]
pub(super) struct Large<T> {
    memory: Memory<T>,
    len: usize,
}

#[derive(Debug)]
enum Memory<T> {
    /// Where the elements begin in a mapping that is a large page longer than they are.
    Mapped(MmapMut, usize, PhantomData<T>),
    /// Too little for a large page, or where the system maps nothing.
    Plain(Vec<T>),
}

impl<T: Pod> Large<T> {
    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        let num_bytes = len * size_of::<T>();
        let map = (num_bytes >= LARGE_PAGE_BYTES).then(|| MmapMut::map_anon(num_bytes + LARGE_PAGE_BYTES));
        let memory = match map {
            Some(Ok(map)) => {
                ask_for_large_pages(&map);
                let start = map.as_ptr().align_offset(LARGE_PAGE_BYTES);
                // An offset that cannot be computed is `usize::MAX`.
                Memory::Mapped(map, if start < LARGE_PAGE_BYTES { start } else { 0 }, PhantomData)
            }
            _ => Memory::Plain(vec![T::zeroed(); len]),
        };
        Self { memory, len }
    }

    /// How many there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The elements.
    #[inline]
    pub(super) fn as_slice(&self) -> &[T] {
        match &self.memory {
            Memory::Mapped(map, start, _) => {
                bytemuck::cast_slice(&map[*start..][..self.len * size_of::<T>()])
            }
            Memory::Plain(elements) => elements,
        }
    }

    /// The elements, to write to.
    #[inline]
    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        match &mut self.memory {
            Memory::Mapped(map, start, _) => {
                bytemuck::cast_slice_mut(&mut map[*start..][..self.len * size_of::<T>()])
            }
            Memory::Plain(elements) => elements,
        }
    }
}

/// Asks memory for an element that is used soon, and does not wait for it as a read would.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn ask<T>(element: &T) {
    safe_arch::prefetch_t0(element);
}

/// Reads an element that is used soon: memory answers several reads at once.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn ask<T: Copy>(element: &T) {
    std::hint::black_box(*element);
}

/// A wish: where it is not granted, the pages are small.
#[cfg(target_os = "linux")]
fn ask_for_large_pages(map: &MmapMut) {
    let _ = map.advise(memmap2::Advice::HugePage);
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages(_: &MmapMut) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_zero_at_first_and_keep_what_is_written() {
        for len in [4, LARGE_PAGE_BYTES / 8] {
            let mut large = Large::<[u32; 2]>::zeros(len);
            assert_eq!(large.as_slice(), vec![[0; 2]; len]);
            large.as_mut_slice()[len - 1] = [1, 2];
            assert_eq!((large.len(), large.as_slice()[len - 1]), (len, [1, 2]));
        }
    }
}
