//! System errors in the words of the contract.

use std::io;

use rustix::io::Errno;
use semfio_machine::Failure;

/// Says why the system refused, in the terms a service understands.
pub fn failure(error: &io::Error) -> Failure {
    match Errno::from_io_error(error) {
        Some(errno) => of_errno(errno),
        None => of_kind(error.kind()),
    }
}

fn of_errno(errno: Errno) -> Failure {
    match errno {
        Errno::CONNREFUSED => Failure::Refused,
        Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE | Errno::NOTCONN => Failure::Reset,
        Errno::TIMEDOUT => Failure::TimedOut,
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::ADDRNOTAVAIL => {
            Failure::Unreachable
        }
        Errno::NOENT => Failure::NotFound,
        Errno::EXIST | Errno::ADDRINUSE => Failure::Exists,
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::XDEV => Failure::Denied,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Failure::Full,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Failure::Exhausted,
        Errno::ISDIR | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::NODEV => {
            Failure::WrongKind
        }
        Errno::MSGSIZE => Failure::TooLarge,
        Errno::NAMETOOLONG => Failure::NameTooLong,
        Errno::NOSYS | Errno::OPNOTSUPP | Errno::AFNOSUPPORT => Failure::Unsupported,
        _ => Failure::Other,
    }
}

fn of_kind(kind: io::ErrorKind) -> Failure {
    match kind {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected => Failure::Reset,
        io::ErrorKind::TimedOut => Failure::TimedOut,
        io::ErrorKind::NotFound => Failure::NotFound,
        io::ErrorKind::AlreadyExists => Failure::Exists,
        io::ErrorKind::PermissionDenied => Failure::Denied,
        io::ErrorKind::InvalidFilename => Failure::NameTooLong,
        io::ErrorKind::OutOfMemory => Failure::Exhausted,
        io::ErrorKind::Unsupported => Failure::Unsupported,
        _ => Failure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_error_mean_the_same() {
        for (errno, expected) in [
            (Errno::CONNREFUSED, Failure::Refused),
            (Errno::CONNRESET, Failure::Reset),
            (Errno::PIPE, Failure::Reset),
            (Errno::TIMEDOUT, Failure::TimedOut),
            (Errno::NOENT, Failure::NotFound),
            (Errno::EXIST, Failure::Exists),
            (Errno::ACCESS, Failure::Denied),
            (Errno::NOMEM, Failure::Exhausted),
        ] {
            let raw = io::Error::from(errno);
            assert_eq!(failure(&raw), expected);
            assert_eq!(failure(&raw.kind().into()), expected, "{errno:?}");
        }
        assert_eq!(failure(&Errno::MFILE.into()), Failure::Exhausted);
        assert_eq!(failure(&Errno::LOOP.into()), Failure::WrongKind);
        assert_eq!(failure(&Errno::MSGSIZE.into()), Failure::TooLarge);
        assert_eq!(failure(&Errno::NAMETOOLONG.into()), Failure::NameTooLong);
        assert_eq!(failure(&io::Error::other("odd")), Failure::Other);
    }
}
