"""The log of one analysis, for whoever gets the result: each step and when it was done."""

from __future__ import annotations

import datetime

from dashboard.backend import AnalysisRequest
from ser_engine.offline import FileAnalysis

__all__ = ["AnalysisLog"]


class AnalysisLog:
    """Lines with the time, UTC. No path of the server is in them.

    Args:
        request: what is asked for.
    """

    def __init__(self, request: AnalysisRequest) -> None:
        self.lines: list[str] = []
        self._add(f"took {request.name}: {request.path.stat().st_size} bytes")
        self._add(f"its bytes have the SHA-256 {request.content_sha256}")
        asked = ", ".join(f"{name} {value}" for name, value in request.options.items() if value)
        self._add(f"asked for {asked}")

    def analysed(self, analysis: FileAnalysis) -> None:
        """Tell what was found, and what is written of it."""
        channels = len(analysis.channels)
        self._add(
            f"read {analysis.duration_s:.3f} s of audio, {analysis.rate_hz} Hz, {channels}"
            f" channel{'s' if channels > 1 else ''}, each apart; as 16000 Hz"
        )
        model = analysis.model
        self._add(f"scored with {model.name} (licence {model.licence}, SHA-256 {model.sha256})")
        for number, channel in enumerate(analysis.channels):
            self._add(f"channel {number}: {len(channel.segments)} pieces")
            for warning in channel.warnings:
                self._add(f"channel {number}: {warning.code}: {warning.message}")
        self._add("wrote result.json, result.csv and log.txt, and what else there is beside them")

    def _add(self, text: str) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self.lines.append(f"{now:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"Z {text}")
