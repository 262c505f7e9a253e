"""What an analysis is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ser_engine.config import EngineConfig, FrameHop, check_fields
from ser_engine.errors import AudioError, ConfigError
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
        roles: who speaks in each channel, in their order; (): ``speaker`` in all of them.
        analyse_roles: channels of other roles are not scored; None: all are.

    Raises:
        ConfigError: there is no such granularity, or no such frame.
    """

    granularity: Granularity = "utterance"
    embeddings: bool = False
    frame_hop_ms: FrameHop = 20
    speakers: bool = False
    details: bool = False
    raw: RawFormat | None = None
    roles: tuple[str, ...] = ()
    analyse_roles: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self, "")

    def analysed_channels(self, num_channels: int) -> tuple[int, ...]:
        """Return the indices of the channels whose role is analysed.

        Raises:
            AudioError: the file has another number of channels than roles were given for, or none
                has a role that is analysed.
        """
        if self.roles and len(self.roles) != num_channels:
            raise AudioError(
                f"got {len(self.roles)} roles for {num_channels} channels, expected one a channel"
            )
        wanted = self.analyse_roles
        channels = tuple(
            index
            for index in range(num_channels)
            if wanted is None or self.role_of(index) in wanted
        )
        if not channels:
            roles = ", ".join(sorted(set(self.roles) or {DEFAULT_ROLE}))
            raise AudioError(
                f"got channels with the roles {roles}, expected at least one of"
                f" {', '.join(wanted or ())}"
            )
        return channels

    def role_of(self, channel: int) -> str:
        return self.roles[channel] if self.roles else DEFAULT_ROLE


DEFAULT_ROLE = "speaker"
"""Of a channel nobody says more of, live and in files."""

_ROLE = re.compile(r"[a-z0-9_-]{1,32}")


def roles_of(text: str) -> tuple[str, ...]:
    """Return the roles of a list such as ``customer,agent``; () for an empty text.

    Raises:
        ConfigError: one is no role.
    """
    roles = tuple(role.strip() for role in text.split(",")) if text.strip() else ()
    for role in roles:
        if not _ROLE.fullmatch(role):
            raise ConfigError(
                f"got the role '{role[:40]}', expected 1 to 32 of the characters a-z, 0-9, '_' and"
                " '-', one role a channel with commas between them"
            )
    return roles


def options_in_effect(options: AnalysisOptions, config: EngineConfig) -> AnalysisOptions:
    """Return options as they show in a result: what makes no difference has its default."""
    granularity = options.granularity
    is_native = options.frame_hop_ms == config.timeline.frame_hop_ms == 20
    return replace(
        options,
        embeddings=options.embeddings and granularity == "frame",
        frame_hop_ms=20 if is_native or granularity == "utterance" else 10,
        details=options.details and granularity == "stream",
        # Where all channels are speakers' there is nothing to choose from.
        analyse_roles=options.analyse_roles if options.roles else None,
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
