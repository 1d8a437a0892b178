//! Frames, and the detector of dialects.

use alloc::vec::Vec;
use bytes::BytesMut;
use semfio_frame::{
    Dialect, Fields, Frame, FrameError, HEADER, PREFACE, Read, Writer, detect, read_frame,
    strip_telnet,
};
use semfio_machine::{Carry, Input};

/// The same frames and the same verdict however they are cut; what is written is read again; a
/// dialect once told stays told.
pub fn frame(data: &[u8]) {
    let limit = data.first().map_or(0, |&first| usize::from(first) % 40);
    let whole = read(data, data.len().max(1), limit);
    for stride in 1..4 {
        assert_eq!(whole, read(data, stride, limit), "whole, and cut every {stride} bytes");
    }
    let mut wire = BytesMut::new();
    for (kind, body) in &whole.0 {
        assert!(body.len() <= limit);
        let mut fields = Fields::new(body);
        let _ = (fields.u8(), fields.u16(), fields.u32(), fields.u64(), fields.str8());
        let _ = (fields.array::<3>(), fields.is_empty(), fields.text());
        let mut frame = Writer::begin(&mut wire, *kind);
        body.iter().for_each(|&byte| frame.put_u8(byte));
        frame.end();
    }
    assert!(data.starts_with(&wire), "written again, the frames are the bytes they came from");

    let mut told = None;
    for end in 0..=data.len() {
        let dialect = detect(&data[..end]);
        assert!(told.is_none() || dialect == told, "{told:?} at first, {dialect:?} later");
        told = dialect;
    }
    // Not every 0xFF begins a preface: telnet negotiates with it.
    let framed = told == Some(Dialect::Framed);
    assert!(if framed { data[0] == PREFACE[0] } else { !data.starts_with(&PREFACE) });
    let mut line = data.to_vec();
    assert!(strip_telnet(&mut line).len() <= data.len());
}

type Frames = (Vec<(u8, Vec<u8>)>, Result<(), FrameError>);

fn read(data: &[u8], stride: usize, limit: usize) -> Frames {
    let mut carry = Carry::default();
    let mut frames = Vec::new();
    let mut reads: Vec<&[u8]> = data.chunks(stride).collect();
    reads.push(&[]);
    for (number, new) in reads.iter().enumerate() {
        let (view, fresh) = carry.append(new);
        let mut input = Input::new(view, fresh, number + 1 == reads.len());
        loop {
            match read_frame(&mut input, limit) {
                Ok(Read::Frame(Frame { kind, body, .. })) => frames.push((kind, body.to_vec())),
                Ok(Read::NeedInput(more)) => {
                    assert!(more > 0 && input.len() + more <= HEADER + limit);
                    break;
                }
                Ok(Read::End) => return (frames, Ok(())),
                Err(error) => return (frames, Err(error)),
            }
        }
        let untaken = input.untaken();
        carry.keep(untaken);
    }
    unreachable!("the end of input ends the frames")
}
