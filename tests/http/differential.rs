//! The engine beside h11 and httptools, on messages that are mutated by seed.
//!
//! What the engine accepts, both read as the same message, or the difference is a row of
//! [`disagreements`](crate::disagreements). What it refuses and they accept is counted by rule.

use std::collections::BTreeMap;
use std::thread;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use semfio_corpus::Choices;
use semfio_corpus::http_emission::{emitted, without_framing};
use semfio_corpus::http_reading::{End, Message, Reading, read};
use semfio_corpus::http_samples::Kind;
use semfio_http::{Leniency, Rule};

use crate::disagreements::DISAGREEMENTS;
use crate::mutation::{Case, case};
use crate::peer::{Peer, TheirEnd, Theirs, WHO, is_there};

/// The engine, or one with a fault.
pub(crate) type Engine = fn(&Case) -> Reading;

fn strict(case: &Case) -> Reading {
    read(case.kind, Leniency::default(), &case.bytes, case.ends, &[])
}

/// How another reader differs, at the first message where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// It refuses what we accept, with these words.
    Refuses(String),
    /// It waits for more of what we have whole.
    Waits,
    /// To it the connection is over, or another protocol's, before this message.
    Stops,
    /// It reads another start line, other fields, other content or trailers.
    Start,
    Version,
    Fields,
    Body,
    Trailers,
    /// It judges otherwise whether the connection can be used again.
    Keeps,
    /// It reads a message more than we do.
    More,
}

/// A difference and all that is known of it.
pub(crate) struct Found<'a> {
    pub(crate) case: &'a Case,
    pub(crate) ours: &'a Reading,
    pub(crate) theirs: &'a Theirs,
    pub(crate) difference: Difference,
    /// The number of the message.
    pub(crate) at: usize,
}

impl Found<'_> {
    /// Our reading of the message where they differ.
    pub(crate) fn message(&self) -> Option<&Message> {
        self.ours.messages.get(self.at)
    }

    /// The value of its first field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.message()?.fields.iter();
        fields.find(|field| field.0 == name.as_bytes()).map(|field| &field.1[..])
    }

    /// Whether it refuses in words that begin so.
    pub(crate) fn refuses(&self, words: &str) -> bool {
        matches!(&self.difference, Difference::Refuses(text) if text.starts_with(words))
    }
}

fn difference(kind: Kind, ours: &Reading, theirs: &Theirs) -> Option<(usize, Difference)> {
    for (at, our) in ours.messages.iter().enumerate() {
        let Some(their) = theirs.messages.get(at) else {
            let difference = match &theirs.end {
                TheirEnd::Refuses(words) => Difference::Refuses(words.clone()),
                TheirEnd::Waits => Difference::Waits,
                TheirEnd::Over | TheirEnd::HandedOver | TheirEnd::CannotTell => Difference::Stops,
            };
            return Some((at, difference));
        };
        // h11 writes codings in lower case.
        let lower = |(name, value): &(Vec<u8>, Vec<u8>)| {
            let codings = name == b"transfer-encoding";
            (name.clone(), if codings { value.to_ascii_lowercase() } else { value.clone() })
        };
        let interim = kind != Kind::Requests && our.start.starts_with(b"1");
        let different = [
            (our.start != their.start, Difference::Start),
            (our.version != their.version, Difference::Version),
            (!our.fields.iter().map(lower).eq(their.fields.iter().map(lower)), Difference::Fields),
            (our.body != their.body, Difference::Body),
            (our.trailers != their.trailers, Difference::Trailers),
            // What an interim response says of the connection is said again by the final one.
            (our.keeps != their.keeps && !interim, Difference::Keeps),
        ];
        if let Some((_, difference)) = different.into_iter().find(|it| it.0) {
            return Some((at, difference));
        }
    }
    // After a refusal what they read is theirs; after the last response nothing is looked at.
    let looks = match ours.end {
        End::Waits => true,
        End::Over | End::HandedOver => kind == Kind::Requests,
        End::Refuses(_) => false,
    };
    let at = ours.messages.len();
    (looks && theirs.messages.len() > at).then_some((at, Difference::More))
}

