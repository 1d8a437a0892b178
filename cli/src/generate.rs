//! `semfio generate`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;

use crate::failed::{Failed, USAGE};
use crate::{Cli, output};

#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// The man page; with --dir, one for each command
    Man {
        /// Write the pages of all commands to this folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// A completion script
    Complete {
        /// For which shell
        shell: Shell,
    },
}

pub(crate) fn run(what: &Generate) -> Result<ExitCode, Failed> {
    let mut command = Cli::command();
    let mut text = Vec::new();
    match what {
        Generate::Man { dir: Some(dir) } => {
            let wrote: io::Result<()> = clap_mangen::generate_to(command, dir);
            wrote.map_err(|error| {
                Failed::because(USAGE, format!("cannot write to {}", dir.display()), error)
            })?;
        }
        Generate::Man { dir: None } => {
            let rendered = clap_mangen::Man::new(command).render(&mut text);
            rendered.map_err(|error| Failed::new(USAGE, error))?;
        }
        Generate::Complete { shell } => {
            clap_complete::generate(*shell, &mut command, "semfio", &mut text);
        }
    }
    output::print_bytes(&text);
    Ok(ExitCode::SUCCESS)
}
