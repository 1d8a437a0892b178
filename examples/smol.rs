//! The calculator in our async host.

use semfio_examples::{Desk, talk};
use semfio_machine::{NetLimits, Shard};
use semfio_runtime_smol::{Host, HostConfig};
use std::{io, thread};

fn main() -> io::Result<()> {
    let shard = Shard::new(Desk::new(1), NetLimits::default());
    let mut host = Host::new(shard, HostConfig::default())?;
    let address = host.listen("127.0.0.1:0".parse().expect("an address"))?;
    let client = thread::spawn(move || talk::talk(address));
    smol::block_on(host.run(|report| println!("{report}")))?;
    client.join().expect("the client does not panic")
}
