//! Help, usage, and errors that need no peer.

use snapbox::cmd::Command;
use snapbox::str;

use crate::peers::{RUNTIMES, run, semfio};

fn command() -> Command {
    Command::from_std(semfio(&[]))
}

#[test]
fn help_says_what_there_is() {
    command().arg("--help").assert().success().stdout_eq(str![[r#"
Network protocols without the wire: chat, files, HTTP, netcat, ping, traceroute, scans

Usage: semfio [OPTIONS] <COMMAND>

Commands:
  chat      A room to talk in: serve one, or join one
  file      Files: serve a folder, list one, get what is in it, whole for certain
  http      HTTP: serve a folder, get what URLs lead to, echo requests
  token     Fernet tokens: keys, sealing, opening, rotation
  ping      Ask hosts for echoes, many at once, and say how long they took and by whose clocks
  trace     Which way packets take to a host: who answers on each hop, how fast, and what to make of
            it
  scan      Ports of hosts: which are open, and how that is known
  udp-ping  The UDP pinger of the textbooks: ping, or answer with losses on purpose
  nc        Netcat: bytes from here to there and back, over TCP or UDP
  ports     Which sockets this machine has, in which state, and of which process
  replay    Run a recorded trace again and compare
  lab       Start every server there is on this machine, to play with
  generate  Print man pages and shell completions
  help      Print this message or the help of the given subcommand(s)

Options:
  -h, --help
          Print help (see a summary with '-h')

  -V, --version
          Print version

Everywhere:
      --runtime <RUNTIME>
          What moves the bytes

          Possible values:
          - mio:      An event loop
          - smol:     An async executor
          - blocking: Plain threads
          
          [env: SEMFIO_RUNTIME]
          [default: mio]

      --json
          Print JSON Lines, each with a `type`; the first has the schema version `v`

      --record <FILE>
          Write a trace of the run, for `semfio replay`: all that was said, but neither passphrase
          nor keys

      --record-secrets
          Write passphrase and keys into the trace too: whoever gets it can read and enter the room

      --color <WHEN>
          When to use colours; NO_COLOR is honoured
          
          [default: auto]
          [possible values: auto, always, never]

  -q, --quiet
          Print errors only

  -v, --verbose
          Print more

"#]]);
    command().args(["chat", "--help"]).assert().success().stdout_eq(str![[r#"
A room to talk in: serve one, or join one

Usage: semfio chat [OPTIONS] <COMMAND>

Commands:
  serve  Open a room: for `semfio chat join`, for nc and telnet, and for programs that send plain
         text
  join   Enter a room
  help   Print this message or the help of the given subcommand(s)

Options:
  -h, --help
          Print help (see a summary with '-h')

Everywhere:
      --runtime <RUNTIME>
          What moves the bytes

          Possible values:
          - mio:      An event loop
          - smol:     An async executor
          - blocking: Plain threads
          
          [env: SEMFIO_RUNTIME]
          [default: mio]

      --json
          Print JSON Lines, each with a `type`; the first has the schema version `v`

      --record <FILE>
          Write a trace of the run, for `semfio replay`: all that was said, but neither passphrase
          nor keys

      --record-secrets
          Write passphrase and keys into the trace too: whoever gets it can read and enter the room

      --color <WHEN>
          When to use colours; NO_COLOR is honoured
          
          [default: auto]
          [possible values: auto, always, never]

  -q, --quiet
          Print errors only

  -v, --verbose
          Print more

"#]]);
}

#[test]
fn wrong_use_is_told() {
    for args in [
        &["chat", "join"][..],
        &["chat", "join", "nowhere"],
        &["chat", "join", "host:port"],
        &["chat", "join", ":8000"],
        &["chat", "join", "127.0.0.1:8000", "--nick", "two words"],
        &["chat", "join", "127.0.0.1:8000", "--room", ""],
        &["chat", "join", "127.0.0.1:8000", "--dialect", "klingon"],
        &["chat", "serve", "--history", "0"],
        &["chat", "serve", "--listen", "8000"],
        &["--runtime", "tokio", "chat", "serve"],
        &["replay"],
        &["lab", "--tour", "--listen-base", "127.0.0.1:0"],
        &["generate", "complete", "cobol"],
        &["-q", "-v", "chat", "serve"],
        &["--record-secrets", "chat", "join", "127.0.0.1:8000"],
    ] {
        let ended = run(args, "");
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(
            ended.out.is_empty() && ended.err.contains("rror: ") || args == ["chat", "join"],
            "{ended:?}"
        );
    }
    let nowhere = command().args(["chat", "join", "nowhere"]).assert().code(2);
    nowhere.stderr_eq(str![[r#"
error: invalid value 'nowhere' for '<HOST:PORT>': expected HOST:PORT, for instance 127.0.0.1:8000

For more information, try '--help'.

"#]]);
}

#[test]
fn what_cannot_be_had_is_told_with_a_hint() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    for args in [&["chat", "serve", "--listen", &taken][..], &["lab", "--listen-base", &taken]] {
        for runtime in RUNTIMES {
            let ended = run(&[&["--runtime", runtime], args].concat(), "");
            assert_eq!(ended.code, Some(3), "{ended:?}");
            let what = format!("semfio: cannot listen on {taken}: Address already in use");
            assert!(ended.err.starts_with(&what), "{}", ended.err);
            assert!(ended.err.contains("\nhint: another program has port "), "{}", ended.err);
        }
    }
    drop(holder);
    for runtime in RUNTIMES {
        let ended = run(&["--runtime", runtime, "chat", "join", &taken], "never sent\n");
        assert_eq!(ended.code, Some(3), "{ended:?}");
        let wanted = format!(
            "semfio: cannot connect to {taken}: connection refused\n\
             hint: is the server running? `semfio chat serve` starts one\n"
        );
        assert_eq!(ended.err, wanted);
    }
    let ended = run(&["chat", "join", "no-such-host.invalid:80"], "");
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let ended = run(&["--record", "/nowhere/t", "chat", "serve", "--listen", "127.0.0.1:0"], "");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.starts_with("semfio: cannot record to /nowhere/t: "), "{}", ended.err);
}

#[test]
fn a_tour_of_the_lab_shows_all_as_it_should_be() {
    for runtime in RUNTIMES {
        let ended = run(&["--runtime", runtime, "lab", "--tour"], "");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.out.ends_with("all as it should be\n"), "{}", ended.out);
        assert!(ended.out.matches('✓').count() >= 20, "{}", ended.out);
    }
}

#[test]
fn pages_and_completions_are_generated() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(&["generate", "complete", shell], "");
        assert_eq!(ended.code, Some(0));
        assert!(ended.out.contains("chat") && ended.out.contains("replay"), "{shell}");
    }
    assert!(run(&["generate", "man"], "").out.contains(".TH semfio"));
    let folder = tempfile::tempdir().unwrap();
    let ended = run(&["generate", "man", "--dir", folder.path().to_str().unwrap()], "");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(folder.path().join("semfio-chat-join.1").is_file());
    assert_eq!(run(&["generate", "man", "--dir", "/nowhere/at/all"], "").code, Some(2));
}

#[test]
fn a_trace_to_ourselves_is_one_hop() {
    for (arguments, host) in [
        (&["-n", "127.0.0.1"][..], "127.0.0.1"),
        (&["-n", "::1"], "::1"),
        (&["-n", "--runtime", "smol", "127.0.0.1"], "127.0.0.1"),
        (&["-n", "--runtime", "blocking", "::1"], "::1"),
    ] {
        let output = command().arg("trace").args(arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {printed}");
        let lines: Vec<_> = printed.lines().collect();
        let [head, hop] = lines[..] else { panic!("{printed}") };
        assert!(head.starts_with(&format!("traceroute to {host} ({host}), 30 hops max, ")));
        assert!(hop.starts_with(&format!(" 1  {host}  ")), "{hop}");
        assert_eq!(hop.matches(" ms").count(), 3, "{hop}");
    }
    let output = command().args(["trace", "--quiet", "127.0.0.1"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    let live = ["trace", "--live", "-c", "2", "--interval", "0.1", "127.0.0.1"];
    let output = command().args(live).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(printed.contains("loss%") && printed.contains("  0.0%      2 "), "{printed}");
}

#[test]
fn trace_refuses_what_it_cannot_do() {
    for (arguments, why) in [
        (&["-q", "0", "127.0.0.1"][..], "0 is not in 1..=100"),
        (&["-m", "256", "127.0.0.1"], "256 is not in 1..=255"),
        (&["-p", "0", "127.0.0.1"], "0 is not in 1..=65535"),
        (&["-I", "-T", "127.0.0.1"], "cannot be used with"),
        (&["--live", "--mtu", "127.0.0.1"], "cannot be used with"),
        (&["-c", "3", "127.0.0.1"], "--live"),
        (&["-w", "0", "127.0.0.1"], "expected more than 0"),
        (&["--mtu", "-T", "127.0.0.1"], "a SYN has one size"),
        (&["-f", "9", "-m", "3", "127.0.0.1"], "no hop between the first and the last"),
        (&["--live", "--interval", "0", "127.0.0.1"], "an interval of less than 100 ms"),
        (&["-s", "::1", "127.0.0.1"], "127.0.0.1 is of the other family"),
        (&[], "required arguments"),
    ] {
        let output = command().arg("trace").args(arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {printed}");
        assert!(printed.contains(why), "{arguments:?}: {printed}");
    }
    let output = command().args(["trace", "-6", "127.0.0.1"]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.starts_with("semfio: cannot trace 127.0.0.1: it has no IPv6"), "{printed}");
    let output = command().args(["trace", "-s", "192.0.2.1", "127.0.0.1"]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{printed}");
    assert!(printed.contains("\nhint: -s takes an address of this machine"), "{printed}");
}

#[test]
fn ping_refuses_what_it_cannot_do() {
    for (arguments, why) in [
        (&["-i", "x", "127.0.0.1"][..], "expected seconds, like 0.2"),
        (&["-i=-1", "127.0.0.1"], "cannot convert float seconds to Duration: value is negative"),
        (&["-s", "65508", "127.0.0.1"], "expected 0 to 65507"),
        (&["-s", "9-8", "127.0.0.1"], "expected sizes that grow"),
        (&["-s", "8-9/0", "127.0.0.1"], "expected sizes that grow"),
        (&["-p", "f", "127.0.0.1"], "expected 1 to 16 octets in hex"),
        (&["-p", "0g", "127.0.0.1"], "expected 1 to 16 octets in hex"),
        (&["-Q", "256", "127.0.0.1"], "expected 0 to 255"),
        (&["-c", "0", "127.0.0.1"], "0 is not in 1.."),
        (&["-l", "0", "127.0.0.1"], "0 is not in 1..="),
        (&["-4", "-6", "127.0.0.1"], "cannot be used with"),
        (&[], "required arguments"),
    ] {
        let output = command().arg("ping").args(arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {printed}");
        assert!(printed.contains(why), "{arguments:?}: {printed}");
    }
    // What needs no network to be found out.
    for (arguments, why) in [
        (["-6", "127.0.0.1"], "semfio: cannot ping 127.0.0.1: it has no IPv6 address"),
        (["-4", "::1"], "semfio: cannot ping ::1: it has no IPv4 address"),
    ] {
        let output = command().arg("ping").args(arguments).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert_eq!(printed.lines().next(), Some(why));
    }
    let output = command().args(["ports", "--record", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
