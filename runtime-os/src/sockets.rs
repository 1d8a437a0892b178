//! Which sockets the system has, as its tables have them, and which processes hold them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// A table of sockets, as text: `/proc/net/NAME` (proc_net(5)). `None` if the system has no such family.
///
/// # Errors
///
/// It cannot be read, or the system has no such tables at all: it is no Linux, or hides them.
pub fn table(name: &str) -> io::Result<Option<Vec<u8>>> {
    let tables = Path::new("/proc/net");
    match fs::read(tables.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound && tables.is_dir() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Its name, which it may have chosen itself.
    pub name: String,
}

/// Who holds which socket, by inode; of several, the oldest number. Processes of others are left out,
/// unless the system lets us look.
pub fn owners() -> BTreeMap<u64, Owner> {
    let mut owners = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    for pid in pids {
        // It may be gone by now, or of somebody else.
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links = files.filter_map(|file| fs::read_link(file.path()).ok());
        let inodes: Vec<u64> = links.filter_map(|link| inode(link.to_str()?)).collect();
        if inodes.is_empty() {
            continue;
        }
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let owner = Owner { pid, name: name.trim_end_matches('\n').into() };
        for inode in inodes {
            owners.entry(inode).or_insert_with(|| owner.clone());
        }
    }
    owners
}

/// The number in `socket:[number]`.
fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    #[test]
    fn our_own_socket_is_in_the_table_and_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = inode(link.to_str().unwrap()).unwrap();
        let text = String::from_utf8(table("tcp").unwrap().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let row = text.lines().find(|row| row.contains(&format!(" {inode} "))).unwrap();
        assert!(row.contains(&format!(":{port:04X} ")), "{row}");
        assert_eq!(owners()[&inode].pid, std::process::id());
        assert_eq!(table("nothing").unwrap(), None);
    }

    #[test]
    fn only_sockets_have_an_inode_here() {
        assert_eq!(inode("socket:[42]"), Some(42));
        for other in ["pipe:[42]", "socket:42", "socket:[x]", "/dev/null", "socket:[-1]"] {
            assert_eq!(inode(other), None);
        }
    }
}
