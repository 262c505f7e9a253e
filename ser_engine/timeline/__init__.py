"""The streaming core: one channel's audio to windows, the engine's answers to events."""

from ser_engine.timeline.channel import MAX_UNANSWERED_SAMPLES, ChannelStream
from ser_engine.timeline.speech import (
    EverythingIsSpeech,
    SpeechDetector,
    WebRtcDetector,
    make_detector,
)

__all__ = [
    "MAX_UNANSWERED_SAMPLES",
    "ChannelStream",
    "EverythingIsSpeech",
    "SpeechDetector",
    "WebRtcDetector",
    "make_detector",
]
