//! `semfio replay`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use semfio_machine::{DatagramMachine, Endpoint, Now, Service, Shard, StreamMachine};
use semfio_probe::{
    PingEvent, Pinger, TraceEvent, Tracer, UdpPingEvent, UdpPingServer, UdpPingServerEvent,
    UdpPinger,
};
use semfio_trace::{
    CommandCodec, End, MAX_LINE, Reader, Recorded, Replay, ReplayError, Rerun, Told,
};
use serde_json::json;

use crate::Common;
use crate::failed::{Failed, NEGATIVE, USAGE};
use crate::output::{Records, notice, print_line};
use crate::record::{self, PingRun, Recordable, ScanRun, TraceRun, UdpPingRun, UdpPingServerRun};
use crate::{ping, trace, udp_ping};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A trace, written with --record. Of a ping or a traceroute it prints what that printed
    file: PathBuf,
    /// Stop after this event
    #[arg(long, value_name = "N")]
    until: Option<u64>,
}

/// How a replay ended that met no difference.
#[derive(Clone, Copy)]
struct Agreed {
    events: u64,
    whole: bool,
}

pub(crate) fn run(common: &Common, args: &Args) -> Result<ExitCode, Failed> {
    let path = &args.file;
    let unusable = |error: anyhow::Error| {
        Failed::new(USAGE, error.context(format!("cannot replay {}", path.display())))
    };
    let reader = open(path).map_err(unusable)?;
    let header = reader.header().clone();
    let limits = header.limits;
    let until = args.until;
    // What it prints then is what the run printed: the verdict stands elsewhere.
    let mut prints = false;
    let result = match &*header.service {
        record::HUB => {
            let hub = record::hub_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(hub), limits), until)
        }
        record::PARTICIPANT => {
            let journal = || open(path).map(record::journal).unwrap_or_default();
            let participant = record::participant_of(&header, journal).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(participant), limits), until)
        }
        record::REPOSITORY => {
            let repository = record::repository_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(repository), limits), until)
        }
        record::SITE => {
            let site = record::site_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(site), limits), until)
        }
        record::FETCH => {
            let fetch = record::fetch_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(fetch), limits), until)
        }
        record::UPLOAD => {
            let upload = record::upload_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(upload), limits), until)
        }
        record::POUR => {
            let pour = record::pour_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(pour), limits), until)
        }
        record::LISTING => {
            let listing = record::listing_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(listing), limits), until)
        }
        record::COURSE_GET => {
            let get = record::course_get_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(get), limits), until)
        }
        record::HTTP_ECHO => {
            let echo = record::http_echo_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(echo), limits), until)
        }
        record::HTTP_GET => {
            let get = record::http_get_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(get), limits), until)
        }
        record::NETCAT => {
            let netcat = record::netcat_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(netcat), limits), until)
        }
        record::TCP_CHECK => {
            let check = record::tcp_check_of(&header).map_err(unusable)?;
            replay(reader, Shard::new(Recordable(check), limits), until)
        }
        record::TALK => {
            let talk = record::talk_of(&header).map_err(unusable)?;
            datagrams(reader, talk, record::TALKED, until, |_, _, _| {}).0
        }
        record::UDP_CHECK => {
            let check = record::udp_check_of(&header).map_err(unusable)?;
            datagrams(reader, check, record::never(), until, |_, _, _| {}).0
        }
        record::PING => {
            let run = PingRun::of(&header).map_err(unusable)?;
            let machine = run.machine().map_err(unusable)?;
            let mut shown = ping::shown::Shown::of(common, &run);
            shown.begin();
            prints = true;
            let tell = |now, told: Told<'_, PingEvent>, machine: &Pinger| match told {
                Told::Event(event) => shown.event(now, &event, machine),
                Told::Note(note) => shown.note(note),
            };
            datagrams(reader, machine, record::stop(), until, tell).0
        }
        record::CONNECT_SCAN => {
            let run = ScanRun::of(&header).map_err(unusable)?;
            let scan = run.connect().map_err(unusable)?;
            replay(reader, Shard::new(Recordable(scan), limits), until)
        }
        record::UDP_SCAN => {
            let run = ScanRun::of(&header).map_err(unusable)?;
            let scan = run.udp().map_err(unusable)?;
            datagrams(reader, scan, record::quit(), until, |_, _, _| {}).0
        }
        record::SYN_SCAN => {
            let run = ScanRun::of(&header).map_err(unusable)?;
            let scan = run.syn().map_err(unusable)?;
            datagrams(reader, scan, record::quit(), until, |_, _, _| {}).0
        }
        record::TRACE => {
            let run = TraceRun::of(&header).map_err(unusable)?;
            let machine = run.machine().map_err(unusable)?;
            let mut shown = trace::shown::Shown::of(common, &run, &machine);
            shown.begin();
            prints = true;
            let tell = |now, told: Told<'_, TraceEvent<'_>>, machine: &Tracer| match told {
                Told::Event(event) => shown.event(now, &event, machine),
                Told::Note(note) => shown.note(now, note, machine),
            };
            datagrams(reader, machine, record::stop(), until, tell).0
        }
        record::UDP_PING => {
            let run = UdpPingRun::of(&header).map_err(unusable)?;
            let mut shown = udp_ping::Shown::of(common, &run);
            shown.begin();
            prints = true;
            let tell = |_, told: Told<'_, UdpPingEvent<'_>>, _: &UdpPinger| {
                if let Told::Event(event) = told {
                    shown.event(&event);
                }
            };
            let (result, machine) = datagrams(reader, run.machine(), record::stop(), until, tell);
            end(&result, || shown.end(&machine));
            result
        }
        record::UDP_PING_SERVER => {
            let run = UdpPingServerRun::of(&header).map_err(unusable)?;
            let mut shown = udp_ping::ShownServer::new(common);
            shown.begin(&run);
            prints = true;
            let tell = |now, told: Told<'_, UdpPingServerEvent<'_>>, _: &UdpPingServer| {
                if let Told::Event(event) = told {
                    shown.event(now, &event);
                }
            };
            let (result, machine) = datagrams(reader, run.machine(), record::never(), until, tell);
            end(&result, || shown.end(&machine));
            result
        }
        record::ECHO => {
            let service = semfio_echo::Service::new();
            replay(reader, Shard::new(Recordable(service), limits), until)
        }
        other => {
            let unknown = anyhow::anyhow!("it is of {other:?}, which this program does not know");
            return Err(unusable(unknown));
        }
    };
    match result {
        Ok(agreed) => {
            tell(common, prints, &agreed, until);
            Ok(ExitCode::SUCCESS)
        }
        Err(ReplayError::Read(error)) => Err(unusable(error.into())),
        Err(other) => {
            if prints {
                notice(&other.to_string());
            } else if common.json {
                let record = json!({ "why": other.to_string() });
                Records::default().print("diverges", record);
            } else {
                print_line(&other.to_string());
            }
            Ok(ExitCode::from(NEGATIVE))
        }
    }
}

