//! The hub in the simulator: over real links, with members of all dialects.
#![allow(missing_docs)]

mod course;
mod history;
mod hostile;
mod lab;
mod membership;
mod model;
mod resume;
mod sealed;
mod sealed_model;
mod secure;
mod slow;
