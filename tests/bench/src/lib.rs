//! What the benches share: servers under test, and medians.

use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server in a process of its own; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts `program` and waits until something listens on `address`. Found out without
    /// connecting: `ncat --chat` may die of a peer that goes at once.
    pub fn start(program: &str, args: &[&str], address: SocketAddr) -> io::Result<Self> {
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { child, address };
        for _ in 0..200 {
            if listens(address)? {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Err(io::Error::other(format!("{program} does not listen on {address}")))
    }

    /// CPU time of all its threads so far, user and system.
    pub fn cpu(&self) -> io::Result<Duration> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let on_cpu = stat.split(' ').next().and_then(|field| field.parse::<u64>().ok());
            total += on_cpu.ok_or_else(|| io::Error::other("no schedstat"))?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// CPU time of the process, of threads that have ended and of children it waited for, too: in
    /// ticks of 10 ms.
    pub fn process_cpu(&self) -> io::Result<Duration> {
        let [user, system, child_user, child_system] = times(&self.child.id().to_string())?;
        Ok(user + system + child_user + child_system)
    }

    /// The most memory that was resident, in bytes.
    pub fn peak(&self) -> io::Result<u64> {
        peak(self.child.id())
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> io::Result<u64> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages = statm.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok());
        Ok(pages.unwrap_or(0) * 4096)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a socket listens on this IPv4 port of this machine.
fn listens(address: SocketAddr) -> io::Result<bool> {
    let listen = format!(":{:04X} 00000000:0000 0A", address.port());
    Ok(std::fs::read_to_string("/proc/net/tcp")?.contains(&listen))
}

/// CPU time of the children that this process has waited for, in ticks of 10 ms.
pub fn own_children_cpu() -> io::Result<Duration> {
    let [_, _, user, system] = times("self")?;
    Ok(user + system)
}

/// The most memory of a process that was resident so far, in bytes.
pub fn peak(process: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("it has ended"))
}

/// Of a process and of its children, user and system each.
fn times(process: &str) -> io::Result<[Duration; 4]> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Its name, in brackets, may have any letter in it.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut ticks = rest.split(' ').skip(11).map_while(|field| field.parse::<u64>().ok());
    let mut next = || ticks.next().map(|ticks| Duration::from_millis(ticks * 10));
    let all = (|| Some([next()?, next()?, next()?, next()?]))();
    all.ok_or_else(|| io::Error::other("no times"))
}

/// CPU time of this thread.
pub fn own_cpu() -> io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let on_cpu = stat.split(' ').next().and_then(|field| field.parse().ok());
    Ok(Duration::from_nanos(on_cpu.unwrap_or(0)))
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What the clock says; benches may ask.
#[allow(clippy::disallowed_methods)]
pub fn clock() -> Instant {
    Instant::now()
}
