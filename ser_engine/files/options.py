"""What an analysis is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ser_engine.config import EngineConfig, FrameHop, check_fields
from ser_engine.errors import ConfigError
from ser_engine.raw_audio import RawFormat
from ser_engine.schema import Granularity


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """What an analysis gives.

    Attributes:
        granularity: what to give results of: the whole, every frame, or the points of a stream.
        embeddings: keep those of every frame (``frame`` only): ``dim`` floats 50 times a second. An
            utterance always has its own.
        frame_hop_ms: time between frames, 20 or 10 ms; 10 takes a second pass over every window
            and matters to ``frame`` and ``stream``. An engine made for 10 ms gives 10 in any case.
        speakers: tell the speakers of each channel apart.
        details: give the points of ``stream`` their frames.
        raw: what files without a header hold; None: such files are refused.

    Raises:
        ConfigError: there is no such granularity, or no such frame.
    """

    granularity: Granularity = "utterance"
    embeddings: bool = False
    frame_hop_ms: FrameHop = 20
    speakers: bool = False
    details: bool = False
    raw: RawFormat | None = None

    def __post_init__(self) -> None:
        check_fields(self, "")


def options_in_effect(options: AnalysisOptions, config: EngineConfig) -> AnalysisOptions:
    """Return options as they show in a result: what makes no difference has its default."""
    granularity = options.granularity
    is_native = options.frame_hop_ms == config.timeline.frame_hop_ms == 20
    return replace(
        options,
        embeddings=options.embeddings and granularity == "frame",
        frame_hop_ms=20 if is_native or granularity == "utterance" else 10,
        details=options.details and granularity == "stream",
    )


def options_of_preset(name: str, config: EngineConfig) -> AnalysisOptions:
    """Return the options that ``offline.presets`` has under a name.

    Raises:
        ConfigError: there is none of that name.
    """
    presets = config.offline.presets
    if name not in presets:
        known = ", ".join(sorted(presets)) or "none: offline.presets is empty"
        raise ConfigError(f"got preset '{name}', expected one of {known}")
    preset = presets[name]
    return AnalysisOptions(
        granularity=preset.granularity,
        embeddings=preset.embeddings,
        frame_hop_ms=preset.frame_hop_ms,
    )
