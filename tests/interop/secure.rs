//! The course's secure chat programs, unmodified, with ours in both roles.

use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::RUNTIMES;
use crate::course::{ADDRESS, program};
use crate::namespace::within;
use crate::process::{Process, Server, prepare};
use crate::relay::{Odd, relay};
use semfio_tests::skip;

const FLAG: &str = "--insecure-cleartext-key";
/// Where the peer of ours is when a relay stands between.
const BEHIND: &str = "127.0.0.1:8001";

/// The path of one of the course's secure programs, if it is there with all it needs.
fn secure_program(name: &str) -> Option<String> {
    let path = program(&format!("../exemplo2/{name}"))?;
    let fernet = Command::new("python3").args(["-c", "import cryptography.fernet"]).output();
    if !fernet.is_ok_and(|done| done.status.success()) {
        skip("python3 has no package cryptography");
        return None;
    }
    Some(path)
}

pub(crate) fn secure_server() -> Option<Process> {
    let server = Process::start("python3", &[&secure_program("servidor_seguro.py")?]);
    server.wait_out("the course's server waits", |out| out.contains("Aguardando"));
    Some(server)
}

/// The course's client, once it has its key and has answered: it prompts.
pub(crate) fn secure_client() -> Option<Process> {
    let client = Process::start("python3", &[&secure_program("cliente_seguro.py")?]);
    client.wait_out("the course's client prompts", |out| out.contains("> "));
    Some(client)
}

/// The course's client, once the course's server has read its answer: what it says before is lost.
pub(crate) fn known_client(server: &Process) -> Option<Process> {
    let known = server.out().matches("sincronizado").count();
    let client = secure_client()?;
    server.wait_out("it is known", |out| out.matches("sincronizado").count() > known);
    Some(client)
}

/// Our member with records, once it is in.
pub(crate) fn our_member(runtime: &str) -> Process {
    our_member_at(runtime, ADDRESS)
}

fn our_member_at(runtime: &str, address: &str) -> Process {
    let args = ["--runtime", runtime, "--json", "chat", "join", address, FLAG];
    let member = Process::semfio(&args);
    member.wait_out("the key comes", |out| out.contains("\"connected\""));
    member
}

pub(crate) fn our_server(runtime: &str) -> Server {
    Server::start_with(runtime, ADDRESS, &[FLAG])
}

/// How often a member of ours has read this.
fn read(member: &Process, text: &str) -> usize {
    member.out().matches(&format!("\"text\":\"{text}\"")).count()
}

fn wait_read(member: &Process, text: &str) {
    let wanted = format!("\"text\":\"{text}\"");
    member.wait_out(text, |out| out.contains(&wanted));
}

/// The course's clients in our server: with time between, nothing is lost on the way to them; of three
/// lines typed at once, nothing on the way from them.
fn course_clients(runtime: &str) {
    const CLIENTS: usize = 3;
    const ROUNDS: usize = 5;
    let server = our_server(runtime);
    let mut observer = server.join(runtime, "observer");
    let member = our_member(runtime);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let Some(client) = secure_client() else { return };
        clients.push(client);
        let name = format!("\"token-{}\"", clients.len() + 1);
        observer.wait_out("it is a member though it said nothing", |out| out.contains(&name));
    }
    // Each text by itself, read by all before the next: none can be glued.
    let mut wanted = Vec::new();
    for round in 0..ROUNDS {
        for who in 0..=CLIENTS {
            let text = format!("<{who}.{round} olá>");
            clients.get_mut(who).unwrap_or(&mut observer).write(format!("{text}\n"));
            for client in &clients {
                client.wait_out(&text, |out| out.contains(&text));
            }
            wait_read(&member, &text);
            wanted.push(text);
        }
    }
    for client in &clients {
        wanted.iter().for_each(|text| assert_eq!(client.out().matches(&**text).count(), 1));
        assert!(!client.err().contains("Error"), "{}", client.err());
    }
    // Longer than the course's programs can read at once, in pieces that they can.
    let long = format!("<{}>", "é".repeat(500));
    observer.write(format!("{long}\n"));
    member.wait_out("all of the long text", |out| out.matches('é').count() == 500);
    wanted.push(long);
    // Longer than their server could pass on: 2,028 octets, whose token has 2,800.
    let longer = format!("<{}>", "ã".repeat(1_013));
    clients[0].write(format!("{longer}\n"));
    observer.wait_out("it whole", |out| out.contains(&longer));
    member.wait_out("it in pieces", |out| out.matches('ã').count() == 1_013);
    wanted.push(longer);
    // Three lines at once, from all of them at once.
    for (who, client) in clients.iter_mut().enumerate() {
        let lines = ["a", "b", "c"].map(|line| format!("<{who}.{line} olá>"));
        client.write(lines.join("\n") + "\n");
        wanted.extend(lines);
    }
    for text in wanted.iter().rev().take(3 * CLIENTS) {
        observer.wait_out(text, |out| out.contains(text));
        wait_read(&member, text);
        assert_eq!(read(&member, text), 1, "{text}");
    }
    let texts: Vec<String> = observer.texts().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts.len(), wanted.len(), "{texts:?}");
    for who in 0..CLIENTS {
        let of = |texts: &[String]| -> Vec<String> {
            texts.iter().filter(|text| text.starts_with(&format!("<{who}."))).cloned().collect()
        };
        assert_eq!(of(&texts), of(&wanted), "whole, once, in order");
    }
    drop(clients);
    observer.wait_out("they are gone", |out| out.matches("\"what\":\"part\"").count() == CLIENTS);
    assert!(server.process.err().contains("WARNING"), "{}", server.process.err());
    server.stop();
}

