//! The static server, in virtual time and on a disk that can fail.
#![allow(missing_docs)]

mod answers;
mod faults;
mod forms;
mod hot;
mod served;
mod uploads;
