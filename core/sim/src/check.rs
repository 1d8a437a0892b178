//! One case, many seeds.

use alloc::format;
use alloc::string::String;

/// The seeds of a [`check`]; made by [`seeds!`](crate::seeds).
#[derive(Clone, Copy, Debug)]
pub struct Seeds<'a> {
    /// How many fixed seeds there are: 0 and up.
    pub cases: u64,
    /// One seed to run in place of them, as the user gave it.
    pub given: Option<&'a str>,
    /// The package of the test.
    pub package: &'a str,
    /// Runs a case and turns a panic into an error.
    pub catch: Catch,
}

/// Runs a case; the crate of the test has std, this one has not.
pub type Catch = fn(&mut dyn FnMut() -> Result<(), String>) -> Result<(), String>;

/// Runs `case` with each seed, and panics with the first that fails: what went wrong, and a line
/// that runs this seed alone.
///
/// `name` is the name of the test, as `cargo test` takes it.
///
/// ```
/// semfio_sim::check("halves", semfio_sim::seeds!(100), |seed| match seed / 2 * 2 <= seed {
///     true => Ok(()),
///     false => Err(format!("{seed} grew")),
/// });
/// ```
///
/// ```should_panic
/// // reproduce: SEMFIO_SEED=7 cargo test -p semfio-sim never_seven
/// semfio_sim::check("never_seven", semfio_sim::seeds!(100), |seed| {
///     assert_ne!(seed, 7);
///     Ok(())
/// });
/// ```
#[track_caller]
pub fn check(name: &str, seeds: Seeds<'_>, mut case: impl FnMut(u64) -> Result<(), String>) {
    if let Err(report) = run(name, seeds, &mut case) {
        fail(&report);
    }
}

/// Seeds for [`check`](crate::check): as many fixed ones as given, or the one in the environment
/// variable `SEMFIO_SEED`. For crates with std.
#[macro_export]
macro_rules! seeds {
    ($cases:expr) => {
        $crate::Seeds {
            cases: $cases,
            given: ::std::env::var("SEMFIO_SEED").ok().as_deref(),
            package: ::std::env!("CARGO_PKG_NAME"),
            catch: |case| {
                ::std::panic::catch_unwind(::std::panic::AssertUnwindSafe(case)).unwrap_or_else(
                    |panic| {
                        Err(match panic.downcast::<::std::string::String>() {
                            Ok(text) => *text,
                            Err(panic) => match panic.downcast::<&'static str>() {
                                Ok(text) => ::std::string::String::from(*text),
                                Err(_) => ::std::string::String::from("panicked"),
                            },
                        })
                    },
                )
            },
        }
    };
}

fn run(
    name: &str,
    seeds: Seeds<'_>,
    case: &mut impl FnMut(u64) -> Result<(), String>,
) -> Result<(), String> {
    let seeds_to_run = match seeds.given.map(str::parse::<u64>) {
        None => 0..seeds.cases,
        Some(Ok(seed)) => seed..seed.saturating_add(1),
        Some(Err(_)) => return Err(String::from("SEMFIO_SEED is not a number")),
    };
    for seed in seeds_to_run {
        if let Err(error) = (seeds.catch)(&mut || case(seed)) {
            let package = seeds.package;
            return Err(format!(
                "{name}: {error}\nreproduce: SEMFIO_SEED={seed} cargo test -p {package} {name}"
            ));
        }
    }
    Ok(())
}

#[allow(clippy::panic)] // how a test fails
#[track_caller]
fn fail(report: &str) -> ! {
    panic!("{report}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn seeds(given: Option<&str>) -> Seeds<'_> {
        Seeds { cases: 10, given, package: "semfio-sim", catch: |case| case() }
    }

    fn odd(seed: u64) -> Result<(), String> {
        match seed {
            3 | 5 => Err(String::from("odd")),
            _ => Ok(()),
        }
    }

    #[test]
    fn the_first_failing_seed_is_named_in_one_line() {
        let report = run("odd", seeds(None), &mut odd).unwrap_err();
        assert_eq!(report, "odd: odd\nreproduce: SEMFIO_SEED=3 cargo test -p semfio-sim odd");
    }

    #[test]
    fn a_given_seed_runs_alone() {
        assert!(run("odd", seeds(Some("5")), &mut odd).unwrap_err().contains("=5 "));
        assert_eq!(run("odd", seeds(Some("4")), &mut odd), Ok(()));
        assert!(run("odd", seeds(Some("x")), &mut odd).is_err());
    }

    #[test]
    fn too_few_cases_do_not_find_it() {
        let few = Seeds { cases: 3, ..seeds(None) };
        assert_eq!(run("odd", few, &mut odd), Ok(()));
    }
}
