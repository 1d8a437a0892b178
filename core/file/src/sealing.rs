//! What a passphrase makes of a connection: an agreement on keys, and then sealed records.
//!
//! | the client | | the server |
//! |---|---|---|
//! | preface, START | → | |
//! | | ← | preface, REPLY: proves that it knows the passphrase |
//! | CONFIRM: proves the same; HELLO in a record | → | |
//! | | ← | WELCOME in a record |
//!
//! The agreement is that of [`semfio_keysync`]; each START is a guess, and the server's service says
//! whether it is answered. From CONFIRM on there is nothing on the wire but records, in both
//! directions: names, sizes, hashes and errors are as secret as content.
//!
//! A record is a length of 24 bits in network order, so many octets of ciphertext, and a tag of 16.
//! It holds whole frames, or a part of a BODY frame; its first octets are always a frame's, or go on
//! with the BODY frame before it. So a group of content is one record, is opened where it lies in
//! the host's buffer, and is proved before any of it is looked at.
//!
//! - The cipher is AES-128-GCM. Of what RustCrypto has, sealing 64 KiB took least time with it when
//!   it is built for any x86-64 and finds the instructions at run time: 1.37 GB a CPU-second, with
//!   256 bits 1.16, ChaCha20-Poly1305 1.12, AES-128-GCM-SIV 1.32, OCB3 0.60. The agreement is worth
//!   128 bits, so longer keys would add nothing.
//! - The nonce is the number of the record. Each connection agrees on new keys, one for each
//!   direction, so key and nonce say which record of which direction of which connection this is:
//!   one that is dropped, repeated, moved, reflected, or from elsewhere does not open. With that a
//!   nonce is never used twice, and there is nothing to choose that a peer could have a say in. To
//!   bind it to a file and an offset instead would let two requests for the same part, with the file
//!   changed between them, seal two contents with one nonce, which breaks this cipher; where content
//!   belongs is proved by the tree of hashes anyway.
//! - An end of input is not sealed and proves nothing. Nothing rests on it: each answer has its own
//!   end, DONE or ENTRIES without more, and that is in a record.
//! - What is seen: addresses, times, and lengths, from which the size of what is sent can be told.

use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes128Gcm, KeyInit as _, Nonce, Tag};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::{BufMut as _, BytesMut};
use hkdf::Hkdf;
use semfio_keysync::{
    AgreementError, CONFIRM, Context, Initiator, Key, Pair, Passphrase, REPLY, Responder, START,
};
use semfio_machine::{Input, Outbox, Seed};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::session::Session;

/// Octets before what is sealed: its length.
pub const RECORD_HEADER: usize = 3;
/// Octets behind it.
pub const RECORD_TAG: usize = 16;
/// The most octets that are sealed at once: a group of content, the hashes before it and the header
/// of its frame, or any other frame.
pub const MAX_RECORD: usize = 68 * 1024;

/// What both sides of any agreement for files see alike. Nothing in it could be checked by them.
const CONTEXT: Context<'_> =
    Context { room: "semfio file transfer", initiator: (0, "client"), responder: 1 };

/// A passphrase, and the randomness of the agreements that are made with it.
#[derive(Debug)]
pub struct Secret {
    passphrase: Passphrase,
    seed: Seed,
    next: u64,
}

impl Secret {
    /// The seed must be new for each run of a program, and serve nothing else.
    pub fn new(passphrase: Passphrase, seed: Seed) -> Self {
        Self { passphrase, seed, next: 0 }
    }

    /// The number of another agreement.
    pub fn number(&mut self) -> u64 {
        let number = self.next;
        self.next = number.saturating_add(1);
        number
    }

    /// Begins agreement `number`.
    pub(crate) fn ask(&self, number: u64) -> Agreement {
        let rng = self.seed.stream(number);
        let (initiator, start) = Initiator::start(&self.passphrase, &CONTEXT, rng);
        Agreement::Asked(Box::new(initiator), start.try_into().unwrap_or([0; START]))
    }

    /// Answers START in agreement `number`; then the other side knows whether it guessed right.
    pub(crate) fn answer(
        &self,
        number: u64,
        start: &[u8; START],
    ) -> Result<(Agreement, [u8; REPLY]), AgreementError> {
        let rng = self.seed.stream(number);
        let (responder, reply) = Responder::start(&self.passphrase, &CONTEXT, start, rng)?;
        let reply = reply.try_into().map_err(|_| AgreementError)?;
        Ok((Agreement::Answered(Box::new(responder)), reply))
    }
}

/// A client's next session.
pub(crate) fn session(secret: &mut Option<Secret>) -> Session {
    match secret {
        Some(secret) => {
            let number = secret.number();
            Session::dial_sealed(secret, number)
        }
        None => Session::dial(),
    }
}

/// An agreement that is not finished.
#[derive(Debug)]
pub(crate) enum Agreement {
    /// A client's, and its START.
    Asked(Box<Initiator>, [u8; START]),
    /// A server's that has START.
    Begun([u8; START]),
    /// A server's that has answered.
    Answered(Box<Responder>),
}

impl Agreement {
    /// A client's with REPLY.
    pub(crate) fn handle_reply(
        self,
        reply: &[u8; REPLY],
    ) -> Result<(Sealing, [u8; CONFIRM]), AgreementError> {
        let Self::Asked(initiator, _) = self else { return Err(AgreementError) };
        let (pair, confirm) = initiator.finish(reply)?;
        let Pair { to_responder, to_initiator } = &pair;
        let confirm = confirm.try_into().map_err(|_| AgreementError)?;
        Ok((Sealing::new(to_responder, to_initiator), confirm))
    }

