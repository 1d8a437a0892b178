//! The tables of both sides, and the page that shows them.

use std::collections::BTreeSet;
use std::{env, fs};

use semfio_http::state::{Act, Exchange, Side, State, diagram};

const ACTS: [Act; 8] = [
    Act::Request,
    Act::Inform,
    Act::Response,
    Act::Data,
    Act::End,
    Act::Switch,
    Act::Close,
    Act::Break,
];

/// Everything that can be reached, with what leads there.
fn reached() -> Vec<(Exchange, Vec<(Side, Act)>)> {
    let mut all = Vec::new();
    for (last, proposed) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut exchange = Exchange::default();
        if last {
            exchange.set_last();
        }
        if proposed {
            exchange.set_proposed();
        }
        all.push((exchange, Vec::new()));
    }
    let mut at = 0;
    while let Some((exchange, way)) = all.get(at).cloned() {
        at += 1;
        for side in [Side::Client, Side::Server] {
            for act in ACTS {
                let mut next = exchange;
                if next.act(side, act).is_ok() && all.iter().all(|(known, _)| *known != next) {
                    let way = [&way[..], &[(side, act)]].concat();
                    all.push((next, way));
                }
            }
        }
    }
    all
}

#[test]
fn the_page_shows_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http-states.md");
    let page = format!(
        "# The states of an HTTP connection\n\n\
         Both machines of `semfio-http` run these tables, each for itself and for its peer. This page is drawn from\n\
         them: `SEMFIO_BLESS=1 cargo test -p semfio-http --test state` writes it anew.\n\n{}",
        diagram()
    );
    if env::var_os("SEMFIO_BLESS").is_some() {
        fs::write(path, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap_or_default(), page);
}

#[test]
fn an_act_is_in_the_table_or_changes_nothing() {
    for (exchange, way) in reached() {
        for side in [Side::Client, Side::Server] {
            for act in ACTS {
                let mut next = exchange;
                let done = next.act(side, act);
                assert_eq!(done.is_ok(), exchange.permits(side, act), "{way:?} {act:?}");
                if done.is_err() {
                    assert_eq!(next, exchange, "{way:?} {act:?}");
                }
            }
        }
    }
}

#[test]
fn one_request_has_one_response() {
    for (exchange, way) in reached() {
        let (client, server) = (exchange.client(), exchange.server());
        // A request needs an idle server, and a response a request, or a breach to be told.
        if exchange.permits(Side::Client, Act::Request) {
            assert_eq!(server, State::Idle, "{way:?}");
        }
        if exchange.permits(Side::Server, Act::Response) && server == State::Idle {
            assert_eq!(client, State::Error, "{way:?}");
        }
        if exchange.permits(Side::Server, Act::Switch) {
            assert_eq!(client, State::MightSwitch, "{way:?}");
        }
        // Who has closed, switched or broken something says nothing more.
        for (side, state) in [(Side::Client, client), (Side::Server, server)] {
            if matches!(state, State::Closed | State::Switched | State::Error) {
                let more =
                    ACTS.iter().find(|it| **it != Act::Break && exchange.permits(side, **it));
                assert_eq!(more, None, "{way:?}");
            }
        }
    }
}

#[test]
fn exchanges_get_everywhere() {
    let names: BTreeSet<&str> = reached().iter().map(|(exchange, _)| exchange.name()).collect();
    for name in [
        "Idle/Idle",
        "SendBody/SendResponse",
        "SendBody/SendBody",
        "Done/SendBody",
        "SendBody/Done",
    ] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
}
