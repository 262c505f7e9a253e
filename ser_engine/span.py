"""What everything that lies between two samples has."""

from __future__ import annotations

from ser_engine.frames import samples_to_s

__all__ = ["SampleSpan"]


class SampleSpan:
    """From ``start_sample`` to ``end_sample``, the end not included, at 16 kHz."""

    __slots__ = ()

    start_sample: int
    end_sample: int

    @property
    def start_s(self) -> float:
        """Start in seconds."""
        return samples_to_s(self.start_sample)

    @property
    def end_s(self) -> float:
        """End in seconds, not included."""
        return samples_to_s(self.end_sample)
