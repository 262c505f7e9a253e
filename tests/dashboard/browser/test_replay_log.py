"""The page's copy of the replay log does what the server's does."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.messages import Discarded, Flush, Mark, Pause, Resume
from stream_server.wire.replay_log import ReplayLog
from tests.support.browser import BROWSER_TEST

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = BROWSER_TEST

_MAX_BYTES = 4000
_CONTROLS: dict[str, Any] = {
    "discarded": Discarded,
    "flush": Flush,
    "mark": Mark,
    "pause": Pause,
    "resume": Resume,
}

_RUN = """async (given) => {
  const [scripts, maxBytes] = JSON.parse(given);
  const { ReplayLog } = await import("/static/pages/microphone/replay_log.js");
  const shown = (content) => content instanceof Int16Array ? Array.from(content) : content;
  return JSON.stringify(scripts.map((script) => {
    const log = new ReplayLog(maxBytes);
    return script.map(([what, ...values]) => {
      if (what === "audio") log.addAudio(Int16Array.from(values[0]));
      else if (what === "control") log.addControl(values[0]);
      else if (what === "take") return log.take().map(shown);
      else if (what === "forget") log.forget(...values);
      else if (what === "disconnected") log.disconnected();
      else if (what === "goOn") log.goOn(...values);
      else if (what === "beginStream") log.beginStream();
      return [log.startSample, log.endSample, log.numBytes, log.pausedAtEnd];
    });
  }));
}"""


def _script(rng: random.Random) -> tuple[list[list[Any]], list[Any]]:
    """Return what is done to a log, and what the server's log says to it.

    The peer is as the real one: it acts on a beginning of what was sent.
    """
    log = ReplayLog(AudioFormat("pcm_s16le", 16_000, 1), _MAX_BYTES)
    script: list[list[Any]] = []
    answers: list[Any] = []
    sent: list[Any] = []  # of this stream, in order, what the peer was sent
    had, controls, paused, position = 0, 0, False, 0

    def done(*step: Any) -> None:
        script.append(list(step))
        answers.append([log.start_sample, log.end_sample, log.num_kept_bytes, log.paused])

    for _ in range(40):
        match rng.choice(("audio", "audio", "audio", "control", "take", "take", "heard", "lost")):
            case "audio" if not log.paused:
                samples = [rng.randrange(-99, 99) for _ in range(rng.randrange(1, 400))]
                log.add_audio(b"".join(each.to_bytes(2, "little", signed=True) for each in samples))
                done("audio", samples)
            case "control":
                span = rng.randrange(1, 500)
                name = rng.choice(("flush", "mark", "resume" if log.paused else "pause"))
                body: dict[str, Any] = {"type": name}
                extra: dict[str, Any] = {"mark": {"name": "m"}, "resume": {"paused_samples": span}}
                body |= extra.get(name, {})
                log.add_control(msgspec.convert(body, _CONTROLS[name]))
                done("control", body)
            case "take":
                taken = [_shown(content) for content in log.take()]
                sent += taken
                script.append(["take"])
                answers.append(taken)
            case "heard":
                until = rng.randrange(had, len(sent) + 1)
                for content in sent[had:until]:
                    if isinstance(content, list):
                        position += len(content)
                    else:
                        controls += 1
                        position += content.get("paused_samples", content.get("samples", 0))
                        if content["type"] in ("pause", "resume"):
                            paused = content["type"] == "pause"
                had = until
                log.forget(position, controls)
                done("forget", position, controls)
            case "lost":
                log.disconnected()
                done("disconnected")
                # What the peer has no more and the log neither is lost: it goes on there.
                if log.start_sample > position and not paused:
                    position = log.start_sample
                log.go_on(position, controls, paused=paused)
                done("goOn", position, controls, paused)
                sent, had = [], 0
    return script, answers


def _shown(content: Any) -> Any:
    if isinstance(content, bytes):
        return [
            int.from_bytes(content[at : at + 2], "little", signed=True)
            for at in range(0, len(content), 2)
        ]
    found = msgspec.to_builtins(content)
    if isinstance(found, dict):
        found.pop("key", None)  # a page has no telephone, and names no key
    return found


async def test_it_says_what_the_servers_log_says(open_page: Callable[..., Awaitable[Page]]):
    rng = random.Random(0)
    scripts, expected = zip(*(_script(rng) for _ in range(200)), strict=True)
    page = await open_page("/microphone")
    # As text: Playwright takes long to hand over many numbers.
    found = json.loads(await page.evaluate(_RUN, json.dumps([scripts, _MAX_BYTES])))
    for script, one, other in zip(scripts, found, expected, strict=True):
        assert one == other, script
    taken = [step for answers in expected for step in answers if step and step[0]]
    assert any(isinstance(part, dict) for step in taken for part in step), "controls were taken"
