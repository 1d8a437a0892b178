//! One text of scenarios, four hosts, identical logs.
//!
//! The simulator is the measure: what a service sees there, it must see on every host.

mod hosts;
mod protocol;
mod script;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hosts::{Kind, files, stage};
use protocol::Scripted;
use script::{Log, Scenario, compare, play, scenarios};

const TEXT: &str = include_str!("scenarios.txt");

/// Descriptors are counted, and timers have to be met: one host at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for files");
    for (name, content) in files() {
        std::fs::write(folder.path().join(name), content).expect("the folder takes files");
    }
    folder
}

fn run(
    kind: Kind,
    scenario: Scenario<'_>,
    service: Scripted,
    folder: &Path,
) -> Result<Log, String> {
    play(scenario, &mut *stage(kind, service, folder))
}

/// Plays everything on `kind` and in the simulator.
fn conforms(kind: Kind) {
    let _alone = alone();
    let folder = folder();
    let mut wrong = Vec::new();
    let scenarios = scenarios(TEXT);
    assert!(scenarios.len() > 15);
    for scenario in scenarios {
        // Two threads for each peer: more than 200 are not what that host is for.
        if kind == Kind::Blocking && scenario.name.starts_with("a crowd of 1000") {
            continue;
        }
        let run = |kind| run(kind, scenario, Scripted::default(), folder.path());
        let result = run(Kind::Sim)
            .and_then(|expected| compare(&expected, &run(kind)?))
            .map_err(|why| format!("{}: {why}", scenario.name));
        wrong.extend(result.err());
    }
    assert!(wrong.is_empty(), "on {kind:?}:\n{}", wrong.join("\n"));
}

#[test]
fn mio_does_as_the_simulator() {
    conforms(Kind::Mio);
}

#[test]
fn threads_do_as_the_simulator() {
    conforms(Kind::Blocking);
}

#[test]
fn smol_does_as_the_simulator() {
    conforms(Kind::Smol);
}
