//! One text of scenarios, four hosts, identical logs.
//!
//! The simulator is the measure: what a service sees there, it must see on every host.

mod datagrams;
mod faulty;
mod hosts;
mod protocol;
mod script;

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use semfio_sim::SplitPlan;

use faulty::{Fault, Faulty};
use hosts::{Kind, files, simulated, stage};
use protocol::{Message, Scripted};
use script::{Heard, Log, Scenario, Stage, compare, play, scenarios};

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
    // What is made once for the process is there from now on.
    run(kind, scenarios[0], Scripted::default(), folder.path()).expect("it runs");
    let before = descriptors();
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
    assert_eq!(descriptors(), before, "descriptors are left open");
}

/// How many descriptors this process holds.
fn descriptors() -> usize {
    let table = std::fs::read_dir("/proc/self/fd").expect("a system with /proc");
    table.count()
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

#[test]
fn the_simulator_does_the_same_however_the_input_is_cut() {
    let plans = [
        SplitPlan::Joined,
        SplitPlan::EveryByte,
        SplitPlan::Random { most: 7 },
        SplitPlan::Sizes(vec![1, 64, 3]),
    ];
    for scenario in scenarios(TEXT) {
        let run = |plan| play(scenario, &mut *simulated(Scripted::default(), plan));
        let whole = run(SplitPlan::Whole).unwrap();
        for plan in &plans {
            let cut = run(plan.clone());
            let result = cut.and_then(|cut| compare(&whole, &cut));
            assert_eq!(result, Ok(()), "{}, {plan:?}", scenario.name);
        }
    }
}

#[test]
fn hosts_survive_without_descriptors() {
    let _alone = alone();
    let folder = folder();
    for kind in [Kind::Mio, Kind::Blocking, Kind::Smol] {
        let mut stage = stage(kind, Scripted::default(), folder.path());
        let echo = |stage: &mut dyn Stage, peer| {
            stage.send(peer, b"ECHO there\n").unwrap();
            let mut heard = Vec::new();
            while heard.len() < 6 {
                match stage.receive(peer, 6 - heard.len()) {
                    Ok(Heard::Bytes(bytes)) => heard.extend(bytes),
                    other => panic!("on {kind:?}, peer {peer}: {other:?}"),
                }
            }
            assert_eq!(heard, b"there\n");
        };
        stage.connect(1).unwrap();
        echo(&mut *stage, 1);

        let usual = getrlimit(Resource::Nofile);
        let few = Rlimit { current: Some(highest_descriptor() + 12), ..usual };
        setrlimit(Resource::Nofile, few).unwrap();
        let crowd = (2..).take_while(|&peer| stage.connect(peer).is_ok());
        let crowd: Vec<u32> = crowd.collect();
        echo(&mut *stage, 1);
        for &peer in &crowd {
            stage.close(peer);
        }
        let late = 2 + u32::try_from(crowd.len()).unwrap();
        stage.connect(late).unwrap();
        echo(&mut *stage, late);
        setrlimit(Resource::Nofile, usual).unwrap();

        assert!(crowd.len() > 3, "{crowd:?}");
        stage.tell(Message::Stop);
        stage.close(1);
        stage.close(late);
        while stage.report().unwrap().is_some() {}
    }
}

/// A peer that nobody has a descriptor for must not wait for one.
#[test]
fn without_descriptors_peers_are_turned_away_at_once() {
    let _alone = alone();
    let folder = folder();
    for kind in [Kind::Mio, Kind::Blocking, Kind::Smol] {
        let mut stage = stage(kind, Scripted::default(), folder.path());
        stage.connect(1).unwrap();
        stage.send(1, b"ECHO ready\n").unwrap();
        assert!(matches!(stage.receive(1, 1), Ok(Heard::Bytes(_))), "on {kind:?}");

        let usual = getrlimit(Resource::Nofile);
        let few = Rlimit { current: Some(highest_descriptor() + 12), ..usual };
        setrlimit(Resource::Nofile, few).unwrap();
        let mut all: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        for peer in 2..7 {
            // One for the peer, none for the host.
            all.pop();
            // A host that asks for the next peer holds the descriptor for a moment.
            let connected = std::iter::repeat_with(|| stage.connect(peer)).take(10_000);
            assert!(connected.inspect(|_| std::thread::yield_now()).any(|it| it.is_ok()));
            let heard = stage.receive(peer, 1);
            assert!(matches!(heard, Ok(Heard::End | Heard::Reset)), "on {kind:?}: {heard:?}");
        }
        drop(all);
        stage.connect(7).unwrap();
        stage.send(7, b"ECHO late\n").unwrap();
        assert!(matches!(stage.receive(7, 1), Ok(Heard::Bytes(_))), "on {kind:?}");
        setrlimit(Resource::Nofile, usual).unwrap();

        stage.tell(Message::Stop);
        for peer in 1..=7 {
            stage.close(peer);
        }
        while stage.report().unwrap().is_some() {}
    }
}

/// Who has connected and sent a request before the host stops is answered if it drains.
#[test]
fn who_waits_to_be_accepted_as_a_host_drains_is_still_served() {
    let _alone = alone();
    let folder = folder();
    for kind in [Kind::Mio, Kind::Blocking, Kind::Smol] {
        for (command, served) in [("DRAIN", true), ("STOP", false)] {
            let mut stage = stage(kind, Scripted::default(), folder.path());
            stage.connect(1).unwrap();
            stage.send(1, format!("HOLD\n{command}\n").as_bytes()).unwrap();
            stage.held().unwrap();
            for peer in 2..12 {
                stage.connect(peer).unwrap();
                stage.send(peer, b"ECHO late\n").unwrap();
            }
            stage.let_go();
            for peer in 2..12 {
                match stage.receive(peer, 5) {
                    Ok(Heard::Bytes(bytes)) if served => assert_eq!(bytes, b"late\n"),
                    Ok(Heard::End | Heard::Reset) if !served => {}
                    other => panic!("on {kind:?}, {command}: {other:?}"),
                }
            }
            assert!(!served || stage.connect(12).is_err(), "on {kind:?}");
            for peer in 1..12 {
                stage.close(peer);
            }
            while stage.report().unwrap().is_some() {}
        }
    }
}

fn highest_descriptor() -> u64 {
    let table = std::fs::read_dir("/proc/self/fd").expect("a system with /proc");
    let numbers = table.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.max().expect("there are some")
}

// What follows shows that what is above can fail.

#[test]
fn a_lost_event_is_found() {
    let _alone = alone();
    let scenario = Scenario {
        name: "an event that nobody answers",
        steps: "1 connect\n1 send NOTE\\nECHO x\\n\n1 expect x\\n\n",
    };
    let folder = folder();
    let deaf = || Scripted::deaf_to(1);
    let expected = run(Kind::Sim, scenario, Scripted::default(), folder.path()).unwrap();
    for kind in [Kind::Sim, Kind::Mio, Kind::Blocking, Kind::Smol] {
        let found = run(kind, scenario, deaf(), folder.path()).unwrap();
        let why = compare(&expected, &found).unwrap_err();
        assert!(why.contains("part at report 1"), "{kind:?}: {why}");
        assert!(why.contains("expected: 1 line NOTE"), "{kind:?}: {why}");
    }
}

#[test]
fn an_altered_log_is_found() {
    let log: Log = ["1 opened", "1 end", "1 closed Done"].map(Into::into).into();
    assert_eq!(compare(&log, &log.clone()), Ok(()));
    let mut shorter = log.clone();
    shorter.pop();
    let mut swapped = log.clone();
    swapped.swap(1, 2);
    let mut other = log.clone();
    other[2] = "1 closed Local".into();
    for altered in [shorter, swapped, other, Log::new()] {
        assert!(compare(&log, &altered).is_err(), "{altered:?}");
        assert!(compare(&altered, &log).is_err(), "{altered:?}");
    }
}

#[test]
fn a_wrong_host_is_found() {
    for fault in [
        Fault::LoseAnEnd,
        Fault::EndForReset,
        Fault::AlterAByte,
        Fault::LoseAMessage,
        Fault::LoseAReport,
    ] {
        let wrong = scenarios(TEXT).into_iter().filter(|&scenario| {
            let stage = simulated(Scripted::default(), SplitPlan::Whole);
            play(scenario, &mut Faulty { stage, fault }).is_err()
        });
        assert!(wrong.count() > 0, "{fault:?} is found by no scenario");
    }
}

#[test]
fn an_open_descriptor_is_counted() {
    let _alone = alone();
    let before = descriptors();
    let file = std::fs::File::open("/proc/self/stat").unwrap();
    assert_eq!(descriptors(), before + 1);
    drop(file);
    assert_eq!(descriptors(), before);
}
