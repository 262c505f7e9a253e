"""An assistant that minds the driver's mood: a calmer voice when needed, a break when it lasts.

Start the server and something that streams a channel with the role ``driver``, then this::

    emotion-monitor serve
    emotion-monitor stream --mic --role driver
    python examples/in_car_assistant.py

It reads the feed of the driver's channel and prints what an assistant would do. Two ideas:

- *Style* follows the driver's emotion once it has lasted for a few seconds of speech: it costs
  nothing to speak more calmly for a while, but a voice that changes with every word does.
- *A break* is suggested when strain lasts: anger, fear or sadness (a tired voice sounds sad) for
  most of the last two minutes of speech, and then not again for twenty minutes.

The assistant itself (:class:`Assistant`) knows no network and no clock: it is given points, and
time is that of the audio, so it does the same with a recording.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from mic_client import emotion_feed
from mic_client.errors import ClientError
from stream_server.wire.results import Point, Result, StreamClosed

STYLES = {
    "angry": "calm and brief; no questions, no advertising, no jokes",
    "fearful": "calm and reassuring; one instruction at a time",
    "sad": "warm and unhurried",
    "happy": "lively",
}
"""How to speak to a driver who sounds like this; else neutral."""

STYLE_AFTER_S = 3.0
"""Speech for which an emotion has to last before the style follows."""

STRAIN = ("angry", "fearful", "sad")
STRAIN_WINDOW_S = 120.0
"""Speech that is looked back on."""
STRAIN_SHARE = 0.6
"""Share of it in strain from which on a break is suggested."""
MIN_SPEECH_S = 30.0
"""Less speech than this says nothing."""
BREAK_COOLDOWN_S = 1200.0


@dataclass(frozen=True)
class Style:
    """Speak like this from now on."""

    emotion: str
    how: str


@dataclass(frozen=True)
class SuggestBreak:
    """Suggest to stop for a while.

    Attributes:
        share: of the driver's recent speech that was in strain, 0 to 1.
    """

    share: float


Action = Style | SuggestBreak


class Assistant:
    """Turns what is heard of one driver into what to do."""

    def __init__(self) -> None:
        self._emotion = "neutral"  # that the style follows
        self._heard = ("neutral", 0.0)  # the latest one, and for how many seconds of speech
        self._recent: deque[tuple[float, bool]] = deque()  # seconds of speech, whether in strain
        self._next_break_s = 0.0

    def hear(self, result: Result) -> Iterator[Action]:
        """Take a result of the feed; yield what to do now."""
        # From less audio than a sound result takes, nothing is concluded.
        if isinstance(result, Point) and not result.provisional:
            yield from self._style(result)
            yield from self._break(result)

    def _style(self, point: Point) -> Iterator[Style]:
        emotion = point.label if point.label in STYLES else "neutral"
        lasted_s = self._heard[1] if emotion == self._heard[0] else 0.0
        self._heard = (emotion, lasted_s + _speech_s(point))
        if emotion != self._emotion and self._heard[1] >= STYLE_AFTER_S:
            self._emotion = emotion
            yield Style(emotion, STYLES.get(emotion, "neutral"))

    def _break(self, point: Point) -> Iterator[SuggestBreak]:
        self._recent.append((_speech_s(point), point.label in STRAIN))
        total_s = sum(seconds for seconds, _ in self._recent)
        while total_s - self._recent[0][0] >= STRAIN_WINDOW_S:
            total_s -= self._recent.popleft()[0]
        strain_s = sum(seconds for seconds, in_strain in self._recent if in_strain)
        if total_s < MIN_SPEECH_S or point.end_s < self._next_break_s:
            return
        if strain_s / total_s >= STRAIN_SHARE:
            self._next_break_s = point.end_s + BREAK_COOLDOWN_S
            yield SuggestBreak(strain_s / total_s)


def _speech_s(point: Point) -> float:
    return (point.end_s - point.start_s) * point.speech_share


def say(action: Action) -> str:
    """Return what the demonstration prints; an assistant would hand it to its voice."""
    match action:
        case Style():
            return f"[{action.emotion}] speak: {action.how}"
        case SuggestBreak():
            return (
                f"[{action.share:.0%} of what you said lately sounded strained]"
                ' "Shall I find a place for a coffee? There is one in five minutes."'
            )


async def main(url: str, role: str, token: str) -> None:
    """Follow the drivers that ``url`` tells of, one assistant each."""
    assistants: dict[str, Assistant] = {}
    feed = emotion_feed(url, roles=[role], types=["point", "stream_closed"], token=token)
    print(f"listening at {url} for the role '{role}'", flush=True)
    async for result in feed:
        assistant = assistants.setdefault(result.stream_id, Assistant())
        for action in assistant.hear(result):
            print(say(action), flush=True)
        if isinstance(result, StreamClosed):
            del assistants[result.stream_id]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An assistant that minds the driver's mood.")
    parser.add_argument("--url", default="ws://localhost:7860/feed")
    parser.add_argument("--role", default="driver")
    parser.add_argument("--token", default="")
    options = parser.parse_args()
    try:
        asyncio.run(main(options.url, options.role, options.token))
    except KeyboardInterrupt:
        pass
    except ClientError as error:
        raise SystemExit(f"in_car_assistant: {error}") from None
