//! The program as its users see it: words, exit codes, records, traces, a terminal.

mod chat;
mod datagrams;
mod file;
mod http_echo;
mod http_get;
mod http_serve;
mod http_shards;
mod kills;
mod locked;
mod nc;
mod peers;
mod ping;
mod ports;
mod put;
mod scan;
mod sealed;
mod sparse;
mod terminal;
mod token;
mod trace;
mod words;
