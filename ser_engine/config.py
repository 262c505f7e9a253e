"""The engine's settings: the ``ser_engine`` section of ``config.yaml`` as frozen dataclasses.

A field says all there is to say about a setting, once: its type, its range (:class:`Range`) and, in
the docstring below it, its meaning; the unit is the end of its name. From that come the check when
an object is made, the errors of ``emotion_monitor.settings``, and the comments of ``config.yaml``.
A group's ``__post_init__`` adds what concerns several fields.

pydantic reads these classes but is not imported: the engine's core needs torch, numpy and msgspec.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from ser_engine.errors import ConfigError
from ser_engine.frames import ms_to_samples
from ser_engine.schema import Granularity


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers a setting allows, as metadata of its type: ``Annotated[int, Range(1, 64)]``.

    Attributes:
        low, high: both allowed.
        step: if not 0, multiples of it only.
    """

    low: float
    high: float
    step: int = 0

    def __str__(self) -> str:
        if self.step and self.high - self.low == self.step:
            return f"{self.low:g} or {self.high:g}"
        multiple = f", a multiple of {self.step}" if self.step else ""
        # "g" would write a million as 1e+06.
        low, high = (f"{each:.2f}".rstrip("0").rstrip(".") for each in (self.low, self.high))
        return f"{low} to {high}{multiple}"

    def __contains__(self, value: float) -> bool:
        # NaN is in no range: every comparison with it is false.
        return self.low <= value <= self.high and not (self.step and value % self.step)

    def check(self, value: float) -> float:
        """Return the value. Raises ValueError: it is not allowed; the text is what is allowed."""
        if value not in self:
            raise ValueError(str(self))
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> dict[str, Any]:
        """Let pydantic, which calls this hook, check the range after the type."""
        # pydantic's schemas are plain data, so that it need not be imported to make one.
        function = {"type": "no-info", "function": self.check}
        return {"type": "function-after", "function": function, "schema": handler(source)}


Constraint = Range | tuple[Any, ...]
"""A range, or the values to choose from."""


@functools.cache
def constraints_of(group: type) -> dict[str, Constraint]:
    """Return what the fields of a group allow; of a mapping, what its values may be."""
    found: dict[str, Constraint] = {}
    for name, hint in get_type_hints(group, include_extras=True).items():
        kind = get_args(hint)[1] if get_origin(hint) is dict else hint
        if get_origin(kind) is UnionType or get_origin(kind) is Union:
            # "X | None": the range is that of X.
            kind = next(each for each in get_args(kind) if each is not NoneType)
        ranges = [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Range)]
        if ranges:
            found[name] = ranges[0]
        elif get_origin(kind) is Literal:
            found[name] = get_args(kind)
    return found


def allowed(constraint: Constraint) -> str:
    """Return a constraint as text."""
    if isinstance(constraint, Range):
        return str(constraint)
    return f"one of {', '.join(map(str, constraint))}"


def check_fields(group: Any, name: str) -> None:
    """Refuse an object with a field outside its range or choices.

    Args:
        name: in front of the fields' names, e.g. ``timeline``; "": nothing.

    Raises:
        ConfigError: with the setting, the value and what is allowed.
    """
    for field_name, constraint in constraints_of(group.__class__).items():
        value = getattr(group, field_name)
        where = f"{name}.{field_name}" if name else field_name
        entries = value.items() if isinstance(value, dict) else [(None, value)]
        for key, entry in entries:
            # Where None has no meaning the types do not allow it.
            if entry is not None and entry not in constraint:
                setting = where if key is None else f"{where}.{key}"
                raise ConfigError(f"got {setting} {entry!r}, expected {allowed(constraint)}")


RuntimeName = Literal[
    "auto", "torch", "torch-compile", "openvino", "openvino-int8", "onnx", "onnx-int8", "funasr"
]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
FeatureMode = Literal["auto", "cached", "exact"]
Profile = Literal["live", "economy", "auto"]

