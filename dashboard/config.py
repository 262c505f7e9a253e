"""The dashboard's settings: the ``dashboard`` section of ``config.yaml`` as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError

Weight = Annotated[float, Range(0, 1000)]

_SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class WallConfig:
    """Which streams come first on the wall."""

    weights: dict[str, Weight] = field(
        default_factory=lambda: {"angry": 1.0, "fearful": 0.8, "sad": 0.6, "disgusted": 0.6}
    )
    """How urgent an emotion is; 0 if it is not named. The urgency of a stream is that of its most
    urgent channel: the average of its posteriors, weighted by these; unclear speech counts as 0."""
    alert_weights: dict[str, Weight] = field(
        default_factory=lambda: {"critical": 2.0, "warning": 1.0, "info": 0.0}
    )
    """What an unacknowledged alert adds, by severity; half of it once it is cleared."""
    memory_s: Annotated[float, Range(0.5, 600)] = 10.0
    """Time constant of the average, in time of the stream."""

    def __post_init__(self) -> None:
        check_fields(self, "wall")
        if unknown := set(self.alert_weights) - set(_SEVERITIES):
            raise ConfigError(
                f"got wall.alert_weights.{min(unknown)}, expected some of {', '.join(_SEVERITIES)}"
            )


@dataclass(frozen=True, slots=True)
class AnalyseConfig:
    """Files that are analysed on request."""

    dir: str = ""
    """Folder of waiting files and of results, one for each store in it. "": ``analyses`` beside the
    store's file, or ~/.local/share/emotion-monitor/analyses if it has none; without a store a
    temporary folder."""
    max_file_mb: Annotated[int, Range(1, 65_536)] = 512
    """Largest file."""
    max_duration_s: Annotated[float, Range(1, 86_400)] = 14_400.0
    """Longest recording."""
    max_running: Annotated[int, Range(1, 16)] = 1
    """Files analysed at a time."""
    max_waiting: Annotated[int, Range(1, 10_000)] = 100
    """Files that wait meanwhile; more are refused."""
    max_waiting_mb: Annotated[int, Range(1, 1 << 20)] = 4096
    """Disk for files that wait or are analysed; more are refused."""
    max_kept_mb: Annotated[int, Range(16, 1 << 20)] = 4096
    """Disk for results; the oldest are deleted first."""
    max_pass_s: Annotated[float, Range(1, 120)] = 10.0
    """Longest audio scored in one forward pass; live streams may have to wait until such a pass is
    done."""
    keep_audio: bool = False
    """Keep the audio with the result, at 16 kHz."""

    def __post_init__(self) -> None:
        check_fields(self, "analyse")


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """The dashboard: pages and their interface, on the server's HTTP port."""

    enabled: bool = True
    """Serve the pages and their API; otherwise the port has only feeds, health and metrics."""
    ingest_url: str = ""
    """Where a browser's microphone connects to, e.g. wss://monitor.example.org/ingest, for servers
    behind a proxy. "": ``stream_server.listen.port`` on the page's host."""
    max_viewers: Annotated[int, Range(1, 100_000)] = 100
    """Pages that are shown live data at a time."""
    wall: WallConfig = field(default_factory=WallConfig)
    analyse: AnalyseConfig = field(default_factory=AnalyseConfig)

    def __post_init__(self) -> None:
        check_fields(self, "")
        if self.ingest_url and not self.ingest_url.startswith(("ws://", "wss://")):
            raise ConfigError(
                f"got ingest_url '{self.ingest_url}', expected ws://HOST or wss://HOST"
            )
