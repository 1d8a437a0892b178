//! What is kept in memory: given without the disk, and never once it is another.

use std::time::Duration;

use semfio_http::{HOT_FILE, HOT_FILES, HOT_TOTAL, SiteConfig};
use semfio_machine::Effect;
use semfio_sim::{Disk, DiskConfig};

use crate::served::{ROOT, Served, answers};

const GET: &str = "GET /ten.bin HTTP/1.1\r\nHost: a\r\n\r\n";

fn operations(served: &mut Served, path: &str, fields: &str) -> (u16, u64) {
    let before = served.disk().operations();
    let status = served.get(path, fields).status;
    (status, served.disk().operations() - before)
}

#[test]
fn the_second_is_answered_without_the_disk() {
    let mut served = Served::new();
    let tag = served.get("/ten.bin", "").field("ETag").unwrap().to_owned();
    for fields in
        ["", "Range: bytes=0-4", "If-None-Match: *", "If-Match: \"x\"", "Range: bytes=10-"]
    {
        let (status, made) = operations(&mut served, "/ten.bin", fields);
        assert_eq!(made, 0, "{fields}");
        assert!([200, 206, 304, 412, 416].contains(&status), "{fields}: {status}");
    }
    let whole = served.ask("HEAD /ten.bin HTTP/1.1");
    assert_eq!((whole.field("ETag"), whole.field("Content-Length")), (Some(&*tag), Some("10")));
    let got = served.get("/ten.bin", "Range: bytes=-3");
    assert_eq!((got.text(), got.field("Content-Range")), ("789", Some("bytes 7-9/10")));
    assert!(operations(&mut served, "/large.bin", "").1 > 0, "it is too large");
    assert!(operations(&mut served, "/large.bin", "").1 > 0);
    assert_eq!(served.disk().open_files(), 0, "what is kept is not open");
}

#[test]
fn a_thousand_requests_of_one_connection_need_the_disk_once() {
    let mut served = Served::new();
    let before = served.disk().operations();
    let got = served.raw(GET.repeat(1_000));
    assert_eq!(answers(&got, &["GET"; 1_000]).len(), 1_000);
    // Opened and read.
    assert_eq!(served.disk().operations() - before, 2);
}

#[test]
fn what_is_changed_is_never_given_as_it_was() {
    for how in 0..4 {
        let mut served = Served::new();
        assert_eq!(served.get("/ten.bin", "").text(), "0123456789");
        let now = served.net.now();
        let path = || "ten.bin".to_owned();
        match how {
            0 => assert!(served.disk().rewrite(now, ROOT, "ten.bin", "another")),
            1 => {
                served.disk().put_file(ROOT, "other", "another");
                let rename =
                    Effect::Rename { root: ROOT, from: "other".into(), to: path(), replace: true };
                served.disk().perform(now, &rename);
            }
            2 => drop(served.disk().perform(now, &Effect::Remove { root: ROOT, path: path() })),
            // Nobody is told: as a write through a mapping.
            _ => served.pass(1),
        }
        served.net.run_for(Duration::from_millis(1)).unwrap();
        let (status, made) = operations(&mut served, "/ten.bin", "");
        assert_eq!(status, if how == 2 { 404 } else { 200 }, "{how}");
        assert!(made > 0, "{how}");
        let text = served.get("/ten.bin", "").text().to_owned();
        match how {
            0 | 1 => assert_eq!(text, "another"),
            2 => assert_ne!(text, "0123456789"),
            _ => assert_eq!(text, "0123456789"),
        }
    }
}

#[test]
fn one_that_is_asked_for_all_the_time_is_opened_twice_a_second() {
    let mut served = Served::new();
    served.get("/ten.bin", "");
    let before = served.disk().operations();
    let peer = served.connect();
    for _ in 0..300 {
        served.net.write(peer, GET);
        served.net.run_for(Duration::from_millis(10)).unwrap();
    }
    let opened = (served.disk().operations() - before) / 2;
    assert!((5..=7).contains(&opened), "{opened}");
    served.pass(3);
    let site = served.site;
    assert!(format!("{:?}", served.net.shard(site).service()).contains("count: 0"));
}

#[test]
fn a_change_while_it_is_read_is_not_kept() {
    let mut served = Served::new();
    let config = DiskConfig { latency: Duration::from_millis(10), ..DiskConfig::default() };
    served.disk().set_config(config);
    let peer = served.connect();
    served.net.write(peer, GET);
    // It is open; its content is on its way.
    served.net.run_for(Duration::from_millis(15)).unwrap();
    let now = served.net.now();
    assert!(served.disk().rewrite(now, ROOT, "ten.bin", "9876543210"));
    served.pass(0);
    served.net.run_for(Duration::from_millis(50)).unwrap();
    assert_eq!(served.get("/ten.bin", "").text(), "9876543210");
}

#[test]
fn where_nothing_can_be_watched_nothing_is_kept() {
    let disk = Disk::new(DiskConfig { watches: 0, ..DiskConfig::default() });
    let mut served = Served::on(SiteConfig::default(), disk);
    for _ in 0..3 {
        let (status, made) = operations(&mut served, "/ten.bin", "");
        assert_eq!(status, 200);
        assert!(made >= 2, "{made}");
    }
}

#[test]
fn it_is_bounded() {
    let mut served = Served::new();
    let size = usize::try_from(HOT_FILE).unwrap();
    let many = HOT_TOTAL / size + 50;
    for n in 0..many {
        served.disk().put_file(ROOT, &format!("full{n}"), vec![b'x'; size]);
    }
    let kept = |served: &mut Served, paths: &[String]| {
        let requests: String =
            paths.iter().map(|path| format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        served.raw(&requests);
        let before = served.disk().operations();
        served.raw(&requests);
        let made = usize::try_from(served.disk().operations() - before).unwrap();
        paths.len() - made / 2
    };
    let paths: Vec<_> = (0..many).map(|n| format!("full{n}")).collect();
    let most = kept(&mut served, &paths);
    assert!((200..=HOT_TOTAL / size).contains(&most), "{most}");
    served.pass(2);
    for n in 0..HOT_FILES + 50 {
        served.disk().put_file(ROOT, &format!("small{n}"), "x");
    }
    let paths: Vec<_> = (0..HOT_FILES + 50).map(|n| format!("small{n}")).collect();
    let most = kept(&mut served, &paths);
    assert!((1_000..=HOT_FILES).contains(&most), "{most}");
}
