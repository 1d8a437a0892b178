//! URLs, fetched from servers that do as they like.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use semfio_http::get::{
    Anew, Get, GetConfig, GetError, GetItem, GetMessage, GetReport, INFORMS, SaveStage, WINDOW,
};
use semfio_http::{Client, FieldsBuf, Rule, Site, SiteConfig, Status, Url, UrlError};
use semfio_machine::{Failure, NetLimits, Now, RootId, Seed, Shard, UnixTime};
use semfio_path::{Policy, SafeName};
use semfio_sim::{Disk, LinkConfig, Network, PeerId, ShardId, SplitPlan};

const ROOT: RootId = RootId(0);
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// What a server does after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Keep,
    Finish,
    Reset,
}
use Then::{Finish, Keep, Reset};

fn config(paths: &[&str]) -> GetConfig {
    let item = |path: &&str| GetItem {
        url: Url::parse(&format!("http://10.0.0.1{path}")).unwrap(),
        save_as: None,
    };
    GetConfig {
        items: paths.iter().map(item).collect(),
        method: None,
        fields: FieldsBuf::new(),
        body: None,
        redirects: 10,
        resume: false,
        fail: false,
        max_time: None,
        root: ROOT,
    }
}

fn into_file() -> GetConfig {
    let mut config = config(&["/f"]);
    config.items[0].save_as = Some(SafeName::parse("f", Policy::default()).unwrap());
    config
}

fn resumed() -> GetConfig {
    GetConfig { resume: true, ..into_file() }
}

/// What came of a run.
#[derive(Debug)]
struct Run {
    /// Of each request: over which connection it came, and its head.
    requests: Vec<(usize, String)>,
    content: Vec<u8>,
    reports: Vec<GetReport>,
    disk: Disk,
}

impl Run {
    fn why(&self) -> Option<GetError> {
        self.reports.iter().find_map(|report| match report {
            GetReport::Failed { why, .. } => Some(*why),
            _ => None,
        })
    }

    fn rule(&self) -> Option<Rule> {
        match self.why() {
            Some(GetError::Protocol(error)) => Some(error.rule),
            _ => None,
        }
    }

    fn kept(&self) -> Option<(u64, bool)> {
        self.reports.iter().find_map(|report| match report {
            GetReport::Failed { kept, .. } => {
                kept.as_ref().map(|kept| (kept.octets, kept.can_go_on))
            }
            _ => None,
        })
    }

    fn anew(&self) -> Option<Anew> {
        self.reports.iter().find_map(|report| match report {
            GetReport::Anew { why, .. } => Some(*why),
            _ => None,
        })
    }

    fn is_done(&self) -> bool {
        self.reports.last() == Some(&GetReport::Over { done: 1, failed: 0 })
    }

    fn file(&self) -> Option<&[u8]> {
        self.disk.content(ROOT, "f")
    }

    fn part(&self) -> Option<&[u8]> {
        self.disk.content(ROOT, "f.part")
    }
}

struct Play {
    net: Network,
    client: ShardId<Client, Get>,
    at: SocketAddr,
    peers: Vec<(PeerId, Vec<u8>)>,
    run: Run,
}

impl Play {
    fn new(config: GetConfig, disk: Disk) -> Self {
        let mut net = Network::new(1);
        let at = SocketAddr::new(SERVER, 80);
        assert!(net.listen_raw(at));
        let client = net.add(CLIENT, Shard::new(Get::new(config), NetLimits::default()));
        *net.disk_mut(client) = disk;
        net.disk_mut(client).put_folder(ROOT, "");
        let run = Run { requests: vec![], content: vec![], reports: vec![], disk: Disk::default() };
        Self { net, client, at, peers: vec![], run }
    }

