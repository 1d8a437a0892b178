//! Every byte is proved on arrival, and nothing else is taken.

mod differential;
mod hostile;
mod outline;
mod ranges;
mod resume;
mod transfer;
mod wire;
