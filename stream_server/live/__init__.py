"""Streams while they run: the asyncio shell around :mod:`stream_server.session`."""
