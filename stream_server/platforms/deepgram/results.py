"""From results of a stream to the messages of ``/v1/listen``."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass

from stream_server.platforms.deepgram.messages import (
    Alternative,
    Channel,
    Emotion,
    GapNotice,
    ListenMessage,
    ModelInfo,
    Results,
    ResultsMetadata,
    SpeechStarted,
    UtteranceEnd,
    Word,
)
from stream_server.platforms.deepgram.query import ListenQuery
from stream_server.platforms.deepgram.spans import Stretch, StretchTracker, Tile
from stream_server.wire.messages import Heartbeat, Ready
from stream_server.wire.results import Flushed, Gap, Point, Segment, Summary

_CLOCK_HZ = 16_000
_VERSION = "1"
_ARCHITECTURE = "emotion"


def model_info_of(ready: Ready) -> ModelInfo:
    """Return what Deepgram's clients are told of a model."""
    model = ready.model
    return ModelInfo(
        name=model.name,
        version=_VERSION,
        arch=_ARCHITECTURE,
        licence=model.licence,
        notice=model.notice,
    )


def model_uuid_of(ready: Ready) -> str:
    """Return a model's identifier: the same for the same name, wherever it runs."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"emotion-monitor/{ready.model.name}"))


@dataclass(slots=True)
class _Lane:
    """One channel; of one that is not analysed there are no results."""

    index: int
    role: str
    tracker: StretchTracker
    is_told_of_pause: bool = True
    is_told_of_speech: bool = False


class ListenResults:
    """What one stream's client is told of its channels.

    Args:
        query: what it asked for.
        request_id: names the request.
        ready: how the stream began.
    """

    def __init__(self, query: ListenQuery, request_id: str, ready: Ready) -> None:
        self._query = query
        self._labels = tuple(label.name for label in ready.labels)
        self._num_channels = len(ready.channels)
        self._metadata = ResultsMetadata(
            request_id=request_id,
            model_info=model_info_of(ready),
            model_uuid=model_uuid_of(ready),
            stream_id=ready.stream_id,
        )
        self._lanes = {
            channel.index: _Lane(channel.index, channel.role, StretchTracker(self._labels))
            for channel in ready.channels
        }
        self._finalized: deque[int | None] = deque()

    def will_finalize(self, channel: int | None) -> None:
        """Say that a flush was asked for, of one channel or of all."""
        self._finalized.append(channel)

    def of(self, result: Point | Segment | Gap) -> list[ListenMessage]:
        """Return what is to be said of a result."""
        lane = self._lanes[result.channel]
        messages = self._tiles(lane, lane.tracker.take(result))
        match result:
            case Point():
                messages += self._interim(lane)
            case Gap():
                messages += self._utterance_end(lane, result.end_sample)
        return messages

    def heartbeat(self, beat: Heartbeat) -> list[ListenMessage]:
        """Return what is due as time goes on."""
        messages: list[ListenMessage] = []
        for lane in self._lanes.values():
            messages += self._tiles(lane, lane.tracker.release())
            messages += self._utterance_end(lane, round(beat.published_s * _CLOCK_HZ))
        return messages

    def flushed(self, flushed: Flushed) -> list[ListenMessage]:
        """Return the answer to ``Finalize``: a result for each channel, with or without speech."""
        asked = self._finalized.popleft() if self._finalized else None
        messages: list[ListenMessage] = []
        for lane in self._lanes.values():
            messages += self._tiles(lane, lane.tracker.release())
            if asked is not None and asked != lane.index:
                continue
            stretch = lane.tracker.cut()
            if stretch is not None:
                messages += self._speech_started(lane, stretch)
            at = flushed.at_sample
            messages.append(
                self._results(lane, stretch or (at, at), is_final=True, from_finalize=True)
            )
        return messages

    def summary(self, summary: Summary) -> list[ListenMessage]:
        """Return what is left at the end."""
        return [
            message
            for lane in self._lanes.values()
            for message in self._tiles(lane, lane.tracker.release())
        ]

    def _tiles(self, lane: _Lane, tiles: list[Tile]) -> list[ListenMessage]:
        messages: list[ListenMessage] = []
        for tile in tiles:
            if isinstance(tile, Stretch):
                messages += self._speech_started(lane, tile)
                messages.append(self._results(lane, tile, is_final=True))
                lane.is_told_of_speech = tile.goes_on
                lane.is_told_of_pause = tile.goes_on
            else:
                messages += self._utterance_end(
                    lane, tile.end_sample, pause_since=tile.start_sample
                )
                lane.is_told_of_speech = False
                if self._query.gaps:
                    span = (tile.start_sample, tile.end_sample)
                    messages.append(self._results(lane, span, is_final=True, gap=tile.reason))
        return messages

    def _interim(self, lane: _Lane) -> list[ListenMessage]:
        stretch = lane.tracker.current()
        if stretch is None:
            return []
        messages = self._speech_started(lane, stretch)
        if self._query.interim_results:
            messages.append(self._results(lane, stretch, is_final=False))
        return messages

    def _speech_started(self, lane: _Lane, stretch: Stretch) -> list[ListenMessage]:
        if lane.is_told_of_speech or not stretch.follows_pause:
            return []
        lane.is_told_of_speech = True
        if not self._query.vad_events:
            return []
        return [
            SpeechStarted(channel=self._index(lane), timestamp=stretch.start_sample / _CLOCK_HZ)
        ]

    def _utterance_end(
        self, lane: _Lane, until_sample: int, *, pause_since: int | None = None
    ) -> list[ListenMessage]:
        since = lane.tracker.pause_since if pause_since is None else pause_since
        least_ms = self._query.utterance_end_ms
        if not least_ms or since is None or lane.is_told_of_pause:
            return []
        if (until_sample - since) * 1000 < least_ms * _CLOCK_HZ:
            return []
        lane.is_told_of_pause = True
        return [UtteranceEnd(channel=self._index(lane), last_word_end=since / _CLOCK_HZ)]

    def _index(self, lane: _Lane) -> tuple[int, int]:
        return (lane.index, self._num_channels)

    def _results(
        self,
        lane: _Lane,
        told: Stretch | tuple[int, int],
        *,
        is_final: bool,
        from_finalize: bool = False,
        gap: str | None = None,
    ) -> Results:
        stretch = told if isinstance(told, Stretch) else None
        start, end = (told.start_sample, told.end_sample) if isinstance(told, Stretch) else told
        goes_on = stretch is not None and stretch.goes_on
        return Results(
            channel_index=self._index(lane),
            duration=(end - start) / _CLOCK_HZ,
            start=start / _CLOCK_HZ,
            is_final=is_final,
            speech_final=is_final and gap is None and not goes_on,
            channel=Channel(alternatives=(self._alternative(stretch),), role=lane.role),
            metadata=self._metadata,
            emotion=None if stretch is None else self._emotion(stretch),
            from_finalize=from_finalize,
            gap=None if gap is None else GapNotice(reason=gap),
        )

    def _alternative(self, stretch: Stretch | None) -> Alternative:
        if stretch is None:
            return Alternative(transcript="", confidence=0.0)
        if not self._query.transcript:
            return Alternative(transcript="", confidence=stretch.confidence)
        word = Word(
            word=stretch.label,
            start=stretch.start_sample / _CLOCK_HZ,
            end=stretch.end_sample / _CLOCK_HZ,
            confidence=stretch.confidence,
            punctuated_word=stretch.label,
        )
        return Alternative(transcript=stretch.label, confidence=stretch.confidence, words=(word,))

    def _emotion(self, stretch: Stretch) -> Emotion:
        return Emotion(
            label=stretch.label,
            confidence=stretch.confidence,
            posteriors=dict(zip(self._labels, stretch.posteriors, strict=False)),
            speech_share=stretch.speech_share,
            provisional=stretch.provisional,
            narrow_band=stretch.narrow_band,
        )
