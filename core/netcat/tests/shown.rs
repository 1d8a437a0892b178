//! Hex views, junk, tables of sockets.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use semfio_netcat::sockets::{SocketRow, SocketState, Transport, rows};
use semfio_netcat::{HexDump, Junk, PIECE};

fn dump(pieces: &[&[u8]]) -> Vec<String> {
    let (mut dump, mut lines) = (HexDump::new("> "), Vec::new());
    for piece in pieces {
        dump.put(piece, &mut |line| lines.push(line.to_owned()));
    }
    dump.flush(&mut |line| lines.push(line.to_owned()));
    lines
}

/// The bytes that a dump shows.
fn undump(lines: &[String]) -> Vec<u8> {
    let octets = |line: &String| -> Vec<u8> {
        let hex = line[2 + 8..].split('|').next().unwrap();
        hex.split_whitespace().map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect()
    };
    lines.iter().flat_map(octets).collect()
}

proptest! {
    #[test]
    fn a_dump_is_the_same_however_it_is_cut(bytes: Vec<u8>, cut: prop::sample::Index) {
        let cut = cut.index(bytes.len() + 1);
        let lines = dump(&[&bytes]);
        prop_assert_eq!(&lines, &dump(&[&bytes[..cut], &bytes[cut..]]));
        prop_assert_eq!(undump(&lines), bytes);
        prop_assert!(lines.iter().all(|line| !line.contains(|c: char| c.is_control())));
        for (nth, line) in lines.iter().enumerate() {
            prop_assert_eq!(&line[..10], format!("> {:08x}", nth * 16));
        }
        let widths: BTreeSet<_> = lines.iter().map(|line| line.find('|')).collect();
        prop_assert!(widths.len() <= 1);
    }

    #[test]
    fn junk_is_what_its_seed_says(seed: u64, bytes in 0..20_000_u64) {
        let pieces: Vec<_> = Junk::new(seed, bytes).collect();
        prop_assert_eq!(&pieces, &Junk::new(seed, bytes).collect::<Vec<_>>());
        let all: usize = pieces.iter().map(Vec::len).sum();
        prop_assert_eq!(all as u64, bytes);
        prop_assert!(pieces.iter().all(|piece| (1..=PIECE).contains(&piece.len())));
    }

    #[test]
    fn no_text_breaks_the_table(text: Vec<u8>) {
        rows(Transport::Tcp, &text);
        rows(Transport::Udp, &text);
    }
}

#[test]
fn another_seed_is_other_junk_and_all_kinds_come() {
    let all = |seed| Junk::new(seed, 100_000).flatten().collect::<Vec<u8>>();
    assert_ne!(all(1), all(2));
    let octets: BTreeSet<u8> = all(1).into_iter().collect();
    assert_eq!(octets.len(), 256);
    let text = all(1);
    assert!(text.windows(6).any(|it| it == b"%s%n%x"));
}

/// Written by Linux 6 on a little-endian machine.
const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000002 00:00000000 00000000  1000        0 27318 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F40 0100007F:C350 01 00000010:00000005 02:000A9A9C 00000000     0        0 27319 2 0000000000000000 20 4 30 10 -1
   2: 0100007F:C351 0100007F:1F40 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0000000000000000
";

const UDP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   12: 00000000000000000000000001000000:FF97 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 424242 2 0000000000000000 0
   13: B80D0120000000000000000001000000:0035 B80D0120000000000000000002000000:1000 01 00000000:00000000 00:00000000 00000000    33        0 7 2 0000000000000000 0
";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
#[cfg(target_endian = "little")]
fn a_table_is_read() {
    let row = SocketRow {
        transport: Transport::Tcp,
        local: at("127.0.0.1:8000"),
        remote: at("0.0.0.0:0"),
        state: SocketState::Listen,
        receive_queue: 2,
        send_queue: 0,
        user: 1000,
        inode: 27318,
    };
    let found = rows(Transport::Tcp, TCP.as_bytes());
    assert_eq!(found[0], row);
    assert_eq!((found[1].receive_queue, found[1].send_queue), (5, 16));
    assert_eq!((found[1].remote, found[1].state.name()), (at("127.0.0.1:50000"), "ESTABLISHED"));
    assert_eq!((found[2].state.name(), found[2].inode), ("TIME_WAIT", 0));
    assert_eq!(found.len(), 3);
    let found = rows(Transport::Udp, UDP6.as_bytes());
    assert_eq!((found[0].local, found[0].state.name()), (at("[::1]:65431"), ""));
    assert_eq!(found[1].local, at("[2001:db8::1]:53"));
    assert_eq!(found[1].remote, at("[2001:db8::2]:4096"));
    assert_eq!((found[1].state.name(), found[1].user), ("ESTABLISHED", 33));
}

#[test]
fn all_states_have_the_names_of_netstat() {
    let names: Vec<_> = (1..=12)
        .filter_map(|number| {
            let text = TCP.replace(" 0A ", &format!(" {number:02X} "));
            Some(rows(Transport::Tcp, text.as_bytes()).first()?.state.name())
        })
        .collect();
    assert_eq!(
        names.join(" "),
        "ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK \
         LISTEN CLOSING SYN_RECV"
    );
}

/// A row that is cut anywhere is a row or none, and never takes others with it.
#[test]
fn a_cut_table_loses_its_last_row_at_most() {
    for len in 0..TCP.len() {
        let found = rows(Transport::Tcp, &TCP.as_bytes()[..len]);
        let whole = TCP[..len].matches('\n').count().saturating_sub(1);
        assert!((whole..=whole + 1).contains(&found.len()), "{len}");
    }
}
