//! The limit on guesses against a model that remembers everything.

use core::time::Duration;
use std::collections::BTreeMap;

use proptest::prelude::*;
use semfio_keysync::{Guard, GuardConfig, RetryIn};
use semfio_machine::Instant;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * SECOND)
}

fn seconds(seconds: u64) -> RetryIn {
    RetryIn(Duration::from_secs(seconds))
}

/// Every guess of every source for ever: when, and whether it was given back. Times are seconds.
#[derive(Default)]
struct Model(BTreeMap<u8, Vec<(u64, bool)>>);

impl Model {
    /// The guesses that count at `now`, and when the next may be made, and when they are forgotten.
    fn judge(&self, source: u8, now: u64) -> Option<(u32, u64, u64)> {
        let (mut count, mut again, mut forget) = (0_u32, 0, 0);
        for &(when, right) in self.0.get(&source)? {
            if when >= forget {
                count = 0;
            }
            if right {
                again = when;
            } else {
                count += 1;
                again = when + pause(count);
            }
            forget = when + 60.max(2 * pause(count));
        }
        (count > 0 && now < forget).then_some((count, again, forget))
    }
}

/// The table of the documentation: 3 free, 20 s, 40 s … 15 min.
fn pause(guesses: u32) -> u64 {
    [0, 0, 0, 20, 40, 80, 160, 320, 640].get(guesses as usize).copied().unwrap_or(900)
}

#[derive(Clone, Debug)]
enum Act {
    Guess(u8),
    /// The guess is right and is given back at once.
    Right(u8),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..5_u8).prop_map(Act::Guess),
        1 => (0..5_u8).prop_map(Act::Right),
        2 => prop_oneof![Just(1), Just(20), Just(40), Just(60), Just(900), 1..200_u64]
            .prop_map(Act::Wait),
    ]
}

proptest! {
    #[test]
    fn a_guard_is_a_model_that_forgets_nothing(acts in prop::collection::vec(act(), 0..120)) {
        const KEPT: usize = 3;
        let mut guard = Guard::new(GuardConfig { sources: KEPT, ..GuardConfig::default() });
        let mut model = Model::default();
        let mut now = 1_000;
        for act in acts {
            let (source, right) = match act {
                Act::Wait(time) => {
                    now += time;
                    continue;
                }
                Act::Guess(source) => (source, false),
                Act::Right(source) => (source, true),
            };
            let places: Vec<u64> =
                (0..5).filter_map(|source| Some(model.judge(source, now)?.2)).collect();
            let expected = match model.judge(source, now) {
                Some((_, again, _)) if now < again => Err(seconds(again - now)),
                None if places.len() == KEPT => Err(seconds(places.iter().min().unwrap() - now)),
                _ => Ok(()),
            };
            prop_assert_eq!(guard.guess(at(now), source), expected);
            prop_assert!(guard.sources() <= KEPT);
            if expected.is_ok() {
                if right {
                    guard.give_back(&source);
                }
                model.0.entry(source).or_default().push((now, right));
            }
        }
    }

    /// In no rhythm does a source have more than 3 × (1 + minutes) guesses, over any stretch.
    #[test]
    fn no_rhythm_gains(waits in prop::collection::vec(0..130_u64, 1..200)) {
        let mut guard = Guard::new(GuardConfig::default());
        let (mut now, mut let_in) = (0, Vec::new());
        for wait in waits {
            now += wait;
            if guard.guess(at(now), ()).is_ok() {
                let_in.push(now);
            }
        }
        for (first, from) in let_in.iter().enumerate() {
            for (last, to) in let_in.iter().enumerate().skip(first) {
                let guesses = (last - first + 1) as u64;
                prop_assert!(guesses * 60 <= 3 * (60 + to - from), "{guesses} in {}", to - from);
            }
        }
    }
}

#[test]
fn pauses_double_and_end() {
    let mut guard = Guard::new(GuardConfig::default());
    let mut now = 0;
    for _ in 0..3 {
        assert_eq!(guard.guess(at(now), "a"), Ok(()));
    }
    for pause in [20, 40, 80, 160, 320, 640, 900, 900, 900] {
        assert_eq!(guard.guess(at(now), "a"), Err(seconds(pause)));
        // Asking in the meantime changes nothing, and others are not concerned.
        assert_eq!(guard.guess(at(now + pause - 1), "a"), Err(seconds(1)));
        assert_eq!(guard.guess(at(now), "b"), Ok(()));
        guard.give_back(&"b");
        now += pause;
        assert_eq!(guard.guess(at(now), "a"), Ok(()));
    }
    assert_eq!(guard.guess(at(now + 1_799), "a"), Ok(()), "another, and it still counts");
    assert_eq!(guard.guess(at(now + 1_799), "a"), Err(seconds(900)));
    for _ in 0..3 {
        assert_eq!(guard.guess(at(now + 1_799 + 1_800), "a"), Ok(()), "forgotten");
    }
}

#[test]
fn who_guesses_right_never_waits() {
    let mut guard = Guard::new(GuardConfig::default());
    for now in 0..1_000 {
        assert_eq!(guard.guess(at(now / 10), 1), Ok(()));
        guard.give_back(&1);
        assert_eq!(guard.sources(), 0);
    }
    for _ in 0..3 {
        assert_eq!(guard.guess(at(200), 1), Ok(()));
    }
    assert_eq!(guard.guess(at(220), 1), Ok(()));
    guard.give_back(&1);
    assert_eq!(guard.guess(at(221), 1), Ok(()), "the pause is lifted");
    assert_eq!(guard.guess(at(222), 1), Err(seconds(39)), "what was wrong before still counts");
    guard.give_back(&2);
    assert_eq!(guard.sources(), 1, "one who never guessed gets nothing");
}

/// One source more than are kept, in turn: the rhythm that empties a map which drops the quietest.
#[test]
fn many_sources_do_not_wash_out_a_blocked_one() {
    let sources = 64;
    let mut guard = Guard::new(GuardConfig { sources, ..GuardConfig::default() });
    let mut guesses = 0;
    for second in 0..600 {
        for source in 0..=sources {
            while guard.guess(at(second), source).is_ok() {
                guesses += 1;
            }
            assert!(guard.sources() <= sources);
        }
    }
    assert!(guesses <= sources * 3 * (1 + 10), "{guesses} in ten minutes");
}

#[test]
fn the_edges_of_the_scale_hold() {
    let odd = GuardConfig {
        free: 0,
        first_pause: Duration::MAX,
        longest_pause: Duration::MAX,
        sources: 0,
    };
    let mut guard = Guard::new(odd);
    let end = Instant::from_nanos(u64::MAX);
    assert_eq!(guard.guess(at(1), ()), Ok(()));
    assert!(guard.guess(at(2), ()).is_err());
    assert_eq!(guard.guess(end, ()), Ok(()), "five hundred years later");
    assert_eq!(seconds(3).to_string(), "too many guesses; the next in 3 s");
    assert_eq!(RetryIn(Duration::from_nanos(1)).to_string(), "too many guesses; the next in 1 s");
}
