//! `semfio file get`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use semfio_file::MAX_JOBS;
use semfio_machine::Target;
use semfio_path::SafeName;
use semfio_runtime_os::Roots;

use crate::Common;
use crate::failed::{Failed, USAGE};
use crate::file::{ANY, Stopping, course, fetch, name, pour, quote, server};
use crate::passphrase::TransferArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server
    #[arg(value_name = "HOST:PORT", value_parser = server)]
    server: Target,
    /// Files and folders, as `semfio file list` names them
    #[arg(value_name = "NAME", required = true, value_parser = name)]
    names: Vec<SafeName>,
    /// Save into this folder, or a single NAME under this name; - writes a single file to stdout,
    /// each 64 KiB as they are proved
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace files of the same name that have other content; nothing else is ever replaced
    #[arg(long, short)]
    force: bool,
    /// Get parts of a large file over so many connections
    #[arg(long, short, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=MAX_JOBS as i64))]
    jobs: u8,
    /// Speak with the course's server: no proof, no resuming, but the end is certain
    #[arg(long, conflicts_with_all = ["jobs", "passphrase_file"])]
    course: bool,
    #[command(flatten)]
    passphrase: TransferArgs,
}

pub(crate) fn run(common: &Common, args: Args) -> Result<ExitCode, Failed> {
    if args.output.as_deref() == Some(Path::new("-")) {
        let name = single(&args.names, args.course, common)?;
        return pour::run(common, args.server, name, &args.passphrase);
    }
    let place = Place::choose(args.output.as_deref(), &args.names)?;
    let stopping = Stopping::new()?;
    if args.course {
        return course::run(common, &args.server, &args.names, &place, args.force, &stopping);
    }
    let jobs = usize::from(args.jobs);
    let secret = args.passphrase.secret(common.record.as_deref())?;
    fetch::run(common, args.server, args.names, &place, args.force, jobs, secret, &stopping)
}

/// The one name that can be written to stdout.
fn single(names: &[SafeName], course: bool, common: &Common) -> Result<SafeName, Failed> {
    let refused = |why, hint| Err(Failed::because(USAGE, "cannot write to stdout", why).hint(hint));
    match names {
        _ if course => {
            let hint = "leave out -o -, or get it from `semfio file serve`, without --course";
            refused("the course's dialect tells only at the end whether a file was whole", hint)
        }
        _ if common.json => refused("the records go there", "leave out --json"),
        [name] => Ok(name.clone()),
        _ => refused("one file goes there, not several", "run the command once for each"),
    }
}

/// Where files are saved.
pub(crate) struct Place {
    folder: PathBuf,
    pub(crate) save_as: Option<SafeName>,
}

impl Place {
    pub(crate) fn choose(output: Option<&Path>, names: &[SafeName]) -> Result<Self, Failed> {
        let Some(output) = output else {
            return Ok(Self { folder: PathBuf::new(), save_as: None });
        };
        let cannot = |why: &dyn std::fmt::Display| {
            Failed::because(USAGE, format!("cannot save to {}", output.display()), why)
        };
        let ends_in_slash = output.as_os_str().as_encoded_bytes().ends_with(b"/");
        if output.is_dir() || ends_in_slash {
            return Ok(Self { folder: output.into(), save_as: None });
        }
        if names.len() > 1 {
            return Err(cannot(&"it is no folder, and there are several names")
                .hint(format!("make it first: mkdir {}", quote(output.as_os_str()))));
        }
        let (Some(folder), Some(file)) = (output.parent(), output.file_name()) else {
            return Err(cannot(&"it is no name for a file"));
        };
        let name = SafeName::parse(file.as_encoded_bytes(), ANY).map_err(|error| cannot(&error))?;
        Ok(Self { folder: folder.into(), save_as: Some(name) })
    }

    /// Opens the folder.
    pub(crate) fn roots(&self) -> Result<Roots, Failed> {
        super::serve::roots(&self.folder).map_err(|error| {
            let what = format!("cannot save in {}", self.folder.display());
            let failed = Failed::because(USAGE, what, &error);
            match error.kind() {
                std::io::ErrorKind::NotFound => failed
                    .hint(format!("make it first: mkdir -p {}", quote(self.folder.as_os_str()))),
                _ => failed,
            }
        })
    }

    /// A name in the folder, as a path.
    pub(crate) fn path(&self, name: &SafeName) -> PathBuf {
        self.join(name.as_str())
    }

    /// A path in the folder, as one from here.
    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}