/// What came of many cases.
#[derive(Default)]
pub(crate) struct Tally {
    cases: u64,
    /// Messages that we accept.
    accepted: u64,
    /// By row of [`DISAGREEMENTS`].
    listed: BTreeMap<usize, u64>,
    /// By rule and reader: cases that we refuse where it reads a message more.
    refused: BTreeMap<&'static str, [u64; 3]>,
    /// Differences that are in no row: how many of a kind, and one of them.
    unlisted: BTreeMap<String, (u64, String)>,
}

impl Tally {
    fn add(&mut self, case: &Case, ours: &Reading, theirs: &[Theirs; 2]) {
        self.cases += 1;
        self.accepted += ours.messages.len() as u64;
        if let End::Refuses(error) = ours.end {
            let counts = self.refused.entry(error.rule.name()).or_default();
            counts[0] += 1;
            for (count, theirs) in counts[1..].iter_mut().zip(theirs) {
                *count += u64::from(theirs.messages.len() > ours.messages.len());
            }
        }
        for (who, theirs) in WHO.into_iter().zip(theirs) {
            if theirs.end == TheirEnd::CannotTell {
                continue;
            }
            let Some((at, difference)) = difference(case.kind, ours, theirs) else { continue };
            let found = Found { case, ours, theirs, difference, at };
            let row =
                DISAGREEMENTS.iter().position(|row| row.who.contains(&who) && (row.fits)(&found));
            if let Some(row) = row {
                *self.listed.entry(row).or_default() += 1;
            } else {
                let kind = format!("{who:?} {:?}", found.difference);
                let show = |message: &Message| message.to_string();
                let example = format!(
                    "at message {at} of {:?}, ends {}: {}\n  ours   {:?} {:?}\n  theirs {:?} {:?}",
                    case.kind,
                    case.ends,
                    case.bytes.escape_ascii(),
                    ours.messages.iter().map(show).collect::<Vec<_>>(),
                    ours.end,
                    theirs.messages.iter().map(show).collect::<Vec<_>>(),
                    theirs.end,
                );
                self.unlisted.entry(kind).or_insert((0, example)).0 += 1;
            }
        }
    }

