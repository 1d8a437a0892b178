//! Whoever dies at whatever step: never a wrong file under its final name, and the next attempt
//! brings the right one.
//!
//! 300 runs of gets and 500 of puts, one in twelve of each with a passphrase; `SEMFIO_CUTS` sets
//! another number, in `.ci/full` 10,000.
#![allow(missing_docs)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use semfio_file::{
    Fetch, FetchConfig, FetchReport, PutLimits, Repository, RepositoryConfig, Secret, Session,
    Upload, UploadConfig, UploadItem, UploadReport,
};
use semfio_keysync::Passphrase;
use semfio_machine::{NetLimits, RootId, Seed, Shard, Target};
use semfio_path::{Policy, SafeName, is_part};
use semfio_sim::{Disk, DiskConfig, LinkConfig, Network, ShardId};

const ROOT: RootId = RootId(0);
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const GROUP: usize = 65_536;

type ServerId = ShardId<Session, Repository>;
type ClientId = ShardId<Session, Fetch>;
type PutterId = ShardId<Session, Upload>;

/// Numbers that follow from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice(seed | 1);
    let page: Vec<u8> = (0..997).map(|_| dice.below(256) as u8).collect();
    (0..len).map(|at| page[at % 997] ^ (at >> 16) as u8).collect()
}

struct World {
    net: Network,
    disk: Option<Disk>,
    server: Option<ServerId>,
    files: Vec<(&'static str, Vec<u8>)>,
    /// What `f/two` was before.
    former: Vec<Vec<u8>>,
    /// Both know a passphrase; how many seeds were drawn.
    sealed: Option<u64>,
}

impl World {
    fn new(seed: u64) -> (Self, Dice) {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            dice.below(2);
        }
        let mut net = Network::new(seed);
        let bandwidth = std::num::NonZeroU64::new([1, 3, 20][dice.below(3) as usize] * 1_000_000);
        let window = [16, 64, 256][dice.below(3) as usize] * 1024;
        let latency = Duration::from_millis(dice.below(20));
        net.set_default_link(LinkConfig { bandwidth, window, latency, ..LinkConfig::default() });
        let lens = [0, 1, GROUP, GROUP + 1, 300_000, 5 * GROUP, 12 * GROUP + 77];
        let mut file = |name| {
            let len = lens[dice.below(lens.len() as u64) as usize];
            (name, content(seed ^ len as u64, len))
        };
        let files = vec![file("f/one"), file("f/two")];
        let mut disk = Disk::default();
        disk.put_folder(ROOT, "");
        let sealed = (seed % 12 == 7).then_some(0);
        (Self { net, disk: Some(disk), server: None, files, former: Vec::new(), sealed }, dice)
    }

    fn secret(&mut self) -> Option<Secret> {
        let drawn = self.sealed.as_mut()?;
        *drawn += 1;
        Some(Secret::new(Passphrase::new(b"praia"), Seed::from_u64(*drawn)))
    }

    fn serve(&mut self) {
        let service = Repository::new(RepositoryConfig::default()).with_secret(self.secret());
        let server = self.net.add(SERVER, Shard::new(service, NetLimits::default()));
        for (name, content) in &self.files {
            self.net.disk_mut(server).put_file(ROOT, name, content.clone());
        }
        assert!(self.net.listen(server, SocketAddr::new(SERVER, 8003)));
        self.server = Some(server);
    }

    fn fetch(&mut self, jobs: usize) -> ClientId {
        let config = FetchConfig {
            target: Target::Address(SocketAddr::new(SERVER, 8003)),
            names: vec![SafeName::parse("f", Policy::default()).unwrap()],
            root: ROOT,
            save_as: None,
            replace: true,
            jobs,
            policy: Policy::default(),
            retries: 6,
        };
        let service = Fetch::new(config).with_secret(self.secret());
        let client = self.net.add(CLIENT, Shard::new(service, NetLimits::default()));
        *self.net.disk_mut(client) = self.disk.take().unwrap();
        client
    }

    /// Nothing under a final name but what the server has, or had.
    fn judge(&self, disk: &Disk) -> Result<(), String> {
        for (name, content) in &self.files {
            let found = disk.content(ROOT, name);
            let right =
                |found: &[u8]| found == content || self.former.iter().any(|old| old == found);
            if !found.is_none_or(right) {
                return Err(format!("{name} is wrong"));
            }
        }
        Ok(())
    }
}