/// Our members in the course's server, each fed three lines at once, with one of its own clients.
fn our_members(runtime: &str) {
    let Some(server) = secure_server() else { return };
    let mut ours = [our_member(runtime), our_member(runtime)];
    for (member, text) in ours.iter_mut().zip(["<0>", "<1>"]) {
        member.write(format!("{text}\n"));
        wait_read(member, text);
    }
    let Some(mut client) = known_client(&server) else { return };
    client.write("<theirs>\n");
    for member in &ours {
        wait_read(member, "<theirs>");
        assert!(member.err().contains("WARNING"), "{}", member.err());
    }
    let mut wanted = Vec::new();
    for (who, member) in ours.iter_mut().enumerate() {
        let lines = ["a", "b", "c"].map(|line| format!("<{who}.{line} olá>"));
        member.write(lines.join("\n") + "\n");
        wanted.extend(lines);
    }
    let long = "é".repeat(1_000);
    ours[0].write(format!("{long}\n"));
    for member in &ours {
        for text in &wanted {
            wait_read(member, text);
        }
        member.wait_out("the long text, in pieces", |out| out.matches('é').count() >= 1_000);
    }
    for member in &mut ours {
        member.close_stdin();
        assert_eq!(member.wait(), 0, "{}", member.err());
        for text in &wanted {
            assert_eq!(read(member, text), 1, "{text} in {}", member.out());
        }
        assert_eq!(member.out().matches('é').count(), 1_000);
        assert!(!member.out().contains("\"garbage\""), "{}", member.out());
    }
}

/// The course's clients in the course's server: what they glue, our member takes apart.
fn glued(runtime: &str) {
    let Some(server) = secure_server() else { return };
    let mut ours = our_member(runtime);
    ours.write("<here>\n");
    wait_read(&ours, "<here>");
    for round in 0..5 {
        let Some(mut client) = known_client(&server) else { return };
        client.write(format!("<{round}.0>\n"));
        wait_read(&ours, &format!("<{round}.0>"));
        let lines = ["a", "b", "c"].map(|line| format!("<{round}.{line} {}>", "ã".repeat(12)));
        client.write(lines.join("\n") + "\n");
        for text in &lines {
            wait_read(&ours, text);
            assert_eq!(read(&ours, text), 1);
        }
    }
    // Their server passes a token of 2,800 octets on in pieces of 1,024, and none of its own can read it.
    let Some(mut client) = known_client(&server) else { return };
    let long = format!("<{}>", "ã".repeat(1_013));
    client.write(format!("{long}\n"));
    wait_read(&ours, &long);
    client.wait_err("its reading thread ends", |err| err.contains("InvalidToken"));
    assert!(!ours.out().contains("\"garbage\""), "{}", ours.out());
}

/// What a sender types before anything else, all at once: its first token leaves with OK.
fn three(who: &str) -> [String; 3] {
    ["a", "b", "c"].map(|line| format!("<{who}.{line} {}>", "ã".repeat(12)))
}

