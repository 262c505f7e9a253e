"""The smallest change of emotion that a granularity shows, measured with made-up speech.

::

    calm    [------------------ 8 s ------------------]
    changed [-----------------][ angry ][-------------]     20, 40, 80, … ms

Both are analysed. The change is seen where any posterior at any time differs by more than a tenth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mic_client.sample_call import ANGRY
from mic_client.synthesis import Prosody, Voice, say
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.offline import Result
from ser_engine.types import FloatArray
from stream_server.cli.compare.grid import difference

__all__ = ["CHANGES_MS", "SEEN_DIFFERENCE", "changed_speech", "smallest_change_ms"]

CHANGES_MS = (20, 40, 80, 160, 320, 640, 1280, 2560, 5120)
SEEN_DIFFERENCE = 0.1
_DURATION_S = 8.0
_VOICE = Voice(pitch_hz=190.0, tract=0.87)
_CALM = Prosody(pitch_semitones=-1.0, range_semitones=1.5, syllables_per_s=3.6)


def changed_speech(change_ms: int) -> FloatArray:
    """Return calm speech, ``(samples,)``, with so much angry speech in its middle."""
    rng = np.random.default_rng(7)
    calm = say(_VOICE, _CALM, _DURATION_S, rng, SAMPLE_RATE_HZ)
    angry = say(_VOICE, ANGRY, _DURATION_S, rng, SAMPLE_RATE_HZ)
    length = change_ms * SAMPLE_RATE_HZ // 1000
    start = (len(calm) - length) // 2
    calm[start : start + length] = angry[start : start + length]
    return calm


def smallest_change_ms(analyse: Callable[[FloatArray], Result]) -> int | None:
    """Return the shortest change of :data:`CHANGES_MS` that is seen; None: none of them."""
    calm = analyse(changed_speech(0))
    for change_ms in CHANGES_MS:
        if difference(calm, analyse(changed_speech(change_ms))) > SEEN_DIFFERENCE:
            return change_ms
    return None
