//! ICMP messages, errors and their extensions.

use alloc::vec::Vec;
use semfio_probe::{Family, IcmpError, Message};

/// Any message is read without harm, and what was read is put as a message that reads the same.
/// The first byte chooses the family, and whether a checksum is made to fit.
pub fn icmp(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else {
        return;
    };
    let family = if choice & 1 == 0 { Family::V4 } else { Family::V6 };
    let mut bytes = bytes.to_vec();
    if choice & 2 == 0 && bytes.len() >= 4 {
        mend(&mut bytes);
    }
    let mut again = Vec::new();
    match Message::parse(family, &bytes) {
        Ok(Message::EchoRequest(echo)) => {
            echo.put_request(family, &mut again);
            assert_eq!(Message::parse(family, &again), Ok(Message::EchoRequest(echo)));
        }
        Ok(Message::EchoReply(echo)) => {
            echo.put_reply(family, &mut again);
            assert_eq!(Message::parse(family, &again), Ok(Message::EchoReply(echo)));
        }
        Ok(Message::Error(error)) => check(family, &error, bytes.len()),
        Ok(Message::Other { .. }) | Err(_) => {}
    }
}

fn check(family: Family, error: &IcmpError<'_>, length: usize) {
    if let Some(quoted) = error.quoted() {
        assert!(quoted.transport.len() < error.original.len());
        assert!(quoted.echo().is_none() || quoted.ports().is_none());
    }
    let Some(Ok(extension)) = error.extension else {
        return;
    };
    assert!(extension.objects().count() * 4 <= length);
    assert!(extension.labels().count() * 4 <= length);
    let mut put = Vec::new();
    error.put(family, &mut put);
    let Ok(Message::Error(again)) = Message::parse(family, &put) else {
        panic!("an error that was put is none: {error:?}");
    };
    assert_eq!((again.icmp_type, again.icmp_code), (error.icmp_type, error.icmp_code));
    assert_eq!((again.info, again.extension), (error.info, error.extension));
    let (quote, padding) = again.original.split_at(error.original.len());
    assert_eq!(quote, error.original);
    assert!(padding.iter().all(|&byte| byte == 0));
}

/// Makes the checksum of ICMP fit.
fn mend(bytes: &mut [u8]) {
    bytes[2..4].fill(0);
    let sum = bytes.chunks(2).fold(0_u32, |sum, word| {
        sum + u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]))
    });
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !u16::try_from(folded).unwrap_or(0);
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
}
