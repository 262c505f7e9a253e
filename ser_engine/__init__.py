"""Turns audio into emotion timelines. Knows nothing of the other packages.

A recording::

    from ser_engine import analyze

    result = analyze("call.wav")
    print(result.channels[0].overall.label)

A live channel, in a program of your own: ``open_engine`` scores windows, ``ChannelStream`` says
which, and makes points, segments and gaps of the answers; ``examples/embed_live_scoring.py`` is a
whole one.

Names are imported when they are first used: torch takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser_engine.config import EngineConfig, ModelConfig, TimelineConfig
    from ser_engine.core.factory import open_engine
    from ser_engine.errors import SerEngineError, WindowError
    from ser_engine.files import analyze
    from ser_engine.schema import Event, Gap, Point, Segment
    from ser_engine.timeline.channel import ChannelStream
    from ser_engine.types import ModelInfo, Window, WindowResult

__all__ = [
    "ChannelStream",
    "EngineConfig",
    "Event",
    "Gap",
    "ModelConfig",
    "ModelInfo",
    "Point",
    "Segment",
    "SerEngineError",
    "TimelineConfig",
    "Window",
    "WindowError",
    "WindowResult",
    "analyze",
    "open_engine",
]

_MODULES = {
    "config": ("EngineConfig", "ModelConfig", "TimelineConfig"),
    "core.factory": ("open_engine",),
    "errors": ("SerEngineError", "WindowError"),
    "files": ("analyze",),
    "schema": ("Event", "Gap", "Point", "Segment"),
    "timeline.channel": ("ChannelStream",),
    "types": ("ModelInfo", "Window", "WindowResult"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
