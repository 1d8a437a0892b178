//! The client of the course's file server.

use alloc::vec::Vec;
use semfio_file::{CourseClient, CourseEnd, CourseEvent};
use semfio_machine::{Carry, Input, Now, Outbox, Step, StreamMachine};

use crate::Choices;

const REFUSAL: &[u8] = "ERROR \"O arquivo OK não existe\"".as_bytes();

/// A stream made of a file, its mark and the refusal, cut anywhere: what comes out is what the
/// dialect's grammar says of the whole.
pub fn file_course(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut stream = Vec::new();
    while !choices.is_empty() && stream.len() < 2_048 {
        let (kind, n) = (choices.below(6), choices.below(REFUSAL.len() + 1));
        match kind {
            0 => stream.extend_from_slice(REFUSAL),
            1 => stream.extend_from_slice(&REFUSAL[..n]),
            2 => stream.extend_from_slice(b"OK"),
            _ => stream.extend_from_slice(choices.bytes(n)),
        }
    }
    let (body, end) = match stream.strip_suffix(b"OK") {
        _ if stream == REFUSAL => (&[][..], CourseEnd::Unknown),
        Some(file) => (file, CourseEnd::Complete),
        None if REFUSAL.starts_with(&stream) => (&[][..], CourseEnd::Truncated),
        None => (&stream[..], CourseEnd::Truncated),
    };
    let mut sizes = Choices::new(data);
    let found = read(&stream, || if sizes.is_empty() { 7 } else { sizes.below(64) });
    assert_eq!(found, (body.to_vec(), end));
}

fn read(mut stream: &[u8], mut size: impl FnMut() -> usize) -> (Vec<u8>, CourseEnd) {
    let (now, mut out, mut carry) = (Now::default(), Outbox::default(), Carry::default());
    let mut client = CourseClient::new("OK").unwrap();
    let (mut body, mut end) = (Vec::new(), None);
    // At most as often as there are bytes to wait for, and once for the end.
    for _ in 0..20_000 {
        let (piece, rest) = stream.split_at(size().min(stream.len()));
        stream = rest;
        let (bytes, fresh) = carry.append(piece);
        let mut input = Input::new(bytes, fresh, stream.is_empty());
        loop {
            match client.handle_input(now, &mut input, &mut out) {
                Ok(Step::Event(CourseEvent::Body(bytes))) => body.extend_from_slice(bytes),
                Ok(Step::Event(CourseEvent::End(how))) => assert_eq!(end.replace(how), None),
                Ok(_) => break,
                Err(never) => match never {},
            }
        }
        assert!(input.len() < client.max_unit(), "what waits is bounded");
        let untaken = input.untaken();
        carry.keep(untaken);
        if let Some(end) = end {
            return (body, end);
        }
    }
    panic!("it does not end");
}
