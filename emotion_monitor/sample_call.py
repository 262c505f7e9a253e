"""The sample call: as a file to analyse, and as a live stream of this server's own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import structlog

from dashboard.backend import BusyError
from mic_client import ArraySource, StreamClient, StreamOptions, make_sample_call
from mic_client.sample_call import SAMPLE_CALL_ROLES
from stream_server.config import AccessConfig
from stream_server.wire.messages import ChannelSpec, Ready

_log = structlog.get_logger(__name__)

_MAX_CALLS = 3
_READY_TIMEOUT_S = 15.0


async def sample_call_wav() -> bytes:
    """Return the sample call as a WAV file."""
    return await asyncio.to_thread(_wav)


class SampleCalls:
    """Plays the sample call to this server, like any client would.

    Args:
        url: returns where audio comes in.
        access: the tokens, one of which is used.
    """

    def __init__(self, url: Callable[[], str], access: AccessConfig) -> None:
        self._url = url
        self._token = next(iter(access.tokens.values()), "")
        self._calls: set[asyncio.Task[None]] = set()

    async def play(self) -> str:
        """Begin a call; return its stream's id.

        Raises:
            BusyError: too many are being played, or the server does not take it.
        """
        if len(self._calls) >= _MAX_CALLS:
            raise BusyError(f"got a sample call beyond {_MAX_CALLS} at a time, expected fewer")
        begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        call = asyncio.create_task(self._run(begun), name="sample call")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await asyncio.wait((call, begun), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            call.cancel()
        if not begun.done():
            raise BusyError("got no stream for the sample call, expected one: the server is busy")
        return begun.result()

    async def aclose(self) -> None:
        """End all calls."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _run(self, begun: asyncio.Future[str]) -> None:
        samples, rate_hz = await asyncio.to_thread(make_sample_call)
        options = StreamOptions(
            channels=tuple(ChannelSpec(role=role) for role in SAMPLE_CALL_ROLES),
            name="Sample call",
            # So that the stream's page can show single frames.
            wants=frozenset(("points", "frames")),
            token=self._token,
            reconnect_timeout_s=5.0,
        )
        client = StreamClient(ArraySource(samples, rate_hz), self._url(), options)
        try:
            async with client:
                async for message in client:
                    if isinstance(message, Ready) and not begun.done():
                        begun.set_result(message.stream_id)
        except Exception as error:
            _log.warning("sample_call_ended", error=type(error).__name__)


def _wav() -> bytes:
    import soundfile

    samples, rate_hz = make_sample_call()
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()
