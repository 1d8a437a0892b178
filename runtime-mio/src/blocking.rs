//! The host of plain threads: two for each connection, for embedders and small servers.