fn type_three(process: &mut Process, who: &str) {
    process.write(three(who).join("\n") + "\n");
}

/// All three, once each and in order.
fn wait_three(member: &Process, who: &str) {
    let texts = three(who);
    texts.iter().for_each(|text| wait_read(member, text));
    let out = member.out();
    let at = texts.each_ref().map(|text| out.find(&**text));
    assert!(at.is_sorted(), "{at:?}");
    texts.iter().for_each(|text| assert_eq!(read(member, text), 1, "{text}"));
}

/// The course's clients, and ours, far from our server: what they say comes torn, or OK and all in one.
fn far_clients(runtime: &str) {
    let server = Server::start_with(runtime, BEHIND, &[FLAG]);
    let observer = server.join(runtime, "observer");
    let near = our_member_at(runtime, BEHIND);
    observer.wait_out("it is a member", |out| out.contains("token-1"));
    relay(ADDRESS, BEHIND, Odd::ToServer);
    let Some(program) = secure_program("cliente_seguro.py") else { return };
    let mut clients = Vec::new();
    for who in ["0", "1", "2", "3"] {
        let mut client = Process::start("python3", &[&program]);
        type_three(&mut client, who);
        clients.push(client);
    }
    let mut ours = our_member(runtime);
    type_three(&mut ours, "ours");
    for who in ["0", "1", "2", "3", "ours"] {
        wait_three(&observer, who);
        wait_three(&near, who);
    }
    assert!(!server.process.err().contains("does not open"), "{}", server.process.err());
    server.stop();
}

/// Our members far from the course's server, in a room with its own client: its key and all that is
/// said comes torn, or glued.
fn far_members(runtime: &str) {
    let Some(server) = secure_server() else { return };
    relay(BEHIND, ADDRESS, Odd::ToClient);
    // One gets its drip, one all at once.
    let mut ours = [our_member_at(runtime, BEHIND), our_member_at(runtime, BEHIND)];
    for (member, text) in ours.iter_mut().zip(["<0>", "<1>"]) {
        member.write(format!("{text}\n"));
        wait_read(member, text);
    }
    let Some(mut client) = known_client(&server) else { return };
    client.write("<theirs>\n");
    ours.iter().for_each(|member| wait_read(member, "<theirs>"));
    type_three(&mut client, "theirs");
    ours.iter().for_each(|member| wait_three(member, "theirs"));
    for (member, who) in ours.iter_mut().zip(["0", "1"]) {
        type_three(member, who);
    }
    for member in &ours {
        wait_three(member, "0");
        wait_three(member, "1");
        assert!(!member.out().contains("\"garbage\""), "{}", member.out());
    }
}

/// `semfio lab secure`, with what it says to try.
fn lab(runtime: &str) {
    let mut lab = Process::semfio(&["--runtime", runtime, "lab", "secure"]);
    lab.wait_out("what to try", |out| out.contains("Ctrl-C stops it"));
    for line in [
        "python3 cliente_seguro.py",
        "semfio chat join 127.0.0.1:8000 --insecure-cleartext-key",
        "semfio chat join 127.0.0.1:8000     (with names",
    ] {
        assert!(lab.out().contains(line), "{}", lab.out());
    }
    assert!(lab.err().contains("WARNING: the key crosses the network in clear"), "{}", lab.err());
    let named = ["--runtime", runtime, "--json", "chat", "join", ADDRESS, "--nick", "ana"];
    let named = Process::semfio(&named);
    named.wait_out("she is in", |out| out.contains("\"what\":\"join\""));
    let Some(mut client) = secure_client() else { return };
    named.wait_out("it is a member", |out| out.contains("token-1"));
    let mut ours = our_member(runtime);
    named.wait_out("so is ours", |out| out.contains("token-2"));
    type_three(&mut client, "theirs");
    type_three(&mut ours, "ours");
    for who in ["theirs", "ours"] {
        wait_three(&named, who);
        wait_three(&ours, who);
    }
    ours.write("<after>\n");
    client.wait_out("what ours says", |out| out.contains("<after>"));
    lab.signal(Signal::TERM);
    lab.wait();
}

