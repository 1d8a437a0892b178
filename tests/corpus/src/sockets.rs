//! Tables of sockets, and bytes as people read them.

use alloc::string::String;
use alloc::vec::Vec;
use semfio_netcat::HexDump;
use semfio_netcat::sockets::{Transport, rows};

/// Any text: no more rows than lines, the same ones from each line alone; and a dump that does not depend
/// on how it is cut.
pub fn sockets(data: &[u8]) {
    for transport in [Transport::Tcp, Transport::Udp] {
        let all = rows(transport, data);
        let each: Vec<_> =
            data.split(|&byte| byte == b'\n').flat_map(|line| rows(transport, line)).collect();
        assert_eq!(all, each);
    }
    let half = data.len() / 2;
    assert_eq!(dump(&[data]), dump(&[&data[..half], &data[half..]]));
}

fn dump(pieces: &[&[u8]]) -> String {
    let (mut dump, mut text) = (HexDump::new("< "), String::new());
    let mut put = |line: &str| {
        assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        text.push_str(line);
        text.push('\n');
    };
    for piece in pieces {
        dump.put(piece, &mut put);
    }
    dump.flush(&mut put);
    text
}
