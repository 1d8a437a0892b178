//! Event loops for machines, as futures.
//!
//! - [`Host`] drives a [`Shard`](semfio_machine::Shard): a service and its TCP connections, in
//!   *one* future. There is no task for each connection, so that a turn means the same here as
//!   under any other host.
//! - [`Datagrams`] drives an [`Endpoint`](semfio_machine::Endpoint) over one UDP socket, or over
//!   sockets of several kinds.
//!
//! They stand on `async-io`, the reactor of smol, and read files in the threads of `blocking`, so that
//! no disk holds up the reactor. They bring no executor: `smol::block_on`, `smol::spawn` or any other
//! will do, next to whatever else runs there. None of them knows a
//! protocol, and no protocol knows them. What they need from the system comes from
//! [`semfio_runtime_os`], which is written for Linux.
//!
//! # A server that counts bytes
//!
//! ```
//! use std::convert::Infallible;
//! use std::io::Write;
//!
//! use semfio_machine::{
//!     Closed, ConnId, Deadline, Input, Net, NetLimits, Now, Outbox, Peer, Refused, Service,
//!     Shard, Step, StreamMachine,
//! };
//! use semfio_runtime_smol::{Host, HostConfig};
//!
//! struct Sink;
//!
//! impl StreamMachine for Sink {
//!     type Event<'i> = &'i [u8];
//!     type Command<'c> = ();
//!     type Error = Infallible;
//!     const CARRIES_FILES: bool = false;
//!     fn max_unit(&self) -> usize {
//!         1
//!     }
//!     fn state(&self) -> &'static str {
//!         "Open"
//!     }
//!     fn handle_input<'i>(&mut self, _: Now, input: &mut Input<'i>, _: &mut Outbox)
//!         -> Result<Step<&'i [u8]>, Infallible>
//!     {
//!         match input.len() {
//!             0 if input.at_eof() => Ok(Step::Done),
//!             0 => Ok(Step::NeedInput(1)),
//!             n => Ok(Step::Event(input.take(n))),
//!         }
//!     }
//!     fn handle_command(&mut self, _: Now, _: (), _: &mut Outbox) -> Result<(), Refused> {
//!         Ok(())
//!     }
//!     fn poll_timeout(&self) -> Option<Deadline> {
//!         None
//!     }
//!     fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
//! }
//!
//! /// Ends with its first peer.
//! #[derive(Default)]
//! struct Counter(usize);
//!
//! impl Service<Sink> for Counter {
//!     type Message = ();
//!     type Report = ();
//!     fn accept(&mut self, _: Now, _: &Peer) -> Option<Sink> {
//!         Some(Sink)
//!     }
//!     fn handle_opened(&mut self, _: Now, _: ConnId, _: &Peer, _: &mut Net<Sink>) {}
//!     fn handle_event(&mut self, _: Now, _: ConnId, bytes: &[u8], _: &mut Net<Sink>) {
//!         self.0 += bytes.len();
//!     }
//!     fn handle_closed(
//!         &mut self, _: Now, _: ConnId, _: Closed<Infallible>, net: &mut Net<Sink>,
//!     ) {
//!         net.stop();
//!     }
//!     fn handle_message(&mut self, _: Now, _: (), _: &mut Net<Sink>) {}
//! }
//!
//! let shard = Shard::new(Counter::default(), NetLimits::default());
//! let mut host = Host::new(shard, HostConfig::default())?;
//! let address = host.listen("127.0.0.1:0".parse().unwrap())?;
//! std::net::TcpStream::connect(address)?.write_all(b"hello")?;
//!
//! let Counter(bytes) = async_io::block_on(host.run(|()| {}))?;
//! assert_eq!(bytes, 5);
//! # Ok::<(), std::io::Error>(())
//! ```

mod alarm;
mod datagram;
mod host;
mod ready;
mod spans;

pub use datagram::Datagrams;
pub use host::Host;
pub use semfio_runtime_os::{Handle, HostConfig, Stopper};
