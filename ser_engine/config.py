"""The engine's settings: the ``ser_engine`` section of ``config.yaml`` as frozen dataclasses.

Every class checks its own ranges and the combinations between its fields when it is made, so a
value that exists is a value that works. Units are part of the names.

What the settings check their values with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from ser_engine.errors import ConfigError
from ser_engine.frames import ms_to_samples


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside of ``low`` to ``high``, both included.

    Raises:
        ConfigError: it is outside.
    """
    if not low <= value <= high:
        raise ConfigError(f"got {name} {value}, expected {low} to {high}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of ``choices``.

    Raises:
        ConfigError: it is none of them.
    """
    if value not in choices:
        raise ConfigError(f"got {name} '{value}', expected one of {', '.join(choices)}")


def check_frame_hop(name: str, value: int) -> None:
    """Refuse a time between frames that no pass gives.

    Raises:
        ConfigError: it is neither 10 nor 20 ms.
    """
    if value not in (10, 20):
        raise ConfigError(f"got {name} {value}, expected 10 or 20")


RuntimeName = Literal[
    "auto", "torch", "torch-compile", "openvino", "openvino-int8", "onnx", "onnx-int8", "funasr"
]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
FeatureMode = Literal["auto", "cached", "exact"]
Granularity = Literal["utterance", "frame", "stream"]

_FRAME_MS = 20


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which network is used and how it is executed."""

    name: str = "auto"
    """A folder, ``emotion2vec_plus_{large,base,seed}``, ``standard`` or ``compact`` (built in), or
    ``auto``: the best one on disk, else ``standard``."""
    models_dir: str = "~/.cache/emotion-monitor/models"
    """Folder that fetched and prepared models are kept in."""
    hub: Literal["auto", "modelscope", "huggingface"] = "auto"
    """Where a model that is not on disk is fetched from; ``auto`` tries both."""
    hub_timeout_s: float = 5.0
    """Longest wait for a hub's first answer, 0.5 to 60 s."""
    offline: bool = False
    """True: never ask a hub."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    runtime: RuntimeName = "auto"
    """How the network is executed; ``auto`` picks by hardware and installed packages. int8 runs
    faster and moves posteriors by up to a hundredth: ``openvino-int8`` on processors with int8
    instructions, ``onnx-int8`` on any."""
    precision: Precision = "auto"
    """Arithmetic on CUDA; a CPU always computes in fp32 (or int8 with an int8 runtime)."""
    features: FeatureMode = "auto"
    """``cached``: local features of audio that successive windows share are computed once, and
    again only where that could show; ``exact``: every window from its samples; ``auto``: cached on
    a CPU, exact on CUDA, where whole windows fill a batch better."""
    feature_tolerance: float = 0.1
    """Largest relative change of a first-layer activation a cached feature may carry, 0 to 1."""
    feature_cache_mb: int = 1024
    """Memory for cached features, 1 to 1000000 MiB; a stream of emotion2vec base takes 0.9."""
    threads: int = 0
    """CPU threads of the network; 0: one a physical core this process may use, one for
    ``compact``."""
    calibration_dir: str = ""
    """Folder of speech recordings that ``openvino-int8`` is calibrated with, once a model."""

    def __post_init__(self) -> None:
        check_choice("model.hub", self.hub, ("auto", "modelscope", "huggingface"))
        check_choice("model.runtime", self.runtime, get_args(RuntimeName))
        check_choice("model.precision", self.precision, get_args(Precision))
        check_choice("model.features", self.features, get_args(FeatureMode))
        check_range("model.hub_timeout_s", self.hub_timeout_s, 0.5, 60)
        check_range("model.feature_tolerance", self.feature_tolerance, 0, 1)
        check_range("model.feature_cache_mb", self.feature_cache_mb, 1, 1_000_000)
        check_range("model.threads", self.threads, 0, 1024)
        if self.runtime == "openvino-int8" and not self.calibration_dir:
            raise ConfigError(
                "got model.runtime openvino-int8 with model.calibration_dir '', expected a folder"
                " of speech recordings to calibrate with"
            )


@dataclass(frozen=True, slots=True)
class TimelineConfig:
    """How a stream is cut into windows and what is published when."""

    window_ms: int = 4000
    """Audio of one forward pass, 500 to 30000 ms, a multiple of 20."""
    step_ms: int = 500
    """Time between windows, 20 to 10000 ms, a multiple of 20, at most the window."""
    look_ahead_ms: int = 240
    """Frames this close to the window's end wait for the next window; a multiple of 20, less
    than the step."""
    frame_hop_ms: int = 20
    """Resolution of the timeline: 20 (native) or 10 (two passes, twice the cost)."""
    provisional_below_ms: int = 2000
    """Results from less audio than this are marked provisional, 0 to 30000 ms."""

    def __post_init__(self) -> None:
        check_range("timeline.window_ms", self.window_ms, 500, 30_000)
        check_range("timeline.step_ms", self.step_ms, _FRAME_MS, 10_000)
        check_range("timeline.look_ahead_ms", self.look_ahead_ms, 0, 10_000)
        check_range("timeline.provisional_below_ms", self.provisional_below_ms, 0, 30_000)
        for name in ("window_ms", "step_ms", "look_ahead_ms"):
            if getattr(self, name) % _FRAME_MS:
                raise ConfigError(
                    f"got timeline.{name} {getattr(self, name)}, expected a multiple of"
                    f" {_FRAME_MS} (one frame)"
                )
        check_frame_hop("timeline.frame_hop_ms", self.frame_hop_ms)
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

    span_ms: int = 1500
    """Trailing time whose speech frames are pooled, 20 to 30000 ms."""
    activation_threshold: float = 0.5
    """Posterior at which another class takes over, 0 to 1."""
    deactivation_threshold: float = 0.35
    """Posterior below which the present class gives way to the strongest; below the former."""
    min_dwell_ms: int = 400
    """Time a change must last before the label follows, 0 to 10000 ms."""

    def __post_init__(self) -> None:
        check_range("smoothing.span_ms", self.span_ms, _FRAME_MS, 30_000)
        check_range("smoothing.activation_threshold", self.activation_threshold, 0, 1)
        check_range("smoothing.deactivation_threshold", self.deactivation_threshold, 0, 1)
        check_range("smoothing.min_dwell_ms", self.min_dwell_ms, 0, 10_000)
        if self.deactivation_threshold >= self.activation_threshold:
            raise ConfigError(
                f"got smoothing.deactivation_threshold {self.deactivation_threshold} with"
                f" smoothing.activation_threshold {self.activation_threshold}, expected the former"
                " to be the smaller one"
            )


@dataclass(frozen=True, slots=True)
class VadConfig:
    """What counts as speech."""

    detector: Literal["webrtc", "silero", "off"] = "webrtc"
    """``webrtc``; ``silero``, a small network that takes the extra ``silero`` and 20 times the
    time; or ``off``: everything is speech."""
    aggressiveness: int = 2
    """How readily WebRTC's detector calls a frame noise, 0 (rarely) to 3."""
    speech_threshold: float = 0.5
    """Probability from which on Silero hears speech, 0.16 to 1; it stops at 0.15 less."""
    min_level_dbfs: float = -60.0
    """Frames quieter than this are silence whatever the detector says, -120 to 0 dBFS."""
    hangover_ms: int = 200
    """Time after the last speech frame that still counts as speech, 0 to 2000 ms."""
    min_silence_ms: int = 100
    """Shorter silences between speech, the hangover already past, count as speech, 0 to 2000 ms;
    what is beyond the look-ahead is not waited for."""

    def __post_init__(self) -> None:
        check_choice("vad.detector", self.detector, ("webrtc", "silero", "off"))
        check_range("vad.aggressiveness", self.aggressiveness, 0, 3)
        check_range("vad.speech_threshold", self.speech_threshold, 0.16, 1)
        check_range("vad.min_level_dbfs", self.min_level_dbfs, -120, 0)
        check_range("vad.hangover_ms", self.hangover_ms, 0, 2_000)
        check_range("vad.min_silence_ms", self.min_silence_ms, 0, 2_000)


@dataclass(frozen=True, slots=True)
class BatchingConfig:
    """How windows of many streams share the engine."""

    max_batch_size: int = 16
    """Windows of one forward pass, 1 to 1024."""
    max_wait_ms: float = 5.0
    """Longest time a window waits for others to join its batch, 0 to 1000 ms."""
    max_pending: int = 1024
    """Windows that may wait for the engine; more are refused, 1 to 1000000."""
    step_timeout_s: float = 60.0
    """A forward pass that takes longer counts as dead, 1 to 3600 s."""
    max_restarts: int = 3
    """Times a dead worker is brought back before the engine is reported dead, 0 to 100."""

    def __post_init__(self) -> None:
        check_range("batching.max_batch_size", self.max_batch_size, 1, 1024)
        check_range("batching.max_wait_ms", self.max_wait_ms, 0, 1000)
        check_range("batching.max_pending", self.max_pending, 1, 1_000_000)
        check_range("batching.step_timeout_s", self.step_timeout_s, 1, 3600)
        check_range("batching.max_restarts", self.max_restarts, 0, 100)


@dataclass(frozen=True, slots=True)
class PresetConfig:
    """What one purpose asks of an analysis."""

    # Where pydantic reads this class from a file, a key that is none of these fails.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    granularity: Granularity = "utterance"
    """What results are given of."""
    embeddings: bool = False
    """Whether embeddings are kept: of an utterance, or of every frame."""
    frame_hop_ms: int = 20
    """Time between frames: 20 (native) or 10 (a second pass, twice the cost)."""

    def __post_init__(self) -> None:
        check_choice("offline.presets granularity", self.granularity, get_args(Granularity))
        check_frame_hop("offline.presets frame_hop_ms", self.frame_hop_ms)


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

    max_pass_s: float = 30.0
    """Longest audio scored in one forward pass, and longest recording that is a single segment;
    1 to 120 s."""
    segment_min_s: float = 10.0
    """Shortest piece that a longer recording is cut into, 1 to 60 s."""
    segment_max_s: float = 20.0
    """Longest such piece, 2 to 120 s, at least the shortest; never more than ``max_pass_s``."""
    max_batch_s: float = 64.0
    """Audio of all the windows of one batch together, 1 to 3600 s; one window may be more."""
    presets: dict[str, PresetConfig] = field(default_factory=_presets)
    """Named options for a purpose."""
    cache_mb: int = 256
    """Results that are kept for when the same is asked again, 0 to 1000000 MiB; 0: none."""
    cache_dir: str = "~/.cache/emotion-monitor/results"
    """Their folder."""
    cache_days: float = 30.0
    """Age at which they are forgotten, 0 to 36500 days; 0: never."""

    def __post_init__(self) -> None:
        check_range("offline.max_pass_s", self.max_pass_s, 1, 120)
        check_range("offline.segment_min_s", self.segment_min_s, 1, 60)
        check_range("offline.segment_max_s", self.segment_max_s, 2, 120)
        check_range("offline.max_batch_s", self.max_batch_s, 1, 3600)
        check_range("offline.cache_mb", self.cache_mb, 0, 1_000_000)
        check_range("offline.cache_days", self.cache_days, 0, 36_500)
        if self.segment_min_s > self.segment_max_s:
            raise ConfigError(
                f"got offline.segment_min_s {self.segment_min_s} with offline.segment_max_s"
                f" {self.segment_max_s}, expected the former to be no longer"
            )


@dataclass(frozen=True, slots=True)
class SpeakersConfig:
    """How the speakers of one channel are told apart, where that is asked for."""

    model: str = "cam++"
    """A folder of FunASR's cam++, or ``cam++``, which FunASR fetches at first use."""
    threshold: float = 0.5
    """Smallest cosine between a piece of speech and the mean of its speaker's, 0 to 1."""
    max_speakers: int = 8
    """More voices than these are taken for the nearest known one, 1 to 64."""

    def __post_init__(self) -> None:
        check_range("speakers.threshold", self.threshold, 0, 1)
        check_range("speakers.max_speakers", self.max_speakers, 1, 64)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The whole ``ser_engine`` section."""

    model: ModelConfig = field(default_factory=ModelConfig)
    timeline: TimelineConfig = field(default_factory=TimelineConfig)
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)
    vad: VadConfig = field(default_factory=VadConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)
    speakers: SpeakersConfig = field(default_factory=SpeakersConfig)