/// Who runs with a cleartext key is told so at each start, whatever else it is told.
fn warned(runtime: &str) {
    const WARNING: &str = "WARNING: the key crosses the network in clear";
    for more in [&[][..], &["--quiet"], &["--json"]] {
        let with = |rest: &[&str]| {
            Process::semfio(&[&["--runtime", runtime], more, &["chat"], rest, &[FLAG]].concat())
        };
        let server = with(&["serve", "--listen", BEHIND]);
        server.wait_err("the server warns", |err| err.contains(WARNING));
        while TcpStream::connect(BEHIND).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        let mut member = with(&["join", BEHIND]);
        member.wait_err("the member warns", |err| err.contains(WARNING));
        member.close_stdin();
        assert_eq!(member.wait(), 0, "{}", member.err());
        for process in [&server, &member] {
            assert_eq!(process.err().matches(WARNING).count(), 1, "{}", process.err());
            let record = process.out().contains("insecure_cleartext_key");
            assert_eq!(record, more.contains(&"--json"), "{}", process.out());
        }
    }
}

/// Peers that wait in every way cost no time: silent before and after the key, torn in a token, half
/// closed, and not reading what they are sent.
fn at_rest(runtime: &str) {
    let server = our_server(runtime);
    let mut observer = server.join(runtime, "observer");
    let Some(client) = secure_client() else { return };
    let member = our_member(runtime);
    let connect = || TcpStream::connect(server.address).unwrap();
    let (silent, mut torn, mut half) = (connect(), connect(), connect());
    for peer in [&mut torn, &mut half] {
        peer.read_exact(&mut [0; 44]).unwrap();
    }
    torn.write_all(b"gAAAAABk").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    // It stops reading, and what it does not read has filled every buffer.
    client.signal(Signal::STOP);
    let text = "x".repeat(8_000);
    for nth in 0..16 {
        observer.write(format!("<{nth}>{text}\n"));
    }
    observer.wait_newest("<15>");
    member.wait_out("the end", |out| out.matches("<15>").count() == 1);
    thread::sleep(Duration::from_secs(1));
    let before = [&server.process, &member].map(Process::cpu_time);
    thread::sleep(Duration::from_secs(2));
    for (process, before) in [&server.process, &member].into_iter().zip(before) {
        let spent = process.cpu_time() - before;
        assert!(spent <= Duration::from_millis(30), "{spent:?} in two seconds");
    }
    observer.write("<after>\n");
    wait_read(&member, "<after>");
    client.signal(Signal::CONT);
    drop((silent, torn, half));
    server.stop();
}

/// Our members in our server, with tokens and with frames.
fn ours_alone(runtime: &str) {
    let server = our_server(runtime);
    let mut framed = server.join(runtime, "ana");
    let (mut one, mut two) = (our_member(runtime), our_member(runtime));
    // They have sent OK; it may be on its way still.
    framed.wait_out("both are in", |out| out.contains("token-1") && out.contains("token-2"));
    one.write("a\nb\nc\n");
    two.write("<two>\n");
    framed.write("<ana>\n");
    for member in [&one, &two] {
        for text in ["a", "b", "c", "<two>", "<ana>"] {
            wait_read(member, text);
            assert_eq!(read(member, text), 1, "{text}");
        }
    }
    framed.wait_out("all of them", |out| out.contains("<two>") && out.contains("\"text\":\"c\""));
    one.close_stdin();
    assert_eq!(one.wait(), 0, "{}", one.err());
    server.stop();
}

macro_rules! on_each_runtime {
    ($($scenario:ident),*) => {
        $(mod $scenario {
            #[test]
            fn mio() { super::run(concat!("secure::", stringify!($scenario), "::mio"), super::$scenario); }
            #[test]
            fn smol() { super::run(concat!("secure::", stringify!($scenario), "::smol"), super::$scenario); }
            #[test]
            fn blocking() { super::run(concat!("secure::", stringify!($scenario), "::blocking"), super::$scenario); }
        })*
    };
}

on_each_runtime!(
    course_clients,
    our_members,
    glued,
    ours_alone,
    far_clients,
    far_members,
    lab,
    warned,
    at_rest
);

fn run(test: &str, scenario: fn(&str)) {
    prepare();
    let runtime = test.rsplit("::").next().unwrap();
    assert!(RUNTIMES.contains(&runtime));
    within(test, || scenario(runtime));
}