FrameHop = Annotated[int, Range(10, 20, step=10)]
"""Time between frames, ms: the network's own 20, or 10 by a second pass."""

_FRAME_MS = 20

# Of the profile economy: at most this window, at least this step. A label needs the last 1.2 s of
# speech, which both leave alone.
_ECONOMY_WINDOW_MS, _ECONOMY_STEP_MS = 3000, 1000
_ECONOMY_NEW_SPEECH_MS = 500


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which network is used and how it is executed."""

    name: str = "auto"
    """A folder, ``emotion2vec_plus_large``, ``emotion2vec_plus_base``, ``emotion2vec_plus_seed``,
    ``standard`` or ``compact`` (built in, weights not for commercial use), or ``auto``: the best
    model on disk, otherwise ``standard``. A server may use an engine elsewhere, ``zmq://HOST:PORT``
    or ``zmq:///PATH``, or several with commas between, or ``ray:///NAME``: see ``emotion-monitor
    engine``."""
    models_dir: str = "~/.cache/emotion-monitor/models"
    """Folder that fetched and prepared models are kept in."""
    hub: Literal["auto", "modelscope", "huggingface"] = "auto"
    """Where a model that is not on disk is fetched from; ``auto`` tries both."""
    hub_timeout_s: Annotated[float, Range(0.5, 60)] = 5.0
    """Longest wait for a hub's first answer."""
    offline: bool = False
    """Never ask a hub."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    runtime: RuntimeName = "auto"
    """How the network is executed; ``auto`` picks by hardware and installed packages. int8 runs
    faster and moves posteriors, of emotion2vec+ by up to a hundredth, of ``standard`` by 0.2:
    ``openvino-int8`` on processors with int8 instructions, ``onnx-int8`` on any."""
    precision: Precision = "auto"
    """Arithmetic on CUDA; a CPU always computes in fp32 (or int8 with an int8 runtime)."""
    features: FeatureMode = "auto"
    """``cached``: local features of audio that successive windows share are computed once, and
    again only where the difference would matter; ``exact``: every window is computed from its
    samples; ``auto``: cached on a CPU, exact on CUDA, where whole windows fill a batch better."""
    feature_tolerance: Annotated[float, Range(0, 1)] = 0.1
    """Largest relative change of a first-layer activation that a cached feature may carry."""
    feature_cache_mb: Annotated[int, Range(1, 1_000_000)] = 1024
    """Memory for cached features; a stream of emotion2vec base takes 0.9."""
    threads: Annotated[int, Range(0, 1024)] = 0
    """CPU threads of the network. 0: one for each physical core this process may use, or one for
    ``compact``."""
    calibration_dir: str = ""
    """Folder of speech recordings that ``openvino-int8`` is calibrated with, once for each
    model."""

    def __post_init__(self) -> None:
        check_fields(self, "model")
        if self.runtime == "openvino-int8" and not self.calibration_dir:
            raise ConfigError(
                "got model.runtime openvino-int8 with model.calibration_dir '', expected a folder"
                " of speech recordings to calibrate with"
            )


@dataclass(frozen=True, slots=True)
class TimelineConfig:
    """How a stream is cut into windows and what is published when."""

    window_ms: Annotated[int, Range(500, 30_000, step=_FRAME_MS)] = 4000
    """Audio of one forward pass."""
    step_ms: Annotated[int, Range(_FRAME_MS, 10_000, step=_FRAME_MS)] = 500
    """Time between windows, at most the window."""
    look_ahead_ms: Annotated[int, Range(0, 10_000, step=_FRAME_MS)] = 240
    """Frames this close to the window's end wait for the next window; less than the step."""
    frame_hop_ms: FrameHop = 20
    """Resolution of the timeline: 20 is the network's own, 10 takes two passes and twice the
    time."""
    provisional_below_ms: Annotated[int, Range(0, 30_000)] = 2000
    """Results from less audio than this are marked provisional."""
    min_new_speech_ms: Annotated[int, Range(0, 10_000, step=_FRAME_MS)] = 0
    """Speech shorter than this that has just begun waits for the next window, once, if that still
    leaves room for one that is skipped. Profile ``economy``: at least 500."""
    profile: Profile = "live"
    """``live``: the window and step named here; ``economy``: a window of at most 3000 and a step of
    at least 1000, half the computing of ``live``; ``auto``: whichever of them the engine can do for
    ``wanted_streams``, measured when it starts, with a step of 2000 if need be. Files analysed
    without a server take ``auto`` for ``live``."""
    wanted_streams: Annotated[int, Range(1, 100_000)] = 4
    """Live streams that profile ``auto`` makes room for."""

    def __post_init__(self) -> None:
        check_fields(self, "timeline")
        if self.profile == "economy":
            self._economise()
        if self.step_ms > self.window_ms:
            raise ConfigError(
                f"got timeline.step_ms {self.step_ms} with timeline.window_ms {self.window_ms},"
                " expected a step no longer than the window, or audio would be skipped"
            )
        if self.look_ahead_ms >= self.step_ms:
            raise ConfigError(
                f"got timeline.look_ahead_ms {self.look_ahead_ms} with timeline.step_ms"
                f" {self.step_ms}, expected a look-ahead shorter than the step"
            )
        if self.look_ahead_ms + self.step_ms > self.window_ms:
            raise ConfigError(
                f"got timeline.look_ahead_ms {self.look_ahead_ms} and timeline.step_ms"
                f" {self.step_ms} with timeline.window_ms {self.window_ms}, expected their sum to"
                " fit into the window"
            )

    def _economise(self) -> None:
        # Here, and not where the numbers are used, so that streams, files, ``ready`` and the store
        # cannot disagree about them. Done twice it changes nothing.
        new_speech_ms = max(self.min_new_speech_ms, _ECONOMY_NEW_SPEECH_MS)
        object.__setattr__(self, "window_ms", min(self.window_ms, _ECONOMY_WINDOW_MS))
        object.__setattr__(self, "step_ms", self.longer_step_ms(_ECONOMY_STEP_MS))
        object.__setattr__(self, "min_new_speech_ms", new_speech_ms)

    def longer_step_ms(self, step_ms: int) -> int:
        """Return ``step_ms``, or as much of it as the window has room for; never less than now."""
        longest_ms = (self.window_ms - self.look_ahead_ms) // _FRAME_MS * _FRAME_MS
        return max(self.step_ms, min(step_ms, longest_ms))

    @property
    def longest_wait_samples(self) -> int:
        """Samples before a boundary's due end that speech may have begun and wait for the next.

        With one window skipped after that, a third one still reaches back to all of it.
        """
        longest_ms = self.window_ms - self.look_ahead_ms - 2 * self.step_ms
        return ms_to_samples(max(0, min(longest_ms, self.step_ms)))

    @property
    def window_samples(self) -> int:
        """Samples of a full window."""
        return ms_to_samples(self.window_ms)

    @property
    def step_samples(self) -> int:
        """Samples between windows."""
        return ms_to_samples(self.step_ms)

    @property
    def look_ahead_samples(self) -> int:
        """Samples before a window's end whose frames wait."""
        return ms_to_samples(self.look_ahead_ms)

    @property
    def hop_samples(self) -> int:
        """Samples between frames of the timeline: 320 or 160."""
        return ms_to_samples(self.frame_hop_ms)


