//! What the course's programs lose by themselves, as a table: `SEMFIO_RATES=1000`, or only the rows
//! that hold `SEMFIO_RATES_OF`.

use rustix::process::Signal;
use std::time::Duration;

use crate::course::{ADDRESS, course_client, course_server};
use crate::namespace::within;
use crate::process::{Process, prepare};
use crate::secure::{known_client, our_member, our_server, secure_client, secure_server};

/// What one run of a scenario has shown.
type Scenario = fn() -> Option<bool>;

/// How long the course's programs get to deliver what they will deliver.
const SETTLE: Duration = Duration::from_millis(300);

#[test]
fn rates() {
    let Some(runs) = std::env::var("SEMFIO_RATES").ok().and_then(|runs| runs.parse().ok()) else {
        // Not a test that others wait for: a measurement.
        return;
    };
    prepare();
    within("rates::rates", || table(runs));
}

fn table(runs: u32) {
    // The course's servers come first: they cannot listen where a server of ours has closed just now.
    let scenarios: [(&str, Scenario); 11] = [
        ("servidor.py, cliente.py: of 3 lines typed at once, borders are lost", merged),
        ("servidor.py, cliente.py: a 1,500-byte line with accents makes a reader deaf", deaf),
        ("servidor.py: who speaks as a peer is killed is thrown out", thrown_out),
        ("servidor.py, our raw member: of 3 lines typed at once, borders are lost", ours_merged),
        (
            "servidor_seguro.py, cliente_seguro.py: of 3 lines typed at once, a client shows not all",
            secure_lost,
        ),
        (
            "servidor_seguro.py, our members: of 3 lines typed at once, a member sees not all",
            secure_members_lost,
        ),
        (
            "servidor_seguro.py, cliente_seguro.py: of a 1,500-byte line, a client shows not all",
            secure_long_lost,
        ),
        (
            "our server, cliente_seguro.py: of 3 lines typed at once, a client shows not all",
            secure_ours_lost,
        ),
        (
            "our server, cliente_seguro.py: of 3 lines typed at once, our members see not all",
            secure_ours_unseen,
        ),
        (
            "our server, cliente_seguro.py: of a 1,500-byte line, a client shows not all",
            secure_ours_long_lost,
        ),
        ("our server, cliente.py: a 1,500-byte line with accents makes a reader deaf", ours_deaf),
    ];
    println!("| what happens | runs | times |\n|---|---|---|");
    let only = std::env::var("SEMFIO_RATES_OF").unwrap_or_default();
    for (what, scenario) in scenarios.into_iter().filter(|(what, _)| what.contains(&only)) {
        let mut times = 0;
        for _ in 0..runs {
            match scenario() {
                Some(happened) => times += u32::from(happened),
                None => return,
            }
        }
        println!("| {what} | {runs} | {times} |");
    }
}

/// Two of the course's clients that the course's server knows.
fn two_clients() -> Option<(Process, Process)> {
    let (mut a, mut b) = (course_client()?, course_client()?);
    for (client, text) in [(&mut a, "<a>"), (&mut b, "<b>")] {
        client.write(format!("{text}\n"));
        client.wait_out("the echo", |out| out.contains(text));
    }
    Some((a, b))
}

fn merged() -> Option<bool> {
    let _server = course_server()?;
    let (mut a, b) = two_clients()?;
    a.write("<1>\n<2>\n<3>\n");
    b.wait_out("all three", |out| out.contains("<3>"));
    // Each message that is read by itself ends with the prompt.
    let out = b.out();
    Some(["<1>\n>", "<2>\n>", "<3>\n>"].iter().any(|text| !out.contains(text)))
}

fn deaf() -> Option<bool> {
    let _server = course_server()?;
    let (mut a, b) = two_clients()?;
    a.write(format!("x{}\n", "ção".repeat(300)));
    a.write("<end>\n");
    Some(!b.comes_out(SETTLE, |out| out.contains("<end>")))
}

