//! Reading allocates nothing, however the input is cut. Alone in its process.
#![allow(missing_docs)]

use semfio_http::{Asked, BodyLength, BodyReader, BodyStep, HeadReader, Leniency, Limits};
use semfio_machine::Input;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATOR.stats();
    run();
    let change = ALLOCATOR.stats() - before;
    change.allocations + change.reallocations
}

#[test]
fn reading_allocates_nothing() {
    let mut request =
        b"POST http://a/b?c HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nConnection: x, y\r\n\
        Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    let mut response = b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 3\r\n\r\n".to_vec();
    let mut broken = b"GET / HTTP/1.1\r\nHost: a b\r\n".to_vec();
    let mut chunks = b"3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\n\r\n".to_vec();
    let (limits, leniency) = (Limits::default(), Leniency::default());

    let found = allocations(|| {
        let mut head = HeadReader::default();
        for end in 1..=request.len() {
            let mut input = Input::new(&mut request[..end], 0, false);
            let read = head.read_request(&limits, &leniency, &mut input);
            assert_eq!(read.is_ok_and(|it| it.is_some()), input.is_empty());
        }
        for end in 1..=response.len() {
            let mut input = Input::new(&mut response[..end], 0, false);
            let read = head.read_response(&limits, &leniency, Asked::Content, &mut input);
            assert_eq!(read.is_ok_and(|it| it.is_some()), input.is_empty());
        }
        let mut input = Input::new(&mut broken, 0, false);
        assert!(head.read_request(&limits, &leniency, &mut input).is_err());

        let mut body = BodyReader::new(BodyLength::Chunked);
        let mut input = Input::new(&mut chunks, 0, true);
        while !matches!(body.step(&limits, &leniency, &mut input), Ok(BodyStep::End(_))) {}
    });
    assert_eq!(found, 0);

    // It would be seen.
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0u8]))), 1);
}
