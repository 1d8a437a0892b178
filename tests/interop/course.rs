//! The course's chat programs, unmodified, with ours in both roles.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::RUNTIMES;
use crate::namespace::within;
use crate::process::{Process, Server, prepare};
use semfio_tests::{installed, skip};

/// The port of the course's programs.
pub(crate) const ADDRESS: &str = "127.0.0.1:8000";

/// The path of one of the course's programs, if it is there with all it needs.
pub(crate) fn program(name: &str) -> Option<String> {
    let top = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let path = top.join("shared/course/exemplo1").join(name);
    if !path.is_file() {
        skip(&format!("the course's {name} is not beside the repository"));
        return None;
    }
    installed(&["python3"]).then(|| path.to_str().unwrap().to_owned())
}

/// The course's server, once it listens.
pub(crate) fn course_server() -> Option<Process> {
    let server = Process::start("python3", &[&program("servidor.py")?]);
    server.wait_out("the course's server waits", |out| out.contains("Aguardando"));
    Some(server)
}

/// The course's client, once it is connected: it prompts.
pub(crate) fn course_client() -> Option<Process> {
    let client = Process::start("python3", &[&program("cliente.py")?]);
    client.wait_out("the course's client prompts", |out| out.contains("> "));
    Some(client)
}

/// A text that says who sent it and as which, and cannot be part of another.
fn marked(who: usize, nth: usize) -> String {
    format!("<{who}:{nth} olá, ação>")
}

/// Asserts that a stream holds what each sender sent, all of it, once and in order.
#[track_caller]
fn assert_all(stream: &str, senders: usize, each: usize) {
    for who in 0..senders {
        let mut rest = stream;
        for nth in 0..each {
            let text = marked(who, nth);
            let at = rest.find(&text).unwrap_or_else(|| panic!("{text} is missing or late"));
            rest = &rest[at + text.len()..];
        }
        let of_it = stream.matches(&format!("<{who}:")).count();
        assert_eq!(of_it, each, "something of {who} came twice");
    }
    let mut left = stream.to_owned();
    for (who, nth) in (0..senders).flat_map(|who| (0..each).map(move |nth| (who, nth))) {
        left = left.replacen(&marked(who, nth), "", 1);
    }
    assert_eq!(left, "", "there are other bytes");
}

/// 1, 2 and 3 of our raw members in the course's server, 200 lines each.
fn raw_members(runtime: &str) {
    const EACH: usize = 60;
    for members in 1..=3 {
        let Some(_server) = course_server() else { return };
        let args = ["--runtime", runtime, "chat", "join", ADDRESS, "--dialect", "raw"];
        let mut joined: Vec<Process> = (0..members).map(|_| Process::semfio(&args)).collect();
        // The course's server knows a client once it has answered it.
        for (who, member) in joined.iter_mut().enumerate() {
            let first = warm_up(who);
            member.write(format!("{first}\n"));
            member.wait_out("the echo", |out| out.contains(&first));
        }
        for (who, member) in joined.iter_mut().enumerate() {
            // An empty line sends nothing.
            member.write("\n");
            for nth in 0..EACH {
                member.write(format!("{}\n", marked(who, nth)));
            }
        }
        for member in &joined {
            member.wait_out("all of it", |out| out.matches("ação>").count() >= members * EACH);
        }
        for member in &mut joined {
            member.close_stdin();
            assert_eq!(member.wait(), 0, "{}", member.err());
        }
        for member in &joined {
            // Who came early has heard the others' first texts, who came late has not.
            let all =
                (0..members).fold(member.out(), |all, who| all.replacen(&warm_up(who), "", 1));
            assert_all(&all, members, EACH);
        }
    }
}

fn warm_up(who: usize) -> String {
    format!("<here is {who}>")
}

/// The course's clients in our server.
fn course_clients(runtime: &str) {
    const EACH: usize = 100;
    const CLIENTS: usize = 3;
    let server = Server::start(runtime, ADDRESS);
    let observer = server.join(runtime, "observer");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let Some(client) = course_client() else { return };
        clients.push(client);
    }
    for (nth, _) in clients.iter().enumerate() {
        let name = format!("\"raw-{}\"", nth + 1);
        observer.wait_out("they are members though silent", |out| out.contains(&name));
    }
    // Nobody runs ahead: more than 1,024 octets in one read may end inside a character, which makes a
    // client of the course deaf.
    for nth in 0..EACH {
        for (who, client) in clients.iter_mut().enumerate() {
            client.write(format!("{}\n", marked(who, nth)));
        }
        for (who, client) in clients.iter().enumerate() {
            let text = marked(who, nth);
            client.wait_out("its own echo", |out| out.contains(&text));
        }
    }
    for client in &clients {
        client.wait_out("all of it", |out| out.matches("ação>").count() >= CLIENTS * EACH);
        assert_all(&client.out().replace("\n>", "").replace("> ", ""), CLIENTS, EACH);
    }
    observer.wait_out("all of it", |out| out.matches("ação>").count() >= CLIENTS * EACH);
    // Whoever waits for the echo keeps the borders: each text is one entry.
    for who in 0..CLIENTS {
        let own = |text: &&String| text.starts_with(&format!("<{who}:"));
        let texts: Vec<String> = observer.texts().into_iter().map(|(_, text)| text).collect();
        let of_it: Vec<&String> = texts.iter().filter(own).collect();
        let wanted: Vec<String> = (0..EACH).map(|nth| marked(who, nth)).collect();
        assert_eq!(of_it, wanted.iter().collect::<Vec<_>>());
    }
    drop(clients);
    observer.wait_out("they are gone", |out| out.matches("\"what\":\"part\"").count() == CLIENTS);
    server.stop();
}

