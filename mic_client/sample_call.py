"""A telephone call to try the monitor with, made by the project itself.

Nobody speaks in it: both voices are synthesised (:mod:`mic_client.synthesis`). The agent, on the
left, stays calm. The customer, on the right, begins calm, gets agitated (higher, wider, louder,
rougher), and calms down again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mic_client.synthesis import Prosody, Voice, say

__all__ = ["ANGRY", "SAMPLE_CALL_ROLES", "make_sample_call"]

SAMPLE_CALL_ROLES = ("agent", "customer")
"""Roles of the channels, left and right."""

_RATE_HZ = 16_000
_DURATION_S = 42.0
_NOISE_DBFS = -66.0

_AGENT, _CUSTOMER = 0, 1
_VOICES = {_AGENT: Voice(pitch_hz=112.0, tract=1.0), _CUSTOMER: Voice(pitch_hz=190.0, tract=0.87)}

_FRIENDLY = Prosody(range_semitones=2.5, level_dbfs=-25.0)
_CALM = Prosody(pitch_semitones=-1.0, range_semitones=1.5, fall_semitones=2.0, syllables_per_s=3.6)
_UNEASY = Prosody(
    pitch_semitones=3.0,
    range_semitones=4.0,
    syllables_per_s=4.6,
    level_dbfs=-20.0,
    tilt_db_per_octave=8.0,
    shake=0.25,
)
ANGRY = Prosody(
    pitch_semitones=4.0,
    range_semitones=2.7,
    fall_semitones=0.8,
    syllables_per_s=5.0,
    level_dbfs=-15.0,
    tilt_db_per_octave=2.6,
    breath=0.38,
    shake=0.95,
)
"""How the customer speaks at the height of the call."""
_TIRED = Prosody(
    pitch_semitones=-1.0,
    range_semitones=1.0,
    fall_semitones=2.5,
    syllables_per_s=2.8,
    level_dbfs=-31.0,
    tilt_db_per_octave=13.0,
    breath=0.08,
)


@dataclass(frozen=True, slots=True)
class _Phrase:
    channel: int
    start_s: float
    duration_s: float
    prosody: Prosody


_SCRIPT = (
    _Phrase(_AGENT, 0.6, 2.2, _FRIENDLY),
    _Phrase(_CUSTOMER, 3.2, 2.6, _CALM),
    _Phrase(_CUSTOMER, 6.2, 2.4, _CALM),
    _Phrase(_AGENT, 9.0, 2.4, _FRIENDLY),
    _Phrase(_CUSTOMER, 11.8, 2.4, _UNEASY),
    _Phrase(_CUSTOMER, 14.5, 1.8, _UNEASY),
    _Phrase(_AGENT, 16.6, 1.6, _FRIENDLY),
    _Phrase(_CUSTOMER, 18.4, 3.0, ANGRY),
    _Phrase(_CUSTOMER, 21.7, 2.8, ANGRY),
    _Phrase(_CUSTOMER, 24.8, 2.6, ANGRY),
    _Phrase(_AGENT, 27.2, 2.8, _FRIENDLY),
    _Phrase(_AGENT, 30.3, 1.8, _FRIENDLY),
    _Phrase(_CUSTOMER, 32.4, 2.6, _TIRED),
    _Phrase(_CUSTOMER, 35.3, 2.4, _CALM),
    _Phrase(_AGENT, 38.0, 1.4, _FRIENDLY),
    _Phrase(_CUSTOMER, 39.6, 1.6, _CALM),
)


def make_sample_call() -> tuple[npt.NDArray[np.float32], int]:
    """Return the call, ``(samples, 2)``, −1 to 1, and its sample rate, Hz; always the same call."""
    rng = np.random.default_rng(7)
    noise = rng.normal(0.0, 10 ** (_NOISE_DBFS / 20), (round(_DURATION_S * _RATE_HZ), 2))
    call = noise.astype(np.float32)
    for phrase in _SCRIPT:
        sound = say(_VOICES[phrase.channel], phrase.prosody, phrase.duration_s, rng, _RATE_HZ)
        start = round(phrase.start_s * _RATE_HZ)
        call[start : start + len(sound), phrase.channel] += sound
    return np.clip(call, -1.0, 1.0), _RATE_HZ
