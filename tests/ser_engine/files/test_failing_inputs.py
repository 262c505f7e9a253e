"""The smallest inputs that once went wrong, each with what is right for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ser_engine.config import EngineConfig
from ser_engine.errors import AudioError
from ser_engine.files import AnalysisOptions
from ser_engine.files.audio import AudioFile
from ser_engine.schema import ChannelResult
from tests.ser_engine.files.jobs import make_job, work

pytestmark = pytest.mark.needs("real-recordings")

RIGHT = {
    # Seconds, and the codes of the warnings that must be there, and may be.
    "sox_stdin_stdout.wav": (1.5, {"length"}, {"length", "narrow_band"}),
    "unfinalised_data_0.wav": (1.5, {"length"}, {"length", "narrow_band"}),
    "data_44_too_long.wav": (1.5, set(), {"length", "narrow_band"}),
    "mp3_in_wav.wav": (1.6, set(), {"narrow_band"}),
    "joined_two_calls.mp3": (3.0, set(), {"narrow_band"}),
    "tone_busy_us.wav": (4.0, {"silent"}, {"silent", "narrow_band"}),
    "tone_dtmf.wav": (3.0, {"silent"}, {"silent", "narrow_band"}),
    "dc_offset_silence.wav": (2.0, {"silent"}, {"silent"}),
}


def analysed(path: Path) -> tuple[ChannelResult, float]:
    with AudioFile(path) as file:
        job = make_job(file, AnalysisOptions("stream"), EngineConfig(), path.name)
        document = work(job).document()
    return document.channels[0], document.duration_s


@pytest.mark.parametrize("name", RIGHT)
def test_it_is_analysed(name: str, shared_data: Path, capfd: pytest.CaptureFixture[str]):
    duration_s, must, may = RIGHT[name]
    channel, length_s = analysed(shared_data / "failing-inputs" / name)
    assert must <= {warning.code for warning in channel.warnings} <= may | {"short", "too_quiet"}
    assert length_s == pytest.approx(duration_s, abs=0.1)
    # Nothing of a library's own.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tone_busy_us.wav", "tone"),
        ("tone_dtmf.wav", "tone"),
        ("dc_offset_silence.wav", "silence"),
    ],
)
def test_nobody_speaks_in_it(name: str, reason: str, shared_data: Path):
    channel, length_s = analysed(shared_data / "failing-inputs" / name)
    assert not channel.segments
    assert channel.gaps is not None
    assert [(gap.reason, gap.start_s, gap.end_s) for gap in channel.gaps] == [(reason, 0, length_s)]
    assert channel.overall is None or channel.overall.label is None
    said = next(each.message for each in channel.warnings if each.code == "silent")
    assert ("tones" in said) == (reason == "tone")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("codec_without_decoder_g729_tag133.wav", "G.729"),
        ("any_bytes.raw", "--encoding"),
    ],
)
def test_it_is_refused_in_one_line(name: str, says: str, shared_data: Path):
    with pytest.raises(AudioError) as caught:
        AudioFile(shared_data / "failing-inputs" / name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