    /// A moment; the connections over which a request has come.
    fn moment(&mut self) -> Vec<usize> {
        self.net.run_for(Duration::from_millis(5)).unwrap();
        let accepted = self.net.accepted(self.at);
        self.peers.extend(accepted.into_iter().map(|peer| (peer, Vec::new())));
        let mut asked = Vec::new();
        for (place, (peer, heard)) in self.peers.iter_mut().enumerate() {
            heard.extend(self.net.take_received(*peer));
            while let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = heard.split_off(end + 4);
                let head = String::from_utf8(std::mem::replace(heard, rest)).unwrap();
                self.run.requests.push((place, head));
                asked.push(place);
            }
        }
        let mut taken = 0;
        for (_, report) in self.net.take_reports(self.client) {
            match report {
                GetReport::Content(bytes) => {
                    taken += bytes.len() as u64;
                    self.run.content.extend_from_slice(&bytes);
                }
                report => self.run.reports.push(report),
            }
        }
        if taken > 0 && !self.net.is_over(self.client) {
            self.net.send_message(self.client, GetMessage::Taken(taken));
        }
        asked
    }

    fn answer(&mut self, place: usize, answer: &[u8], then: Then) {
        let peer = self.peers[place].0;
        self.net.write(peer, answer);
        match then {
            Keep => {}
            Finish => self.net.finish(peer),
            Reset => {
                self.net.run_for(Duration::from_millis(5)).unwrap();
                self.net.reset(peer);
            }
        }
    }

    /// Answers each request with the next of `answers`, the last one for ever.
    fn play(mut self, answers: &[(Vec<u8>, Then)]) -> Run {
        let mut next = 0;
        for _ in 0..40_000 {
            for place in self.moment() {
                let (answer, then) = &answers[next.min(answers.len() - 1)];
                next += 1;
                self.answer(place, answer, *then);
            }
            if self.net.is_over(self.client) {
                self.moment();
                self.run.disk = self.net.disk(self.client).clone();
                assert_eq!(self.run.disk.open_files(), 0);
                return self.run;
            }
        }
        panic!("it does not end: {:?}", self.run.reports);
    }
}

fn run(config: GetConfig, answers: &[(&str, Then)]) -> Run {
    run_on(config, Disk::default(), answers)
}

fn run_on(config: GetConfig, disk: Disk, answers: &[(&str, Then)]) -> Run {
    let answers: Vec<_> =
        answers.iter().map(|(text, then)| (text.as_bytes().to_vec(), *then)).collect();
    Play::new(config, disk).play(&answers)
}

fn ok(fields: &str, content: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{content}", content.len())
}

/// A disk on which a first attempt at [`FILE`] was cut after five octets.
fn cut(fields: &str) -> Disk {
    let whole = ok(fields, FILE);
    let first = run(into_file(), &[(&whole[..whole.len() - FILE.len() + 5], Finish)]);
    assert_eq!(first.rule(), Some(Rule::ContentShort));
    assert_eq!(first.part(), Some(&FILE.as_bytes()[..5]));
    assert_eq!(first.file(), None);
    first.disk
}

const FILE: &str = "0123456789";
const TAG: &str = "ETag: \"a\"\r\n";

fn rest(fields: &str, range: &str, content: &str) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\n{fields}Content-Range: {range}\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    )
}

#[test]
fn content_comes_however_it_is_framed() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n";
    let until_close = format!("HTTP/1.0 200 OK\r\n\r\n{FILE}");
    for (answer, then) in [(&*ok("", FILE), Keep), (chunked, Keep), (&until_close, Finish)] {
        let to_stream = run(config(&["/f"]), &[(answer, then)]);
        assert!(to_stream.is_done(), "{:?}", to_stream.reports);
        assert_eq!(to_stream.content, FILE.as_bytes());
        let to_file = run(into_file(), &[(answer, then)]);
        assert!(to_file.is_done(), "{:?}", to_file.reports);
        assert_eq!(to_file.file(), Some(FILE.as_bytes()));
        assert_eq!(to_file.disk.names(ROOT, ""), ["f"]);
    }
}

/// Each cut of an answer that has a length, or chunks, is told; what is there of a file is kept.
#[test]
fn what_ends_early_is_never_whole() {
    let tagged = ok(TAG, FILE);
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n";
    for answer in [&*tagged, chunked] {
        for end in 0..answer.len() {
            for then in [Finish, Reset] {
                let cut = run(into_file(), &[(&answer[..end], then)]);
                assert!(!cut.is_done(), "{end}");
                assert_eq!(cut.file(), None, "{end}");
                let head = answer.find("\r\n\r\n").unwrap() + 4;
                match (then, cut.why().unwrap()) {
                    (Reset, why) => assert_eq!(why, GetError::Lost(Failure::Reset)),
                    (_, GetError::Protocol(error)) if end == 0 => {
                        assert_eq!(error.rule, Rule::ResponseMissing);
                    }
                    (_, GetError::Protocol(error)) if end < head => {
                        assert_eq!(error.rule, Rule::HeadShort, "{end}");
                    }
                    (_, GetError::Protocol(error)) => {
                        assert_eq!((error.rule, error.offset), (Rule::ContentShort, end as u64));
                    }
                    (_, why) => panic!("{end}: {why:?}"),
                }
                let there = cut.part().map_or(0, <[u8]>::len) as u64;
                assert_eq!(cut.kept().map_or(0, |(octets, _)| octets), there);
                let names = cut.disk.names(ROOT, "").len();
                assert_eq!(names, if there > 0 { 2 } else { 0 }, "{end}");
            }
        }
    }
}