/// One client after the other dies, or its server does, or the power fails, until one is done.
fn run(seed: u64) -> Result<(), String> {
    let (mut world, mut dice) = World::new(seed);
    world.serve();
    let jobs = dice.below(3) as usize + 1;
    let cuts = dice.below(6);
    for _ in 0..cuts {
        let client = world.fetch(jobs);
        let latency = Duration::from_micros(dice.below(3_000));
        let config = DiskConfig { latency, jitter: latency, ..DiskConfig::default() };
        world.net.disk_mut(client).set_config(config);
        for _ in 0..dice.below(400) {
            world.net.step();
        }
        let mut disk = match dice.below(6) {
            // The server dies; the client goes on and may find the next one.
            0 => {
                let server = world.server.take().unwrap();
                world.net.kill(server);
                world.serve();
                for _ in 0..dice.below(2_000) {
                    world.net.step();
                }
                world.net.kill(client)
            }
            // The file changes, in place or under the name.
            1 => {
                let new = content(
                    seed + 1_000 + world.former.len() as u64 * 2,
                    world.files[1].1.len() + dice.below(2) as usize,
                );
                let server = world.server.unwrap();
                let now = world.net.now();
                if dice.below(2) == 0 {
                    world.net.disk_mut(server).rewrite(now, ROOT, "f/two", new.clone());
                } else {
                    world.net.disk_mut(server).put_file(ROOT, "f/two", new.clone());
                }
                world.former.push(std::mem::replace(&mut world.files[1].1, new));
                for _ in 0..dice.below(400) {
                    world.net.step();
                }
                world.net.kill(client)
            }
            2 => world.net.cut_power(client),
            3 => {
                let mut disk = world.net.disk(client).clone();
                world.net.kill(client);
                disk.crash_at_random(dice.below(1 << 30));
                disk
            }
            _ => world.net.kill(client),
        };
        disk.set_config(DiskConfig::default());
        world.judge(&disk)?;
        // Somebody damages what is not whole yet.
        for name in disk.names(ROOT, "f").into_iter().map(str::to_owned).collect::<Vec<_>>() {
            if is_part(&name) && dice.below(4) == 0 {
                let path = format!("f/{name}");
                let mut held = disk.content(ROOT, &path).unwrap().to_vec();
                if !held.is_empty() {
                    let at = dice.below(held.len() as u64) as usize;
                    held[at] ^= 1 << dice.below(8);
                    disk.put_file(ROOT, &path, held);
                }
            }
        }
        world.disk = Some(disk);
    }
    let client = world.fetch(jobs);
    let over = world.net.run_until(|net| net.is_over(client));
    let reports = world.net.reports(client);
    if over.is_err()
        || !matches!(reports.last(), Some((_, FetchReport::Over { done: 2, failed: 0 })))
    {
        return Err(format!("{over:?} {reports:?}"));
    }
    let _ = world.net.run_for(Duration::from_secs(10));
    let disk = world.net.disk(client);
    for (name, content) in &world.files {
        if disk.content(ROOT, name) != Some(content) {
            return Err(format!("{name} is not what it should be"));
        }
    }
    if disk.names(ROOT, "f") != ["one", "two"] {
        return Err(format!("something is left: {:?}", disk.names(ROOT, "f")));
    }
    // What was saved is durable.
    let mut disk = disk.clone();
    disk.crash();
    for (name, content) in &world.files {
        if disk.content(ROOT, name) != Some(content) {
            return Err(format!("{name} was not durable"));
        }
    }
    Ok(())
}

#[test]
fn no_cut_ever_leaves_a_wrong_file() {
    let runs = std::env::var("SEMFIO_CUTS").map_or(300, |runs| runs.parse().unwrap());
    semfio_sim::check("no_cut_ever_leaves_a_wrong_file", semfio_sim::seeds!(runs), run);
}

/// The same for files that are put: `disk` is the server's, `files` are the client's.
impl World {
    fn take(&mut self) -> ServerId {
        let writable = Some(PutLimits::default());
        let config = RepositoryConfig { writable, ..RepositoryConfig::default() };
        let service = Repository::new(config).with_secret(self.secret());
        let server = self.net.add(SERVER, Shard::new(service, NetLimits::default()));
        *self.net.disk_mut(server) = self.disk.take().unwrap();
        assert!(self.net.listen(server, SocketAddr::new(SERVER, 8003)));
        server
    }

