"""One stream, without I/O: bytes and answers in, windows and results out."""

from stream_server.session.session import Session
from stream_server.session.windows import ChannelWindow, supersedes

__all__ = ["ChannelWindow", "Session", "supersedes"]
