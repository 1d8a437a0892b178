//! The program as its users see it: words, exit codes, records, traces, a terminal.

mod chat;
mod peers;
mod terminal;
mod trace;
mod words;
