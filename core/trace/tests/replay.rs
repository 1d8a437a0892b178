//! A run with everything in it is recorded, replayed, and spoilt in every way.

mod relay;

use relay::{everything, shard};
use semfio_trace::{Agreement, End, Reader, ReplayError, replay};

fn run(trace: &[u8], fault: Option<&'static str>) -> Result<Agreement, ReplayError> {
    let reader = Reader::new(trace).map_err(ReplayError::Read)?;
    let shard = shard(reader.header(), fault);
    replay(reader, shard)
}

#[test]
fn a_run_replays() {
    let trace = everything(1_000);
    println!("{}", String::from_utf8_lossy(&trace));
    let agreement = run(&trace, None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(agreement.end, End::Whole);
    assert!(agreement.events > 100, "{agreement}");
}
