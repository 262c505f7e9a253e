"""What a session says of a stream as a whole: its channels, beginning, marks and end."""

from __future__ import annotations

from collections.abc import Collection

from ser_engine.frames import samples_to_s
from ser_engine.types import ModelInfo
from stream_server.protocol.errors import ErrorCode, ProtocolError
from stream_server.protocol.message_base import ModelNotice, StreamChannel
from stream_server.protocol.results import (
    ChannelSummary,
    CloseReason,
    Flushed,
    Marked,
    StreamClosed,
    StreamOpened,
    Summary,
)
from stream_server.protocol.stream_spec import StreamSpec
from stream_server.session.notes import Note
from stream_server.session.result_log import ResultLog

__all__ = ["Framing", "stream_channels"]


def stream_channels(spec: StreamSpec, analyse_roles: Collection[str]) -> tuple[StreamChannel, ...]:
    """Return the channels of a stream as the server sees them.

    Raises:
        ProtocolError: none has a role that is analysed.
    """
    channels = tuple(
        StreamChannel(
            index=index,
            role=channel.role,
            name=channel.name,
            analysed=channel.role in analyse_roles,
        )
        for index, channel in enumerate(spec.channels)
    )
    if not any(channel.analysed for channel in channels):
        roles = ", ".join(sorted({channel.role for channel in channels}))
        raise ProtocolError(
            ErrorCode.NOTHING_TO_ANALYSE,
            f"got channels with the roles {roles}, expected at least one of"
            f" {', '.join(analyse_roles)}",
        )
    return channels


class Framing:
    """Publishes the results that are about no channel alone.

    Args:
        stream_id: of the stream.
        log: where results go.
    """

    def __init__(self, stream_id: str, log: ResultLog) -> None:
        self._stream_id = stream_id
        self._log = log

    def opened(
        self,
        spec: StreamSpec,
        channels: tuple[StreamChannel, ...],
        model: ModelInfo,
        step_ms: int,
        at: float,
    ) -> None:
        """Say that the stream began at ``at``, seconds since 1970."""
        self._log.publish(
            lambda seq: StreamOpened(
                stream_id=self._stream_id,
                seq=seq,
                name=spec.name,
                channels=channels,
                model=ModelNotice(name=model.name, licence=model.licence, notice=model.notice),
                labels=model.labels.names,
                metadata=spec.metadata,
                sample_rate=spec.format.sample_rate_hz,
                encoding=spec.format.encoding,
                step_ms=step_ms,
                opened_at=at,
            )
        )

    def note(self, note: Note) -> None:
        """Tell a client that its mark or flush was reached."""
        at_sample, at_s = note.at_sample, samples_to_s(note.at_sample)
        mark, stream_id = note.mark, self._stream_id
        if mark is None:
            self._log.publish(
                lambda seq: Flushed(stream_id=stream_id, seq=seq, at_sample=at_sample, at_s=at_s)
            )
        else:
            self._log.publish(
                lambda seq: Marked(
                    stream_id=stream_id, seq=seq, name=mark, at_sample=at_sample, at_s=at_s
                )
            )

    def closed(
        self,
        reason: CloseReason,
        at: float,
        *,
        clock_samples: int,
        received_samples: int,
        channels: tuple[ChannelSummary, ...],
        alerts: int,
    ) -> None:
        """Sum up, and say that the stream ended at ``at``, seconds since 1970."""
        self._log.publish(
            lambda seq: Summary(
                stream_id=self._stream_id,
                seq=seq,
                reason=reason,
                duration_s=samples_to_s(clock_samples),
                received_samples=received_samples,
                channels=channels,
                alerts=alerts,
            )
        )
        self._log.publish(
            lambda seq: StreamClosed(
                stream_id=self._stream_id, seq=seq, reason=reason, closed_at=at
            )
        )
