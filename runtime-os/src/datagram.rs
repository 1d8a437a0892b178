//! Datagram sockets with all the system tells about a datagram.
