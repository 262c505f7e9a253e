"""How a stream is doing, as its client is told every second."""

from __future__ import annotations

from collections.abc import Collection

from stream_server.live.lane import LaneStats
from stream_server.protocol.server_messages import Heartbeat
from stream_server.session.session import Session

__all__ = ["heartbeat_of"]


def heartbeat_of(
    session: Session, lanes: Collection[LaneStats], *, received_controls: int, step_s: float
) -> Heartbeat:
    """Return the heartbeat of a stream.

    Args:
        session: the stream's core.
        lanes: what the lanes of its analysed channels did lately.
        received_controls: requests other than audio and keep-alives that were dealt with.
        step_s: the engine's step; told as the effective one until windows were answered.
    """
    engine_s = sum(each.engine_s for each in lanes)
    audio_s = sum(each.audio_s for each in lanes)
    windows = sum(each.windows for each in lanes)
    lag_s = max(session.received_s - session.published_s, 0.0)
    return Heartbeat(
        stream_id=session.stream_id,
        received_samples=session.received_samples,
        received_controls=received_controls,
        received_s=round(session.received_s, 3),
        published_s=round(session.published_s, 3),
        lag_ms=round(lag_s * 1000, 1),
        real_time_factor=round(engine_s / audio_s, 4) if audio_s else 0.0,
        effective_step_ms=round(1000 * (audio_s / windows if windows else step_s), 1),
    )
