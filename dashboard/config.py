"""The dashboard's settings: the ``dashboard`` section of ``config.yaml`` as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field

from ser_engine.config import check_range
from ser_engine.errors import ConfigError

__all__ = ["AnalyseConfig", "DashboardConfig", "WallConfig"]

_SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class WallConfig:
    """Which streams come first on the wall."""

    weights: dict[str, float] = field(
        default_factory=lambda: {"angry": 1.0, "fearful": 0.8, "sad": 0.6, "disgusted": 0.6}
    )
    """How bad an emotion is; a stream is as bad as its worst channel, whose posteriors are
    weighted by these and averaged; 0 to 1000, 0 for those not named."""
    alert_weights: dict[str, float] = field(
        default_factory=lambda: {"critical": 2.0, "warning": 1.0, "info": 0.0}
    )
    """What an alert that holds and is not acknowledged adds, by severity; 0 to 1000."""
    memory_s: float = 10.0
    """Time constant of the average, s of the stream; 0.5 to 600."""

    def __post_init__(self) -> None:
        check_range("wall.memory_s", self.memory_s, 0.5, 600)
        for name, weight in self.weights.items():
            check_range(f"wall.weights.{name}", weight, 0, 1000)
        for name, weight in self.alert_weights.items():
            check_range(f"wall.alert_weights.{name}", weight, 0, 1000)
            if name not in _SEVERITIES:
                raise ConfigError(
                    f"got wall.alert_weights.{name}, expected some of {', '.join(_SEVERITIES)}"
                )


@dataclass(frozen=True, slots=True)
class AnalyseConfig:
    """Files that are analysed on request."""

    dir: str = ""
    """Folder of files that wait and of results, each store's in a folder of its own; "": analyses
    beside the store's file, or ~/.local/share/emotion-monitor/analyses where it has none. Without a
    store it is a temporary folder."""
    max_file_mb: int = 512
    """Largest file; 1 to 65536 MiB."""
    max_duration_s: float = 14_400.0
    """Longest recording; 1 to 86400 s."""
    max_running: int = 1
    """Files that are analysed at a time; 1 to 16."""
    max_waiting: int = 100
    """Files that wait meanwhile, more are refused; 1 to 10000."""
    max_waiting_mb: int = 4096
    """Disk for files that wait or are analysed, more are refused; 1 to 1048576 MiB."""
    max_kept_mb: int = 4096
    """Disk for results, the oldest go first; 16 to 1048576 MiB."""
    max_pass_s: float = 10.0
    """Longest audio scored in one forward pass: so long live streams may have to wait for it; 1 to
    120 s."""
    keep_audio: bool = False
    """True: keep the audio with the result, as 16 kHz. True or false."""

    def __post_init__(self) -> None:
        check_range("analyse.max_file_mb", self.max_file_mb, 1, 65_536)
        check_range("analyse.max_duration_s", self.max_duration_s, 1, 86_400)
        check_range("analyse.max_running", self.max_running, 1, 16)
        check_range("analyse.max_waiting", self.max_waiting, 1, 10_000)
        check_range("analyse.max_waiting_mb", self.max_waiting_mb, 1, 1 << 20)
        check_range("analyse.max_kept_mb", self.max_kept_mb, 16, 1 << 20)
        check_range("analyse.max_pass_s", self.max_pass_s, 1, 120)


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """The whole ``dashboard`` section."""

    enabled: bool = True
    """False: feeds, health and metrics only. True or false."""
    ingest_url: str = ""
    """Where a browser's microphone connects to, e.g. wss://monitor.example.org/ingest, for servers
    behind a proxy; "": the port of ``stream_server.listen`` on the page's host."""
    max_viewers: int = 100
    """Pages that are shown live data at a time; 1 to 100000."""
    wall: WallConfig = field(default_factory=WallConfig)
    analyse: AnalyseConfig = field(default_factory=AnalyseConfig)

    def __post_init__(self) -> None:
        check_range("max_viewers", self.max_viewers, 1, 100_000)
        if self.ingest_url and not self.ingest_url.startswith(("ws://", "wss://")):
            raise ConfigError(
                f"got ingest_url '{self.ingest_url}', expected ws://HOST or wss://HOST"
            )