    fn join(&mut self, other: Self) {
        self.cases += other.cases;
        self.accepted += other.accepted;
        for (row, n) in other.listed {
            *self.listed.entry(row).or_default() += n;
        }
        for (rule, counts) in other.refused {
            let sum = self.refused.entry(rule).or_default();
            sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
        for (kind, (n, example)) in other.unlisted {
            self.unlisted.entry(kind).or_insert((0, example)).0 += n;
        }
    }

    fn print(&self) {
        println!("{} cases, {} messages accepted", self.cases, self.accepted);
        println!("listed disagreements:");
        for (row, n) in &self.listed {
            let row = &DISAGREEMENTS[*row];
            println!("  {n:7} {:?}: {} ({}; {})", row.who, row.what, row.why, row.section);
        }
        println!("refused by rule: cases, of these accepted by h11, by httptools");
        for (rule, [refused, h11, httptools]) in &self.refused {
            println!("  {refused:7} {h11:7} {httptools:7} {rule}");
        }
    }
}

/// Reads the cases of these numbers.
fn shard(engine: Engine, numbers: std::ops::Range<u64>) -> Tally {
    let (mut peer, mut tally) = (Peer::start(), Tally::default());
    let mut next = numbers.start;
    while next < numbers.end {
        let until = (next + 1_024).min(numbers.end);
        let cases: Vec<Case> = (next..until).map(case).collect();
        peer.read(&cases, |case, theirs| tally.add(case, &engine(case), &theirs));
        next = until;
    }
    tally
}

/// All cases up to a number, on all processors.
fn run(engine: Engine, count: u64) -> Tally {
    let shards = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let threads: Vec<_> = (0..shards)
        .map(|nth| {
            thread::spawn(move || shard(engine, count * nth / shards..count * (nth + 1) / shards))
        })
        .collect();
    let mut tally = Tally::default();
    for thread in threads {
        tally.join(thread.join().unwrap());
    }
    tally
}

#[test]
fn what_is_accepted_is_read_alike() {
    if !is_there() {
        return;
    }
    let count = std::env::var("SEMFIO_MESSAGES").map_or(100_000, |count| count.parse().unwrap());
    let tally = run(strict, count);
    tally.print();
    let show =
        |(kind, (n, example)): (&String, &(u64, String))| format!("{n} x {kind} {example}\n");
    let unlisted: String = tally.unlisted.iter().map(show).collect();
    assert!(unlisted.is_empty(), "not listed:\n{unlisted}");
    // Else it would be the refusals that were compared.
    assert!(tally.accepted > tally.cases / 3, "{} accepted", tally.accepted);
    // A row that nothing falls under is no disagreement.
    if count >= 10_000_000 {
        for (row, disagreement) in DISAGREEMENTS.iter().enumerate() {
            assert!(tally.listed.contains_key(&row), "no case of: {}", disagreement.what);
        }
    }
}

/// The comparison is shown to fail: on engines that take what nobody should, and on one that reads content
/// it should not.
#[test]
fn planted_faults_are_noticed() {
    if !is_there() {
        return;
    }
    let faulty: [(&str, Engine); 5] = [
        ("a plus sign before a length", |case| {
            replaced(case, b"Content-Length: +", b"Content-Length: 0")
        }),
        ("a second host", |case| {
            let second = case.bytes.windows(7).rposition(|it| it == b"Host: a").unwrap_or(0);
            match strict(case).end {
                End::Refuses(error) if error.rule == Rule::HostTwice && second > 0 => {
                    let mut case = case.clone();
                    case.bytes[second..second + 4].copy_from_slice(b"Hast");
                    strict(&case)
                }
                _ => strict(case),
            }
        }),
        ("LF alone", |case| {
            let mut lenient = Leniency::default();
            lenient.bare_lf = true;
            read(case.kind, lenient, &case.bytes, case.ends, &[])
        }),
        ("equal lengths", |case| {
            let mut lenient = Leniency::default();
            lenient.repeated_length = true;
            read(case.kind, lenient, &case.bytes, case.ends, &[])
        }),
        ("content an octet short", |case| {
            let mut reading = strict(case);
            for message in &mut reading.messages {
                message.body.pop();
            }
            reading
        }),
    ];
    for (fault, engine) in faulty {
        let tally = shard(engine, 0..4_000);
        let kinds: Vec<_> =
            tally.unlisted.iter().map(|(kind, (n, _))| format!("{n} x {kind}")).collect();
        println!("{fault}: {}", kinds.join(", "));
        assert!(!kinds.is_empty(), "{fault} is not noticed");
    }
    let right = shard(strict, 0..4_000);
    assert!(right.unlisted.is_empty());
}

fn replaced(case: &Case, from: &[u8], to: &[u8]) -> Reading {
    let mut case = case.clone();
    if let Some(at) = case.bytes.windows(from.len()).position(|it| it == from) {
        case.bytes.splice(at..at + from.len(), to.iter().copied());
    }
    strict(&case)
}

/// What the engine writes, both read as the message that it is.
#[test]
fn what_is_written_is_read_alike() {
    if !is_there() {
        return;
    }
    let (mut cases, mut written) = (Vec::new(), Vec::new());
    for number in 0..20_000 {
        let mut rng = ChaCha8Rng::seed_from_u64(number);
        let mut data = vec![0; 120];
        rng.fill_bytes(&mut data);
        let kind = [Kind::Requests, Kind::Response, Kind::ResponseToHead][number as usize % 3];
        if let Some((bytes, message)) = emitted(kind, &mut Choices::new(&data)) {
            cases.push(Case { kind, bytes, ends: false });
            written.push(message);
        }
    }
    let (mut compared, mut written) = (0, written.into_iter());
    Peer::start().read(&cases, |case, theirs| {
        let message = written.next().unwrap();
        let text = case.bytes.escape_ascii();
        for (who, theirs) in WHO.into_iter().zip(theirs) {
            if theirs.end == TheirEnd::CannotTell {
                continue;
            }
            let dated = message.fields.iter().any(|field| field.0 == b"date");
            assert_eq!(theirs.messages.len(), 1, "{who:?}: {theirs:?} of {text}");
            let mut their = without_framing(theirs.messages[0].clone());
            if case.kind != Kind::Requests && !dated {
                their.fields.retain(|field| field.0 != b"date");
            }
            if case.kind != Kind::Requests {
                their.keeps = message.keeps;
            }
            assert_eq!(their, message, "{who:?} of {text}");
            compared += 1;
        }
    });
    println!("{compared} readings of {} messages that were written", cases.len());
    assert!(compared > 10_000);
}
