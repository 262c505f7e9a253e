"""Whether a model can be relied on: read, made ready, and asked once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from ser_engine.config import EngineConfig
from ser_engine.errors import CheckpointError
from ser_engine.factory import engine_from_checkpoint
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.models.compact.shipped import CompactCheckpoint
from ser_engine.models.inventory import ModelOnDisk, check_model
from ser_engine.types import Window, WindowResult

__all__ = ["CheckResult", "run_check"]

_NOISE_LEVEL = 0.1


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found of a sound model.

    Attributes:
        sha256: of the weight file as published.
        runtime: what executed it.
        read_s: time to read it whole.
        ready_s: time until it could score, reading left out.
        score_ms: time for one second of audio.
    """

    sha256: str
    runtime: str
    read_s: float
    ready_s: float
    score_ms: float


def run_check(model: ModelOnDisk, config: EngineConfig) -> CheckResult:
    """Read a model, make an engine of it and score a second of noise.

    Raises:
        CheckpointError: it is damaged.
        SerEngineError: the settings' runtime cannot execute it.
    """
    began_s = time.monotonic()
    checkpoint = check_model(model, config.model)
    read_s = time.monotonic()
    if isinstance(checkpoint, CompactCheckpoint):
        # The settings' runtime is meant for other models; this one has PyTorch alone.
        config = replace(config, model=replace(config.model, runtime="auto"))
    engine = engine_from_checkpoint(checkpoint, config)
    engine.warm_up()
    ready_s = time.monotonic()
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE_HZ) * _NOISE_LEVEL
    window = Window(noise.astype(np.float32))
    engine.step([window])  # The first of a length may cost more than those that follow.
    begin_s = time.monotonic()
    (answer,) = engine.step([window])
    scored_s = time.monotonic()
    if not isinstance(answer, WindowResult):
        raise CheckpointError(f"got no result for a second of noise: {answer}")
    return CheckResult(
        sha256=checkpoint.info.sha256,
        runtime=engine.runtime_name,
        read_s=read_s - began_s,
        ready_s=ready_s - read_s,
        score_ms=1000 * (scored_s - begin_s),
    )
