//! An allocator that looks for secrets in every block that is freed, and a look at what lies on a stack.
//!
//! The allocator sees the heap. Registers are out of sight, and so are blocks that are never
//! freed: what is moved out of a container stays behind in it until the container's block goes.

use core::hint::black_box;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

/// The length of what is looked for: an AES-128 key, half of everything else.
pub const PIECE: usize = 16;
/// Pieces that may be looked for at once.
const PIECES: usize = 128;

/// The system's allocator, with a look at what it is given back.
#[derive(Debug)]
pub struct Watching {
    pieces: [[AtomicU64; 2]; PIECES],
    found: [AtomicUsize; PIECES],
    count: AtomicUsize,
    blocks: AtomicUsize,
}

impl Watching {
    /// It looks for nothing yet.
    #[expect(clippy::new_without_default)] // it is for a static
    pub const fn new() -> Self {
        Self {
            pieces: [const { [const { AtomicU64::new(0) }; 2] }; PIECES],
            found: [const { AtomicUsize::new(0) }; PIECES],
            count: AtomicUsize::new(0),
            blocks: AtomicUsize::new(0),
        }
    }

    /// Looks for every whole piece of each secret from now on, while `run` lasts, and gives for each
    /// how many freed blocks held one of its pieces, counted once for each piece.
    ///
    /// It runs on a stack of its own. What whoever has made the secrets left on another could come
    /// into a block, in room that is not filled.
    pub fn watch(&self, secrets: &[&[u8]], run: impl FnOnce() + Send) -> Vec<usize> {
        let mut places = vec![0..0; secrets.len()];
        let mut count = 0;
        for (place, secret) in places.iter_mut().zip(secrets) {
            assert!(secret.len() >= PIECE, "a secret too short to be looked for");
            let first = count;
            for piece in secret.chunks_exact(PIECE) {
                let [one, other] = halves(piece);
                self.pieces[count][0].store(one, SeqCst);
                self.pieces[count][1].store(other, SeqCst);
                self.found[count].store(0, SeqCst);
                count += 1;
            }
            *place = first..count;
        }
        self.blocks.store(0, SeqCst);
        self.count.store(count, SeqCst);
        let ran = std::thread::scope(|scope| scope.spawn(run).join());
        self.count.store(0, SeqCst);
        ran.unwrap();
        let found = |place: core::ops::Range<usize>| {
            self.found[place].iter().map(|found| found.load(SeqCst)).sum()
        };
        places.into_iter().map(found).collect()
    }

    /// Blocks that were freed during the last watch.
    pub fn blocks(&self) -> usize {
        self.blocks.load(SeqCst)
    }

    fn look(&self, block: &[u8]) {
        let count = self.count.load(SeqCst);
        if count == 0 {
            return;
        }
        self.blocks.fetch_add(1, SeqCst);
        for (piece, found) in self.pieces.iter().zip(&self.found).take(count) {
            let sought = [piece[0].load(SeqCst), piece[1].load(SeqCst)];
            if block.windows(PIECE).any(|window| halves(window) == sought) {
                found.fetch_add(1, SeqCst);
            }
        }
    }
}

/// What `run` leaves on the stack: the 256 KiB below who called it.
pub fn left_on_stack<T>(run: impl FnOnce() -> T + Send) -> Vec<u8> {
    const DEPTH: usize = 256 << 10;
    let (memory, mut left) = (File::open("/proc/self/mem").unwrap(), vec![0; DEPTH]);
    let look = || {
        below(run);
        let top = below(|| {
            let here = 0_u8;
            core::ptr::from_ref(black_box(&here)).addr()
        });
        memory.read_exact_at(&mut left, (top - DEPTH) as u64).unwrap();
        left
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(4 * DEPTH);
        thread.spawn_scoped(scope, look).unwrap().join().unwrap()
    })
}

#[inline(never)]
fn below<T>(run: impl FnOnce() -> T) -> T {
    run()
}

/// Whether a whole piece of a secret is in `block`.
pub fn holds(block: &[u8], secret: &[u8]) -> bool {
    secret.chunks_exact(PIECE).any(|piece| block.windows(PIECE).any(|window| window == piece))
}

fn halves(piece: &[u8]) -> [u64; 2] {
    [0, 8].map(|at| u64::from_ne_bytes(piece[at..at + 8].try_into().unwrap()))
}

// SAFETY: every block is the system's, of the layout that was asked for. Blocks begin as zeros, so
// all their octets may be read when they come back, and what an earlier owner left is not found
// twice. Growing is left to the trait: a new block, and the old one freed, which is looked at too.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is the caller's until it is given back on the next line.
        unsafe {
            self.look(core::slice::from_raw_parts(block, layout.size()));
            System.dealloc(block, layout);
        }
    }
}
