//! Names of peers, and the names of one transfer.

use alloc::string::String;
use alloc::vec::Vec;
use semfio_path::{MAX_DEPTH, MAX_LEN, MAX_PART, Names, Policy, SafeName, fold, is_part};

/// No name that is taken leads out of its folder, by either separator; names that fold to one are
/// never in one transfer. The first byte is the policy, a line feed ends a name.
pub fn path(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let policy = Policy { dot_names: first & 1 == 0, hyphen: first & 2 == 0 };
    let mut names = Names::default();
    let mut held: Vec<String> = Vec::new();
    for bytes in data.split(|&byte| byte == b'\n') {
        let name = match SafeName::parse(bytes, policy) {
            Ok(name) => name,
            Err(error) => {
                assert!(error.offset <= bytes.len());
                continue;
            }
        };
        stays_beneath(&name, bytes, policy);
        let key = fold(name.as_str());
        assert_eq!(fold(&key), key);
        if names.insert(&name).is_ok() {
            assert!(!held.contains(&key), "{key:?} twice");
            held.push(key);
        }
    }
}

fn stays_beneath(name: &SafeName, bytes: &[u8], policy: Policy) {
    assert_eq!(name.as_str().as_bytes(), bytes);
    assert!(bytes.len() <= MAX_LEN && name.parts().count() <= MAX_DEPTH);
    for part in name.as_str().split(['/', '\\', ':', '\0']) {
        assert!(!part.is_empty() && !part.ends_with(['.', ' ']) && part.len() <= MAX_PART);
        assert!(policy.dot_names || !part.starts_with('.'));
        assert!(policy.hyphen || !part.starts_with('-'));
        assert!(!part.contains(char::is_control));
    }
    if let Ok(part) = name.part(u16::MAX) {
        assert!(is_part(part.file_name()) && name.tag_of(part.file_name()) == Some(u16::MAX));
        let policy = Policy { dot_names: true, ..policy };
        assert_eq!(SafeName::parse(part.as_str(), policy).as_ref(), Ok(&part));
    }
    if let Ok(twice) = name.join(name) {
        assert_eq!(twice.file_name(), name.file_name());
        assert_eq!(SafeName::parse(twice.as_str(), policy).as_ref(), Ok(&twice));
    }
}
