//! Every core crate in an archive that brings its own panic handler and allocator.
//!
//! If any crate in the graph links `std`, the compiler refuses a second panic handler (E0152). If
//! any code in it calls the system, the symbol stays undefined when `.ci/bare-metal` links the archive
//! from [`semfio_bare_metal`] on, with nothing beside it.
#![no_std]

extern crate alloc;
#[cfg(feature = "planted-std")]
extern crate std;

// Named so that a crate without a fuzz body is in the graph too.
use semfio_chat as _;
use semfio_echo as _;
use semfio_file as _;
use semfio_frame as _;
use semfio_http as _;
use semfio_machine as _;
use semfio_netcat as _;
use semfio_path as _;
use semfio_sim as _;
use semfio_trace as _;

use core::alloc::{GlobalAlloc, Layout};

/// Runs every fuzz body, which is to say every machine with its service, reader and codec.
#[unsafe(no_mangle)]
pub extern "C" fn semfio_bare_metal(data: &[u8; 256]) -> usize {
    for body in semfio_corpus::BODIES {
        (body.run)(data);
    }
    #[cfg(feature = "planted-symbol")]
    {
        unsafe extern "C" {
            safe fn getpid() -> i32;
        }
        core::hint::black_box(getpid());
    }
    semfio_corpus::BODIES.len()
}

/// Never has memory: the archive is linked and not run.
struct NoMemory;

unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
