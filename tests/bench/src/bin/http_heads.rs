//! Heads of HTTP beside httparse: whole, and octet by octet, where httparse begins anew each time.
//!
//! `cargo run --profile dist -p semfio-bench --bin http_heads -- [--runs N] [--seconds S] [--count N --only CASE]`

use std::alloc::System;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Duration;

use clap::Parser;
use semfio_bench::{median, own_cpu};
use semfio_http::{Asked, HeadReader, Leniency, Limits};
use semfio_machine::Input;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Parser)]
struct Args {
    /// Runs; the median counts.
    #[arg(long, default_value_t = 15)]
    runs: usize,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 0.1)]
    seconds: f64,
    /// One case alone, ours alone: `browser`, `tool`, `response`, `drip`.
    #[arg(long, requires = "count")]
    only: Option<String>,
    /// So many heads of that case, for tools that count instructions.
    #[arg(long)]
    count: Option<u64>,
}

/// What Chromium 142 sends when a page is reloaded, with a session cookie.
const BROWSER: &str = "GET /articles/2026/11/sans-io.html?utm_source=feed&page=2 HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: de-DE,de;q=0.9,en;q=0.8\r\n\
    Cookie: session=0a1b2c3d4e5f60718293a4b5c6d7e8f9; theme=dark\r\n\r\n";

/// What load generators send.
const TOOL: &str = "GET /1k.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
    Date: Sun, 22 Nov 2026 03:00:00 GMT\r\n\
    Server: nginx/1.22.1\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 14096\r\n\
    Last-Modified: Fri, 20 Nov 2026 10:20:30 GMT\r\n\
    Connection: keep-alive\r\n\
    ETag: \"691ebf6e-3710\"\r\n\
    Cache-Control: public, max-age=3600\r\n\
    Vary: Accept-Encoding\r\n\
    Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Accept-Ranges: bytes\r\n\r\n";

/// A head of 4 KiB: the browser's with longer cookies.
fn long() -> Vec<u8> {
    let mut head = BROWSER.trim_end().to_owned().into_bytes();
    while head.len() < 4096 - 4 - 60 {
        head.extend_from_slice(b"; preference-of-somebody=0123456789abcdef0123456789abcdef");
    }
    head.resize(4092, b'x');
    head.extend_from_slice(b"\r\n\r\n");
    head
}

struct Ours {
    head: HeadReader,
    limits: Limits,
    leniency: Leniency,
}

impl Ours {
    fn new() -> Self {
        let head = HeadReader::default();
        Self { head, limits: Limits::default(), leniency: Leniency::default() }
    }

    fn request(&mut self, bytes: &mut [u8]) -> bool {
        let mut input = Input::new(bytes, 0, false);
        let read = self.head.read_request(&self.limits, &self.leniency, &mut input);
        black_box(read).is_ok_and(|it| it.is_some())
    }

    fn response(&mut self, bytes: &mut [u8]) -> bool {
        let mut input = Input::new(bytes, 0, false);
        let asked = Asked::Content;
        let read = self.head.read_response(&self.limits, &self.leniency, asked, &mut input);
        black_box(read).is_ok_and(|it| it.is_some())
    }

    /// Octet by octet.
    fn drip(&mut self, bytes: &mut [u8]) -> bool {
        (1..=bytes.len()).any(|end| self.request(bytes.get_mut(..end).unwrap_or_default()))
    }
}

fn their_request(bytes: &[u8]) -> bool {
    let mut fields = [const { MaybeUninit::uninit() }; 64];
    let mut request = httparse::Request::new(&mut []);
    let read = request.parse_with_uninit_headers(bytes, &mut fields);
    black_box((read, request)).0.is_ok_and(|it| it.is_complete())
}

fn their_response(bytes: &[u8]) -> bool {
    let mut fields = [const { MaybeUninit::uninit() }; 64];
    let mut response = httparse::Response::new(&mut []);
    let read = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    );
    black_box((read, response)).0.is_ok_and(|it| it.is_complete())
}

fn their_drip(bytes: &[u8]) -> bool {
    (1..=bytes.len()).any(|end| their_request(bytes.get(..end).unwrap_or_default()))
}

/// Heads a CPU-second.
fn rate(seconds: f64, mut read: impl FnMut() -> bool) -> anyhow::Result<f64> {
    let (start, mut done, mut batch) = (own_cpu()?, 0_u64, 1_u64);
    loop {
        anyhow::ensure!((0..batch).all(|_| read()), "a head was not read");
        done += batch;
        batch = (batch * 2).min(65_536);
        let used = own_cpu()? - start;
        if used >= Duration::from_secs_f64(seconds) {
            return Ok(done as f64 / used.as_secs_f64());
        }
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut ours = Ours::new();
    let [mut browser, mut tool, mut response] =
        [BROWSER, TOOL, RESPONSE].map(|head| head.as_bytes().to_vec());
    let mut long = long();
    if let (Some(only), Some(count)) = (args.only, args.count) {
        let read = (0..count).all(|_| match only.as_str() {
            "browser" => ours.request(black_box(&mut browser)),
            "tool" => ours.request(black_box(&mut tool)),
            "response" => ours.response(black_box(&mut response)),
            "drip" => ours.drip(black_box(&mut long)),
            _ => false,
        });
        anyhow::ensure!(read, "no such case, or a head was not read");
        return Ok(());
    }
    println!("heads a CPU-second, one thread, medians of {} runs", args.runs);
    println!("| head | octets | ours | httparse | ratio | allocations of ours |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for case in ["browser", "tool", "response", "4 KiB, octet by octet"] {
        let mut rates = [Vec::new(), Vec::new()];
        let mut allocations = 0;
        let mut octets = 0;
        for _ in 0..args.runs {
            let bytes = match case {
                "browser" => &mut browser,
                "tool" => &mut tool,
                "response" => &mut response,
                _ => &mut long,
            };
            octets = bytes.len();
            let region = Region::new(GLOBAL);
            rates[0].push(rate(args.seconds, || match case {
                "browser" | "tool" => ours.request(black_box(bytes)),
                "response" => ours.response(black_box(bytes)),
                _ => ours.drip(black_box(bytes)),
            })?);
            // Reading the CPU's time allocates, a few times each batch.
            allocations = region.change().allocations;
            rates[1].push(rate(args.seconds, || match case {
                "browser" | "tool" => their_request(black_box(bytes)),
                "response" => their_response(black_box(bytes)),
                _ => their_drip(black_box(bytes)),
            })?);
        }
        // Of each run by itself: the machine is not equally fast all the time.
        let ratio = median(rates[0].iter().zip(&rates[1]).map(|(a, b)| a / b).collect());
        let [ours, theirs] = rates.map(median);
        println!(
            "| {case} | {octets} | {:.3} M | {:.3} M | {:.2} | {allocations} |",
            ours / 1e6,
            theirs / 1e6,
            ratio,
        );
    }
    Ok(())
}
