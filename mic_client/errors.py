"""All errors of a client.

::

    MicClientError
    ├── SourceError                 the audio
    │   ├── PortAudioMissingError   sounddevice or the PortAudio library is not installed
    │   ├── NoSuchDeviceError       no input device of that name or number
    │   ├── DeviceError             the device is there and cannot be used, or was lost
    │   └── AudioFileError          a file that cannot be read
    └── ClientError                 the server, or the way to it
        ├── ConnectionFailedError   no answer, or the connection was lost for good
        ├── RefusedError            the server does not accept this stream
        │   ├── AccessError         a token is missing or wrong, or the origin is not allowed
        │   └── BusyError           the server is full or not ready; later it may work
        └── StreamEndedError        the server ended a running stream

A message says what was got, what is allowed and what to do.
"""

from __future__ import annotations


class MicClientError(Exception):
    """Base class of all errors of this package."""


class SourceError(MicClientError):
    """The audio cannot begin or go on."""


class PortAudioMissingError(SourceError):
    """The library that microphones are read with is not installed."""


class NoSuchDeviceError(SourceError):
    """No input device has that name or number, or several match the name."""


class DeviceError(SourceError):
    """The device cannot be used in this format, is in use, or went away."""


class AudioFileError(SourceError):
    """A file cannot be read as audio."""


class ClientError(MicClientError):
    """The server ended the stream, refused it, or cannot be reached.

    Attributes:
        message: the server's message, or what happened.
        code: one of :class:`~stream_server.wire.errors.ErrorCode`; "" if the server named none.
        remedy: what to do; "" if that is not known.
        retry_after_s: in how many seconds it may work, if the server told.
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
    """The URL does not answer, or the connection was lost and could not be opened again."""


class RefusedError(ClientError):
    """The server does not accept this stream; trying again unchanged does not help."""


class AccessError(RefusedError):
    """A token is missing or wrong, or the origin is not allowed."""


class BusyError(RefusedError):
    """The server is full or not ready, and was so until the client gave up."""


class StreamEndedError(ClientError):
    """The server ended a running stream."""
