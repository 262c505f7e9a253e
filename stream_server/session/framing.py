"""What a session makes of its ``start``, and of marks and flushes."""

from __future__ import annotations

from collections.abc import Collection

from ser_engine.frames import samples_to_s
from ser_engine.types import ModelInfo
from stream_server.protocol.errors import ErrorCode, ProtocolError
from stream_server.protocol.message_base import ModelNotice, StreamChannel
from stream_server.protocol.results import Flushed, Marked, StreamOpened
from stream_server.protocol.stream_spec import StreamSpec
from stream_server.session.notes import Note

__all__ = ["note_result", "stream_channels", "stream_opened"]


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


def stream_opened(
    stream_id: str,
    seq: int,
    spec: StreamSpec,
    channels: tuple[StreamChannel, ...],
    model: ModelInfo,
    step_ms: int,
    at: float,
) -> StreamOpened:
    """Return what says that a stream began at ``at``, seconds since 1970."""
    return StreamOpened(
        stream_id=stream_id,
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


def note_result(stream_id: str, note: Note, seq: int) -> Marked | Flushed:
    """Return what tells a client that its mark or flush was reached."""
    at_sample, at_s = note.at_sample, samples_to_s(note.at_sample)
    if note.mark is None:
        return Flushed(stream_id=stream_id, seq=seq, at_sample=at_sample, at_s=at_s)
    return Marked(stream_id=stream_id, seq=seq, name=note.mark, at_sample=at_sample, at_s=at_s)