#[test]
fn the_same_connection_is_used_again() {
    let all = run(config(&["/a", "/b", "/c"]), &[(&ok("", "x"), Keep)]);
    assert_eq!(all.reports.last(), Some(&GetReport::Over { done: 3, failed: 0 }));
    assert_eq!(all.requests.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 0, 0]);
    let closing = run(config(&["/a", "/b"]), &[(&ok("Connection: close\r\n", "x"), Keep)]);
    assert_eq!(closing.requests.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 1]);
}

/// A server ends a connection while it is kept, just as the next request is sent.
#[test]
fn a_request_that_nobody_answered_is_sent_once_more() {
    for then in [Finish, Reset] {
        let answers = [(&*ok("", "x"), Keep), ("", then), (&ok("", "y"), Keep)];
        let again = run(config(&["/a", "/b"]), &answers);
        assert_eq!(again.content, b"xy");
        let places: Vec<_> = again.requests.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [0, 0, 1]);
        assert!(again.reports.contains(&GetReport::Again));
        // Twice is no accident.
        let answers = [(&*ok("", "x"), Keep), ("", then)];
        let twice = run(config(&["/a", "/b"]), &answers);
        assert_eq!(twice.requests.len(), 3);
        assert!(twice.why().is_some());
        // Asking twice may not be as asking once.
        let post = GetConfig { method: Some("POST".into()), ..config(&["/a", "/b"]) };
        let posted = run(post, &answers);
        assert_eq!(posted.requests.len(), 2);
        // Something of the answer came.
        let answers = [(&*ok("", "x"), Keep), ("HTTP/1.1 200", Finish), (&ok("", "y"), Keep)];
        let begun = run(config(&["/a", "/b"]), &answers);
        assert_eq!((begun.requests.len(), begun.rule()), (2, Some(Rule::HeadShort)));
    }
}

fn to(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} Go\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\nbody")
}

