//! Traceroute: probes whose hops run out on the way, and who says so.

mod probes;

pub use probes::{
    Answer, AnswerKind, Method, Probe, ProbeCounts, Probes, ProbesConfig, Reached, Rewritten,
    SMALLEST, Sockets,
};
