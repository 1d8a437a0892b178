//! The names of addresses, asked for beside the loop.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use dns_lookup::getnameinfo;
use nix::libc;
use semfio_machine::Instant;

use crate::clock::Clock;

/// Questions asked at once: one that nobody answers takes seconds, and must not hold up the others.
const THREADS: usize = 8;

/// How long nothing is answered before one more thread is worth its price: a file of hosts and a
/// resolver nearby are faster, and so one thread does.
const SLOW: Duration = Duration::from_millis(5);

/// Names kept: some hundred times the hops of a way.
const KEPT: usize = 4 * 1024;

/// What names addresses have, by the system's resolver, in threads of its own.
///
/// No call waits but [`wait`](Self::wait), and each but for the first has more threads help where the
/// resolver is slow. An address is asked for once; of more than 4,096 the later ones have no name. Threads that wait for the resolver as this is dropped end by themselves.
pub struct Names {
    shared: Arc<Shared>,
    work: Arc<dyn Fn(IpAddr) -> Option<String> + Send + Sync>,
    found: Arc<dyn Fn() + Send + Sync>,
    clock: Clock,
}

/// What is known of an address's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Nobody has asked, or there is no answer yet.
    Unknown,
    /// It has none.
    None,
    /// As the resolver says it: whatever its owner wishes.
    Known(Arc<str>),
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<IpAddr>,
    names: BTreeMap<IpAddr, Name>,
    /// Asked for and not answered.
    open: usize,
    threads: usize,
    /// Answers so far, and how many there were when that was last looked at.
    answered: u64,
    seen: u64,
    /// When it was seen that something was answered, or a thread was begun.
    since: Instant,
    over: bool,
}

impl Names {
    /// Ready to be asked. `found` is called from another thread when something was answered and no
    /// question waits to be asked.
    pub fn new(found: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with(found, look_up)
    }

    fn with(
        found: impl Fn() + Send + Sync + 'static,
        look_up: impl Fn(IpAddr) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::default();
        let (work, found) = (Arc::new(look_up), Arc::new(found));
        Self { shared, work, found, clock: Clock::start() }
    }

    /// Asks for the name of this address, unless that was done.
    pub fn ask(&self, address: IpAddr) {
        let mut state = self.shared.lock();
        if state.names.len() >= KEPT || state.names.contains_key(&address) {
            return;
        }
        state.names.insert(address, Name::Unknown);
        state.waiting.push_back(address);
        state.open += 1;
        self.help(&mut state);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Begins another thread, if there is none or those there are get nowhere.
    fn help(&self, state: &mut State) {
        if state.waiting.is_empty() || state.threads >= THREADS {
            return;
        }
        let now = self.clock.now().mono;
        if state.answered > state.seen {
            (state.seen, state.since) = (state.answered, now);
        }
        if state.threads > 0 && state.since.saturating_add(SLOW) > now {
            return;
        }
        state.since = now;
        match self.spawn() {
            Ok(()) => state.threads += 1,
            // Those there are will do; without any, nothing has a name.
            Err(_) if state.threads > 0 => {}
            Err(_) => {
                state.open = 0;
                while let Some(address) = state.waiting.pop_front() {
                    state.names.insert(address, Name::None);
                }
            }
        }
    }

    fn spawn(&self) -> io::Result<()> {
        let (shared, work) = (Arc::clone(&self.shared), Arc::clone(&self.work));
        let found = Arc::clone(&self.found);
        let run = move || {
            while let Some(address) = shared.next() {
                if shared.answer(address, work(address)) {
                    found();
                }
            }
        };
        thread::Builder::new().name("names".into()).spawn(run).map(drop)
    }

    /// What is known by now.
    pub fn name(&self, address: IpAddr) -> Name {
        let mut state = self.shared.lock();
        self.help(&mut state);
        state.names.get(&address).cloned().unwrap_or(Name::Unknown)
    }

    /// Waits until all that was asked is answered, but no longer than this.
    pub fn wait(&self, patience: Duration) {
        let began = self.clock.now().mono;
        let mut state = self.shared.lock();
        while state.open > 0 {
            self.help(&mut state);
            let passed = self.clock.now().mono.saturating_since(began);
            let Some(left) = patience.checked_sub(passed).filter(|left| !left.is_zero()) else {
                return;
            };
            let waited = self.shared.changed.wait_timeout(state, left.min(SLOW));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next question; `None` once nobody wants answers.
    fn next(&self) -> Option<IpAddr> {
        let mut state = self.lock();
        loop {
            if state.over {
                return None;
            }
            if let Some(address) = state.waiting.pop_front() {
                return Some(address);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether no question waits to be asked.
    fn answer(&self, address: IpAddr, name: Option<String>) -> bool {
        let mut state = self.lock();
        state.answered += 1;
        state.names.insert(address, name.map_or(Name::None, |name| Name::Known(name.into())));
        state.open = state.open.saturating_sub(1);
        if state.open == 0 {
            self.changed.notify_all();
        }
        state.waiting.is_empty()
    }
}

fn look_up(address: IpAddr) -> Option<String> {
    let address = SocketAddr::new(address, 0);
    let (name, _) = getnameinfo(&address, libc::NI_NAMEREQD | libc::NI_NUMERICSERV).ok()?;
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    fn address(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[test]
    fn an_address_is_asked_for_once_and_its_answer_is_told() {
        let asked = Arc::new(AtomicUsize::new(0));
        let (tell, told) = mpsc::channel();
        let count = Arc::clone(&asked);
        let names = Names::with(
            move || tell.send(()).unwrap(),
            move |address| {
                count.fetch_add(1, Ordering::SeqCst);
                (address == self::address(1)).then(|| "one.example".into())
            },
        );
        assert_eq!(names.name(address(1)), Name::Unknown);
        for _ in 0..3 {
            names.ask(address(1));
            names.ask(address(2));
        }
        names.wait(Duration::from_secs(10));
        assert_eq!(names.name(address(1)), Name::Known("one.example".into()));
        assert_eq!(names.name(address(2)), Name::None);
        assert_eq!(names.name(address(3)), Name::Unknown);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        told.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn one_that_nobody_answers_holds_up_no_other_and_no_end() {
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let names = Names::with(
            || (),
            move |address| {
                if address == self::address(0) {
                    let _ = gate.lock().unwrap().recv();
                }
                Some(address.to_string())
            },
        );
        names.ask(address(0));
        for n in 1..=9 {
            names.ask(address(n));
        }
        for _ in 0..1_000 {
            if names.shared.lock().open > 1 {
                names.wait(Duration::from_millis(10));
            }
        }
        assert_eq!(names.name(address(9)), Name::Known("192.0.2.9".into()));
        assert_eq!(names.name(address(0)), Name::Unknown);
        // One thread is still with the resolver; this ends nevertheless.
        drop(names);
        drop(open);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let names = Names::with(|| (), |_| None);
        for n in 0..u32::try_from(KEPT).unwrap() + 10 {
            names.ask(IpAddr::from(n.to_be_bytes()));
        }
        names.wait(Duration::from_secs(10));
        assert_eq!(names.shared.lock().names.len(), KEPT);
    }

    #[test]
    fn the_system_answers() {
        let names = Names::new(|| ());
        let here = IpAddr::from([127, 0, 0, 1]);
        names.ask(here);
        names.wait(Duration::from_secs(10));
        assert_ne!(names.name(here), Name::Unknown);
    }
}
