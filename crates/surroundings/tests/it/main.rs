//! The observers against real things: an X server, buses with services on them, processes.
