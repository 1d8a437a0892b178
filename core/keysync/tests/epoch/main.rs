//! A sealed room, with a hub that is honest and with one that is not.
#![allow(missing_docs, unreachable_pub)]

mod adversary;
mod direct;
mod hostile;
mod model;
mod tape;
mod world;
