"""Streams while they run: sockets, connections, sessions and their channels."""
