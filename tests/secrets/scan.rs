//! Looks for secrets in a file, in whatever way they were written down.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// What is looked for: every so many octets of each secret. Half of a key is one.
const PIECE: usize = 16;
/// How often something may be encoded: a key in a token's text in a frame in a line.
const DEPTH: u32 = 3;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

#[derive(Default)]
pub(crate) struct Scanner {
    pieces: HashMap<[u8; PIECE], String>,
}

impl Scanner {
    /// Looks for this too, from its octet `from` on.
    pub(crate) fn add(&mut self, name: &str, secret: &[u8], from: usize) {
        assert!(secret.len() >= PIECE, "{name} is too short to be looked for");
        for piece in secret.windows(PIECE).skip(from) {
            self.pieces.insert(piece.try_into().unwrap(), name.to_owned());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The names of the secrets of which there is a piece: in a line, or in what passed on a connection
    /// one way, however it was cut.
    pub(crate) fn find(&self, trace: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.look(trace, DEPTH, &mut found);
        for stream in streams(trace).values() {
            self.look(stream, DEPTH, &mut found);
        }
        found
    }

    fn look(&self, bytes: &[u8], depth: u32, found: &mut BTreeSet<String>) {
        for window in bytes.windows(PIECE) {
            if let Some(name) = self.pieces.get(window) {
                found.insert(name.clone());
            }
        }
        let Some(depth) = depth.checked_sub(1) else { return };
        for run in runs(bytes, 2 * PIECE, |c| c.is_ascii_hexdigit()) {
            for from in 0..2 {
                let digit = |c: u8| char::from(c).to_digit(16).unwrap() as u8;
                let pairs = run[from..].chunks_exact(2);
                let octets: Vec<u8> = pairs.map(|p| digit(p[0]) << 4 | digit(p[1])).collect();
                self.look(&octets, depth, found);
            }
        }
        let coded = |c: u8| c.is_ascii_alphanumeric() || b"+/-_".contains(&c);
        for run in runs(bytes, PIECE * 4 / 3, coded) {
            let plain = |c: &u8| match c {
                b'-' => b'+',
                b'_' => b'/',
                c => *c,
            };
            let run: Vec<u8> = run.iter().map(plain).collect();
            // It may begin in the midst of something longer.
            for from in 0..4 {
                let run = &run[from..];
                let whole = if run.len() % 4 == 1 { &run[..run.len() - 1] } else { run };
                self.look(&LENIENT.decode(whole).unwrap(), depth, found);
            }
        }
        // A list, as `Debug` writes one.
        for run in runs(bytes, 3 * PIECE - 2, |c| c.is_ascii_digit() || b", ".contains(&c)) {
            let list = std::str::from_utf8(run).unwrap().split(',');
            let octets: Vec<u8> = list.filter_map(|n| n.trim().parse().ok()).collect();
            self.look(&octets, 0, found);
        }
    }
}

/// What passed, by event and connection.
pub(crate) fn streams(trace: &[u8]) -> BTreeMap<(String, String), Vec<u8>> {
    let mut streams: BTreeMap<_, Vec<u8>> = BTreeMap::new();
    for line in trace.split(|&c| c == b'\n') {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
        let (Some(name), Some(conn)) = (event["name"].as_str(), event["conn"].as_str()) else {
            continue;
        };
        let stream = streams.entry((name.to_owned(), conn.to_owned())).or_default();
        if let Some(text) = event["text"].as_str() {
            stream.extend_from_slice(text.as_bytes());
        }
        if let Some(text) = event["base64"].as_str() {
            stream.extend(STANDARD.decode(text).unwrap());
        }
    }
    streams
}

fn runs(bytes: &[u8], least: usize, of: impl Fn(u8) -> bool) -> impl Iterator<Item = &[u8]> {
    bytes.split(move |c| !of(*c)).filter(move |run| run.len() >= least)
}

#[test]
fn every_way_to_write_a_secret_down_is_found() {
    use base64::engine::general_purpose::URL_SAFE;
    let secret: [u8; 32] = std::array::from_fn(|n| (n * 37 + 200) as u8);
    let mut scanner = Scanner::default();
    scanner.add("it", &secret, 0);
    assert_eq!(scanner.len(), 17);
    for from in [0, 5, 16] {
        let piece = &secret[from..from + 16];
        let hex: String = piece.iter().map(|octet| format!("{octet:02x}")).collect();
        let mut ways = vec![piece.to_vec(), hex.to_uppercase().into(), format!("{piece:?}").into()];
        ways.push(hex.into());
        for before in 0..3 {
            let longer = [&b"xyz"[..before], piece, b"tail"].concat();
            ways.push(STANDARD.encode(&longer).into());
            ways.push(URL_SAFE.encode(&longer).into());
            let twice = format!("ab{}", URL_SAFE.encode(&longer));
            ways.push(STANDARD.encode(&twice).into());
        }
        for way in ways {
            let file = [&b"{\"text\":\""[..], &way, b"\"}\n"].concat();
            assert!(!scanner.find(&file).is_empty(), "{}", String::from_utf8_lossy(&way));
        }
        assert!(scanner.find(&piece[1..]).is_empty());
    }
    // Octet by octet, as it passed.
    let lines = secret.iter().map(|octet| {
        let octet = STANDARD.encode([*octet]);
        format!("{{\"name\":\"in.bytes\",\"conn\":\"0.0\",\"len\":1,\"base64\":\"{octet}\"}}\n")
    });
    assert!(!scanner.find(lines.collect::<String>().as_bytes()).is_empty());
}
