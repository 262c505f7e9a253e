"""Turns windows of audio into emotion posteriors. Knows nothing of the other packages.

::

    from ser_engine import analyze

    result = analyze("call.wav")
    print(result.channels[0].overall.emotion)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser_engine.files import analyze

__all__ = ["analyze"]


def __getattr__(name: str) -> Any:
    """Import :func:`ser_engine.files.analyze` when it is asked for: torch takes seconds."""
    if name != "analyze":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ser_engine.files import analyze

    return analyze
