from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from examples.in_car_assistant import (
    BREAK_COOLDOWN_S,
    Action,
    Assistant,
    Style,
    SuggestBreak,
    main,
    say,
)
from stream_server.wire.results import Result
from tests.support.feeds import serve_feed
from tests.support.results import make_closed, make_gap, make_opened, make_point


def drive(*parts: tuple[str, float], start_s: float = 0.0) -> list[Result]:
    """Return the results of a drive: emotions and for how many seconds each."""
    results: list[Result] = [make_opened(roles=("driver",))]
    at_s = start_s
    for emotion, seconds in parts:
        for _ in range(round(seconds / 0.5)):
            angry, happy, sad = (
                0.9 if emotion == name else 0.0 for name in ("angry", "happy", "sad")
            )
            results.append(
                make_point(at_s, seq=len(results), role="driver", angry=angry, happy=happy, sad=sad)
            )
            at_s += 0.5
    return results


def actions(results: Iterable[Result]) -> list[Action]:
    assistant = Assistant()
    return [action for result in results for action in assistant.hear(result)]


def test_the_style_follows_the_driver():
    found = actions(drive(("neutral", 5), ("angry", 5), ("happy", 5), ("neutral", 5)))
    assert [one.emotion for one in found if isinstance(one, Style)] == ["angry", "happy", "neutral"]
    assert not any(isinstance(one, SuggestBreak) for one in found)


def test_a_word_in_passing_does_not_change_the_style():
    assert actions(drive(*[("angry", 2), ("neutral", 2)] * 10)) == []


def test_lasting_strain_suggests_a_break_once():
    found = actions(drive(("neutral", 60), ("sad", 300)))
    (suggested,) = (one for one in found if isinstance(one, SuggestBreak))
    assert suggested.share >= 0.6


def test_a_short_outburst_does_not():
    found = actions(drive(("neutral", 60), ("angry", 20), ("neutral", 60), ("angry", 20)))
    assert not any(isinstance(one, SuggestBreak) for one in found)


def test_a_little_speech_says_nothing():
    assert not any(isinstance(one, SuggestBreak) for one in actions(drive(("angry", 20))))


def test_a_break_is_suggested_again_after_a_while():
    results = drive(("sad", 60))
    results += drive(("sad", 60), start_s=60 + BREAK_COOLDOWN_S)[1:]
    assert len([one for one in actions(results) if isinstance(one, SuggestBreak)]) == 2


def test_silence_changes_nothing():
    results = drive(("angry", 20))
    assert actions([*results, make_gap(20, 600, role="driver")]) == actions(results)


def test_what_it_says():
    assert say(Style("angry", "calm")) == "[angry] speak: calm"
    assert "71% of what you said lately" in say(SuggestBreak(0.714))


async def test_it_runs_against_a_server(capsys: pytest.CaptureFixture[str]):
    async with serve_feed() as server:
        running = asyncio.create_task(main(server.url(), "driver", ""))
        while server.num_subscribers("websocket") == 0:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
        server.publish(*drive(("angry", 40)), make_closed(seq=1000))
        server.publish(*[make_point(1.0, angry=0.9, stream_id="s2", role="customer")])
        printed = ""
        while "Shall I find" not in printed:
            await asyncio.sleep(0)
            printed += capsys.readouterr().out
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert printed.count("[angry] speak: calm") == 1
