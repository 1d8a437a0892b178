//! Every fuzz body over the inputs kept in `corpus/`, and over seeded random ones.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use semfio_corpus::BODIES;
use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn names(folder: &Path, strip: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(strip).unwrap_or(&name).to_owned())
        .collect()
}

fn inputs(body: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<_> = fs::read_dir(here("corpus").join(body))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

#[test]
fn kept_inputs_break_nothing() {
    for body in BODIES {
        let inputs = inputs(body.name);
        assert!(!inputs.is_empty(), "{} has no inputs", body.name);
        for (path, bytes) in inputs {
            eprintln!("{}", path.display()); // shown only on failure
            (body.run)(&bytes);
        }
    }
}

/// `SEMFIO_CASES` sets the number of random inputs for each body.
#[test]
fn random_inputs_break_nothing() {
    let cases = std::env::var("SEMFIO_CASES").map_or(1_000, |cases| cases.parse().unwrap());
    for body in BODIES {
        let kept = inputs(body.name);
        eprintln!("{}", body.name); // shown only on failure
        for case in 0..cases {
            let mut rng = ChaCha8Rng::seed_from_u64(case);
            let mut below = |n: usize| rng.next_u32() as usize % n.max(1);
            // Half of them are kept inputs with a few bytes changed.
            let mut data = match case % 2 {
                0 => Vec::new(),
                _ => kept[below(kept.len())].1.clone(),
            };
            if data.is_empty() {
                data.resize(below(1_024), 0);
                data.fill_with(|| below(256) as u8);
            } else {
                for _ in 0..=below(4) {
                    let at = below(data.len());
                    data[at] = below(256) as u8;
                }
            }
            if let Err(panic) = catch_unwind(|| (body.run)(&data)) {
                eprintln!("{}, case {case}: b\"{}\"", body.name, data.escape_ascii());
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn each_body_has_a_fuzz_target_and_inputs() {
    let bodies: BTreeSet<String> = BODIES.iter().map(|body| body.name.to_owned()).collect();
    assert_eq!(names(&here("corpus"), ""), bodies);
    assert_eq!(names(&here("../../fuzz/fuzz_targets"), ".rs"), bodies);
    let manifest = fs::read_to_string(here("../../fuzz/Cargo.toml")).unwrap();
    for name in &bodies {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} in fuzz/Cargo.toml");
        let target = here("../../fuzz/fuzz_targets").join(name).with_extension("rs");
        let target = fs::read_to_string(target).unwrap();
        assert!(target.contains(&format!("semfio_corpus::{name}(data)")), "{target}");
    }
}
