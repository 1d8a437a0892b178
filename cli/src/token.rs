//! `semfio token`: Fernet tokens by themselves.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use rand_core::RngCore as _;
use semfio_keysync::{BadKey, Key, Keyring, MAX_PLAINTEXT, MAX_TOKEN, Policy, TokenError};
use semfio_machine::UnixTime;
use semfio_runtime_os::{Clock, seed};
use serde_json::json;

use crate::Common;
use crate::failed::{Failed, LOCKED, NETWORK, USAGE};
use crate::output::{self, Records};
use crate::passphrase::warn_of_readers;

/// The longest key file in bytes: a thousand keys, far more than anybody rotates.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// The last second that [`UnixTime`] has.
const LATEST: u64 = u64::MAX / 1_000_000_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Print a new key
    Generate,
    /// Make a token of a text
    Seal {
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        at: At,
        /// What to seal; without it, stdin to its end, line ends included
        text: Option<String>,
    },
    /// Print the text of a token, and when it was sealed
    Open {
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        accepted: Accepted,
        /// Write the text's octets as they are, for a file or a program
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        /// The token; without it, stdin
        token: Option<String>,
    },
    /// Seal a token's text anew under the first key, with the time it has
    Rotate {
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        accepted: Accepted,
        /// The token; without it, stdin
        token: Option<String>,
    },
}

/// The first key seals, every key opens. Without any, those in SEMFIO_KEY are taken.
#[derive(Args, Debug)]
pub(crate) struct Keys {
    /// A file with keys, one a line: the first seals, all open; else the keys in SEMFIO_KEY
    #[arg(long, value_name = "FILE")]
    key_file: Vec<PathBuf>,
    /// A key, 44 characters; others on this machine can see it: --key-file hides it
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct At {
    /// As if it were this time: seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=LATEST))]
    time: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Accepted {
    /// Refuse a token that is older [default: any age]
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Whose tokens to accept
    #[arg(long, value_enum, default_value_t)]
    policy: PolicyName,
}

/// A named [`Policy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PolicyName {
    /// By the specification; at most a minute ahead of our clock
    #[default]
    Strict,
    /// As Python's cryptography: skips foreign characters, and from the first end on all
    Python,
    /// As Rust's fernet: padding may be missing
    Crate,
}

impl PolicyName {
    fn word(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Python => "python",
            Self::Crate => "crate",
        }
    }
}

impl Accepted {
    fn policy(&self, name: PolicyName) -> Policy {
        let policy = match name {
            PolicyName::Strict => Policy::STRICT,
            PolicyName::Python => Policy::PYTHON,
            PolicyName::Crate => Policy::CRATE,
        };
        self.ttl.map_or(policy, |ttl| policy.with_ttl(Duration::from_secs(ttl)))
    }
}

