//! Heads and bodies as they are read, whole and cut.

mod bodies;
mod cuts;
mod drawn;
mod heads;
mod limits;
mod transcript;