fn tell(common: &Common, prints: bool, agreed: &Agreed, until: Option<u64>) {
    let Agreed { events, whole } = agreed;
    if common.json && !prints {
        let record = json!({ "events": events, "whole": whole });
        return Records::default().print("agrees", record);
    }
    let remark = match (whole, until) {
        (true, _) => "",
        (false, Some(until)) if *events >= until => "; stopped there",
        (false, _) => "; the recording is cut there",
    };
    let line = format!("agrees: {events} events{remark}");
    match prints {
        true if common.quiet => {}
        true => notice(&line),
        false => print_line(&line),
    }
}

/// Prints what stands at the end of a run, if the trace has that.
fn end(result: &Result<Agreed, ReplayError>, print: impl FnOnce()) {
    if matches!(result, Ok(Agreed { whole: true, .. })) {
        print();
    }
}

fn replay<L, M, S>(
    reader: Reader<L>,
    shard: Shard<M, S>,
    until: Option<u64>,
) -> Result<Agreed, ReplayError>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    M: StreamMachine,
    S: Service<M>,
    S::Message: Recorded + 'static,
{
    run_until(&mut Replay::new(reader, shard), until)
}

/// The same of an endpoint; `on_told` hears what the application heard.
fn datagrams<L, M>(
    reader: Reader<L>,
    machine: M,
    codec: CommandCodec<M>,
    until: Option<u64>,
    on_told: impl FnMut(Now, Told<'_, M::Event<'_>>, &M),
) -> (Result<Agreed, ReplayError>, M)
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    M: DatagramMachine,
{
    let mut replay = Replay::datagrams(reader, Endpoint::new(machine), codec, on_told);
    (run_until(&mut replay, until), replay.into_machine())
}

fn run_until<L, R>(replay: &mut Replay<L, R>, until: Option<u64>) -> Result<Agreed, ReplayError>
where
    L: Iterator,
    L::Item: AsRef<[u8]>,
    R: Rerun,
{
    if let Some(until) = until
        && replay.run_until(until)?
    {
        return Ok(Agreed { events: replay.position(), whole: false });
    }
    let agreement = replay.run()?;
    Ok(Agreed { events: agreement.events, whole: agreement.end == End::Whole })
}

fn open(path: &Path) -> anyhow::Result<Reader<Lines>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        bail!("it is not a file");
    }
    Reader::from_lines(Lines(BufReader::new(file))).context("it is not a whole trace")
}

/// The lines of a file, each with its end; longer ones than a trace may have come in pieces.
struct Lines(BufReader<File>);

impl Iterator for Lines {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX).saturating_add(1);
        let read: io::Result<usize> = self.0.by_ref().take(limit).read_until(b'\n', &mut line);
        // A file that cannot be read on is a trace that is cut.
        read.ok().filter(|&n| n > 0).map(|_| line)
    }
}