@dataclass(frozen=True, slots=True)
class SmoothingConfig:
    """How frame logits become one stable label."""

    span_ms: Annotated[int, Range(_FRAME_MS, 30_000)] = 1200
    """Trailing time whose speech frames are pooled."""
    activation_threshold: Annotated[float, Range(0, 1)] = 0.5
    """Posterior at which another class takes over."""
    deactivation_threshold: Annotated[float, Range(0, 1)] = 0.35
    """Posterior below which the present class gives way to the strongest; less than
    ``activation_threshold``."""
    min_dwell_ms: Annotated[int, Range(0, 10_000)] = 400
    """Time a change must last before the label follows."""
    abstain_below: Annotated[float, Range(0, 1)] | None = None
    """Posterior below which the result is unclear and has no label. null: the value measured for
    the model; 0: the likeliest label always. Neutral needs 0.2 at most."""
    abstain_margin: Annotated[float, Range(0, 1)] = 0.2
    """How far above ``abstain_below`` the posterior must be before an unclear stream gets a label
    again."""
    speaker_baseline: bool = True
    """Compare each channel with its own neutral speech, once there is some, because voices differ
    at rest. Only for models that include the neutral of an average speaker: the built-in ones."""

    def __post_init__(self) -> None:
        check_fields(self, "smoothing")
        if self.deactivation_threshold >= self.activation_threshold:
            raise ConfigError(
                f"got smoothing.deactivation_threshold {self.deactivation_threshold} with"
                f" smoothing.activation_threshold {self.activation_threshold}, expected the former"
                " to be the smaller one"
            )

    def abstain_threshold(self, of_model: float) -> float:
        """Return the posterior below which nothing is said."""
        return of_model if self.abstain_below is None else self.abstain_below


