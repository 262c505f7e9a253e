"""What a stream says: points, segments and gaps.

Times are sample indices of the stream's clock; ``start_s`` and ``end_s`` are for the edges.
Segments and gaps with ``final`` set tile the stream: they start at 0, do not overlap, leave
nothing out and end where the stream ends::

    audio      ~~~~silence~~~~ speech speech speech ~~~~ speech speech speech speech
    windows                  ^           ^           ^           ^          ^
    points                   [--point---)[--point---)[---point--)[--point--)
    tiling     [----gap------)[----segment happy----)[gap)[-happy-)[---segment sad---

What everything that lies between two samples has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ser_engine.frames import samples_to_s


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


GapReason = Literal["silence", "too_short", "overload", "error", "paused", "discarded", "lost"]
"""Why a span has no result.

``silence``: the detector heard no speech. ``too_short``: fewer than 400 samples between two
interruptions. ``overload``: windows were skipped until no window held the audio any more.
``error``: the engine could not score the window. ``paused``, ``discarded``, ``lost``: the audio
never came; the caller says which.
"""


@dataclass(frozen=True, slots=True, eq=False)
class FrameDetail:
    """The speech frames one point was made from. Silent frames are left out.

    Attributes:
        start_samples: int64 ``(frames,)``, where each frame's cell starts on the stream's clock.
        hop_samples: length of a cell: 320 or 160.
        logits: float32 ``(frames, classes)``, as the engine gave them.
        posteriors: float64 ``(frames, classes)``, pooled over the trailing span.
        labels: int64 ``(frames,)``, index of the label that was believed at each frame.
    """

    start_samples: npt.NDArray[np.int64]
    hop_samples: int
    logits: npt.NDArray[np.float32]
    posteriors: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Point(SampleSpan):
    """The state of one channel, published for every boundary whose zone holds speech.

    Attributes:
        start_sample: start of the zone, the audio this point is the first to tell of.
        end_sample: end of the zone; a regular point ends one look-ahead before its boundary.
        posteriors: one value a class, 0 to 1, sum 1: the logits of the speech frames in the
            smoothing span that ends with the zone's last speech frame, pooled, then softmax.
        label: the stable label at the zone's last speech frame. It is never revised: a segment
            may date a change back to before points that still carry the former label.
        confidence: posterior of ``label``, 0 to 1. Not always the largest: hysteresis holds a
            label until a change has lasted.
        speech_share: speech frames over all frames of the zone, above 0, at most 1.
        provisional: the window held less audio than ``timeline.provisional_below_ms``.
        widened: earlier windows were skipped, so the zone is longer than one step.
        frames: the zone's frames where they were asked for.
    """

    start_sample: int
    end_sample: int
    posteriors: tuple[float, ...]
    label: str
    confidence: float
    speech_share: float
    provisional: bool
    widened: bool
    frames: FrameDetail | None = None


@dataclass(frozen=True, slots=True)
class Segment(SampleSpan):
    """Consecutive scored time with one stable label.

    Attributes:
        start_sample: where the label began to hold; a change is dated back to its first frame.
        end_sample: where it stopped to hold, or up to where it is certain while it goes on.
        label: name of the class.
        confidence: mean over the segment's frames of the posterior of ``label``, 0 to 1.
        final: False while the segment goes on. An event with the same ``start_sample`` and
            label and a later end replaces it; the last one is final.
    """

    start_sample: int
    end_sample: int
    label: str
    confidence: float
    final: bool


@dataclass(frozen=True, slots=True)
class Gap(SampleSpan):
    """Consecutive time without a result.

    Attributes:
        start_sample: first sample without a result.
        end_sample: where results begin again, or up to where there is none while it goes on.
        reason: why, see :data:`GapReason`.
        final: False while the gap goes on, as for :class:`Segment`.
    """

    start_sample: int
    end_sample: int
    reason: GapReason
    final: bool


Event = Point | Segment | Gap
