"""One channel's audio to windows, the engine's answers to points, segments and gaps.

Pure and synchronous; the caller runs the engine, when it likes::

    stream = ChannelStream(config, engine.info, "session/0")
    for chunk in audio:                              # float32 (samples,), 16 kHz, any length
        for window in stream.push(chunk):
            publish(stream.accept(window, engine.step([window])[0]))
        publish(stream.take_events())
    for window in stream.finish():
        publish(stream.accept(window, engine.step([window])[0]))
    publish(stream.close())
"""

from ser_engine.timeline.channel import MAX_UNANSWERED_SAMPLES, ChannelStream, make_detector
from ser_engine.timeline.speech import (
    EverythingIsSpeech,
    SpeechDetector,
    WebRtcDetector,
)

__all__ = [
    "MAX_UNANSWERED_SAMPLES",
    "ChannelStream",
    "EverythingIsSpeech",
    "SpeechDetector",
    "WebRtcDetector",
    "make_detector",
]
