//! The UDP pinger of the textbooks: `Ping 3 1700000000.250000` goes to a server, which sends it back in
//! capitals, or forgets it on purpose.
//!
//! | field | form |
//! |---|---|
//! | word | `Ping`, in any case; a server takes any word, or none |
//! | number | decimal, from 1 |
//! | time | seconds since 1970 by the sender's clock, with a fraction |
//!
//! Fields are apart by spaces; what follows them is ignored.

mod client;
mod server;

use alloc::vec::Vec;
use core::time::Duration;

use semfio_machine::UnixTime;

pub use client::{UdpPingConfig, UdpPingCounts, UdpPingEvent, UdpPinger};
pub use server::{
    ClientCounts, MAX_CLIENTS, Order, UdpPingServer, UdpPingServerConfig, UdpPingServerCounts,
    UdpPingServerEvent,
};

/// Appends a ping.
fn put(number: u64, at: UnixTime, buf: &mut Vec<u8>) {
    let since = Duration::from_nanos(at.as_nanos());
    let text = alloc::format!("Ping {number} {}.{:06}", since.as_secs(), since.subsec_micros());
    buf.extend_from_slice(text.as_bytes());
}

/// The number, and the time if there is one that can be.
fn parse(payload: &[u8]) -> Option<(u64, Option<UnixTime>)> {
    let text = core::str::from_utf8(payload).ok()?;
    let mut words = text.split_ascii_whitespace();
    let first = words.next()?;
    let number = match decimal(first) {
        Some(number) => number,
        None => decimal(words.next()?)?,
    };
    Some((number, words.next().and_then(time)))
}

fn decimal(word: &str) -> Option<u64> {
    // `parse` alone would take a sign.
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}

fn time(word: &str) -> Option<UnixTime> {
    let (secs, fraction) = word.split_once('.').unwrap_or((word, "0"));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nine = fraction.get(..9).unwrap_or(fraction);
    let scale = 10_u64.checked_pow(9_u32.checked_sub(u32::try_from(nine.len()).ok()?)?)?;
    let nanos = decimal(nine)?.checked_mul(scale)?;
    Some(UnixTime::from_nanos(decimal(secs)?.checked_mul(1_000_000_000)?.checked_add(nanos)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_is_read_as_it_was_put() {
        let mut buf = Vec::new();
        let at = UnixTime::from_nanos(1_700_000_000_250_000_000);
        put(3, at, &mut buf);
        assert_eq!(buf, b"Ping 3 1700000000.250000");
        assert_eq!(parse(&buf), Some((3, Some(at))));
        assert_eq!(parse(&buf.to_ascii_uppercase()), Some((3, Some(at))));
    }

    #[test]
    fn numbers_and_times_as_others_write_them() {
        let secs = |secs: u64, nanos: u64| Some(UnixTime::from_nanos(secs * 1_000_000_000 + nanos));
        for (text, expected) in [
            ("7", Some((7, None))),
            ("7 12", Some((7, secs(12, 0)))),
            ("Heartbeat 7 12.5\n", Some((7, secs(12, 500_000_000)))),
            ("Ping 7 12.123456789", Some((7, secs(12, 123_456_789)))),
            ("Ping 7 12.1234567891", Some((7, secs(12, 123_456_789)))),
            ("Ping 7 12.", Some((7, None))),
            ("Ping 7 -12.5", Some((7, None))),
            ("Ping 7 12.5x", Some((7, None))),
            ("Ping 7 12.123456789x", Some((7, None))),
            ("Ping 7 99999999999999", Some((7, None))),
            ("Ping 7 12.é", Some((7, None))),
            ("Ping +7 1", None),
            ("Ping 18446744073709551616", None),
            ("Ping", None),
            ("a b 7", None),
            ("", None),
            ("  ", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(parse(b"Ping \xFF"), None);
    }
}