#[test]
fn redirects_change_the_method_as_they_should() {
    for (status, method, then) in [
        (301, "GET", "GET"),
        (301, "POST", "GET"),
        (301, "PUT", "PUT"),
        (302, "POST", "GET"),
        (302, "HEAD", "HEAD"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
        (308, "DELETE", "DELETE"),
    ] {
        let is_head = method == "HEAD";
        let first = match is_head {
            true => to(status, "/b").replace("\r\n\r\nbody", "\r\n\r\n"),
            false => to(status, "/b"),
        };
        let last = "HTTP/1.1 204 No Content\r\n\r\n";
        let config = GetConfig { method: Some(method.into()), ..config(&["/a"]) };
        let all = run(config, &[(&first, Keep), (last, Keep)]);
        assert!(all.is_done(), "{status} {method}: {:?}", all.reports);
        assert_eq!(all.requests.len(), 2);
        assert_eq!(all.requests[1].0, 0, "the connection is kept");
        assert!(all.requests[1].1.starts_with(&format!("{then} /b ")), "{:?}", all.requests);
        let has_length = all.requests[1].1.contains("Content-Length");
        assert_eq!(has_length, then == "POST" || then == "PUT");
    }
}

#[test]
fn redirects_end() {
    let limit = |redirects| GetConfig { redirects, ..config(&["/0"]) };
    let hops: Vec<_> = (1..20).map(|hop| (to(302, &format!("/{hop}")), Keep)).collect();
    let hops: Vec<_> = hops.iter().map(|(text, then)| (&**text, *then)).collect();
    let many = run(limit(10), &hops);
    assert_eq!((many.why(), many.requests.len()), (Some(GetError::Redirects), 11));
    let one = run(limit(1), &[(&to(302, "/1"), Keep), (&ok("", "x"), Keep)]);
    assert!(one.is_done());
    let none = run(limit(0), &[(&to(302, "/1"), Keep)]);
    assert_eq!((none.content.as_slice(), none.requests.len()), (&b"body"[..], 1));
    let round = run(limit(10), &[(&to(302, "/1"), Keep), (&to(302, "/0"), Keep)]);
    assert_eq!((round.why(), round.requests.len()), (Some(GetError::Loop), 2));
    let itself = run(limit(10), &[(&to(302, ""), Keep)]);
    assert_eq!((itself.why(), itself.requests.len()), (Some(GetError::Loop), 1));
}

#[test]
fn redirects_that_lead_nowhere_are_told() {
    let why = |location: &str| run(config(&["/"]), &[(&to(302, location), Keep)]).why();
    assert_eq!(why("https://a/"), Some(GetError::Location(UrlError::Tls)));
    assert_eq!(why("ftp://a/"), Some(GetError::Location(UrlError::Scheme)));
    assert_eq!(why("http://u:p@a/"), Some(GetError::Location(UrlError::User)));
    assert_eq!(why(&"x".repeat(9_000)), Some(GetError::Location(UrlError::TooLong)));
    let large = run(config(&["/"]), &[(&to(302, &"x".repeat(64 * 1024)), Keep)]);
    assert!(matches!(large.rule(), Some(Rule::FieldTooLong | Rule::HeadTooLong)), "{large:?}");
    let two = to(302, "/a\r\nLocation: /b");
    assert_eq!(run(config(&["/"]), &[(&two, Keep)]).why(), Some(GetError::Locations));
    // Without it there is nothing to follow.
    let without = "HTTP/1.1 302 Go\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(run(config(&["/"]), &[(without, Keep)]).content, b"x");
}

#[test]
fn what_authenticates_is_told_to_the_first_server_alone() {
    let fields = FieldsBuf::new()
        .with("Authorization", "Basic x")
        .and_then(|it| it.with("cookie", "a=b"))
        .and_then(|it| it.with("X-Own", "1"))
        .unwrap();
    let with = || GetConfig { fields: fields.clone(), ..config(&["/"]) };
    let near = run(with(), &[(&to(302, "/b"), Keep), (&ok("", ""), Keep)]);
    assert!(near.requests[1].1.contains("Authorization") && near.requests[1].1.contains("cookie"));
    // Another port is another authority; and the way back leads to the first again.
    let far = to(302, "http://10.0.0.1:81/b");
    let mut net = Play::new(with(), Disk::default());
    let other = SocketAddr::new(SERVER, 81);
    assert!(net.net.listen_raw(other));
    net.moment();
    net.answer(0, far.as_bytes(), Keep);
    net.moment();
    let peer = net.net.accepted(other)[0];
    let heard = String::from_utf8(net.net.take_received(peer)).unwrap();
    assert!(heard.starts_with("GET /b HTTP/1.1\r\nHost: 10.0.0.1:81\r\n"), "{heard}");
    assert!(heard.contains("X-Own: 1"), "{heard}");
    assert!(!heard.to_lowercase().contains("authorization") && !heard.contains("a=b"), "{heard}");
    net.net.write(peer, to(302, "http://10.0.0.1/c"));
    assert_eq!(net.moment(), [0]);
    assert!(net.run.requests[1].1.contains("Authorization"));
}

#[test]
fn interim_responses_are_bounded() {
    let inform = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let few = format!("{}{}", inform.repeat(INFORMS as usize), ok("", "x"));
    assert_eq!(run(config(&["/"]), &[(&few, Keep)]).content, b"x");
    let many = format!("{}{}", inform.repeat(INFORMS as usize + 1), ok("", "x"));
    assert_eq!(run(config(&["/"]), &[(&many, Keep)]).why(), Some(GetError::Informs));
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
    assert_eq!(run(config(&["/"]), &[(switched, Keep)]).rule(), Some(Rule::SwitchUnasked));
}

#[test]
fn no_error_page_is_saved() {
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\npage";
    let status = Status::new(404).map(GetError::Status);
    let mut disk = Disk::default();
    disk.put_folder(ROOT, "");
    disk.put_file(ROOT, "f", "before");
    let saved = run_on(into_file(), disk, &[(missing, Keep)]);
    assert_eq!((saved.why(), saved.file()), (status, Some(&b"before"[..])));
    let shown = run(config(&["/f"]), &[(missing, Keep)]);
    assert!(shown.is_done() && shown.content == b"page");
    let failing = run(GetConfig { fail: true, ..config(&["/f"]) }, &[(missing, Keep)]);
    assert_eq!((failing.why(), &*failing.content), (status, &b""[..]));
}

#[test]
fn a_part_is_gone_on_with() {
    let modified =
        "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (fields, if_range) in [(TAG, "\"a\""), (modified, "Sun, 06 Nov 1994 08:49:37 GMT")] {
        let answer = rest(fields, "bytes 5-9/10", "56789");
        let all = run_on(resumed(), cut(fields), &[(&answer, Keep)]);
        assert!(all.is_done(), "{:?}", all.reports);
        assert_eq!(all.file(), Some(FILE.as_bytes()));
        assert_eq!(all.disk.names(ROOT, ""), ["f"]);
        let head = &all.requests[0].1;
        assert!(head.contains("Range: bytes=5-\r\n"), "{head}");
        assert!(head.contains(&format!("If-Range: {if_range}\r\n")), "{head}");
    }
    // Without being asked for, it is not.
    let all = run_on(into_file(), cut(TAG), &[(&ok(TAG, FILE), Keep)]);
    assert!(all.is_done() && !all.requests[0].1.contains("Range"));
}

