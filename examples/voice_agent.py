"""Notes for an LLM about how its user sounds: what both voice agents here have in common.

:class:`ToneTracker` decides, from the results of one stream, when a note is due: an emotion has
lasted for some seconds of speech, or is over. It knows no network and no clock, so it does the same
with a recording. :class:`Listener` streams the audio of an agent to the server and hands the notes
back. Neither knows the frameworks of ``pipecat_emotion.py`` and ``livekit_emotion.py``.

If the user's audio is streamed to the server already, :func:`follow` reads its feed instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import soundfile

from mic_client import ArraySource, StreamClient, StreamOptions, emotion_feed
from mic_client.errors import MicClientError
from mic_client.sources import Chunk, Lost, SourceItem
from mic_client.stream_client import DEFAULT_URL
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.messages import ChannelSpec
from stream_server.wire.results import Point, Result

NOTE_MARK = "[tone of voice]"
"""Begins every note, so that a later one can take the place of an earlier one."""

HOLD_S = 2.0
"""Speech for which an emotion has to last before it is noted."""
MIN_CONFIDENCE = 0.5
"""Least mean posterior of an emotion that is noted."""
MIN_INTERVAL_S = 10.0
"""Least time between two notes."""

NOT_NOTED = ("neutral", "other", "unknown")
"""These are noted only as the end of another emotion."""

_CAVEAT = (
    "This is a guess by a model trained mostly on acted speech: it is often wrong about real"
    " people, and tone is not feeling. Adapt how you speak, not what is true. Do not name the"
    " emotion, do not say that you are listening for it, and believe the user's words first."
)
_MAX_KEPT_S = 5.0
_CLOSE_TIMEOUT_S = 3.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """Something an agent should know from now on.

    Attributes:
        emotion: how the user sounds; "neutral": as usual again.
        confidence: mean posterior of the emotion while it lasted, 0 to 1.
        lasted_s: for how much speech.
        at_s: where in the audio, s.
        narrow_band: heard over the telephone, which costs the model some of its little certainty.
    """

    emotion: str
    confidence: float
    lasted_s: float
    at_s: float
    narrow_band: bool = False

    def text(self) -> str:
        """Return the message for the LLM's context."""
        if self.emotion in NOT_NOTED:
            return f"{NOTE_MARK} The user's voice sounds neutral again; speak as usual."
        line = " over a narrow telephone line" if self.narrow_band else ""
        return (
            f"{NOTE_MARK} The user has sounded {self.emotion} for the last"
            f" {self.lasted_s:.0f} s of speech{line} (confidence {self.confidence:.0%}). {_CAVEAT}"
        )


class ToneTracker:
    """Turns the results of one speaker into notes.

    Args:
        hold_s: speech for which an emotion has to last.
        min_confidence: of its mean posterior, 0 to 1.
        min_interval_s: least audio between two notes; what has changed by then is noted then.
    """

    def __init__(
        self,
        hold_s: float = HOLD_S,
        min_confidence: float = MIN_CONFIDENCE,
        min_interval_s: float = MIN_INTERVAL_S,
    ) -> None:
        self._hold_s = hold_s
        self._min_confidence = min_confidence
        self._min_interval_s = min_interval_s
        self._noted = "neutral"
        self._next_s = 0.0
        self._heard = "neutral"
        self._lasted_s = 0.0
        self._confidence_s = 0.0  # confidence times seconds

    def update(self, result: object) -> Note | None:
        """Take the next result; return a note if one is due."""
        # A provisional point is made of less audio than a reliable one takes.
        if not isinstance(result, Point) or result.provisional:
            return None
        emotion = "neutral" if result.label in (None, *NOT_NOTED) else result.best
        if emotion != self._heard:
            self._heard, self._lasted_s, self._confidence_s = emotion, 0.0, 0.0
        speech_s = (result.end_s - result.start_s) * result.speech_share
        self._lasted_s += speech_s
        self._confidence_s += speech_s * result.confidence
        if emotion == self._noted or self._lasted_s < self._hold_s or result.end_s < self._next_s:
            return None
        confidence = self._confidence_s / self._lasted_s
        # That an emotion is over needs no certainty about the one that follows.
        if emotion != "neutral" and confidence < self._min_confidence:
            return None
        self._noted = emotion
        self._next_s = result.end_s + self._min_interval_s
        return Note(emotion, confidence, self._lasted_s, result.end_s, result.narrow_band)


