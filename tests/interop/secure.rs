//! The course's secure chat programs, unmodified, with ours in both roles.

use std::process::Command;

use crate::course::{ADDRESS, program};
use crate::namespace::within;
use crate::process::{Process, Server, prepare};
use crate::{RUNTIMES, skip};

const FLAG: &str = "--insecure-cleartext-key";

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
    let args = ["--runtime", runtime, "--json", "chat", "join", ADDRESS, FLAG];
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
                client.wait_out(&text, |out| out.contains(&format!("{text}\n>")));
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
        assert!(!member.out().contains("unreadable"), "{}", member.out());
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
    assert!(!ours.out().contains("unreadable"), "{}", ours.out());
}

/// Our members in our server, with tokens and with frames.
fn ours_alone(runtime: &str) {
    let server = our_server(runtime);
    let mut framed = server.join(runtime, "ana");
    let (mut one, mut two) = (our_member(runtime), our_member(runtime));
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

on_each_runtime!(course_clients, our_members, glued, ours_alone);

fn run(test: &str, scenario: fn(&str)) {
    prepare();
    let runtime = test.rsplit("::").next().unwrap();
    assert!(RUNTIMES.contains(&runtime));
    within(test, || scenario(runtime));
}
