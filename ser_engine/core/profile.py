"""Which windows live streams get where ``timeline.profile: auto`` leaves it to the engine.

::

    live, economy ── windows of streams that do not exist ──▶ the engine ──▶ seconds a pass
                                                                                  │
    the first of live, economy, economy with a long step that leaves the engine ◀─┘
    a quarter of its time, with wanted_streams of people who talk without a pause

Nothing here has a clock or an engine: the caller runs the windows and sends how long they took.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import replace
from statistics import median

import numpy as np

from ser_engine.config import EngineConfig, TimelineConfig
from ser_engine.types import FloatArray, Window

Trial = Generator[list[Window], float, TimelineConfig]
"""Yields the windows of a forward pass, is sent the seconds it took, returns what to take."""

MOST_BUSY = 0.75
"""Share of the engine's time that the streams may take. Streams begin when they like, so windows
queue, and files and the server want something, too."""
LONG_STEP_MS = 2000
"""Step where even economy is too dear."""

_PASSES = 3
# Passes of several windows are tried with as many as take about this long.
_LONGEST_PASS_S = 1.0

_log = logging.getLogger(__name__)


def candidates(timeline: TimelineConfig) -> list[TimelineConfig]:
    """Return what ``auto`` chooses from, the dearest first."""
    economy = replace(timeline, profile="economy")
    slow = replace(economy, step_ms=economy.longer_step_ms(LONG_STEP_MS))
    return [replace(timeline, profile="live"), economy, slow]


def choose(config: EngineConfig) -> Trial:
    """Measure, and return the first candidate that is cheap enough."""
    *dear, cheapest = candidates(config.timeline)
    for timeline in dear:
        busy = yield from _busy(timeline, config)
        if busy <= MOST_BUSY:
            return timeline
    return cheapest


def stream_keys(config: EngineConfig) -> list[str]:
    """Return the keys of the streams in a trial's windows, to be forgotten after it."""
    most = min(config.timeline.wanted_streams, config.batching.max_batch_size)
    return [_key(stream) for stream in range(most)]


def _busy(timeline: TimelineConfig, config: EngineConfig) -> Generator[list[Window], float, float]:
    """Return the share of its time that the engine would be busy."""
    streams, step_s = timeline.wanted_streams, timeline.step_ms / 1000
    window_s = yield from _pass_s(timeline, 1)
    size = min(streams, config.batching.max_batch_size, int(_LONGEST_PASS_S / max(window_s, 1e-6)))
    if size > 1:
        # On a GPU many windows take hardly longer than one.
        window_s = (yield from _pass_s(timeline, size)) / size
    busy = streams * window_s / step_s
    _log.info(
        "profile %s: %.1f ms a window of %d ms, so %d streams take %.0f %% of the engine's time",
        timeline.profile,
        1000 * window_s,
        timeline.window_ms,
        streams,
        100 * busy,
    )
    return busy


def _pass_s(timeline: TimelineConfig, size: int) -> Generator[list[Window], float, float]:
    """Return the seconds of a pass with a window of each of ``size`` streams."""
    window, step = timeline.window_samples, timeline.step_samples
    audio = _like_speech(window + (_PASSES + size) * step)
    took_s = []
    # The first pass of a stream keeps nothing yet: it is not what a stream costs.
    for number in range(_PASSES + 1):
        starts = [(number + stream) * step for stream in range(size)]
        seconds = yield [
            Window(audio[start : start + window], start, _key(stream))
            for stream, start in enumerate(starts)
        ]
        if number:
            took_s.append(seconds)
    return median(took_s)


def _key(stream: int) -> str:
    return f"profile/{stream}"


def _like_speech(num_samples: int) -> FloatArray:
    """Return noise that rises and falls by 40 dB four times a second: ``(samples,)``.

    How much of a window has to be computed again depends on how its level moves.
    """
    noise = np.random.default_rng(0).standard_normal(num_samples)
    level_db = 20 * np.sin(2 * np.pi * 4 * np.arange(num_samples) / 16_000) - 40
    return (noise * 10 ** (level_db / 20)).astype(np.float32)
