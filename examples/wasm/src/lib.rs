//! The calculator as a WebAssembly module without imports: whoever loads it is the host.
//!
//! One connection. The host writes what it read to [`scratch`], calls [`handle_input`], sends
//! the bytes at [`output`], and says so with [`advance`]. Times are nanoseconds.

use semfio_examples::Calculator;
use semfio_machine::{Carry, Chunk, Input, Instant, Now, Outbox, Step, StreamMachine, UnixTime};
use std::cell::RefCell;

/// Bytes the host may hand over at once.
const SCRATCH: usize = 4096;

struct Host {
    machine: Calculator,
    carry: Carry,
    out: Outbox,
    scratch: Box<[u8; SCRATCH]>,
    now: Now,
}

impl Host {
    fn new(now: Now) -> Self {
        Self {
            machine: Calculator::new(now),
            carry: Carry::default(),
            out: Outbox::default(),
            scratch: Box::new([0; SCRATCH]),
            now,
        }
    }
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::new(Now::default()));
}

fn host<T>(call: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(call)
}

fn now(mono: u64, unix: u64) -> Now {
    Now { mono: Instant::from_nanos(mono), unix: UnixTime::from_nanos(unix) }
}

/// A peer has connected: to be called first.
#[unsafe(no_mangle)]
pub extern "C" fn open(mono: u64, unix: u64) {
    host(|host| *host = Host::new(now(mono, unix)));
}

/// The clocks say this from here on.
#[unsafe(no_mangle)]
pub extern "C" fn set_now(mono: u64, unix: u64) {
    host(|host| host.now = now(mono, unix));
}

/// Where the host puts what it read, at most 4,096 bytes.
#[unsafe(no_mangle)]
pub extern "C" fn scratch() -> *mut u8 {
    host(|host| host.scratch.as_mut_ptr())
}

/// Takes in `new` bytes from the scratch; gives 1 once the dialogue is over.
#[unsafe(no_mangle)]
pub extern "C" fn handle_input(new: usize, eof: bool) -> bool {
    host(|host| {
        let (view, fresh) = host.carry.append(&host.scratch[..new.min(SCRATCH)]);
        let mut input = Input::new(view, fresh, eof);
        let over = loop {
            match host.machine.handle_input(host.now, &mut input, &mut host.out) {
                Ok(Step::Event(_)) => {}
                Ok(Step::Done) | Err(_) => break true,
                Ok(_) => break false,
            }
        };
        let untaken = input.untaken();
        host.carry.keep(untaken);
        over
    })
}

/// When [`handle_timeout`] is wanted, on the monotonic clock; 2^64 - 1 for never.
#[unsafe(no_mangle)]
pub extern "C" fn poll_timeout() -> u64 {
    host(|host| {
        let deadline = host.machine.poll_timeout();
        deadline.map_or(u64::MAX, |deadline| deadline.at.as_nanos())
    })
}

/// Time has passed; [`handle_input`] follows.
#[unsafe(no_mangle)]
pub extern "C" fn handle_timeout() {
    host(|host| host.machine.handle_timeout(host.now, &mut host.out));
}

/// Where the next bytes to send lie; valid until the next call.
#[unsafe(no_mangle)]
pub extern "C" fn output() -> *const u8 {
    host(|host| match host.out.chunks().next() {
        Some(Chunk::Bytes(bytes)) => bytes.as_ptr(),
        _ => std::ptr::null(),
    })
}

/// How many there are.
#[unsafe(no_mangle)]
pub extern "C" fn output_len() -> usize {
    host(|host| match host.out.chunks().next() {
        Some(Chunk::Bytes(bytes)) => bytes.len(),
        _ => 0,
    })
}

/// The host has sent the first `n` of them.
#[unsafe(no_mangle)]
pub extern "C" fn advance(n: usize) {
    host(|host| host.out.advance(n));
}
