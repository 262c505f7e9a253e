"""The colour of each emotion, the same everywhere."""

from __future__ import annotations

COLOURS = {
    "angry": "#D55E00",
    "disgusted": "#009E73",
    "fearful": "#CC79A7",
    "happy": "#E69F00",
    "neutral": "#8A8F98",
    "other": "#7A5C3E",
    "sad": "#0072B2",
    "surprised": "#56B4E9",
    "unknown": "#C9CDD3",
}
"""The Okabe-Ito palette: told apart by colour-blind people, too."""
