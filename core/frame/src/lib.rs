//! Frames over a byte stream, and three dialects told apart on one port.
//!
//! A framed peer opens with the [`PREFACE`]: eight bytes that no text in UTF-8 can start with.
//! Then each side sends frames: a type octet, a length of 24 bits in network order, a body of
//! that length. A receiver skips a type below 0x80 that it does not know and refuses one above.
//!
//! People with netcat or telnet send lines ([`Dialect::Line`]); the simplest programs send
//! whatever they have, and a read is a message ([`Dialect::Raw`]). [`detect`] tells the three
//! apart.
//!
//! ```
//! use bytes::BytesMut;
//! use semfio_frame::{Dialect, Fields, PREFACE, Read, Writer, detect, read_frame};
//! use semfio_machine::Input;
//!
//! let mut wire = BytesMut::from(&PREFACE[..]);
//! let mut frame = Writer::begin(&mut wire, 0x81);
//! frame.put_u32(7);
//! frame.put_str8("ana");
//! frame.end();
//!
//! assert_eq!(detect(&wire), Some(Dialect::Framed));
//! let mut input = Input::new(&mut wire, 0, false);
//! input.take(PREFACE.len());
//! let Ok(Read::Frame(frame)) = read_frame(&mut input, 65_536) else { panic!() };
//! let mut fields = Fields::new(frame.body);
//! assert_eq!((frame.kind, fields.u32(), fields.str8()), (0x81, Ok(7), Ok("ana")));
//! assert_eq!(fields.end(), Ok(()));
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![deny(clippy::expect_used, clippy::panic)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

mod body;
mod dialect;
mod frame;

pub use body::{Fields, Malformed, Writer};
pub use dialect::{Dialect, PREFACE, detect, strip_telnet};
pub use frame::{Frame, FrameError, HEADER, MAX_BODY, Read, read_frame};
