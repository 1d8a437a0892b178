//! A test in a network namespace of its own.

use std::process::Command;

use semfio_tests::{INSIDE, installed, skip};

/// Runs `body` in a network namespace where only a loopback is, with small socket buffers, so
/// that little is needed to fill them. `test` is the test's own full name: it is started again,
/// inside.
pub(crate) fn within(test: &str, body: impl FnOnce()) {
    if std::env::var(INSIDE).as_deref() == Ok(test) {
        return body();
    }
    if !installed(&["unshare", "ip", "sh"]) {
        return;
    }
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "--map-root-user", "sh", "-c", script]);
        command
    };
    if !inside("ip link set lo up").output().unwrap().status.success() {
        return skip("network namespaces are not allowed here");
    }
    let script = "ip link set lo up
        echo 4096 32768 65536 >/proc/sys/net/ipv4/tcp_rmem
        echo 4096 32768 65536 >/proc/sys/net/ipv4/tcp_wmem
        exec \"$0\" \"$@\"";
    let output = inside(script)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(INSIDE, test)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(out.contains("1 passed") || !output.status.success(), "{test} is not its name: {out}");
    assert!(output.status.success(), "{out}{err}");
    // The table of rates.
    if let Some(at) = out.find("| ") {
        use std::io::Write as _;
        let end = out.rfind('|').unwrap_or(at);
        let _ = writeln!(std::io::stderr(), "\n{}", &out[at..=end]);
    }
}
