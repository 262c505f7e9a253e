"""The server's end of a stream's decoder: bytes in, samples and holes out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec

import structlog

from stream_server.engines.fetching import child_environment
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.codecs import Codec, codec_of
from stream_server.wire.containers import HEAD_BYTES, container_of
from stream_server.wire.errors import ErrorCode, ProtocolError

_log = structlog.get_logger(__name__)

ANSWER_TIMEOUT_S = 20.0
"""Longest wait for the next piece of what a message holds."""

_HEAD = struct.Struct(">cI")
_INHERITED = ("PATH", "PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""Variables that a child gets. The others may hold keys and passwords."""


class AudioDecoder:
    """Decodes one stream; see ``child.py``. The process starts with the first audio.

    Args:
        audio_format: of the stream; its ``codec`` is not "".
        stream_id: for the log.

    Raises:
        ProtocolError: BAD_FORMAT: this server has nothing to decode with.
    """

    def __init__(self, audio_format: AudioFormat, stream_id: str = "") -> None:
        if find_spec("av") is None:
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                f"got encoding '{audio_format.codec}', which this server cannot decode"
                " without PyAV;"
                " send raw samples, or have the extra 'media' installed on the server",
            )
        self.received_bytes = 0
        self._format = audio_format
        self._stream_id = stream_id
        self._head: bytes | None = b""  # until the stream has begun as it was told
        self._held: list[bytes] = []  # messages, until it is known how they are read
        self._codec: Codec | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._unanswered = 0
        self._error: ProtocolError | None = None

    async def decode(self, data: bytes) -> AsyncIterator[bytes | int]:
        """Yield what a message holds: samples as ``audio_format`` says, or how many never came.

        Raises:
            ProtocolError: BAD_FORMAT: it cannot be decoded, and neither can what follows.
        """
        if self._error is not None:
            raise self._error
        try:
            self.received_bytes += len(data)
            self._held.append(data)
            if self._head is not None:
                self._look_at(data)
            if self._codec is None:
                return
            held, self._held = self._held, []
            await self._send(*((b"D", each) for each in held))
            async for piece in self._answers():
                yield piece
        except ProtocolError as error:
            self._error = error
            self.kill()
            raise

    async def finish(self) -> AsyncIterator[bytes | int]:
        """Yield what is held back, at the end of the stream. Raises as :meth:`decode`."""
        if self._error is not None or (self._process is None and not self._held):
            return
        if self._codec is None:
            self._codec = codec_of(self._format.codec, None, is_all=True)
        held, self._held = self._held, []
        await self._send(*((b"D", each) for each in held), (b"E", b""))
        async for piece in self._answers():
            yield piece

    async def anchor(self) -> None:
        """Take note that time passed that a gap was made for: the stream's times may have it."""
        if self._process is not None and self._error is None:
            await self._send((b"A", b""))

    def kill(self) -> None:
        """End the process, at once. Doing it again does nothing."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def aclose(self) -> None:
        """End the process, and wait until it is gone."""
        self.kill()
        if self._process is not None and self._process.stdout is not None:
            # asyncio learns of the end only when what was written before it is read.
            while await self._process.stdout.read(_HEAD.size << 12):
                pass
            await self._process.wait()

    def _look_at(self, data: bytes) -> None:
        assert self._head is not None, "the beginning was seen"
        self._head += data[: HEAD_BYTES - len(self._head)]
        is_all = len(self._head) >= HEAD_BYTES
        found = container_of(self._head)
        codec = codec_of(self._format.codec, found, is_all=is_all)
        # Told as one thing and turning out to be another after a message or two is found by FFmpeg.
        self._codec = self._codec or codec
        if found is not None or is_all:
            self._head = None

    async def _send(self, *messages: tuple[bytes, bytes]) -> None:
        process = self._process or await self._start()
        assert process.stdin is not None, "it was asked for"
        # Not drained: a message is bounded, and the child may have to be read from before it reads.
        for kind, payload in messages:
            process.stdin.write(_HEAD.pack(kind, len(payload)) + payload)
        self._unanswered += len(messages)

    async def _start(self) -> asyncio.subprocess.Process:
        codec = self._codec
        assert codec is not None, "how the stream is read is known"
        job = {
            "words": codec.words,
            "container": codec.container,
            "decoder": codec.decoder,
            "decoder_hz": codec.decoder_hz,
            "packet_bytes": codec.packet_bytes,
            "rate_hz": self._format.sample_rate_hz,
            "channels": self._format.num_channels,
        }
        environment = child_environment()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "stream_server.decoding.child", json.dumps(job)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: environment[name] for name in _INHERITED if name in environment},
        )
        return self._process

    async def _answers(self) -> AsyncIterator[bytes | int]:
        """Yield what comes until every message is answered; of an interrupted call, too."""
        assert self._process is not None and self._process.stdout is not None, "it runs"
        output = self._process.stdout
        while self._unanswered:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    kind, length = _HEAD.unpack(await output.readexactly(_HEAD.size))
                    payload = await output.readexactly(length)
            except TimeoutError:
                raise self._failed(f"decoding took more than {ANSWER_TIMEOUT_S:g} s") from None
            except (asyncio.IncompleteReadError, ConnectionError):
                raise self._failed("the decoder crashed on it") from None
            match kind:
                case b"K":
                    self._unanswered -= 1
                case b"F":
                    words = payload.decode("utf-8", "replace")
                    codec, stream_id = self._format.codec, self._stream_id
                    _log.info("decoder_failed", stream_id=stream_id, codec=codec, ffmpeg=words)
                case b"X":
                    raise self._failed(payload.decode("utf-8", "replace"))
                case b"L":
                    yield int.from_bytes(payload, "big")
                case _:
                    yield payload

    def _failed(self, why: str) -> ProtocolError:
        words = self._codec.words if self._codec is not None else self._format.codec
        return ProtocolError(
            ErrorCode.BAD_FORMAT,
            f"got audio that cannot be decoded as {words} (encoding '{self._format.codec}'): {why}",
        )