    fn put(&mut self) -> PutterId {
        let name = SafeName::parse("f", Policy::default()).unwrap();
        let config = UploadConfig {
            target: Target::Address(SocketAddr::new(SERVER, 8003)),
            items: vec![UploadItem { root: ROOT, local: name.clone(), name }],
            replace: true,
            policy: Policy::default(),
            retries: 10,
        };
        let service = Upload::new(config).with_secret(self.secret());
        let client = self.net.add(CLIENT, Shard::new(service, NetLimits::default()));
        for (name, content) in &self.files {
            self.net.disk_mut(client).put_file(ROOT, name, content.clone());
        }
        client
    }
}

fn run_put(seed: u64) -> Result<(), String> {
    let (mut world, mut dice) = World::new(seed);
    let mut server = world.take();
    let cuts = dice.below(6);
    for _ in 0..cuts {
        let client = world.put();
        let latency = Duration::from_micros(dice.below(3_000));
        let config = DiskConfig { latency, jitter: latency, ..DiskConfig::default() };
        world.net.disk_mut(server).set_config(config);
        for _ in 0..dice.below(400) {
            world.net.step();
        }
        let mut disk = match dice.below(6) {
            // The client dies, and maybe the server has the time to find out.
            0 | 1 => {
                world.net.kill(client);
                for _ in 0..dice.below(200) {
                    world.net.step();
                }
                if dice.below(2) == 0 {
                    world.judge(world.net.disk(server))?;
                    continue;
                }
                world.net.kill(server)
            }
            // The file changes, in place or under the name.
            2 => {
                let new = content(
                    seed + 1_000 + world.former.len() as u64 * 2,
                    world.files[1].1.len() + dice.below(2) as usize,
                );
                let now = world.net.now();
                if dice.below(2) == 0 {
                    world.net.disk_mut(client).rewrite(now, ROOT, "f/two", new.clone());
                } else {
                    world.net.disk_mut(client).put_file(ROOT, "f/two", new.clone());
                }
                world.former.push(std::mem::replace(&mut world.files[1].1, new));
                for _ in 0..dice.below(400) {
                    world.net.step();
                }
                world.net.kill(client);
                world.net.kill(server)
            }
            3 => world.net.cut_power(server),
            4 => {
                let mut disk = world.net.disk(server).clone();
                world.net.kill(server);
                disk.crash_at_random(dice.below(1 << 30));
                disk
            }
            _ => world.net.kill(server),
        };
        disk.set_config(DiskConfig::default());
        world.judge(&disk)?;
        // Somebody damages what is not whole yet.
        for name in disk.names(ROOT, "f").into_iter().map(str::to_owned).collect::<Vec<_>>() {
            if is_part(&name) && dice.below(4) == 0 {
                let path = format!("f/{name}");
                let mut held = disk.content(ROOT, &path).unwrap().to_vec();
                if !held.is_empty() {
                    let at = dice.below(held.len() as u64) as usize;
                    held[at] ^= 1 << dice.below(8);
                    // Half of them are so old that the server would remove them.
                    if dice.below(2) == 0 {
                        disk.put_file(ROOT, &path, held);
                    } else {
                        disk.rewrite(world.net.now(), ROOT, &path, held);
                    }
                }
            }
        }
        world.disk = Some(disk);
        server = world.take();
        // The client may still be there, and find it.
        for _ in 0..dice.below(1_000) {
            world.net.step();
        }
        world.net.kill(client);
    }
    let client = world.put();
    let over = world.net.run_until(|net| net.is_over(client));
    let reports = world.net.reports(client);
    if over.is_err()
        || !matches!(reports.last(), Some((_, UploadReport::Over { done: 2, failed: 0 })))
    {
        return Err(format!("{over:?} {reports:?}"));
    }
    let _ = world.net.run_for(Duration::from_secs(10));
    let disk = world.net.disk(server);
    for (name, content) in &world.files {
        if disk.content(ROOT, name) != Some(content) {
            return Err(format!("{name} is not what it should be"));
        }
    }
    if disk.names(ROOT, "f") != ["one", "two"] {
        return Err(format!("something is left: {:?}", disk.names(ROOT, "f")));
    }
    // What was told to be there is durable.
    let mut disk = disk.clone();
    disk.crash();
    for (name, content) in &world.files {
        if disk.content(ROOT, name) != Some(content) {
            return Err(format!("{name} was not durable"));
        }
    }
    Ok(())
}

#[test]
fn no_cut_of_a_put_ever_leaves_a_wrong_file() {
    let runs = std::env::var("SEMFIO_CUTS").map_or(500, |runs| runs.parse().unwrap());
    semfio_sim::check(
        "no_cut_of_a_put_ever_leaves_a_wrong_file",
        semfio_sim::seeds!(runs),
        run_put,
    );
}
