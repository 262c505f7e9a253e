"""Everything that can end a client.

::

    MicClientError
    ├── SourceError                 the audio
    │   ├── PortAudioMissingError   sounddevice or the PortAudio library is not installed
    │   ├── NoSuchDeviceError       no input device of that name or number
    │   ├── DeviceError             the device is there and cannot be used, or was lost
    │   └── AudioFileError          a file that cannot be read
    └── ClientError                 the server, or the way to it
        ├── ConnectionFailedError   nobody answers, or the connection was lost for good
        ├── RefusedError            the server will not have this stream
        │   ├── AccessError         a token is missing or wrong, or the origin is not allowed
        │   └── BusyError           the server is full or not ready; later it may work
        └── StreamEndedError        the server ended a running stream

Messages say what was got, what was expected and what to do.
"""

from __future__ import annotations

__all__ = [
    "AccessError",
    "AudioFileError",
    "BusyError",
    "ClientError",
    "ConnectionFailedError",
    "DeviceError",
    "MicClientError",
    "NoSuchDeviceError",
    "PortAudioMissingError",
    "RefusedError",
    "SourceError",
    "StreamEndedError",
]


class MicClientError(Exception):
    """Base class."""


class SourceError(MicClientError):
    """The audio cannot begin or go on."""


class PortAudioMissingError(SourceError):
    """The library that microphones are read with is not installed."""


class NoSuchDeviceError(SourceError):
    """There is no input device of that name or number."""


class DeviceError(SourceError):
    """The device is there and cannot be used, or it went away."""


class AudioFileError(SourceError):
    """A file cannot be read as audio."""


class ClientError(MicClientError):
    """The server ended the stream, refused it, or is not there.

    Args:
        message: what was got and what was expected.
        code: the server's word for it, one of
            :class:`~stream_server.wire.errors.ErrorCode`; "" where it said none.
        remedy: what to do; "" where nobody knows.
        retry_after_s: when the server says it may work.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        remedy: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{message}. {remedy}" if remedy else message)
        self.message = message
        self.code = code
        self.remedy = remedy
        self.retry_after_s = retry_after_s


class ConnectionFailedError(ClientError):
    """Nobody answers at the URL, or the connection was lost and could not be had again."""


class RefusedError(ClientError):
    """The server will not have this stream; trying again unchanged does not help."""


class AccessError(RefusedError):
    """A token is missing or wrong, or the origin is not allowed."""


class BusyError(RefusedError):
    """The server is full or not ready, and was so until the client gave up."""


class StreamEndedError(ClientError):
    """The server ended a running stream."""
