//! One side of a connection for files: a server in any dialect, or a framed client.

use semfio_file::tree::Hash;
use semfio_file::wire::{ErrorCode, Kind, Message, Meta};
use semfio_file::{Piece, Secret, Session, SessionCommand};
use semfio_keysync::Passphrase;
use semfio_machine::{FileId, FileSpan, Seed};

use crate::{Choices, drive};

/// Any bytes, cuts, commands and pauses: the contract holds, and what waits is bounded.
pub fn file_session(data: &[u8]) {
    let Some((&role, data)) = data.split_first() else {
        return;
    };
    let secret = Secret::new(Passphrase::new(b"praia"), Seed::from_u64(1));
    let session = match role % 8 {
        0 | 4 => Session::dial(),
        5 => Session::dial_sealed(&secret, 0),
        6 => Session::serve_sealed(role % 3 == 0),
        _ => Session::serve(role % 2 == 0),
    };
    drive::drive(session, data, |choices: &mut Choices<'_>, send| {
        let (tag, hash) = (1, Hash([1; 32]));
        let span = FileSpan { file: FileId(0), offset: 0, len: choices.below(100) as u64 };
        let pieces = [Piece::Bytes(b"pair"), Piece::Span(span)];
        let meta = Meta { kind: Kind::File, size: 1, modified: 2 };
        let (code, text) = (ErrorCode::Unknown, "no");
        let messages = [
            Message::Meta { tag, meta, hash: Some(hash) },
            Message::Done { tag, hash },
            Message::Cancel { tag },
            Message::Error { tag, code, text },
        ];
        send(match choices.below(10) {
            8 => SessionCommand::Agree(&secret, 1),
            9 => SessionCommand::TurnAway,
            0 => SessionCommand::File(span),
            1 => SessionCommand::Unknown(b"leao.jpg"),
            2 => SessionCommand::Whole,
            3 => SessionCommand::Body(&pieces),
            n => SessionCommand::Message(messages.get(n % 4).unwrap_or(&Message::Bye)),
        });
    });
}