fn thrown_out() -> Option<bool> {
    let _server = course_server()?;
    let (mut a, b) = two_clients()?;
    b.signal(Signal::KILL);
    drop(b);
    for nth in 0..5 {
        a.write(format!("<{nth}>\n"));
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(!a.comes_out(SETTLE, |out| out.contains("<4>")))
}

fn ours_merged() -> Option<bool> {
    let _server = course_server()?;
    let args = ["--json", "chat", "join", ADDRESS, "--dialect", "raw"];
    let (mut a, mut b) = (Process::semfio(&args), Process::semfio(&args));
    for (member, text) in [(&mut a, "<a>"), (&mut b, "<b>")] {
        member.write(format!("{text}\n"));
        member.wait_out("the echo", |out| out.contains(text));
    }
    a.write("<1>\n<2>\n<3>\n");
    b.wait_out("all three", |out| out.contains("<3>"));
    let out = b.out();
    Some(["\"<1>\"", "\"<2>\"", "\"<3>\""].iter().any(|text| !out.contains(text)))
}

const THREE: [&str; 3] = ["<1>", "<2>", "<3>"];

/// Whether one of the three has not come out in a while.
fn lacks(reader: &Process) -> bool {
    !reader.comes_out(10 * SETTLE, |out| THREE.iter().all(|text| out.contains(text)))
}

fn secure_lost() -> Option<bool> {
    let server = secure_server()?;
    let (mut a, b) = (known_client(&server)?, known_client(&server)?);
    a.write("<1>\n<2>\n<3>\n");
    Some(lacks(&b))
}

/// Our server, and two of the course's clients that are members.
fn secure_room() -> Option<(crate::process::Server, Process, Process, Process)> {
    let server = our_server("mio");
    let observer = server.join("mio", "observer");
    let a = secure_client()?;
    observer.wait_out("the first", |out| out.contains("token-1"));
    let b = secure_client()?;
    observer.wait_out("the second", |out| out.contains("token-2"));
    Some((server, observer, a, b))
}

fn secure_ours_lost() -> Option<bool> {
    let (_server, _observer, mut a, b) = secure_room()?;
    a.write("<1>\n<2>\n<3>\n");
    Some(lacks(&b))
}

/// Whether a reader has not all of a line that is longer than one token can be.
fn lacks_of_long(a: &mut Process, b: &Process) -> bool {
    a.write(format!("{}\n", "é".repeat(750)));
    !b.comes_out(10 * SETTLE, |out| out.matches('é').count() == 750)
}

fn secure_long_lost() -> Option<bool> {
    let server = secure_server()?;
    let (mut a, b) = (known_client(&server)?, known_client(&server)?);
    Some(lacks_of_long(&mut a, &b))
}

fn secure_ours_long_lost() -> Option<bool> {
    let (_server, _observer, mut a, b) = secure_room()?;
    Some(lacks_of_long(&mut a, &b))
}

fn secure_ours_unseen() -> Option<bool> {
    let (_server, observer, mut a, _b) = secure_room()?;
    a.write("<1>\n<2>\n<3>\n");
    Some(lacks(&observer))
}

fn secure_members_lost() -> Option<bool> {
    let _server = secure_server()?;
    let (mut a, mut b) = (our_member("mio"), our_member("mio"));
    for (member, text) in [(&mut a, "<a>"), (&mut b, "<b>")] {
        member.write(format!("{text}\n"));
        // The first text is lost if it comes together with OK, and the pause after that is ours.
        if !member.comes_out(10 * SETTLE, |out| out.contains(text)) {
            return Some(true);
        }
    }
    a.write("<1>\n<2>\n<3>\n");
    Some(lacks(&b))
}

fn ours_deaf() -> Option<bool> {
    let server = crate::process::Server::start("mio", ADDRESS);
    let (mut a, b) = two_clients()?;
    a.write(format!("x{}\n", "ção".repeat(300)));
    a.write("<end>\n");
    let deaf = !b.comes_out(SETTLE, |out| out.contains("<end>"));
    drop(server);
    Some(deaf)
}
