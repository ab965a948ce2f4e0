//! The allocator of this library's programs and of its C libraries.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, but for large pieces of memory, which the system gives and takes back
/// one by one.
///
/// glibc learns from the first large piece that is freed to take the next ones of that size from
/// its heaps, of which many threads have each their own, and to keep twice as much in each. An
/// event loop of a mount has 16 MiB that it does not touch: taken from a heap, these are cleared,
/// and so in memory. Of a process in which mounts come and go, that makes hundreds of megabytes.
///
/// A program in Rust that mounts images has it by:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: puzzlefs::Allocator = puzzlefs::Allocator;
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

/// What is large, in bytes: more than frames, which come and go too often.
const LARGE: usize = 1024 * 1024;
/// The least that a page can be, in bytes.
const PAGE: usize = 4096;

fn is_large(size: usize, align: usize) -> bool {
    size >= LARGE && align <= PAGE
}

#[allow(unsafe_code)]
// SAFETY: memory is either the system's allocator's or a map of its own; which of them it is
// follows from the layout, with which it is freed too. Nothing here panics or allocates.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match is_large(layout.size(), layout.align()) {
            true => map(layout.size()),
            // SAFETY: the caller's promise is the same.
            false => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match is_large(layout.size(), layout.align()) {
            true => map(layout.size()),
            // SAFETY: the caller's promise is the same.
            false => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match is_large(layout.size(), layout.align()) {
            // SAFETY: it is a map of this size, of which nobody knows any more.
            true => drop(unsafe { libc::munmap(memory.cast(), layout.size()) }),
            // SAFETY: the caller's promise is the same.
            false => unsafe { System.dealloc(memory, layout) },
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        match (is_large(layout.size(), align), is_large(size, align)) {
            (true, true) => {
                // SAFETY: it is a map of this size, and nobody has a reference into it.
                let moved = unsafe {
                    libc::mremap(memory.cast(), layout.size(), size, libc::MREMAP_MAYMOVE)
                };
                given(moved)
            }
            // SAFETY: the caller's promise is the same.
            (false, false) => unsafe { System.realloc(memory, layout, size) },
            _ => {
                // SAFETY: the caller promises that the size is not 0 and right for the alignment;
                // both pieces have the bytes that are copied, and are not the same.
                unsafe {
                    let moved = self.alloc(Layout::from_size_align_unchecked(size, align));
                    if !moved.is_null() {
                        memory.copy_to_nonoverlapping(moved, layout.size().min(size));
                        self.dealloc(memory, layout);
                    }
                    moved
                }
            }
        }
    }
}

/// Fresh memory, all of it 0; null if there is none.
#[allow(unsafe_code)]
fn map(size: usize) -> *mut u8 {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: it takes nothing away that is there.
    given(unsafe { libc::mmap(std::ptr::null_mut(), size, access, kind, -1, 0) })
}

fn given(memory: *mut libc::c_void) -> *mut u8 {
    if memory == libc::MAP_FAILED { std::ptr::null_mut() } else { memory.cast() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes around the one from which on memory is mapped, each turned into each other.
    #[test]
    #[allow(unsafe_code)]
    fn memory_keeps_what_is_in_it() {
        let sizes = [1, 4096, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE];
        for (size, later) in sizes.iter().flat_map(|&one| sizes.map(|other| (one, other))) {
            for align in [1, 8, PAGE, 2 * PAGE] {
                let layout = Layout::from_size_align(size, align).unwrap();
                let resized = Layout::from_size_align(later, align).unwrap();
                // SAFETY: each piece is written within its size, and freed once, as it was got.
                unsafe {
                    let zeros = Allocator.alloc_zeroed(layout);
                    assert!((0..size).all(|at| *zeros.add(at) == 0));
                    Allocator.dealloc(zeros, layout);
                    let memory = Allocator.alloc(layout);
                    assert_eq!(memory.align_offset(align), 0);
                    (0..size).for_each(|at| *memory.add(at) = at as u8);
                    let memory = Allocator.realloc(memory, layout, later);
                    assert_eq!(memory.align_offset(align), 0);
                    assert!((0..size.min(later)).all(|at| *memory.add(at) == at as u8));
                    Allocator.dealloc(memory, resized);
                }
            }
        }
    }
}
