"""Pages that are one file: style, script, data and the chart library, and no network."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

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

UNCLEAR = "unclear"
"""What a result without a label is called: speech, and no emotion worth believing."""
UNCLEAR_CELL = "?"
"""Its sign in a strip of characters, which no emotion and no gap has."""

__all__ = ["COLOURS", "UNCLEAR", "UNCLEAR_CELL", "report_page"]

_HERE = Path(__file__).parent
# 'unsafe-inline': all of it is in this one file, and no server sends it with a nonce. The rest
# keeps data from leaving: nothing is fetched, and no picture is another host's.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def report_page(*, title: str, body: str, data: Any, script: str) -> str:
    """Return a page.

    In ``body``, HTML, what is not ours is escaped. ``script``, a file of this package, draws
    ``data``: ``JSON.parse`` of the element ``data``.

    Raises:
        RuntimeUnavailableError: the chart library is not installed.
    """
    from dashboard.shell import SHELL_DIR, plotly_bundle
    from ser_engine.errors import RuntimeUnavailableError, how_to_install

    bundle = plotly_bundle()
    if bundle is None:
        raise RuntimeUnavailableError(f"charts need the package plotly; {how_to_install('server')}")
    style = [SHELL_DIR / name for name in ("tokens.css", "base.css", "components.css")]
    styles = "\n".join(path.read_text("utf-8") for path in (*style, _HERE / "report.css"))
    # "<" would end the element, wherever it stands.
    document = json.dumps(data, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>{styles}</style>
</head>
<body>
<main>{body}</main>
<script type="application/json" id="data">{document}</script>
<script>{bundle[0].read_text("utf-8")}</script>
<script>{(_HERE / "report.js").read_text("utf-8")}</script>
<script>{(_HERE / script).read_text("utf-8")}</script>
</body>
</html>
"""
