"""Groups of recordings as a picture: one HTML page that takes no network."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from emotion_monitor.report import report_page
from ser_engine.files.folders import whole_file


def write_picture(path: Path, table: dict[str, list[Any]], shares: tuple[float, float]) -> None:
    """Write the page.

    Args:
        path: of the page.
        table: ``file``, ``cluster`` (from 1), ``x`` and ``y`` of every recording.
        shares: of the variance that either axis shows, 0 to 1.

    Raises:
        OSError: it cannot be written.
        RuntimeUnavailableError: the chart library is not installed.
    """
    columns = zip(*table.values(), strict=True)
    points = [dict(zip(table, row, strict=True)) for row in columns]
    for point in points:
        # The chart library reads labels as HTML.
        point["label"] = html.escape(_shown(point.pop("file")))
    groups = max(table["cluster"])
    body = (
        '<div class="head"><h1>Recordings by what they sound like</h1>'
        f"<p>{len(points)} recordings in {groups} clusters (K-means of the embeddings' directions);"
        f" the plane shows {sum(shares):.0%} of their variance.</p></div>"
        f'<div class="card"><div id="plane" class="chart tall"></div></div>{_list(table)}'
    )
    page = report_page(
        title="Clusters of recordings",
        body=body,
        data={"points": points, "shares": shares},
        script="clusters.js",
    )
    with whole_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _list(table: dict[str, list[Any]]) -> str:
    rows = sorted(zip(table["cluster"], table["file"], strict=True))
    cells = "".join(
        f"<tr><td>{html.escape(_shown(file))}</td><td>{group}</td></tr>" for group, file in rows
    )
    return (
        '<div class="card scroll"><table><thead><tr><th>recording</th><th>cluster</th></tr>'
        f"</thead><tbody>{cells}</tbody></table></div>"
    )


def _shown(name: str) -> str:
    """Return a name that is UTF-8: a file's may be something else."""
    return name.encode(errors="replace").decode()
