from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from emotion_monitor.commands.batch import ProgressReport, hours
from ser_engine.config import EngineConfig
from ser_engine.files import AnalysisJob, AnalysisOptions, ArraySource
from tests.support.fake_engine import FakeEngine


def shown(is_terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=100, color_system=None)
    with ProgressReport(4, console) as report:
        report.done(5_400.0)
        report.skipped()
        report.failed(Path("a\x1b[2J.wav"), "it is [bold]cut off[/bold]")
        audio = ArraySource(np.zeros(16_000, dtype=np.float32))
        report.moved(
            AnalysisJob(
                file=audio,
                name="b",
                info=FakeEngine().info,
                config=EngineConfig(),
                options=AnalysisOptions(),
            )
        )
    return text.getvalue()


def test_a_terminal_sees_files_hours_and_speed():
    picture = shown(is_terminal=True)
    assert "3/4 files" in picture
    assert "1.5 h of audio" in picture
    assert "× real time" in picture
    assert "emotion-monitor: a�[2J.wav: it is [bold]cut off[/bold]" in picture


def test_a_file_sees_what_went_wrong_and_nothing_else():
    assert shown(is_terminal=False) == ("emotion-monitor: a�[2J.wav: it is [bold]cut off[/bold]\n")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.4, "59 s"), (90, "2 min"), (36_000, "10.0 h")]
)
def test_times_are_said_as_people_say_them(seconds: float, said: str):
    assert hours(seconds) == said