pub(crate) fn run(common: &Common, token: Token) -> Result<ExitCode, Failed> {
    let seed = seed::draw().map_err(|error| Failed::new(NETWORK, error))?;
    let mut iv = [0; 16];
    seed.stream(0).fill_bytes(&mut iv);
    match token {
        Token::Generate => {
            let key = Key::generate(&mut seed.stream(1)).to_text();
            print(common, "key", "key", &key);
        }
        Token::Seal { keys, at, text } => {
            let ring = keys.ring()?;
            let plaintext = match text {
                Some(text) => text.into_bytes(),
                None => input(MAX_PLAINTEXT, "a text")?,
            };
            let mut out = Vec::new();
            ring.seal(at.now(), iv, &plaintext, &mut out);
            print(common, "token", "token", &String::from_utf8_lossy(&out));
        }
        Token::Open { keys, at, accepted, raw, token } => {
            let (ring, now, token) = (keys.ring()?, at.now(), given(token)?);
            let mut plaintext = Vec::new();
            let opened = ring.open(&accepted.policy(accepted.policy), now, &token, &mut plaintext);
            let seconds = opened.map_err(|error| refused(error, &ring, now, &accepted, &token))?;
            show(common, raw, now, seconds, &plaintext);
        }
        Token::Rotate { keys, at, accepted, token } => {
            let (ring, now, token) = (keys.ring()?, at.now(), given(token)?);
            let mut out = Vec::new();
            let rotated = ring.rotate(&accepted.policy(accepted.policy), now, iv, &token, &mut out);
            rotated.map_err(|error| refused(error, &ring, now, &accepted, &token))?;
            print(common, "token", "token", &String::from_utf8_lossy(&out));
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Keys {
    fn ring(&self) -> Result<Keyring, Failed> {
        let mut texts = Vec::new();
        for path in &self.key_file {
            texts.push((path.display().to_string(), key_file(path)?));
        }
        texts.extend(self.key.iter().map(|key| ("--key".to_owned(), key.clone())));
        if texts.is_empty() {
            let keys = std::env::var_os("SEMFIO_KEY").map(|keys| keys.to_string_lossy().into());
            texts.extend(keys.map(|keys| ("SEMFIO_KEY".into(), keys)));
        }
        let mut keys = Vec::new();
        for (from, text) in &texts {
            for key in text.split_whitespace() {
                keys.push(Key::parse(key).map_err(|error: BadKey| {
                    // Not the text: it may be a key that was mistyped.
                    Failed::because(USAGE, format!("no key in {from}"), error)
                })?);
            }
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or_else(|| {
            let none = match texts.first() {
                Some((from, _)) => anyhow::anyhow!("there is no key in {from}"),
                None => anyhow::anyhow!("there is no key"),
            };
            Failed::new(USAGE, none).hint(
                "`semfio token generate >FILE` makes one; give it with --key-file FILE or in SEMFIO_KEY",
            )
        })?;
        Ok(Keyring::new(first, keys))
    }
}

impl At {
    fn now(&self) -> UnixTime {
        self.time.map_or_else(|| Clock::start().now().unix, UnixTime::from_secs)
    }
}

/// The keys in a file, of which nobody has more than fit.
fn key_file(path: &Path) -> Result<String, Failed> {
    let cannot = |error| Failed::because(USAGE, format!("cannot read {}", path.display()), error);
    let file = File::open(path).map_err(cannot)?;
    warn_of_readers(&file, path);
    let mut text = Vec::new();
    file.take(MAX_KEY_FILE.saturating_add(1)).read_to_end(&mut text).map_err(cannot)?;
    let no_keys = |why: &str| {
        Failed::because(USAGE, format!("no keys in {}", path.display()), why)
            .hint("one key a line, as `semfio token generate` prints them; is it the right file?")
    };
    if text.len() as u64 > MAX_KEY_FILE {
        return Err(no_keys(&format!("it has more than {MAX_KEY_FILE} bytes")));
    }
    String::from_utf8(text).map_err(|_| no_keys("it is not text"))
}

/// All of stdin.
fn input(limit: usize, what: &str) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = io::stdin().lock().take(most).read_to_end(&mut bytes);
    read.map_err(|error| Failed::because(USAGE, "cannot read stdin", error))?;
    if bytes.len() > limit {
        let why = format!("{what} has at most {limit} octets");
        return Err(Failed::because(USAGE, "there is too much on stdin", why));
    }
    Ok(bytes)
}

/// The token that was given, without the space around it that a shell and an editor leave.
fn given(token: Option<String>) -> Result<Vec<u8>, Failed> {
    let token = match token {
        Some(token) => token.into_bytes(),
        None => input(MAX_TOKEN, "a token")?,
    };
    let token = token.trim_ascii();
    if token.is_empty() {
        let none = anyhow::anyhow!("there is no token");
        return Err(Failed::new(USAGE, none).hint("give it as an argument, or on stdin"));
    }
    Ok(token.to_vec())
}

/// Why, and what would help.
fn refused(
    error: TokenError,
    ring: &Keyring,
    now: UnixTime,
    accepted: &Accepted,
    token: &[u8],
) -> Failed {
    let failed = Failed::because(LOCKED, "the token is refused", error);
    let opens =
        |name: &PolicyName| ring.open(&accepted.policy(*name), now, token, &mut Vec::new()).is_ok();
    if let Some(other) = PolicyName::value_variants().iter().find(|name| opens(name)) {
        return failed.hint(match (error, other) {
            (TokenError::Malformed { .. }, PolicyName::Python) => {
                "is it more than one token? --policy python opens it, and leaves out what else is there".into()
            }
            _ => format!("--policy {} accepts it", other.word()),
        });
    }
    match error {
        TokenError::Malformed { .. } | TokenError::Version(_) => {
            failed.hint("a token begins with gAAAAA; was all of it copied?")
        }
        TokenError::Mac => {
            failed.hint("is this the key it was sealed under, and all of the token?")
        }
        TokenError::Expired(_) => failed.hint("without --ttl any age is accepted"),
        TokenError::Future(_) => failed.hint("is the clock right, here and where it was sealed?"),
        _ => failed,
    }
}

/// One line, or one record.
fn print(common: &Common, kind: &str, field: &str, text: &str) {
    if common.json {
        Records::default().print(kind, json!({ field: text }));
    } else {
        output::print_line(text);
    }
}

fn show(common: &Common, raw: bool, now: UnixTime, seconds: u64, plaintext: &[u8]) {
    let text = std::str::from_utf8(plaintext);
    let (date, age) = (date(seconds), age(now.as_secs(), seconds));
    if common.json {
        let mut record = json!({ "sealed": seconds, "date": date, "age": age });
        match text {
            Ok(text) => record["text"] = text.into(),
            // Nothing else can hold any octets.
            Err(_) => record["octets"] = plaintext.into(),
        }
        Records::default().print("text", record);
        return;
    }
    if raw {
        output::print_bytes(plaintext);
    } else {
        output::print_line(&output::escape(&String::from_utf8_lossy(plaintext)));
        if text.is_err() && !common.quiet {
            output::notice("not all of it is UTF-8: --raw gives its octets");
        }
    }
    if !common.quiet {
        output::notice(&format!("sealed {date}, {age}"));
    }
}

/// The second in UTC, if our calendar has it.
fn date(seconds: u64) -> String {
    let at = UnixTime::from_secs(seconds);
    if at.as_secs() != seconds {
        return format!("{seconds} s after 1970");
    }
    let civil = at.civil();
    let mut date = format!("{:04}-{:02}-{:02} ", civil.year, civil.month, civil.day);
    let _ = write!(date, "{:02}:{:02}:{:02} UTC", civil.hour, civil.minute, civil.second);
    date
}

/// How long ago that was, in the largest unit of which it is at least two.
fn age(now: u64, seconds: u64) -> String {
    let distance = now.abs_diff(seconds);
    let units = [(86_400, "days"), (3_600, "hours"), (60, "minutes")];
    let unit = units.into_iter().find(|(unit, _)| distance >= unit * 2);
    let (unit, name) = unit.unwrap_or((1, "s"));
    let distance = distance / unit;
    if now < seconds {
        format!("{distance} {name} ahead")
    } else {
        format!("{distance} {name} ago")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_date_and_an_age() {
        assert_eq!(date(1_681_740_746), "2023-04-17 14:12:26 UTC");
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(u64::MAX), "18446744073709551615 s after 1970");
        assert_eq!(age(100, 100), "0 s ago");
        assert_eq!(age(219, 100), "119 s ago");
        assert_eq!(age(220, 100), "2 minutes ago");
        assert_eq!(age(100, 220), "2 minutes ahead");
        assert_eq!(age(u64::MAX, 0), "213503982334601 days ago");
        assert_eq!(age(0, u64::MAX), "213503982334601 days ahead");
    }
}
