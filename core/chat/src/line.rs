//! Entries as lines for people at a terminal. Times are UTC.

use alloc::string::String;
use core::fmt::Write;
use semfio_machine::UnixTime;

use crate::wire::{Entry, Manner, What};

/// Appends `entry` as one line.
pub fn put_entry(entry: &Entry<'_>, out: &mut String) {
    let civil = UnixTime::from_nanos(entry.time.saturating_mul(1_000_000)).civil();
    let nick = entry.nick;
    // Writing to a string cannot fail.
    let _ = write!(out, "[{:02}:{:02}Z] ", civil.hour, civil.minute);
    let _ = match entry.what {
        What::Said(Manner::Text, text) => writeln!(out, "<{nick}> {text}"),
        What::Said(Manner::Action, text) => writeln!(out, "* {nick} {text}"),
        What::Said(Manner::Private, text) => writeln!(out, "<{nick} -> {}> {text}", entry.room),
        What::Join => writeln!(out, "* {nick} joined {}", entry.room),
        What::Part => writeln!(out, "* {nick} left {}", entry.room),
        What::Nick(new) => writeln!(out, "* {nick} is now {new}"),
        What::Sealed(_) => writeln!(out, "<{nick}> (a sealed text)"),
        What::Epoch { .. } => writeln!(out, "* {nick} changed the key of {}", entry.room),
        What::Holder(_) => writeln!(out, "* {nick} holds the key of {} now", entry.room),
    };
}
