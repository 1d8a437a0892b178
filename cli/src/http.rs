//! `semfio http`: what its commands have in common.

pub(crate) mod echo;
mod get;
pub(crate) mod serve;

use std::process::ExitCode;

use clap::Subcommand;

use crate::Common;
use crate::failed::Failed;

#[derive(Debug, Subcommand)]
pub(crate) enum Http {
    /// Serve a folder: to browsers, curl, whoever speaks HTTP/1.1
    Serve(serve::Args),
    /// Answer each request with the content it came with, to try clients with
    Echo(echo::Args),
    /// Get what URLs lead to: to stdout, or into files that are whole or not there
    Get(get::Args),
}

pub(crate) fn run(common: &Common, what: Http) -> Result<ExitCode, Failed> {
    match what {
        Http::Serve(args) => serve::run(common, &args),
        Http::Echo(args) => echo::run(common, &args),
        Http::Get(args) => get::run(common, args),
    }
}