@dataclass(frozen=True, slots=True)
class VadConfig:
    """What counts as speech."""

    detector: Literal["webrtc", "silero", "off"] = "silero"
    """``silero``: a small network that tells voices from other sounds and detects telephone tones;
    ``webrtc``: a fifth of the time, but takes tones, music and noise for speech; ``off``:
    everything is speech."""
    aggressiveness: Annotated[int, Range(0, 3)] = 2
    """How readily WebRTC's detector calls audio noise. 0: rarely."""
    speech_threshold: Annotated[float, Range(0.16, 1)] = 0.5
    """Probability at which Silero's detector reports speech; it stops at 0.15 less."""
    min_level_dbfs: Annotated[float, Range(-120, 0)] = -60.0
    """Frames quieter than this are silence whatever the detector says, unless the stream's voice
    is quiet."""
    lowest_level_dbfs: Annotated[float, Range(-120, 0)] = -90.0
    """The lowest that min_level_dbfs may become for a quiet voice that is 6 dB above the noise and
    at most 40 dB below the loudest speech; only with silero."""
    hangover_ms: Annotated[int, Range(0, 2_000)] = 200
    """Time after the last speech frame that still counts as speech."""
    min_silence_ms: Annotated[int, Range(0, 2_000)] = 100
    """Shorter silences between speech, after the hangover, count as speech. The look-ahead limits
    how long the engine waits to see whether a silence is short."""

    def __post_init__(self) -> None:
        check_fields(self, "vad")


@dataclass(frozen=True, slots=True)
class BatchingConfig:
    """How windows of many streams share the engine."""

    max_batch_size: Annotated[int, Range(1, 1024)] = 16
    """Windows of one forward pass."""
    max_wait_ms: Annotated[float, Range(0, 1000)] = 5.0
    """Longest time a window waits for others to join its batch."""
    max_pending: Annotated[int, Range(1, 1_000_000)] = 1024
    """Windows that may wait for the engine; more are refused."""
    step_timeout_s: Annotated[float, Range(1, 3600)] = 60.0
    """A forward pass that takes longer counts as dead."""
    max_restarts: Annotated[int, Range(0, 100)] = 3
    """How often a dead worker is restarted before the engine is reported dead."""

    def __post_init__(self) -> None:
        check_fields(self, "batching")


@dataclass(frozen=True, slots=True)
class PresetConfig:
    """The options of one purpose."""

    # Where pydantic reads this class from a file, a key that is none of these fails.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    granularity: Granularity = "utterance"
    """What results are given for."""
    embeddings: bool = False
    """Keep embeddings: of an utterance, or of every frame."""
    frame_hop_ms: FrameHop = 20
    """Time between frames: 20 (native) or 10 (a second pass, twice the cost)."""

    def __post_init__(self) -> None:
        check_fields(self, "offline.presets")