    /// A server's with CONFIRM.
    pub(crate) fn handle_confirm(self, confirm: &[u8; CONFIRM]) -> Result<Sealing, AgreementError> {
        let Self::Answered(responder) = self else { return Err(AgreementError) };
        let Pair { to_responder, to_initiator } = &responder.finish(confirm)?;
        Ok(Sealing::new(to_initiator, to_responder))
    }
}

/// The records of a connection.
#[derive(Debug)]
pub(crate) struct Sealing {
    ours: Direction,
    theirs: Direction,
    /// Octets of the last opened record that are not taken.
    rest: usize,
    /// Its tag is not taken.
    tag: bool,
}

/// A record that does not open, of the length it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordError {
    /// So long, or empty.
    Length(usize),
    /// It was changed, repeated or moved, or one before it is missing.
    Forged,
    /// The input ended within it.
    Cut,
}

/// What [`Sealing::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// So many octets are in clear.
    Record(usize),
    /// So many more are needed.
    NeedInput(usize),
    /// The input ended between records.
    End,
}

impl Sealing {
    fn new(ours: &Key, theirs: &Key) -> Self {
        Self { ours: Direction::new(ours), theirs: Direction::new(theirs), rest: 0, tag: false }
    }

    /// Opens the next record where it lies, unless one is open.
    pub(crate) fn open(&mut self, input: &mut Input<'_>) -> Result<Opened, RecordError> {
        if self.rest > 0 {
            return Ok(Opened::Record(self.rest));
        }
        let need = |n: usize| if input.at_eof() { Err(RecordError::Cut) } else { Ok(n) };
        let Some(&[a, b, c]) = input.peek().first_chunk() else {
            if input.is_empty() && input.at_eof() {
                return Ok(Opened::End);
            }
            return need(RECORD_HEADER.saturating_sub(input.len())).map(Opened::NeedInput);
        };
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        if len == 0 || len > MAX_RECORD {
            return Err(RecordError::Length(len));
        }
        let whole = RECORD_HEADER.saturating_add(len).saturating_add(RECORD_TAG);
        if let Some(missing @ 1..) = whole.checked_sub(input.len()) {
            return need(missing).map(Opened::NeedInput);
        }
        input.take(RECORD_HEADER);
        let (text, behind) =
            input.peek_mut().split_at_mut_checked(len).ok_or(RecordError::Forged)?;
        let tag = behind.first_chunk::<RECORD_TAG>().ok_or(RecordError::Forged)?;
        self.theirs.open(text, tag)?;
        (self.rest, self.tag) = (len, true);
        Ok(Opened::Record(len))
    }

    /// So many octets of the open record were taken.
    pub(crate) fn taken(&mut self, n: usize, input: &mut Input<'_>) {
        self.rest = self.rest.saturating_sub(n);
        if self.rest == 0 && core::mem::take(&mut self.tag) {
            input.take(RECORD_TAG);
        }
    }

    /// Seals these pieces, one behind the other, in as few records as they need.
    pub(crate) fn seal(&mut self, pieces: &[&[u8]], out: &mut Outbox) {
        let mut left = pieces.iter().fold(0, |len: usize, piece| len.saturating_add(piece.len()));
        let mut pieces = pieces.iter().copied();
        let mut piece: &[u8] = &[];
        while left > 0 {
            let len = left.min(MAX_RECORD);
            let whole = RECORD_HEADER.saturating_add(len).saturating_add(RECORD_TAG);
            let mut record = BytesMut::with_capacity(whole);
            let [_, _, _, _, _, header @ ..] = (len as u64).to_be_bytes();
            record.put_slice(&header);
            let mut missing = len;
            while missing > 0 {
                if piece.is_empty() {
                    let Some(next) = pieces.next() else { break };
                    piece = next;
                }
                let (now, later) = piece.split_at_checked(missing).unwrap_or((piece, &[]));
                record.put_slice(now);
                piece = later;
                missing = missing.saturating_sub(now.len());
            }
            let tag = self.ours.seal(record.get_mut(RECORD_HEADER..).unwrap_or_default());
            record.put_slice(&tag);
            out.put_shared(record.freeze());
            left = left.saturating_sub(len);
        }
    }
}

/// One direction: its key, and the number of the next record.
struct Direction {
    cipher: Aes128Gcm,
    next: u64,
}

impl core::fmt::Debug for Direction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Direction").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Direction {
    fn new(key: &Key) -> Self {
        let mut octets = Zeroizing::new([0; 16]);
        // 16 octets are never too many for HKDF-SHA256.
        let _ = Hkdf::<Sha256>::new(None, key.as_bytes())
            .expand(b"semfio file records 1, AES-128-GCM", octets.as_mut_slice());
        Self { cipher: Aes128Gcm::new((&*octets).into()), next: 0 }
    }

    fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        let (_, number) = nonce.split_at_mut(4);
        number.copy_from_slice(&self.next.to_be_bytes());
        // At 2^64 records the machine has long rusted away.
        self.next = self.next.saturating_add(1);
        nonce
    }

    fn seal(&mut self, text: &mut [u8]) -> Vec<u8> {
        let nonce = self.nonce();
        // It fails above 64 GiB alone.
        let tag = self.cipher.encrypt_in_place_detached(Nonce::from_slice(&nonce), &[], text);
        tag.map(|tag| tag.to_vec()).unwrap_or_default()
    }

    fn open(&mut self, text: &mut [u8], tag: &[u8; RECORD_TAG]) -> Result<(), RecordError> {
        let (nonce, tag) = (self.nonce(), Tag::from_slice(tag));
        self.cipher
            .decrypt_in_place_detached(Nonce::from_slice(&nonce), &[], text, tag)
            .map_err(|_| RecordError::Forged)
    }
}
