from __future__ import annotations

import numpy as np
import pytest

from ser_engine.types import Window
from stream_server.streams.channels import ChannelWindow, supersedes


def window(start: int, end: int, channel: int = 0) -> ChannelWindow:
    return ChannelWindow(channel, Window(np.zeros(end - start, dtype=np.float32), start))


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [
        (window(320, 4000), window(0, 3200), True),
        (window(0, 4000), window(0, 3200), True),
        (window(3200, 4000), window(0, 3200), False),
        (window(320, 4000, channel=1), window(0, 3200), False),
        (window(0, 3200), window(320, 4000), False),
        (window(0, 3200), window(0, 3200), False),
    ],
)
def test_a_later_window_that_overlaps_supersedes(
    newer: ChannelWindow, older: ChannelWindow, expected: bool
):
    assert supersedes(newer, older) is expected