def _presets() -> dict[str, PresetConfig]:
    return {
        "call_quality": PresetConfig("utterance"),
        "counselling": PresetConfig("frame", embeddings=True, frame_hop_ms=20),
        "trend_wall": PresetConfig("stream"),
        "mass_screening": PresetConfig("utterance"),
        "recommendation": PresetConfig("utterance", embeddings=True),
        "research": PresetConfig("frame", embeddings=True, frame_hop_ms=10),
    }


@dataclass(frozen=True, slots=True)
class OfflineConfig:
    """How files are analysed."""

    max_pass_s: Annotated[float, Range(1, 120)] = 30.0
    """Longest audio scored in one forward pass; a longer recording is cut into pieces, in
    pauses."""
    segment_min_s: Annotated[float, Range(1, 60)] = 10.0
    """Shortest piece of such a recording."""
    segment_max_s: Annotated[float, Range(2, 120)] = 20.0
    """Longest piece of such a recording, at least ``segment_min_s``; never more than
    ``max_pass_s``."""
    max_batch_s: Annotated[float, Range(1, 3600)] = 64.0
    """Audio of all windows of one batch together; a single window may be longer."""
    pooling: Literal["auto", "all", "speech"] = "auto"
    """Frames whose mean gives the result of a whole and of its pieces: all, or those with speech,
    if there are any. auto: speech for the built-in models, all for emotion2vec+, as in FunASR."""
    presets: dict[str, PresetConfig] = field(default_factory=_presets)
    """Options for a purpose, by name. call_quality: was this call all right; counselling: from
    moment to moment, with embeddings; trend_wall: what a live display would show; mass_screening:
    very many recordings; recommendation: one vector for each recording; research: the finest
    resolution. ``granularity`` is utterance, frame or stream, ``embeddings`` true or false,
    ``frame_hop_ms`` 10 or 20."""
    cache_mb: Annotated[int, Range(0, 1_000_000)] = 256
    """Disk for results that are reused when the same recording is analysed again with the same
    model and settings. 0: none."""
    cache_dir: str = "~/.cache/emotion-monitor/results"
    """Folder of these results. Only its owner can read it, because they say how a person
    sounded."""
    cache_days: Annotated[float, Range(0, 36_500)] = 30.0
    """Age at which results are deleted. 0: never."""

    def __post_init__(self) -> None:
        check_fields(self, "offline")
        if self.segment_min_s > self.segment_max_s:
            raise ConfigError(
                f"got offline.segment_min_s {self.segment_min_s} with offline.segment_max_s"
                f" {self.segment_max_s}, expected the former to be no longer"
            )


@dataclass(frozen=True, slots=True)
class SpeakersConfig:
    """How the speakers of one channel are told apart, where that is asked for."""

    model: str = "cam++"
    """A file of CAM++ weights, a folder that holds one, or ``cam++``, the published ones."""
    threshold: Annotated[float, Range(0, 1)] = 0.3
    """How similar pieces of speech of one speaker must be: their smallest mean cosine. About 0.5
    for weights other than the published ones."""
    max_speakers: Annotated[int, Range(1, 64)] = 8
    """Most speakers to tell apart; beyond that the most similar voices count as one."""
    live: Literal["off", "asked", "mixed", "agent_first"] = "asked"
    """Which live streams have their speakers told apart. ``off``: none; ``asked``: those whose
    client requests it; ``mixed``: also every channel of the role ``mixed``; ``agent_first``: the
    same, and the first speaker there is taken for the agent and left out. It needs the model on
    this machine."""

    def __post_init__(self) -> None:
        check_fields(self, "speakers")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The engine: models, how they are executed, and how a stream becomes a timeline."""

    model: ModelConfig = field(default_factory=ModelConfig)
    timeline: TimelineConfig = field(default_factory=TimelineConfig)
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)
    vad: VadConfig = field(default_factory=VadConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)
    speakers: SpeakersConfig = field(default_factory=SpeakersConfig)
