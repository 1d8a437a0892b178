//! The rows as octets on sockets, against the programs.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use semfio_corpus::http_rows::{Answer, OUTSIDE, ROWS, Row, Verdict, Wire};
use semfio_tests::semfio;

use crate::program::{Client, RUNTIMES, Server, folder};

/// What a server does otherwise than the row has it.
fn wrong(server: &Server, row: &Row, answer: &Answer) -> Option<String> {
    let mut client = Client::connect(server.address);
    client.send(&row.request.bytes());
    if row.request.ends() {
        client.finish();
    }
    for &wanted in answer.statuses {
        let to_head = row.request.start.starts_with(b"HEAD ");
        let Some(response) = client.response(to_head) else {
            return Some(format!("the connection ends, and not {wanted}"));
        };
        if response.status != wanted {
            return Some(format!("{} and not {wanted}", response.status));
        }
        if response.body == OUTSIDE.1 {
            return Some("a file from outside".to_owned());
        }
        // Nothing of what was sent comes back in the answer to what is refused.
        if wanted >= 400 && response.head.contains("b=c") {
            return Some(format!("it shows what it was told: {}", response.head));
        }
    }
    if answer.kept {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let next = client.response(false).map(|response| response.status);
        (next != Some(200)).then(|| format!("the next request has {next:?}"))
    } else {
        (!client.ends()).then(|| "the connection goes on".to_owned())
    }
}

fn all_rows(server: &mut Server, answer: impl Fn(&Row) -> Answer) {
    let wrong: Vec<String> = ROWS
        .iter()
        .filter_map(|row| {
            wrong(server, row, &answer(row))
                .map(|it| format!("row {}, {}: {it}", row.number, row.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert!(server.is_alive());
}

#[test]
fn echo_answers_as_the_rows_have_it() {
    for runtime in RUNTIMES {
        all_rows(&mut Server::echo(runtime), |row| row.echo);
    }
}

/// As single octets, each in a packet of its own.
#[test]
fn echo_answers_what_drips_in_alike() {
    let server = Server::echo("mio");
    for row in ROWS.iter().filter(|row| row.request.bytes().len() < 200) {
        let mut client = Client::connect(server.address);
        client.stream().set_nodelay(true).unwrap();
        for octet in row.request.bytes() {
            client.send(&[octet]);
        }
        if row.request.ends() {
            client.finish();
        }
        for &wanted in row.echo.statuses {
            let status = client.response(false).map(|response| response.status);
            assert_eq!(status, Some(wanted), "row {}", row.number);
        }
    }
}

#[test]
fn serve_answers_as_the_rows_have_it() {
    let folder = folder();
    for runtime in RUNTIMES {
        let site = folder.path().join("site");
        all_rows(&mut Server::serve(runtime, &site), |row| row.serve);
    }
}

/// The codes of a program that ends because its peer broke the protocol, or went away.
const BROKEN: [i32; 2] = [4, 3];

/// What `semfio http get` does otherwise than the row has it, into a file.
fn got_wrong(runtime: &str, wire: &Wire, verdict: Verdict, folder: &Path) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let file = folder.join("got");
    let mut get = Command::new(semfio())
        .args(["--runtime", runtime, "http", "get", &url, "--output", file.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (bytes, ends) = (wire.bytes(), wire.ends());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            if stream.read(&mut octet).unwrap() == 0 {
                break;
            }
            head.extend(octet);
        }
        let _ = stream.write_all(&bytes);
        if ends {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        // Until the other one has gone, however much it has understood.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let mut said = String::new();
    get.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let code = get.wait().unwrap().code();
    server.join().unwrap();
    let kept = std::fs::read(&file).ok();
    let _ = std::fs::remove_file(&file);
    let right = match verdict {
        Verdict::Reads(messages) => {
            code == Some(0) && kept.as_deref() == messages.last().map(|message| message.body)
        }
        Verdict::Refuses(_) => code.is_some_and(|code| BROKEN.contains(&code)) && kept.is_none(),
    };
    (!right)
        .then(|| format!("code {code:?}, a file of {:?} octets; {said}", kept.map(|it| it.len())))
}

/// A third of the rows on each runtime.
#[test]
fn get_takes_what_the_rows_have_it_take() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (row, runtime) in ROWS.iter().zip(RUNTIMES.into_iter().cycle()) {
        let Some((wire, verdict)) = row.response else { continue };
        if let Some(it) = got_wrong(runtime, &wire, verdict, folder.path()) {
            wrong.push(format!("row {}, {}, on {runtime}: {it}", row.number, row.name));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// A wrong status, and a connection that is kept or not kept against the row, are noticed.
#[test]
fn planted_answers_are_noticed() {
    let server = Server::echo("mio");
    let row = |number: u16| ROWS.iter().find(|row| row.number == number).unwrap();
    for number in [1, 23, 106] {
        let right = row(number).echo;
        assert_eq!(wrong(&server, row(number), &right), None);
        let status = Answer { statuses: &[418], ..right };
        assert!(wrong(&server, row(number), &status).is_some(), "{number}");
        if !right.kept {
            let kept = Answer { kept: true, ..right };
            assert!(wrong(&server, row(number), &kept).is_some(), "{number}");
        }
    }
}

#[test]
fn a_planted_download_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let row = ROWS.iter().find(|row| row.number == 23).unwrap();
    let (wire, verdict) = row.response.unwrap();
    assert_eq!(got_wrong("mio", &wire, verdict, folder.path()), None);
    assert!(got_wrong("mio", &wire, Verdict::Refuses("line-end"), folder.path()).is_some());
    assert!(got_wrong("mio", &wire, Verdict::Reads(&[]), folder.path()).is_some());
}
