//! nc, ncat and telnet.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::RUNTIMES;
use crate::process::{PATIENCE, Process, Server};
use semfio_tests::installed;

fn line_user(program: &str) {
    if !installed(&[program]) {
        return;
    }
    for runtime in RUNTIMES {
        let server = Server::start(runtime, "127.0.0.1:0");
        let mut ana = server.join(runtime, "ana");
        let port = server.address.port().to_string();
        let mut user = Process::start(program, &["127.0.0.1", &port]);
        user.write("olá\n/nick zé\nsecond\r\n//etc\n");
        ana.wait_out("all of it", |out| out.contains("/etc"));
        let pair = |nick: &str, text: &str| (nick.to_owned(), text.to_owned());
        let wanted = [pair("guest-1", "olá"), pair("zé", "second"), pair("zé", "/etc")];
        assert_eq!(ana.texts(), wanted);
        ana.write("e você?\n");
        user.wait_out("the answer, as a line", |out| out.contains("<ana> e você?\n"));
        user.write("/quit\n");
        ana.wait_out("it leaves", |out| out.contains("\"what\":\"part\""));
        server.stop();
    }
}

#[test]
fn nc_is_a_line_user() {
    line_user("nc");
}

#[test]
fn ncat_is_a_line_user() {
    line_user("ncat");
}

#[test]
fn text_without_a_line_end_is_said_at_the_end() {
    if !installed(&["nc"]) {
        return;
    }
    let server = Server::start("mio", "127.0.0.1:0");
    let ana = server.join("mio", "ana");
    let port = server.address.port().to_string();
    let mut nc = Process::start("nc", &["-N", "127.0.0.1", &port]);
    nc.write("oi");
    nc.close_stdin();
    assert_eq!(nc.wait(), 0, "{}", nc.err());
    ana.wait_out("what was said", |out| out.contains("\"text\":\"oi\""));
    assert_eq!(ana.texts(), [("raw-1".to_owned(), "oi".to_owned())]);
    server.stop();
}

#[test]
fn telnet_commands_are_no_text() {
    let server = Server::start("mio", "127.0.0.1:0");
    let ana = server.join("mio", "ana");
    let mut peer = TcpStream::connect(server.address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    // WILL NAWS, a subnegotiation, DO SUPPRESS-GO-AHEAD, then a line.
    peer.write_all(b"\xff\xfb\x1f\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0\xff\xfd\x03ol\xc3\xa1\r\n")
        .unwrap();
    ana.wait_out("the line", |out| out.contains("\"text\":\"ol"));
    assert_eq!(ana.texts(), [("guest-1".to_owned(), "olá".to_owned())]);
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    while !seen.contains("<guest-1> olá") {
        let n = peer.read(&mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    server.stop();
}
