//! Event loops for machines, on mio.
//!
//! - [`Host`] drives a [`Shard`](semfio_machine::Shard): a service and its TCP connections, in
//!   one thread. For several cores, run several: shards share nothing.
//! - [`Datagrams`] drives an [`Endpoint`](semfio_machine::Endpoint) over one UDP socket, or over
//!   sockets of several kinds.
//! - `blocking`, a default feature, does what both do with plain threads.
//!
//! None of them knows a protocol, and no protocol knows them. They stand on
//! [`semfio_runtime_os`], which is written for Linux.
//!
//! # An echo server
//!
//! ```
//! use std::convert::Infallible;
//! use std::io::{Read, Write};
//!
//! use semfio_machine::{
//!     Closed, ConnId, Deadline, Input, Net, NetLimits, Now, Outbox, Peer, Refused, Service,
//!     Shard, Step, StreamMachine,
//! };
//! use semfio_runtime_mio::{Host, HostConfig};
//!
//! /// Sends back what comes, as fast as the peer takes it.
//! struct Echo;
//!
//! impl StreamMachine for Echo {
//!     type Event<'i> = usize;
//!     type Command<'c> = ();
//!     type Error = Infallible;
//!     const CARRIES_FILES: bool = false;
//!     fn max_unit(&self) -> usize {
//!         1
//!     }
//!     fn state(&self) -> &'static str {
//!         "Echo"
//!     }
//!     fn handle_input<'i>(&mut self, _: Now, input: &mut Input<'i>, out: &mut Outbox)
//!         -> Result<Step<usize>, Infallible>
//!     {
//!         if input.is_empty() {
//!             return Ok(if input.at_eof() { Step::Done } else { Step::NeedInput(1) });
//!         }
//!         if out.room() == 0 {
//!             return Ok(Step::NeedRoom);
//!         }
//!         let bytes = input.take(out.room());
//!         out.put(bytes);
//!         Ok(Step::Event(bytes.len()))
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
//! /// Counts what is echoed, and reports each connection that ends.
//! #[derive(Default)]
//! struct Server {
//!     echoed: usize,
//!     ended: Option<ConnId>,
//! }
//!
//! enum Message {
//!     Stop,
//! }
//!
//! impl Service<Echo> for Server {
//!     type Message = Message;
//!     type Report = ConnId;
//!     fn accept(&mut self, _: Now, _: &Peer) -> Option<Echo> {
//!         Some(Echo)
//!     }
//!     fn handle_opened(&mut self, _: Now, _: ConnId, _: &Peer, _: &mut Net<Echo>) {}
//!     fn handle_event(&mut self, _: Now, _: ConnId, n: usize, _: &mut Net<Echo>) {
//!         self.echoed += n;
//!     }
//!     fn handle_closed(&mut self, _: Now, id: ConnId, _: Closed<Infallible>, _: &mut Net<Echo>) {
//!         self.ended = Some(id);
//!     }
//!     fn handle_message(&mut self, _: Now, message: Message, net: &mut Net<Echo>) {
//!         match message {
//!             Message::Stop => net.stop(),
//!         }
//!     }
//!     fn poll_report(&mut self) -> Option<ConnId> {
//!         self.ended.take()
//!     }
//! }
//!
//! let shard = Shard::new(Server::default(), NetLimits::default());
//! let mut host = Host::new(shard, HostConfig::default())?;
//! let address = host.listen("127.0.0.1:0".parse().unwrap())?;
//! let client = std::thread::spawn(move || {
//!     let mut stream = std::net::TcpStream::connect(address)?;
//!     stream.write_all(b"hello")?;
//!     stream.shutdown(std::net::Shutdown::Write)?;
//!     std::io::read_to_string(stream)
//! });
//!
//! let handle = host.handle(); // for any thread: a signal handler, a prompt
//! let server = host.run(|_ended| {
//!     // One peer is enough for an example.
//!     let _ = handle.try_send(Message::Stop);
//! })?;
//! assert_eq!(client.join().unwrap()?, "hello");
//! assert_eq!(server.echoed, 5);
//! # Ok::<(), std::io::Error>(())
//! ```

#[cfg(feature = "blocking")]
pub mod blocking;
mod datagram;
mod host;
mod wake;

pub use datagram::Datagrams;
pub use host::Host;
pub use semfio_runtime_os::{Handle, HostConfig, Stopper};
