//! The calculator in our simulator: no socket, no clock, and 30 seconds pass in no time.

use semfio_examples::{Calculator, Desk, talk};
use semfio_machine::{NetLimits, Shard};
use semfio_sim::{LinkConfig, Network, SplitPlan};
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut net = Network::new(1);
    net.set_default_link(LinkConfig {
        latency: Duration::from_millis(20),
        split: SplitPlan::Random { most: 3 },
        ..LinkConfig::default()
    });
    let server = net.add([10, 0, 0, 1].into(), Shard::new(Desk::new(2), NetLimits::default()));
    assert!(net.listen(server, ([10, 0, 0, 1], 7).into()));
    let talker = net.connect([10, 0, 0, 2].into(), ([10, 0, 0, 1], 7).into());
    let sleeper = net.connect([10, 0, 0, 3].into(), ([10, 0, 0, 1], 7).into());

    for (line, expected) in talk::DIALOGUE {
        net.write(talker, format!("{line}\n"));
        net.run_for(Duration::from_secs(1))?;
        let answer = String::from_utf8(net.take_received(talker))?;
        println!("{line:12} {}", answer.trim_end());
        talk::expect(answer.trim_end(), expected)?;
    }
    net.run_for(Calculator::PATIENCE)?;
    let answer = String::from_utf8(net.take_received(sleeper))?;
    println!("(silence)    {}", answer.trim_end());
    talk::expect(answer.trim_end(), "too slow, bye")?;
    Ok(())
}
