"""The messages of ``/api/v1/live``: tiles of the wall, and one stream as it happens."""

from __future__ import annotations

import msgspec

from ser_engine.schema import GapReason, LastingState, Severity
from stream_server.store import StreamRecord
from stream_server.wire.results import Result


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a live stream is doing; fields as in ``heartbeat``."""

    received_s: float
    published_s: float
    lag_ms: float
    real_time_factor: float
    effective_step_ms: float
    unrecorded_s: float | None = None


class StreamItem(StreamRecord, frozen=True, kw_only=True):
    """A stream, live or ended, with what lists show of it.

    Attributes:
        live: whether it has not ended.
        share: part of its scored time by label, ``unclear`` among them, 0 to 1; empty: nothing was
            scored.
        alerts: how many were raised.
        open_alerts: how many are not acknowledged.
        recorded: channels whose audio is kept.
        continued_by: id of the stream in which its client went on.
    """

    live: bool
    share: dict[str, float]
    alerts: int
    open_alerts: int
    recorded: list[int]
    continued_by: str | None


class LiveSnapshot(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot"):
    """The first message about a stream; the page starts over. Results follow as LiveResults."""

    stream: StreamItem
    results: list[Result]
    status: StreamStatus | None = None


class LiveResults(msgspec.Struct, frozen=True, kw_only=True, tag="results"):
    """Results in order of ``seq``.

    Attributes:
        results: a later segment or gap with the same channel and start replaces an earlier one.
        dropped: how many are missing, on a server without a store to read them from.
        status: how the stream is doing, about once a second while it is live.
        speakers: what people call its speakers, where somebody has just given a name; as in
            StreamItem.
    """

    results: list[Result]
    dropped: int = 0
    status: StreamStatus | None = None
    speakers: dict[str, dict[str, str]] | None = None


TrendEntry = tuple[float, str | None, float]
"""Start of a span of 5 s, in s of the stream; the label for the longest part of it (None: unclear);
its mean confidence, 0 to 1."""


class TileChannel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel now.

    Attributes:
        label: the last one; None: unclear, or no speech yet.
        confidence: the last one, 0 to 1; None: no speech yet.
        since_s: where the label began to hold, s of the stream.
        speaking: whether there is speech now.
        state: how it has been for the last half minute of speech.
        trend: the last three minutes, a value every 5 s that had speech.
    """

    channel: int
    role: str
    name: str
    analysed: bool
    label: str | None
    confidence: float | None
    since_s: float | None
    speaking: bool
    state: LastingState
    trend: list[TrendEntry]


class TileAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is still active, or that nobody has acknowledged; fields as in ``alert``.

    Attributes:
        cleared_s: where it was cleared, s of the stream; None: it is active.
        times: unacknowledged alerts of this rule and channel, this one included; only the one that
            needs attention most is sent.
    """

    alert_id: str
    rule: str
    severity: Severity
    channel: int
    role: str
    since_s: float
    at_s: float
    acknowledged: bool
    cleared_s: float | None = None
    times: int = 1


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One live stream.

    Attributes:
        roles: of its channels, in their order.
        duration_s: up to the last result.
        alerts: the active ones and those that are not acknowledged, one for each rule and channel.
        worst: how much it needs attention; the highest come first.
        withheld: why nothing of it is analysed now; None: it is.
        team: whose it is; "": nobody's in particular.
    """

    stream_id: str
    name: str
    team: str = ""
    roles: list[str]
    model: str
    opened_at: float
    duration_s: float
    channels: list[TileChannel]
    alerts: list[TileAlert]
    worst: float
    withheld: GapReason | None = None


class ChangedChannel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What may change of a channel; ``trend`` is left out where it has not."""

    channel: int
    label: str | None
    confidence: float | None
    since_s: float | None
    speaking: bool
    state: LastingState
    trend: list[TrendEntry] | msgspec.UnsetType = msgspec.UNSET


class ChangedTile(msgspec.Struct, frozen=True, kw_only=True):
    """What may change of a tile; all else stays as it was."""

    stream_id: str
    duration_s: float
    channels: list[ChangedChannel]
    alerts: list[TileAlert]
    worst: float
    withheld: GapReason | None = None


class WallSnapshot(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot"):
    """The first message of the wall, and the first after a page is visible again.

    Attributes:
        now: the server's clock, s since 1970, UTC.
        tiles: all live streams, the worst first.
    """

    now: float
    tiles: list[Tile]


class WallChanges(msgspec.Struct, frozen=True, kw_only=True, tag="changes"):
    """What has happened since the last message.

    Attributes:
        now: the server's clock, s since 1970, UTC.
        opened: new streams, whole.
        changed: of streams that are known, what may have changed.
        removed: streams that have ended.
    """

    now: float
    opened: list[Tile]
    changed: list[ChangedTile]
    removed: list[str]