/// Everybody in one room.
fn mixed(runtime: &str) {
    if !installed(&["nc"]) {
        return;
    }
    let server = Server::start(runtime, ADDRESS);
    let mut framed = server.join(runtime, "ana");
    let Some(mut course) = course_client() else { return };
    framed.wait_out("the course's client is a member", |out| out.contains("raw-1"));
    let mut nc = Process::start("nc", &["127.0.0.1", "8000"]);
    nc.write("/nick nina\n");
    nc.wait_out("nc's greeting", |out| out.contains("you are guest-2"));
    let args = ["--runtime", runtime, "chat", "join", ADDRESS, "--dialect", "raw"];
    let mut raw = Process::semfio(&args);
    raw.write("raw: é\n");
    raw.wait_out("its own echo", |out| out.contains("raw: é"));
    let mut round = |texts: [&str; 4]| {
        let [by_framed, by_course, by_nc, by_raw] = texts;
        framed.write(format!("{by_framed}\n"));
        course.write(format!("{by_course}\n"));
        nc.write(format!("{by_nc}\n"));
        raw.write(format!("{by_raw}\n"));
        for text in texts {
            for (who, process) in
                [("framed", &framed), ("course", &course), ("nc", &nc), ("raw", &raw)]
            {
                process.wait_out(&format!("{who} reads {text}"), |out| out.contains(text));
            }
        }
    };
    round(["<f1 olá>", "<c1 não>", "<n1 ção>", "<r1 ü>"]);
    round(["<f2>", "<c2>", "<n2>", "<r2>"]);
    for (nick, text) in [
        ("ana", "<f1 olá>"),
        ("raw-1", "<c1 não>"),
        ("nina", "<n1 ção>"),
        ("raw-3", "raw: é"),
        ("raw-3", "<r1 ü>"),
        ("raw-3", "<r2>"),
    ] {
        let of_it =
            framed.texts().iter().filter(|entry| (&*entry.0, &*entry.1) == (nick, text)).count();
        assert_eq!(of_it, 1, "{nick}: {text} in {:?}", framed.texts());
    }
    server.stop();
}

/// A line of 1,500 bytes, an empty one, and a text cut inside a character.
fn odd_texts(runtime: &str) {
    use std::io::Write as _;
    let server = Server::start(runtime, ADDRESS);
    let observer = server.join(runtime, "observer");
    let (Some(mut sender), Some(receiver)) = (course_client(), course_client()) else { return };
    observer.wait_out("both are members", |out| out.contains("raw-2"));
    // An empty line of the course's client sends nothing.
    sender.write("\n");
    // The course's client reads 1,024 bytes at once; here no character lies across that border.
    let long = "é".repeat(750);
    sender.write(format!("{long}\n"));
    observer.wait_out("the long line", |out| out.contains(&long));
    assert_eq!(observer.texts(), [("raw-1".to_owned(), long.clone())]);
    let plain = |out: &str| out.replace("\n>", "").replace("> ", "");
    receiver.wait_out("the long line, whole", |out| plain(out).contains(&long));
    assert!(!receiver.err().contains("Error"), "{}", receiver.err());

    let mut peer = TcpStream::connect(ADDRESS).unwrap();
    peer.set_nodelay(true).unwrap();
    peer.write_all(b"warm-up").unwrap();
    observer.wait_out("a plain peer", |out| out.contains("warm-up"));
    peer.write_all("ol\u{e1}".as_bytes().split_last().unwrap().1).unwrap();
    std::thread::sleep(Duration::from_millis(10));
    peer.write_all(&["ol\u{e1}".as_bytes()[3]]).unwrap();
    observer.wait_out("the cut character", |out| out.contains('á') || out.contains('\u{fffd}'));
    let joined: String = observer.texts().into_iter().skip(2).map(|(_, text)| text).collect();
    assert_eq!(joined, "olá");
    receiver.wait_out("the cut character", |out| plain(out).contains("olá"));
    server.stop();
}

/// Defines a test for each runtime.
macro_rules! on_each_runtime {
    ($($scenario:ident),*) => {
        $(mod $scenario {
            #[test]
            fn mio() { super::run(concat!("course::", stringify!($scenario), "::mio"), super::$scenario); }
            #[test]
            fn smol() { super::run(concat!("course::", stringify!($scenario), "::smol"), super::$scenario); }
            #[test]
            fn blocking() { super::run(concat!("course::", stringify!($scenario), "::blocking"), super::$scenario); }
        })*
    };
}

on_each_runtime!(raw_members, course_clients, mixed, odd_texts);

fn run(test: &str, scenario: fn(&str)) {
    prepare();
    let runtime = test.rsplit("::").next().unwrap();
    assert!(RUNTIMES.contains(&runtime));
    within(test, || scenario(runtime));
}

#[test]
#[should_panic(expected = "missing or late")]
fn a_lost_text_is_noticed() {
    assert_all(&[marked(0, 0), marked(0, 2)].concat(), 1, 3);
}

#[test]
#[should_panic(expected = "came twice")]
fn a_doubled_text_is_noticed() {
    assert_all(&[marked(0, 0), marked(0, 1), marked(0, 1)].concat(), 1, 2);
}
