//! Traces hold no secrets, and replay all the same.

mod course;
mod lab;
mod scan;
mod sealed;
