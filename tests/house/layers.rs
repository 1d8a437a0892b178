//! Who stands on whom.

use serde_json::Value;
use std::process::Command;

use crate::{assert_none, top};

/// A package's name, and what it depends on in a build that is not a test.
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    rust_version: String,
    in_core: bool,
}

struct Dependency {
    name: String,
    optional: bool,
    /// Only for its own tests.
    dev: bool,
}

/// What core may depend on beside itself: without std, without I/O, each with a reason.
const CORE_MAY_USE: &[(&str, &str)] = &[
    ("aes", "Fernet"),
    ("aes-gcm", "sealed records of files"),
    ("base64", "bytes in a trace, Fernet"),
    ("blake3", "proof of files, group by group"),
    ("bytes", "shared output"),
    ("cbc", "Fernet"),
    ("crc32fast", "gzip's checksum: miniz_oxide makes the coding, not its frame"),
    ("etherparse", "headers of quoted packets"),
    ("hkdf", "pairwise keys"),
    ("hmac", "Fernet, key confirmation"),
    ("memchr", "line ends"),
    ("miniz_oxide", "gzip of what a web server sends"),
    ("rand_chacha", "seeded numbers"),
    ("rand_core", "seeded numbers"),
    ("serde_json", "the trace format"),
    ("sha2", "digests in a trace"),
    ("spake2", "agreement on a passphrase"),
    ("subtle", "comparing in constant time"),
    ("unicode-normalization", "names that are one on some file systems"),
    ("zeroize", "seeds and keys are wiped"),
];

/// Behind a feature of that name, for tests of others.
const CORE_MAY_OFFER: &[&str] = &["proptest"];

/// What each package of ours may stand on, of ours. Who is not named here may use anything: the
/// command line and the packages of tests.
const STANDS_ON: &[(&str, &[&str])] = &[
    ("semfio-machine", &[]),
    ("semfio-trace", &["semfio-machine"]),
    ("semfio-sim", &["semfio-machine"]),
    ("semfio-frame", &["semfio-machine"]),
    ("semfio-path", &[]),
    ("semfio-echo", &["semfio-machine"]),
    ("semfio-keysync", &["semfio-machine", "semfio-frame"]),
    ("semfio-chat", &["semfio-machine", "semfio-frame", "semfio-keysync"]),
    ("semfio-file", &["semfio-machine", "semfio-frame", "semfio-keysync", "semfio-path"]),
    ("semfio-probe", &["semfio-machine"]),
    ("semfio-netcat", &["semfio-machine"]),
    ("semfio-http", &["semfio-machine", "semfio-path"]),
    ("semfio-runtime-os", &["semfio-machine"]),
    ("semfio-runtime-mio", &["semfio-machine", "semfio-runtime-os"]),
    ("semfio-runtime-smol", &["semfio-machine", "semfio-runtime-os"]),
    ("semfio-examples", &["semfio-machine"]),
];

/// Those that STANDS_ON leaves free.
const FREE: &[&str] = &["semfio", "semfio-bench", "semfio-corpus", "semfio-tests", "semfio-wiped"];

fn complaints(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages {
        let name = &package.name;
        let stands_on = STANDS_ON.iter().find(|(of, _)| of == name);
        if stands_on.is_none() && !FREE.contains(&name.as_str()) {
            complaints.push(format!("{name} has no place in the house yet"));
        }
        if package.in_core && package.rust_version != "1.85" {
            complaints.push(format!("{name} promises Rust {}", package.rust_version));
        }
        for dependency in package.dependencies.iter() {
            let on = dependency.name.as_str();
            if on == "tokio" && name != "semfio-examples" {
                complaints.push(format!("{name} knows tokio"));
            }
            if dependency.dev {
                continue;
            }
            if on.starts_with("semfio") {
                if stands_on.is_some_and(|(_, allowed)| !allowed.contains(&on)) {
                    complaints.push(format!("{name} stands on {on}"));
                }
            } else if package.in_core
                && !CORE_MAY_USE.iter().any(|(allowed, _)| *allowed == on)
                && !(dependency.optional && CORE_MAY_OFFER.contains(&on))
            {
                complaints.push(format!("{name} depends on {on}"));
            }
        }
    }
    complaints
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().unwrap().clone();
    list(&metadata["packages"])
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            dependencies: list(&package["dependencies"])
                .iter()
                .map(|dependency| Dependency {
                    name: text(&dependency["name"]),
                    optional: dependency["optional"] == true,
                    dev: dependency["kind"] == "dev",
                })
                .collect(),
            rust_version: text(&package["rust_version"]),
            in_core: text(&package["manifest_path"]).contains("/core/"),
        })
        .collect()
}

#[test]
fn everyone_stands_where_they_should() {
    let packages = packages();
    let core = packages.iter().filter(|package| package.in_core).count();
    let folders = std::fs::read_dir(top().join("core")).unwrap().count();
    assert_eq!(core, folders, "every folder in core is a package of the workspace");
    assert_none(complaints(&packages));
}

#[test]
fn planted_dependencies_are_noticed() {
    let package = |name: &str, on: &str, dev| Package {
        name: name.into(),
        dependencies: vec![Dependency { name: on.into(), optional: false, dev }],
        rust_version: "1.85".into(),
        in_core: !name.contains("runtime") && !name.contains("tests"),
    };
    let wrong = [
        ("semfio-machine", "libc", false),
        ("semfio-machine", "semfio-sim", false),
        ("semfio-sim", "proptest", false),
        ("semfio-frame", "semfio-chat", false),
        ("semfio-runtime-mio", "semfio-chat", false),
        ("semfio-chat", "semfio-runtime-os", false),
        ("semfio-runtime-smol", "semfio-runtime-mio", false),
        ("semfio-newcomer", "bytes", false),
        ("semfio-tests", "tokio", true),
    ];
    for (name, on, dev) in wrong {
        assert_eq!(complaints(&[package(name, on, dev)]).len(), 1, "{name} on {on}");
    }
    let mut young = package("semfio-machine", "bytes", false);
    assert_none(complaints(std::slice::from_ref(&young)));
    young.rust_version = "1.90".into();
    assert_eq!(complaints(&[young]).len(), 1);
}
