"""From the results of a stream to the messages of ``/v1/listen``."""

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
from stream_server.platforms.deepgram.spans import Span, SpanTracker, SpeechSpan
from stream_server.wire.messages import Heartbeat, Ready
from stream_server.wire.results import Flushed, Gap, Point, Segment, Summary

_CLOCK_HZ = 16_000
_VERSION = "1"
_ARCHITECTURE = "emotion"


def model_info_of(ready: Ready) -> ModelInfo:
    """Return a model's description in Deepgram's form."""
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
class _Channel:
    """State of one channel. One that is not analysed has no results."""

    index: int
    role: str
    tracker: SpanTracker
    has_reported_pause: bool = True
    has_reported_speech: bool = False


class ListenResults:
    """Makes the messages of one stream."""

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
        self._channels = {
            channel.index: _Channel(channel.index, channel.role, SpanTracker(self._labels))
            for channel in ready.channels
        }
        self._finalized: deque[int | None] = deque()

    def will_finalize(self, channel: int | None) -> None:
        self._finalized.append(channel)

    def of(self, result: Point | Segment | Gap) -> list[ListenMessage]:
        channel = self._channels[result.channel]
        # Finals before the interim that follows them: clients append finals to a transcript.
        messages = self._report(channel, channel.tracker.take(result))
        match result:
            case Point():
                messages += self._interim(channel)
            case Gap():
                messages += self._utterance_end(channel, result.end_sample)
        return messages

    def heartbeat(self, beat: Heartbeat) -> list[ListenMessage]:
        """Return the messages that are due as time passes."""
        messages: list[ListenMessage] = []
        for channel in self._channels.values():
            messages += self._report(channel, channel.tracker.release())
            messages += self._utterance_end(channel, round(beat.published_s * _CLOCK_HZ))
        return messages

    def flushed(self, flushed: Flushed) -> list[ListenMessage]:
        """Return the answer to ``Finalize``: a result for each channel, with or without speech."""
        # Flushes are answered in the order of the requests.
        asked = self._finalized.popleft() if self._finalized else None
        messages: list[ListenMessage] = []
        for channel in self._channels.values():
            messages += self._report(channel, channel.tracker.release())
            if asked is not None and asked != channel.index:
                continue
            span = channel.tracker.cut()
            if span is not None:
                messages += self._speech_started(channel, span)
            at = flushed.at_sample
            messages.append(
                self._results(channel, span or (at, at), is_final=True, from_finalize=True)
            )
        return messages

    def summary(self, summary: Summary) -> list[ListenMessage]:
        return [
            message
            for channel in self._channels.values()
            for message in self._report(channel, channel.tracker.release())
        ]

    def _report(self, channel: _Channel, spans: list[Span]) -> list[ListenMessage]:
        messages: list[ListenMessage] = []
        for each in spans:
            if isinstance(each, SpeechSpan):
                messages += self._speech_started(channel, each)
                messages.append(self._results(channel, each, is_final=True))
                channel.has_reported_speech = each.goes_on
                channel.has_reported_pause = each.goes_on
            else:
                messages += self._utterance_end(
                    channel, each.end_sample, pause_since=each.start_sample
                )
                channel.has_reported_speech = False
                if self._query.gaps:
                    span = (each.start_sample, each.end_sample)
                    messages.append(self._results(channel, span, is_final=True, gap=each.reason))
        return messages

    def _interim(self, channel: _Channel) -> list[ListenMessage]:
        span = channel.tracker.current()
        if span is None:
            return []
        messages = self._speech_started(channel, span)
        if self._query.interim_results:
            messages.append(self._results(channel, span, is_final=False))
        return messages

    def _speech_started(self, channel: _Channel, span: SpeechSpan) -> list[ListenMessage]:
        if channel.has_reported_speech or not span.follows_pause:
            return []
        channel.has_reported_speech = True
        if not self._query.vad_events:
            return []
        return [
            SpeechStarted(channel=self._index(channel), timestamp=span.start_sample / _CLOCK_HZ)
        ]

    def _utterance_end(
        self, channel: _Channel, until_sample: int, *, pause_since: int | None = None
    ) -> list[ListenMessage]:
        since = channel.tracker.pause_since if pause_since is None else pause_since
        least_ms = self._query.utterance_end_ms
        # Once a pause: Deepgram sends UtteranceEnd again only after more speech.
        if not least_ms or since is None or channel.has_reported_pause:
            return []
        if (until_sample - since) * 1000 < least_ms * _CLOCK_HZ:
            return []
        channel.has_reported_pause = True
        return [UtteranceEnd(channel=self._index(channel), last_word_end=since / _CLOCK_HZ)]

    def _index(self, channel: _Channel) -> tuple[int, int]:
        return (channel.index, self._num_channels)

    def _results(
        self,
        channel: _Channel,
        reported: SpeechSpan | tuple[int, int],
        *,
        is_final: bool,
        from_finalize: bool = False,
        gap: str | None = None,
    ) -> Results:
        span = reported if isinstance(reported, SpeechSpan) else None
        start, end = (
            (reported.start_sample, reported.end_sample)
            if isinstance(reported, SpeechSpan)
            else reported
        )
        goes_on = span is not None and span.goes_on
        return Results(
            channel_index=self._index(channel),
            duration=(end - start) / _CLOCK_HZ,
            start=start / _CLOCK_HZ,
            is_final=is_final,
            # Clients end a turn at speech_final, so a change of label within speech must not set
            # it.
            speech_final=is_final and gap is None and not goes_on,
            channel=Channel(alternatives=(self._alternative(span),), role=channel.role),
            metadata=self._metadata,
            emotion=None if span is None else self._emotion(span),
            from_finalize=from_finalize,
            gap=None if gap is None else GapNotice(reason=gap),
        )

    def _alternative(self, span: SpeechSpan | None) -> Alternative:
        if span is None:
            return Alternative(transcript="", confidence=0.0)
        # Clients that index words must find none: an empty transcript has no words.
        # Nor is what is unclear a word.
        if not self._query.transcript or span.label is None:
            return Alternative(transcript="", confidence=span.confidence)
        word = Word(
            word=span.label,
            start=span.start_sample / _CLOCK_HZ,
            end=span.end_sample / _CLOCK_HZ,
            confidence=span.confidence,
            punctuated_word=span.label,
        )
        return Alternative(transcript=span.label, confidence=span.confidence, words=(word,))

    def _emotion(self, span: SpeechSpan) -> Emotion:
        return Emotion(
            label=span.label,
            best=span.best,
            confidence=span.confidence,
            posteriors=dict(zip(self._labels, span.posteriors, strict=False)),
            speech_share=span.speech_share,
            provisional=span.provisional,
            narrow_band=span.narrow_band,
        )
