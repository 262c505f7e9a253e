from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.speech_detection import TONES, chords, noise, tone
from ser_engine.config import EngineConfig, SmoothingConfig
from ser_engine.schema import Gap
from ser_engine.timeline import ChannelStream
from ser_engine.timeline.conversation import Conversation
from ser_engine.timeline.silero import SileroDetector
from ser_engine.timeline.slots import LOST, SPEECH, TONE, add_states, date_tone_back
from ser_engine.timeline.tones import ToneFinder
from ser_engine.types import FloatArray
from tests.support.fake_engine import FakeEngine
from training.augment import telephone

if TYPE_CHECKING:
    from tests.conftest import SpeechClip

RATE = 16_000


def is_tone(audio: FloatArray) -> list[bool]:
    slots = audio[: len(audio) // 320 * 320].reshape(-1, 320)
    loud = (np.square(slots).mean(axis=1) > 1e-6).tolist()
    return ToneFinder().push(slots, loud, [False] * len(slots))


@pytest.mark.parametrize("name", TONES)
@pytest.mark.parametrize("change", [None, telephone], ids=["clean", "telephone"])
def test_tones_of_networks_are_found(name: str, change: object) -> None:
    audio = tone(TONES[name], 10.0)
    sounding = np.abs(audio[: len(audio) // 320 * 320].reshape(-1, 320)).max(axis=1) > 0
    if change is not None:
        audio = telephone(audio)
    found = bytearray()
    add_states(found, [TONE if each else 0 for each in is_tone(audio)])
    # The last slots of a window hold what sounded before, the first are dated back.
    share = np.mean(np.frombuffer(found, np.uint8)[: len(sounding)][sounding] == TONE)
    assert share > 0.95, name


def test_the_pause_of_a_cadence_belongs_to_it() -> None:
    ringing = tone(TONES["ringing_de"], 16.0)
    found = is_tone(ringing)
    # Of the first pause of 4 s it is not known that it is one.
    assert sum(found[: 5 * 50]) < 2.5 * 50
    assert all(found[5 * 50 + 10 :])


def test_a_tone_ends() -> None:
    audio = np.concatenate([tone(TONES["busy_de"], 3.0), np.zeros(4 * RATE, np.float32)])
    found = is_tone(audio)
    assert not any(found[int(4.3 * 50) :])


@pytest.mark.parametrize("sound", [chords(10.0), noise(10.0)], ids=["chords", "noise"])
def test_other_sounds_are_no_tones(sound: FloatArray) -> None:
    assert not any(is_tone(sound))


@pytest.mark.needs("shared-data")
def test_voices_are_no_tones(speech_clips: tuple[SpeechClip, ...]) -> None:
    for clip in speech_clips:
        assert not any(is_tone(clip.samples)), clip.path.name


@pytest.mark.needs("shared-data")
def test_speech_after_a_tone_is_speech(speech_clips: tuple[SpeechClip, ...]) -> None:
    clip = speech_clips[0].samples
    clip = clip * np.float32(0.3 / np.abs(clip).max())
    alone = SileroDetector(EngineConfig().vad).push(clip)
    beep = tone(TONES["beep"], 1.0)
    after = SileroDetector(EngineConfig().vad).push(np.concatenate([beep, clip]))[-len(alone) :]
    assert after.count(SPEECH) > 0.9 * alone.count(SPEECH)


def test_a_tone_is_dated_back_and_no_loss_is_overwritten() -> None:
    states = bytearray([SPEECH, LOST, SPEECH, SPEECH])
    date_tone_back(states, first=1)
    assert list(states) == [SPEECH, LOST, TONE, TONE]
    date_tone_back(states)
    assert list(states) == [SPEECH, LOST, TONE, TONE]


def test_a_channel_has_one_gap_of_a_tone() -> None:
    audio = np.concatenate([np.zeros(RATE, np.float32), tone(TONES["busy_us"], 4.0)])
    config = EngineConfig(smoothing=SmoothingConfig(abstain_below=0))
    stream = ChannelStream(config, FakeEngine().info, "s/0")
    gaps: list[Gap] = []
    for start in range(0, len(audio), 1600):
        assert not stream.push(audio[start : start + 1600])
        gaps += [event for event in stream.take_events() if isinstance(event, Gap)]
    stream.finish()
    gaps += [event for event in stream.close() if isinstance(event, Gap)]
    final = [(gap.reason, gap.start_s, gap.end_s) for gap in gaps if gap.final]
    assert [reason for reason, _, _ in final] == ["silence", "tone"]
    assert final[1][1] == pytest.approx(1.0, abs=0.04)
    assert final[1][2] == 5.0


def test_a_tone_is_no_talk_of_a_conversation() -> None:
    conversation = Conversation()
    listener = conversation.listen(0, SileroDetector(EngineConfig().vad))
    listener.push(tone(TONES["beep"], 1.0))
    assert set(np.concatenate(list(listener.slots)).tolist()) <= {0, 1}


def test_a_voice_is_passed_over_as_if_each_slot_were_looked_at() -> None:
    draw = np.random.default_rng(3)
    finders = [ToneFinder() for _ in range(2)]
    busy = tone(TONES["busy_de"], 26.0)
    at = num_tones = 0
    while at < 1200:
        count = int(draw.choice((1, 5, 12, 25)))
        slots = busy[at * 320 : (at + count) * 320].reshape(-1, 320)
        voices = [bool(draw.random() < 0.6)] * count
        loud = (draw.random(count) < 0.9).tolist()
        whole = finders[0].push(slots, loud, voices)
        # One after the other there are never enough for it.
        single = [
            finders[1].push(slots[slot : slot + 1], loud[slot : slot + 1], voices[:1])[0]
            for slot in range(count)
        ]
        assert whole == single
        at, num_tones = at + count, num_tones + sum(whole)
    assert 200 < num_tones < 1100