/// Whatever the server answers, the file is of one version.
#[test]
fn two_versions_are_never_mixed() {
    let new = ok("ETag: \"b\"\r\n", "abcdefghij");
    // It says so: by 200, by another tag, by no tag.
    for (first, why) in [
        (new.clone(), Anew::OtherVersion),
        (rest("ETag: \"b\"\r\n", "bytes 5-9/10", "fghij"), Anew::OtherVersion),
        (rest("ETag: W/\"a\"\r\n", "bytes 5-9/10", "fghij"), Anew::OtherVersion),
        (rest("", "bytes 5-9/10", "fghij"), Anew::OtherVersion),
        (rest("ETag: \"a\"\r\nETag: \"b\"\r\n", "bytes 5-9/10", "fghij"), Anew::OtherVersion),
        (
            "HTTP/1.1 416 No\r\nContent-Range: bytes */3\r\nContent-Length: 0\r\n\r\n".to_owned(),
            Anew::OtherVersion,
        ),
    ] {
        let all = run_on(resumed(), cut(TAG), &[(&first, Keep), (&new, Keep)]);
        assert!(all.is_done(), "{first}: {:?}", all.reports);
        assert_eq!((all.anew(), all.file()), (Some(why), Some(&b"abcdefghij"[..])), "{first}");
        assert!(all.requests.get(1).is_none_or(|(_, head)| !head.contains("Range")));
    }
    // The server knows no ranges, as Python's.
    let all = run_on(resumed(), cut(TAG), &[(&ok(TAG, FILE), Keep)]);
    assert_eq!((all.anew(), all.file()), (Some(Anew::NoRanges), Some(FILE.as_bytes())));
    // A tag that is weak, or a time that may be that of two versions, is no validator.
    let young =
        "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for fields in ["", "ETag: W/\"a\"\r\n", "ETag: a\r\n", young] {
        let all = run_on(resumed(), cut(fields), &[(&new, Keep)]);
        assert_eq!((all.anew(), all.requests.len()), (Some(Anew::NoValidator), 1));
        assert_eq!(all.file(), Some(&b"abcdefghij"[..]));
    }
    // Another resource may have the same tag.
    let moved = (&*to(302, "/other"), Keep);
    let answers = [moved, (&rest(TAG, "bytes 5-9/10", "fghij"), Keep), (&new, Keep)];
    let all = run_on(resumed(), cut(TAG), &answers);
    assert_eq!((all.anew(), all.file()), (Some(Anew::OtherUrl), Some(&b"abcdefghij"[..])));
}

