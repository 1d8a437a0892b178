//! Traceroute: probes whose hops run out on the way, and who says so.

mod hop;
mod probes;
mod tracer;

pub use hop::{Heard, Hop, HopCounts, Jitter, Node, Outcome, Verdict};
pub use probes::{
    Answer, AnswerKind, Method, Probe, ProbeCounts, Probes, ProbesConfig, Reached, Rewritten,
    SMALLEST, Sockets,
};
pub use tracer::{Ended, Live, MAX_QUERIES, SHORTEST_INTERVAL, TraceConfig, TraceEvent, Tracer};
