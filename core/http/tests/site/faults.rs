//! What goes wrong: disks, peers, the end of the run.

use std::time::Duration;

use semfio_machine::Failure;
use semfio_sim::{DiskConfig, LinkConfig, PeerState};

use crate::served::{ROOT, Served, answers};

const GET: &str = "GET /ten.bin HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn it_drains() {
    let mut served = Served::new();
    let [busy, kept, idle] = [(), (), ()].map(|()| served.connect());
    for peer in [kept, idle] {
        served.net.write(peer, GET);
    }
    served.pass(1);
    let config = DiskConfig { latency: Duration::from_secs(3), ..DiskConfig::default() };
    served.disk().set_config(config);
    served.net.write(busy, GET.replace("ten", "large"));
    served.net.run_for(Duration::from_millis(500)).unwrap();
    served.drain();
    served.net.run_for(Duration::from_millis(500)).unwrap();
    // It did not know yet.
    served.net.write(kept, GET);
    let site = served.site;
    served.net.run_until(|net| net.is_over(site)).unwrap();
    for (peer, whole) in [(busy, 1), (kept, 2), (idle, 1)] {
        let got = served.net.take_received(peer);
        let got = answers(&got, &["GET"; 2][..whole]);
        assert_eq!(got.len(), whole, "each request has its answer");
        let last = got.last().unwrap();
        let closes = last.field("Connection") == Some("close");
        assert_eq!((last.status, closes), (200, peer != idle));
        assert!(served.net.peer(peer).eof().is_some());
    }
    let late = served.connect();
    served.pass(1);
    assert!(matches!(served.net.peer(late).state(), PeerState::Failed(_)));
}

#[test]
fn a_disk_that_fails_at_each_step() {
    for failure in [Failure::Other, Failure::Denied, Failure::Exhausted, Failure::NotFound] {
        for path in ["/large.bin", "/ten.bin", "/", "/sub%20folder"] {
            for step in 1.. {
                let mut served = Served::new();
                served.disk().fail_nth(step, failure);
                let before = served.disk().operations();
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                let got = served.raw(&request);
                let made = served.disk().operations() - before;
                // One that fails while it is sent is cut: what came then is not the whole.
                if !got.is_empty() && made >= step && !path.contains("large") {
                    let status = answers(&got, &["GET"])[0].status;
                    assert!([200, 308, 403, 404, 500, 503].contains(&status), "{status} {path}");
                }
                assert_eq!(served.disk().open_files(), 0, "{failure:?} at step {step} of {path}");
                if made < step {
                    break;
                }
                // It goes on.
                assert_eq!(
                    served.get(path, "").status,
                    if path.contains("sub") { 308 } else { 200 }
                );
            }
        }
    }
}

#[test]
fn without_descriptors_it_asks_to_come_back_and_keeps_the_connection() {
    let mut served = Served::new();
    served.disk().set_config(DiskConfig { open_files: 0, ..DiskConfig::default() });
    let got = served.raw(GET.repeat(2));
    let got = answers(&got, &["GET", "GET"]);
    assert_eq!(got.len(), 2);
    for answer in got {
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
    }
}

#[test]
fn files_that_shrink_grow_or_vanish() {
    let shrunk = |to: usize| {
        let mut served = Served::new();
        // So small a link that the file is not sent at once.
        let link = LinkConfig { window: 16 * 1024, ..LinkConfig::default() };
        served.net.set_default_link(link);
        let peer = served.connect();
        served.net.set_reading(peer, false);
        served.net.write(peer, GET.replace("ten", "large"));
        served.net.run_for(Duration::from_millis(100)).unwrap();
        let now = served.net.now();
        assert!(served.disk().rewrite(now, ROOT, "large.bin", vec![b'x'; to]));
        served.net.set_reading(peer, true);
        served.pass(5);
        let got = served.net.take_received(peer);
        let head = got.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        let state = served.net.peer(peer).state();
        (got.len() - head, matches!(state, PeerState::Failed(Failure::Reset)))
    };
    let (sent, cut) = shrunk(150_000);
    assert!(sent <= 150_000 && cut, "never padded: {sent}, {cut}");
    let (sent, cut) = shrunk(300_000);
    assert_eq!((sent, cut), (200_000, false), "no more than was told");
    let mut served = Served::new();
    assert_eq!(served.get("/ten.bin", "").status, 200);
    let remove = semfio_machine::Effect::Remove { root: ROOT, path: "ten.bin".into() };
    let now = served.net.now();
    served.disk().perform(now, &remove);
    served.net.run_for(Duration::from_millis(1)).unwrap();
    assert_eq!(served.get("/ten.bin", "").status, 404);
}
