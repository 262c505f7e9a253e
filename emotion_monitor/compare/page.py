"""A comparison as one HTML page that takes no network.

What the page draws of a channel, no finer than a screen.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emotion_monitor.compare import SEEN_DIFFERENCE, Cells, labels_of, posteriors_of, runs
from emotion_monitor.report import COLOURS, report_page
from ser_engine.files import Result
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ, samples_to_s

_MOST_COLUMNS = 600
# Cells of a column of the areas: single frames flicker.
_LEAST_PER_COLUMN = 10


def chart(results: Mapping[str, Result]) -> dict[str, Any]:
    """Return a channel's chart of the results of each granularity, ``frame`` among them.

    Returns:
        ``times`` (s, middles of columns), ``series`` (mean posterior of each class of the frames in
        a column) and ``ribbons`` (of each granularity its runs: start, end, label).
    """
    names = results["frame"].labels
    rows = posteriors_of(results["frame"])
    per_column = max(_LEAST_PER_COLUMN, -(-len(rows) // _MOST_COLUMNS))
    starts = np.arange(0, len(rows), per_column)
    sums = np.add.reduceat(rows, starts, axis=0)
    means = sums / np.diff(np.append(starts, len(rows)))[:, None]
    middles = starts + per_column / 2
    return {
        "times": [round(float(each) * HOP_SAMPLES / SAMPLE_RATE_HZ, 3) for each in middles],
        "series": {
            label: [round(value, 4) for value in means[:, place].tolist()]
            for place, label in enumerate(names)
        },
        "ribbons": {name: _ribbon(labels_of(result), names) for name, result in results.items()},
    }


def _ribbon(cells: Cells, names: tuple[str, ...]) -> list[list[Any]]:
    found = list(runs(cells, names))
    if len(found) > _MOST_COLUMNS:
        # Of each column its most frequent label.
        per_column = -(-len(cells) // _MOST_COLUMNS)
        columns = [cells[start : start + per_column] for start in range(0, len(cells), per_column)]
        most = [np.bincount(column + 1).argmax() - 1 for column in columns]
        found = list(runs(np.repeat(most, per_column)[: len(cells)], names))
    end_s = samples_to_s(len(cells) * HOP_SAMPLES)
    return [[run.start_s, min(run.end_s, end_s), run.label] for run in found]


Figures = dict[str, Any]


def compare_page(document: dict[str, Any]) -> str:
    """Return the page of what :func:`emotion_monitor.compare.measure.measure` returned.

    Raises:
        RuntimeUnavailableError: the chart library is not installed.
    """
    files = document["files"]
    body = _head(document) + _figures(document["granularities"], document["repeats"])
    body += "".join(
        _channel(file, number, place, channel)
        for number, file in enumerate(files)
        for place, channel in enumerate(file["channels"])
    )
    drawn = [
        {
            "duration_s": file["duration_s"],
            "channels": [
                {"chart": channel["chart"], "turns": channel["turns"]}
                for channel in file["channels"]
            ],
        }
        for file in files
    ]
    return report_page(
        title="Granularities compared", body=body, data={"files": drawn}, script="compare.js"
    )


def _head(document: dict[str, Any]) -> str:
    model = document["model"]
    count = len(document["files"])
    notice = f'<p class="notice">{_text(model["notice"])}</p>' if model["notice"] else ""
    return (
        '<div class="head"><h1>Granularities compared</h1>'
        f"<p>{count} recording{'s' if count > 1 else ''}, {document['audio_s']:.1f} s of audio;"
        f" model {_text(model['name'])} ({_text(model['licence'])}). Measured on this machine, each"
        f" granularity in a process of its own.</p>{notice}</div>"
    )


_Row = tuple[str, str, Callable[[Figures], str], Callable[[Figures], float] | None]


def _rows(repeats: int) -> list[_Row]:
    """Return of each row its title, its small print, what it shows, and what is least at best."""
    return [
        (
            "Latency, first",
            "the first recording, right after the model was loaded",
            lambda each: _ms(each["first_ms"]),
            lambda each: each["first_ms"],
        ),
        (
            "Latency, steady",
            f"the same recording, median of {repeats}",
            lambda each: _ms(each["steady_ms"]),
            lambda each: each["steady_ms"],
        ),
        (
            "Real-time factor",
            "compute time over audio time, all recordings",
            lambda each: f"{each['real_time_factor']:.4f}",
            lambda each: each["real_time_factor"],
        ),
        (
            "Peak memory",
            "of the process; in brackets what was taken before any audio",
            lambda each: f"{each['peak_mib']:.0f} MiB ({each['loaded_mib']:.0f})",
            lambda each: each["peak_mib"],
        ),
        (
            "Consistency",
            f"largest difference of a posterior over {repeats} repeats; share of equal labels",
            lambda each: f"{_difference(each['max_difference'])}; {each['label_agreement']:.1%}",
            None,
        ),
        ("Results", "of all recordings", lambda each: f"{each['results']:,}", None),
        ("Time between results", "its resolution in time", _grid, None),
        (
            "Smallest change seen",
            f"angry speech in 8 s of calm speech, both made up; seen: a posterior moves by more"
            f" than {SEEN_DIFFERENCE}",
            lambda each: _change(each["smallest_change_ms"]),
            lambda each: each["smallest_change_ms"] or float("inf"),
        ),
        ("Embedding", "values and bytes, all recordings; shape of the first", _embedding, None),
    ]


def _figures(granularities: Sequence[Figures], repeats: int) -> str:
    heads = "".join(f"<th>{_text(each['name'])}</th>" for each in granularities)
    rows = ""
    for title, small, show, rank in _rows(repeats):
        least = min((rank(each) for each in granularities), default=0.0) if rank else None
        best = ' class="best"'
        cells = "".join(
            f"<td{best if rank and rank(each) == least else ''}>{show(each)}</td>"
            for each in granularities
        )
        rows += f"<tr><th>{title}<small>{small}</small></th>{cells}</tr>"
    return (
        '<section class="card"><h2>Measured</h2><div class="scroll"><table>'
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _channel(file: dict[str, Any], number: int, place: int, channel: dict[str, Any]) -> str:
    title = _text(file["name"])
    if len(file["channels"]) > 1:
        title += f", channel {channel['channel']}"
    overall = channel["overall"]
    whole = "nothing scored"
    if overall is not None:
        whole = (
            "unclear"
            if overall["label"] is None
            else f"{_emotion(overall['label'])} {overall['confidence']:.0%}"
        )
    warnings = "".join(f'<p class="warning-line">{_text(each)}</p>' for each in channel["warnings"])
    counts = ", ".join(f"{name} {count}" for name, count in channel["num_turns"].items())
    return (
        f'<section class="card"><h2>{title}</h2><div class="facts">'
        f"<span>{file['duration_s']:.1f} s, {file['sample_rate']} Hz</span>"
        f"<span>as a whole: {whole}</span><span>changes of label: {counts}</span></div>{warnings}"
        f'<div class="chart" data-file="{number}" data-channel="{place}"></div>'
        f"<h3>Where the emotion turns</h3>{_turns(channel['turns'])}"
        "<h3>One label, share of the time in which both have any</h3>"
        f"{_agreement(channel['agreement'])}</section>"
    )


def _turns(turns: Sequence[dict[str, Any]]) -> str:
    if not turns:
        return '<p class="muted">Nowhere: one emotion lasts, or there is no speech.</p>'
    items = "".join(
        f'<li><span class="number">{_clock(turn["at_s"])}</span>{_emotion(turn["from"])} →'
        f" {_emotion(turn['to'])}</li>"
        for turn in turns
    )
    return f'<ul class="turns">{items}</ul>'


def _agreement(pairs: Sequence[dict[str, Any]]) -> str:
    items = "".join(
        f"<li>{_text(pair['one'])} and {_text(pair['other'])}"
        f' <b class="number">{_share(pair["share"])}</b></li>'
        for pair in pairs
    )
    return f'<ul class="turns">{items}</ul>'


def _share(share: float | None) -> str:
    return "no common time" if share is None else f"{share:.1%}"


def _grid(each: Figures) -> str:
    return "one for all" if each["grid_ms"] is None else f"{each['grid_ms']} ms"


def _change(change_ms: int | None) -> str:
    return "none of them" if change_ms is None else f"{change_ms} ms"


def _embedding(each: Figures) -> str:
    if not each["embedding_values"]:
        return "none"
    shape = " × ".join(f"{size:,}" for size in each["embedding_shape"])
    return f"{each['embedding_values']:,}; {_bytes(each['embedding_bytes'])}; {shape}"


def _bytes(count: int) -> str:
    if count < 1 << 10:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"


def _ms(value: float) -> str:
    return f"{value:,.1f} ms" if value < 1000 else f"{value:,.0f} ms"


def _difference(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"


def _emotion(name: str) -> str:
    colour = COLOURS.get(name, COLOURS["unknown"])
    swatch = f'<i class="swatch" style="--emotion:{colour}" aria-hidden="true"></i>'
    return f'<span class="emotion">{swatch}<span>{_text(name)}</span></span>'


def _text(text: str) -> str:
    """Return text as HTML; what is no UTF-8, in a file's name, as a question mark."""
    return html.escape(text.encode(errors="replace").decode())
