//! What can be done to a trace.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub(crate) fn lines(trace: &[u8]) -> Vec<Vec<u8>> {
    let lines = trace.split_inclusive(|&byte| byte == b'\n');
    lines.map(<[u8]>::to_vec).collect()
}

/// The lines with a trailer that is right for them, so that only the replay can tell.
pub(crate) fn seal(lines: &[Vec<u8>]) -> Vec<u8> {
    let mut trace = lines[..lines.len() - 1].concat();
    let sha256 = Sha256::digest(&trace);
    let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let events = lines.len() - 2;
    let end = format!("{{\"name\":\"end\",\"events\":{events},\"sha256\":\"{sha256}\"}}\n");
    trace.extend(end.bytes());
    trace
}

pub(crate) fn parse(line: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(line).unwrap()
}

pub(crate) fn print(map: &Map<String, Value>) -> Vec<u8> {
    let mut line = serde_json::to_vec(map).unwrap();
    line.push(b'\n');
    line
}

pub(crate) fn name(line: &[u8]) -> String {
    parse(line)["name"].as_str().unwrap_or_default().into()
}

/// Lines between header and trailer, three of each kind.
pub(crate) fn samples(lines: &[Vec<u8>]) -> Vec<usize> {
    let mut kinds = std::collections::BTreeMap::new();
    let mut at: Vec<usize> = (1..lines.len() - 1).collect();
    at.retain(|&at| {
        let map = parse(&lines[at]);
        let kind = |key: &str| map.get(key).map(Value::to_string);
        let seen: &mut u32 = kinds.entry((kind("name"), kind("do"), kind("reply"))).or_default();
        *seen += 1;
        *seen <= 3
    });
    at
}

/// Another value for each field, one at a time.
pub(crate) fn changed(line: &[u8]) -> Vec<(String, Vec<u8>)> {
    let map = parse(line);
    let mut all = Vec::new();
    for (key, value) in &map {
        let mut values = match value {
            Value::Number(n) => vec![Value::from(n.as_u64().unwrap() + 1), Value::from("1")],
            Value::Bool(yes) => vec![Value::from(!yes)],
            Value::String(text) => {
                let mut flipped = text.clone().into_bytes();
                if let Some(byte) = flipped.first_mut() {
                    *byte = if *byte == b'A' { b'B' } else { b'A' };
                }
                let flipped = String::from_utf8(flipped).unwrap_or_default();
                vec![Value::from(flipped), Value::from(format!("{text}A"))]
            }
            _ => vec![Value::from(7)],
        };
        values.push(Value::Null);
        values.retain(|other| other != value);
        for value in values {
            let mut map = map.clone();
            map.insert(key.clone(), value);
            all.push((key.clone(), print(&map)));
        }
        let mut map = map.clone();
        map.remove(key);
        all.push((key.clone(), print(&map)));
    }
    let mut map = map.clone();
    map.insert("more".into(), Value::from(0));
    all.push(("more".into(), print(&map)));
    all
}