#[test]
fn a_part_that_was_not_asked_for_is_not_taken() {
    let wrong = |range: &str| {
        let all = run_on(resumed(), cut(TAG), &[(&rest(TAG, range, "56789"), Keep)]);
        assert_eq!(all.part(), Some(&b"01234"[..]), "{range}");
        assert_eq!(all.kept(), Some((5, true)), "{range}");
        all.why()
    };
    for range in [
        "bytes 0-4/10",
        "bytes 4-8/10",
        "bytes 6-9/10",
        "bytes 5-8/10",
        "bytes 5-9/11",
        "bytes 5-10/10",
        "bytes 9-5/10",
        "bytes */10",
        "octets 5-9/10",
        "bytes 5-9",
        "5-9/10",
        "bytes +5-9/10",
        "bytes 5-18446744073709551616/10",
        "bytes 5-9/10\r\nContent-Range: bytes 5-9/10",
    ] {
        assert_eq!(wrong(range), Some(GetError::ContentRange), "{range}");
    }
    // The size was known before.
    let all = run_on(resumed(), cut(TAG), &[(&rest(TAG, "bytes 5-9/*", "56789"), Keep)]);
    assert!(all.is_done());
    let unasked = run(config(&["/"]), &[(&rest(TAG, "bytes 0-4/10", "01234"), Keep)]);
    assert_eq!(unasked.why(), Some(GetError::Partial));
}

/// The program ended between the last octet and the file's name.
#[test]
fn a_part_that_is_whole_is_checked_and_named() {
    let mut disk = cut(TAG);
    disk.put_file(ROOT, "f.part", FILE);
    let none = "HTTP/1.1 416 No\r\nContent-Range: bytes */10\r\nContent-Length: 2\r\n\r\nno";
    let all = run_on(resumed(), disk, &[(none, Keep)]);
    assert!(all.is_done(), "{:?}", all.reports);
    assert_eq!(all.file(), Some(FILE.as_bytes()));
    assert_eq!(all.disk.names(ROOT, ""), ["f"]);
}

/// The server changes the file before each attempt, and cuts each but the last.
#[test]
fn a_file_that_changes_between_attempts_is_of_the_last_version() {
    let mut disk = Disk::default();
    for version in 0..5_u8 {
        let content = String::from_utf8(vec![b'a' + version; 10]).unwrap();
        let whole = ok(&format!("ETag: \"{version}\"\r\n"), &content);
        let part = &whole[..whole.len() - 3];
        let (answer, then) = if version < 4 { (part, Finish) } else { (&*whole, Keep) };
        let all = run_on(resumed(), disk, &[(answer, then)]);
        if version < 4 {
            assert_eq!(all.part(), Some(&content.as_bytes()[..7]));
            assert_eq!(all.file(), None);
        } else {
            assert_eq!(all.file(), Some(content.as_bytes()));
        }
        disk = all.disk;
    }
}

#[test]
fn what_is_not_ours_stays_as_it_is() {
    let mut disk = Disk::default();
    disk.put_folder(ROOT, "");
    disk.put_file(ROOT, "f.part", "dear");
    for config in [into_file(), resumed()] {
        let all = run_on(config, disk.clone(), &[(&ok(TAG, FILE), Keep)]);
        assert_eq!(all.why(), Some(GetError::NotSaved(SaveStage::Create, Failure::Exists)));
        assert_eq!((all.part(), all.requests.len()), (Some(&b"dear"[..]), 0));
    }
    let mut disk = Disk::default();
    disk.put_folder(ROOT, "f");
    let all = run_on(into_file(), disk, &[(&ok(TAG, FILE), Keep)]);
    assert_eq!(all.why(), Some(GetError::NotSaved(SaveStage::Look, Failure::WrongKind)));
}

/// Another program is at work in the part, or has put another one in its place.
#[test]
fn a_part_is_ours_alone() {
    let whole = ok(TAG, FILE);
    let (first, last) = whole.as_bytes().split_at(whole.len() - 5);
    let exists = |stage| Some(GetError::NotSaved(stage, Failure::Exists));
    let mut play = Play::new(into_file(), Disk::default());
    while play.moment().is_empty() {}
    play.answer(0, first, Keep);
    play.moment();
    play.net.disk_mut(play.client).put_file(ROOT, "f.part", "0123456789");
    play.net.write(play.peers[0].0, last);
    play.moment();
    assert_eq!(play.run.why(), exists(SaveStage::Rename));
    assert_eq!(play.net.disk(play.client).content(ROOT, "f"), None);

    let mut play = Play::new(resumed(), cut(TAG));
    while play.moment().is_empty() {}
    play.net.disk_mut(play.client).put_file(ROOT, "f.part", "0123456");
    play.answer(0, rest(TAG, "bytes 5-9/10", "56789").as_bytes(), Keep);
    play.moment();
    assert_eq!(play.run.why(), exists(SaveStage::Create));
    assert_eq!(play.net.disk(play.client).content(ROOT, "f.part"), Some(&b"0123456"[..]));
}

