"""Silero's speech detector, a small recurrent network, run by ONNX Runtime.

It reads 512 samples at a time, with the 64 before them, and gives the probability of speech. A
chunk is 32 ms and a slot 20 ms: a slot takes the state after the last chunk that ends with it or
before, so that it is known at once whatever comes next, up to 32 ms late::

    chunks  [-----512----)[-----512----)[-----512----)
    slots   [-320--)[-320--)[-320--)[-320--)[-320--)
    state      none    1st     1st     2nd     3rd

Source: the model of the package silero-vad (6.2) and its ``OnnxWrapper``; leaving speech 0.15 below
entering it is that project's rule too.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ser_engine.config import VadConfig
from ser_engine.errors import RuntimeUnavailableError
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.timeline.speech import NO_POWERS, SlotCutter, SpeechHold, sound_powers
from ser_engine.types import FloatArray

_CHUNK_SAMPLES = 512
_CONTEXT_SAMPLES = 64
_STATE_SHAPE = (2, 1, 128)
_EXIT_BELOW_ENTRY = 0.15


class SileroDetector:
    """Silero's detector with a floor for the level and a hangover, as WebRTC's has them.

    The network is shared by all streams; the state of one is here.

    Raises:
        RuntimeUnavailableError: silero-vad or onnxruntime is not installed.
    """

    def __init__(self, config: VadConfig) -> None:
        self._network = _shared_network()
        self._entry = config.speech_threshold
        self._exit = config.speech_threshold - _EXIT_BELOW_ENTRY
        self._hold = SpeechHold(config)
        self._rate = np.array(SAMPLE_RATE_HZ, dtype=np.int64)
        self._cutter = SlotCutter()
        self.powers = NO_POWERS
        self.skip(0)

    def skip(self, num_samples: int) -> None:
        """Forget the past, an unfinished slot included."""
        self._hold.reset()
        self._state: FloatArray = np.zeros(_STATE_SHAPE, dtype=np.float32)
        self._input: FloatArray = np.zeros((1, _CONTEXT_SAMPLES + _CHUNK_SAMPLES), dtype=np.float32)
        self._heard = 0
        self._is_speech = False  # after the last whole chunk
        self._cutter.clear()

    def push(self, samples: FloatArray) -> list[bool]:
        """Take samples ``(samples,)``; return a flag for each slot now complete."""
        slots_before, chunks_before = self._heard // HOP_SAMPLES, self._heard // _CHUNK_SAMPLES
        # The first one is for slots that end before the next chunk does.
        states = [self._is_speech, *self._chunks(samples)]
        self.powers = sound_powers(self._cutter.push(samples))
        flags = []
        for slot, is_loud in enumerate(self._hold.loud(self.powers), start=slots_before):
            chunks = (slot + 1) * HOP_SAMPLES // _CHUNK_SAMPLES
            flags.append(self._hold.push(states[chunks - chunks_before] and is_loud))
        return flags

    def _chunks(self, samples: FloatArray) -> list[bool]:
        """Return the state after each chunk that ``samples`` make whole."""
        states: list[bool] = []
        while len(samples):
            filled = self._heard % _CHUNK_SAMPLES
            part = samples[: _CHUNK_SAMPLES - filled]
            samples = samples[len(part) :]
            start = _CONTEXT_SAMPLES + filled
            self._input[0, start : start + len(part)] = part
            self._heard += len(part)
            if self._heard % _CHUNK_SAMPLES == 0:
                states.append(self._chunk())
        return states

    def _chunk(self) -> bool:
        output, self._state = self._network.run(
            None, {"input": self._input, "state": self._state, "sr": self._rate}
        )
        self._input[0, :_CONTEXT_SAMPLES] = self._input[0, -_CONTEXT_SAMPLES:]
        self._is_speech = float(output[0, 0]) >= (self._exit if self._is_speech else self._entry)
        return self._is_speech


@cache
def _shared_network() -> Any:
    found = importlib.util.find_spec("silero_vad")
    try:
        import onnxruntime
    except ImportError:
        onnxruntime = None
    if found is None or not found.submodule_search_locations or onnxruntime is None:
        missing = "silero-vad" if onnxruntime is not None else "onnxruntime"
        raise RuntimeUnavailableError(
            f"the speech detector silero needs the package {missing}; install it by"
            " pip install 'emotion-monitor[silero]', or set ser_engine.vad.detector to webrtc"
        )
    options = onnxruntime.SessionOptions()
    # A chunk is a millisecond of work: threads would cost more than they bring.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(found.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
