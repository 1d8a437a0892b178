//! What the sources themselves must keep: who stands on whom, what core may name, what stays out
//! of the repository. Each rule is a function from text to complaints, tried here on a fault.

mod layers;
mod places;
mod roots;

use std::fs;
use std::path::{Path, PathBuf};

/// The top of the repository.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every source file of the repository beneath `folder`, with its path from the top; build
/// folders, fuzz inputs and git's own files are left out.
fn files(folder: &str) -> Vec<(String, String)> {
    const SKIPPED: [&str; 5] = ["target", ".git", "corpus", "artifacts", "proptest-regressions"];
    let mut found = Vec::new();
    let mut folders = vec![top().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}")) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            // Fuzz bodies are sources; what they are replayed on is not.
            let bodies = path.join("Cargo.toml").exists();
            if path.is_dir() && (bodies || !SKIPPED.contains(&&*name)) {
                folders.push(path);
            } else if path.is_file() && name != ".git" {
                let text = String::from_utf8(fs::read(&path).unwrap());
                let shown = path.strip_prefix(top()).unwrap().to_string_lossy().into();
                found.extend(text.ok().map(|text| (shown, text)));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no files");
    found
}

/// Fails with all complaints at once.
#[track_caller]
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
