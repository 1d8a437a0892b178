//! `semfio http`: what its commands have in common.

pub(crate) mod echo;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Common;
use crate::failed::Failed;

#[derive(Debug, Subcommand)]
pub(crate) enum Http {
    /// Answer each request with the content it came with, to try clients with
    Echo(echo::Args),
}

pub(crate) fn run(common: &Common, what: Http) -> Result<ExitCode, Failed> {
    match what {
        Http::Echo(args) => echo::run(common, &args),
    }
}
