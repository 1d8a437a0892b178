//! The replay window against a set.

use proptest::prelude::*;
use semfio_keysync::{WINDOW, Window};
use std::collections::BTreeSet;

#[derive(Default)]
struct Model(BTreeSet<u64>);

impl Model {
    fn accept(&mut self, counter: u64) -> bool {
        let highest = self.0.last().copied().unwrap_or(0);
        (counter > highest || highest - counter < WINDOW) && self.0.insert(counter)
    }
}

/// A counter as a step from the last one.
fn step() -> impl Strategy<Value = i64> {
    let near = 1_200_i64;
    prop_oneof![
        4 => -3..4_i64,
        3 => -near..near,
        1 => prop::sample::select(vec![-1_025, -1_024, -1_023, 1_023, 1_024, 1_025, 1_088, 1_089]),
        1 => any::<i64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn a_window_is_a_set(
        from in prop_oneof![Just(0), 0..5_000_u64, u64::MAX - 5_000..=u64::MAX],
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let (mut window, mut model, mut counter) = (Window::default(), Model::default(), from);
        for step in steps {
            prop_assert_eq!(window.accept(counter), model.accept(counter), "{}", counter);
            counter = counter.saturating_add_signed(step);
        }
    }
}

#[test]
fn its_edges() {
    let after = |first: u64, second: u64| {
        let mut window = Window::default();
        assert!(window.accept(first));
        assert!(!window.accept(first), "{first} again");
        window.accept(second)
    };
    assert!(after(0, 1));
    assert!(after(1, 0));
    assert!(after(1_023, 0));
    assert!(!after(1_024, 0));
    assert!(after(1_024, 1));
    assert!(!after(1_025, 1));
    assert!(after(u64::MAX, u64::MAX - 1_023));
    assert!(!after(u64::MAX, u64::MAX - 1_024));
    assert!(after(0, u64::MAX));
    assert!(!after(u64::MAX, 0));
}

#[test]
fn each_of_many_passes_once() {
    let mut window = Window::default();
    for block in (0..10_000_u64).step_by(1_024) {
        for counter in (block..block + 1_024).rev() {
            assert!(window.accept(counter), "{counter}");
        }
        assert!((block..block + 1_024).all(|counter| !window.accept(counter)));
    }
}
