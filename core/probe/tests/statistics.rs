//! Sums and buckets beside a list of all values.

use std::time::Duration;

use proptest::prelude::*;
use semfio_machine::{Clock, Interval};
use semfio_probe::{RoundTrips, Statistics};

fn of(lengths: &[u64]) -> Statistics {
    let mut statistics = Statistics::default();
    for &length in lengths {
        statistics.add(Duration::from_nanos(length));
    }
    statistics
}

/// What a list of all says: mean, deviation, and the value at a rank.
fn model(lengths: &[u64], permille: u16) -> (f64, f64, u64) {
    let n = lengths.len() as f64;
    let mean = lengths.iter().map(|&x| x as f64).sum::<f64>() / n;
    let spread = lengths.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / n;
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let rank = (lengths.len() * usize::from(permille)).div_ceil(1_000).max(1);
    (mean, spread.sqrt(), sorted[rank - 1])
}

fn near(ours: Duration, theirs: f64, share: f64) -> bool {
    (ours.as_nanos() as f64 - theirs).abs() <= theirs * share + 1.5
}

#[test]
fn nothing_is_zero_and_one_is_itself() {
    let none = Statistics::default();
    assert_eq!((none.min(), none.avg(), none.mdev()), Default::default());
    assert_eq!((none.max(), none.quantile(500), none.count()), Default::default());
    for nanos in [0, 1, 127, 128, 255, 256, 257, 511, 512, 1_000_000, u64::MAX] {
        let one = of(&[nanos]);
        let length = Duration::from_nanos(nanos);
        assert_eq!((one.min(), one.max(), one.avg()), (length, length, length));
        assert_eq!((one.mdev(), one.quantile(990)), (Duration::ZERO, length));
    }
}

#[test]
fn what_iputils_prints_of_the_same_round_trips() {
    // 64, 43 and 50 us: min/avg/max/mdev = 0.043/0.052/0.064/0.008 ms.
    let three = of(&[64_000, 43_000, 50_000]);
    assert_eq!(three.avg().as_micros(), 52);
    assert_eq!(three.mdev().as_micros(), 8);
    assert_eq!(three.quantile(500).as_micros(), 50);
}

#[test]
fn the_moving_average_is_that_of_iputils() {
    // In whole µs it keeps rtt, eight times the average: rtt += triptime - rtt / 8.
    let lengths = [100_u64, 100, 900, 50, 50, 50, 50, 3_000];
    let mut rtt = 8 * lengths[0];
    for triptime in &lengths[1..] {
        rtt = rtt + triptime - rtt / 8;
    }
    let nanos: Vec<u64> = lengths.iter().map(|micros| micros * 1_000).collect();
    let ours = of(&nanos).ewma();
    assert!(near(ours, rtt as f64 / 8.0 * 1_000.0, 0.01), "{ours:?}, {rtt}");
    assert_eq!(of(&[7, 7]).ewma(), Duration::from_nanos(7));
    assert!(of(&[u64::MAX, 0]).ewma() < Duration::from_nanos(u64::MAX));
}

#[test]
fn all_are_in_the_counts_by_length_and_in_order() {
    let all = of(&[64_000, 43_000, 50_000, 50_000, 43_000, 50_001]);
    let by: Vec<_> = all.by_length().collect();
    assert!(by.is_sorted_by_key(|(length, _)| *length), "{by:?}");
    assert_eq!(by.iter().map(|(_, count)| count).collect::<Vec<_>>(), [&2, &3, &1]);
    assert_eq!((by[0].0, by[2].0), (all.min(), all.max()));
    assert_eq!(of(&[]).by_length().count(), 0);
}

#[test]
fn clocks_are_never_mixed() {
    let (kernel, user) = (Clock::Kernel, Clock::User);
    let interval = |length, from, to| Interval { length: Duration::from_micros(length), from, to };
    let mut trips = RoundTrips::default();
    assert_eq!((trips.most(), trips.max()), (None, None));
    trips.add(interval(10, user, kernel));
    trips.add(interval(99, user, user));
    trips.add(interval(20, kernel, kernel));
    let all: Vec<_> = trips.by_clocks().map(|(of, one)| (of, one.avg().as_micros())).collect();
    assert_eq!(all, [((kernel, kernel), 20), ((user, kernel), 10), ((user, user), 99)]);
    assert_eq!(trips.most().unwrap().0, (kernel, kernel), "the best of equally many");
    trips.add(interval(12, user, kernel));
    let (clocks, most) = trips.most().unwrap();
    assert_eq!((clocks, most.count(), most.max().as_micros()), ((user, kernel), 2, 12));
    assert_eq!(trips.max(), Some(Duration::from_micros(99)));
}

proptest! {
    #[test]
    fn sums_and_buckets_say_what_a_list_says(
        lengths in proptest::collection::vec(
            prop_oneof![0_u64..300, 1_000_u64..2_000_000, 0_u64..20_000_000_000], 1..200),
        permille in 1_u16..=1_000,
    ) {
        let statistics = of(&lengths);
        let (mean, deviation, value) = model(&lengths, permille);
        prop_assert_eq!(statistics.count(), lengths.len() as u64);
        prop_assert_eq!(statistics.min().as_nanos(), u128::from(*lengths.iter().min().unwrap()));
        prop_assert_eq!(statistics.max().as_nanos(), u128::from(*lengths.iter().max().unwrap()));
        prop_assert!(near(statistics.avg(), mean, 1e-9), "{:?} {mean}", statistics.avg());
        prop_assert!(near(statistics.mdev(), deviation, 1e-6), "{:?} {deviation}", statistics.mdev());
        let quantile = statistics.quantile(permille);
        prop_assert!(near(quantile, value as f64, 1.0 / 256.0), "{quantile:?} {value}");
        if value < 256 {
            prop_assert_eq!(quantile.as_nanos(), u128::from(value));
        }
    }
}