class PushedAudio:
    """Audio that is pushed by its owner, as the source of a stream.

    It never makes the agent wait: audio that the server has not taken after 5 s is discarded, and
    becomes a gap there.

    Args:
        audio_format: of the audio.
    """

    is_live = True
    is_real_time = True

    def __init__(self, audio_format: AudioFormat) -> None:
        self.format = audio_format
        self._items: deque[SourceItem] = deque()
        self._kept_bytes = 0
        self._changed = asyncio.Event()
        self._is_closed = False

    def push(self, data: bytes) -> None:
        """Add audio, whole samples."""
        if self._is_closed or not data:
            return
        if self._kept_bytes + len(data) > _MAX_KEPT_S * self.format.bytes_per_s:
            lost = len(data) // self.format.bytes_per_tick
            if self._items and isinstance(self._items[-1], Lost):
                lost += self._items.pop().samples  # type: ignore[union-attr]
            self._items.append(Lost(lost))
        else:
            self._items.append(Chunk(data))
            self._kept_bytes += len(data)
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[SourceItem]:
        """Yield what was pushed, until the end."""
        while True:
            while self._items:
                item = self._items.popleft()
                if isinstance(item, Chunk):
                    self._kept_bytes -= len(item.data)
                yield item
            if self._is_closed:
                return
            self._changed.clear()
            await self._changed.wait()

    async def aclose(self) -> None:
        """End the audio."""
        self.end()

    def end(self) -> None:
        """End the audio; what was pushed is still read."""
        self._is_closed = True
        self._changed.set()


class Listener:
    """Streams an agent's audio to the server and calls back with notes.

    An agent must not fail because of this: if the server is away or ends the stream, that is logged
    and no more notes come.

    Args:
        on_note: called with every note.
        url: of the server's ingest port.
        role: of the user; one of the setting ``stream_server.streams.analyse_roles``.
        name: of the stream, for people.
        token: access token, if the server wants one.
        tracker: decides when a note is due.
    """

    def __init__(
        self,
        *,
        on_note: Callable[[Note], Awaitable[None]],
        url: str = DEFAULT_URL,
        role: str = "customer",
        name: str = "",
        token: str = "",
        tracker: ToneTracker | None = None,
    ) -> None:
        self._on_note = on_note
        self._url = url
        self._role = role
        self._name = name
        self._token = token
        self._tracker = tracker or ToneTracker()
        self._source: PushedAudio | None = None
        self._running: asyncio.Task[None] | None = None

    def push(self, pcm: bytes, sample_rate_hz: int, num_channels: int = 1) -> None:
        """Add 16-bit audio of the user; the stream begins with the first of it.

        Audio in another format than the first is left out: the format of a stream cannot change.
        """
        if self._source is None:
            self._source = PushedAudio(AudioFormat("pcm_s16le", sample_rate_hz, num_channels))
            self._running = asyncio.create_task(self._run(self._source), name="emotion-listener")
        format_ = self._source.format
        if (sample_rate_hz, num_channels) == (format_.sample_rate_hz, format_.num_channels):
            self._source.push(pcm)

    async def aclose(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """End the stream and wait for its last results, but not for a server that is away."""
        if self._source is not None:
            self._source.end()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=timeout_s)
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self, source: PushedAudio) -> None:
        channels = (ChannelSpec(role=self._role),) * source.format.num_channels
        options = StreamOptions(
            channels=channels, name=self._name, token=self._token, wants=frozenset(("points",))
        )
        try:
            async with StreamClient(source, self._url, options) as client:
                async for message in client:
                    note = self._tracker.update(message)
                    if note is not None:
                        await self._on_note(note)
        except MicClientError as error:
            _log.warning("the tone of voice is not followed any more: %s", error)
        finally:
            source.end()


async def follow(
    on_note: Callable[[Note], Awaitable[None]],
    stream_id: str,
    url: str = "ws://localhost:7860/feed",
    *,
    role: str = "customer",
    token: str = "",
) -> None:
    """Do the same for a stream from another program: a telephone call, a car's microphone.

    Args:
        on_note: called with every note.
        stream_id: which one.
        url: of the server's HTTP port.
        role: of the user.
        token: access token, if the server wants one.
    """
    tracker = ToneTracker()
    feed = emotion_feed(url, stream=stream_id, roles=[role], types=["point"], token=token)
    result: Result
    async for result in feed:
        note = tracker.update(result)
        if note is not None:
            await on_note(note)


def recording(path: Path) -> ArraySource:
    """Return a recording, mixed to mono and paced as from a microphone, for demonstrations."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return ArraySource(samples.mean(axis=1), rate_hz)