/// Data and the fault come in one piece.
#[test]
fn what_came_before_a_fault_is_kept() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\nx\r\n";
    let all = run(into_file(), &[(answer, Keep)]);
    assert_eq!((all.rule(), all.part()), (Some(Rule::ChunkSize), Some(&b"0123"[..])));
    let all = run(config(&["/f"]), &[(answer, Keep)]);
    assert_eq!((all.rule(), &*all.content), (Some(Rule::ChunkSize), &b"0123"[..]));
}

/// Every request to the disk fails once: the file is whole, or what was there is as it was.
#[test]
fn a_disk_that_fails_leaves_nothing_wrong() {
    let mut saved = 0;
    for nth in 0..30 {
        let mut disk = Disk::default();
        disk.put_folder(ROOT, "");
        disk.put_file(ROOT, "f", "before");
        disk.fail_nth(nth, Failure::Full);
        let all = run_on(into_file(), disk, &[(&ok(TAG, FILE), Keep)]);
        match all.file() {
            Some(b"before") => assert!(matches!(all.why(), Some(GetError::NotSaved(..))), "{nth}"),
            Some(whole) => {
                assert_eq!(whole, FILE.as_bytes(), "{nth}");
                saved += usize::from(all.is_done());
            }
            None => panic!("{nth}: the old one is gone"),
        }
    }
    assert!((15..30).contains(&saved), "{saved}");
}

#[test]
fn an_interrupt_keeps_what_came() {
    for (config, kept) in [(into_file(), Some((5, true))), (self::config(&["/f", "/g"]), None)] {
        let whole = ok(TAG, FILE);
        let mut play = Play::new(config, Disk::default());
        while play.moment().is_empty() {}
        play.answer(0, &whole.as_bytes()[..whole.len() - 5], Keep);
        play.moment();
        play.net.send_message(play.client, GetMessage::Interrupt);
        play.moment();
        assert_eq!((play.run.why(), play.run.kept()), (Some(GetError::Interrupted), kept));
        assert!(matches!(play.run.reports.last(), Some(GetReport::Over { done: 0, .. })));
        play.net.run_for(Duration::from_secs(60)).unwrap();
        assert!(play.net.is_over(play.client));
    }
}

#[test]
fn time_has_an_end() {
    let max_time = Some(Duration::from_secs(7));
    let limited = run(GetConfig { max_time, ..config(&["/"]) }, &[("", Keep)]);
    assert_eq!(limited.why(), Some(GetError::TooSlow));
    assert_eq!(run(config(&["/"]), &[("", Keep)]).rule(), Some(Rule::ResponseTime));
    let silent = &ok("", FILE)[..40];
    assert_eq!(run(config(&["/"]), &[(silent, Keep)]).rule(), Some(Rule::BodyTime));
    let mut play = Play::new(config(&["/"]), Disk::default());
    play.net.part(CLIENT, SERVER);
    for _ in 0..10_000 {
        play.moment();
    }
    assert_eq!(play.run.why(), Some(GetError::Unreachable(Failure::TimedOut)));
}

/// A reader that stops is waited for, however long; what comes meanwhile is bounded.
#[test]
fn what_is_not_taken_is_not_asked_for() {
    let len = 8 * WINDOW as usize;
    let content = "x".repeat(len);
    let mut play = Play::new(config(&["/"]), Disk::default());
    while play.moment().is_empty() {}
    play.answer(0, ok("", &content).as_bytes(), Keep);
    play.net.run_for(Duration::from_secs(1_000)).unwrap();
    let told = |play: &Play| -> usize {
        let reports = play.net.reports(play.client).iter();
        reports
            .map(|(_, report)| match report {
                GetReport::Content(bytes) => bytes.len(),
                _ => 0,
            })
            .sum()
    };
    let most = WINDOW as usize + 256 * 1024;
    assert!((WINDOW as usize..=most).contains(&told(&play)), "{}", told(&play));
    for _ in 0..1_000 {
        play.moment();
    }
    assert_eq!(play.run.content.len(), len);
    assert!(play.run.is_done());
}

/// Chunks of one octet are not told, nor written, one by one.
#[test]
fn small_chunks_cost_little() {
    let chunks = "1\r\nx\r\n".repeat(10_000);
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    let all = run(into_file(), &[(&answer, Keep)]);
    assert_eq!(all.file().map(<[u8]>::len), Some(10_000));
    assert!(all.disk.operations() < 40, "{}", all.disk.operations());
}

#[test]
fn cuts_change_nothing() {
    let answers = [
        (to(302, "/b").into_bytes(), Keep),
        (format!("HTTP/1.1 103 Early Hints\r\n\r\n{}", ok(TAG, FILE)).into_bytes(), Keep),
    ];
    let whole = Play::new(into_file(), Disk::default()).play(&answers);
    for split in [SplitPlan::EveryByte, SplitPlan::Random { most: 7 }] {
        let mut play = Play::new(into_file(), Disk::default());
        play.net.set_default_link(LinkConfig { split, ..LinkConfig::default() });
        let cut = play.play(&answers);
        assert_eq!((cut.file(), &cut.requests), (whole.file(), &whole.requests));
        assert!(cut.is_done());
    }
}

/// One attempt at a file of our own server, of which `through` octets of the answer get through; the
/// client's disk then, and what was reported.
fn from_site(
    content: &[u8],
    modified: u64,
    disk: Disk,
    through: Option<u64>,
) -> (Disk, Vec<GetReport>) {
    let mut net = Network::new(1);
    net.set_unix(UnixTime::from_secs(1_000_000_000));
    let eof_after = through;
    net.set_link(SERVER, CLIENT, LinkConfig { eof_after, ..LinkConfig::default() });
    let site = Site::new(SiteConfig::default(), &Seed::from_u64(1));
    let server = net.add(SERVER, Shard::new(site, NetLimits::default()));
    net.disk_mut(server).put_file(ROOT, "f", "");
    let unix = UnixTime::from_secs(modified);
    let at = Now { unix, ..Now::default() };
    assert!(net.disk_mut(server).rewrite(at, ROOT, "f", content));
    assert!(net.listen(server, SocketAddr::new(SERVER, 80)));
    let client = net.add(CLIENT, Shard::new(Get::new(resumed()), NetLimits::default()));
    *net.disk_mut(client) = disk;
    net.disk_mut(client).put_folder(ROOT, "");
    net.run_until(|net| net.is_over(client)).unwrap();
    let reports = net.take_reports(client).into_iter().map(|(_, report)| report).collect();
    (net.disk(client).clone(), reports)
}

/// Our own server's files, cut anywhere and gone on with, and another version between.
#[test]
fn our_own_server_goes_on() {
    let old: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    let new: Vec<u8> = old.iter().map(|octet| octet ^ 0x55).collect();
    let is_anew = |reports: &[GetReport]| {
        reports.iter().any(|it| matches!(it, GetReport::Anew { why: Anew::OtherVersion, .. }))
    };
    for through in [0, 100, 1_000, 70_000, 199_000, 200_100] {
        let (cut, reports) = from_site(&old, 900_000_000, Disk::default(), Some(through));
        assert_eq!(reports.last(), Some(&GetReport::Over { done: 0, failed: 1 }), "{through}");
        assert_eq!(cut.content(ROOT, "f"), None);
        let part = cut.content(ROOT, "f.part").map_or(0, <[u8]>::len);
        assert_eq!(part > 0, through >= 1_000, "{through}");
        let (same, reports) = from_site(&old, 900_000_000, cut.clone(), None);
        assert!(same.content(ROOT, "f") == Some(&*old), "{through}: {reports:?}");
        assert!(!is_anew(&reports), "{through}");
        let (other, reports) = from_site(&new, 900_000_001, cut, None);
        assert!(other.content(ROOT, "f") == Some(&*new), "{through}");
        assert_eq!(is_anew(&reports), part > 0, "{through}: {reports:?}");
    }
}
