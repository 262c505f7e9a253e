"""What is written of one recording, and its rows of the table over all."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ser_engine.offline.analysis import ChannelAnalysis, FileAnalysis
from ser_engine.offline.result_folder import save_embeddings, write_json
from ser_engine.offline.table_files import write_csv, write_parquet
from ser_engine.offline.tables import columns_of_results, columns_of_segments
from ser_engine.offline.whole_files import whole_file

__all__ = ["FORMATS", "Format", "remove_outputs", "rows_of", "write_outputs"]

Format = Literal["json", "csv", "parquet", "npy"]
FORMATS: tuple[Format, ...] = ("json", "csv", "parquet", "npy")

_DETAILS = {"utterance": "segments", "frame": "frames", "stream": "points"}


def write_outputs(
    folder: Path, place: str, analysis: FileAnalysis, formats: Sequence[Format], *, scores: bool
) -> tuple[str, ...]:
    """Write the files of one recording, each whole or not at all.

    ``json`` is ``<place>.json``; ``npy`` is ``<place>.npy``, one a channel where there are
    several; ``csv`` and ``parquet`` are ``<place>.frames.csv``, ``.points`` or, of an utterance
    that has several, ``.segments``.

    Returns:
        their paths relative to the folder.

    Raises:
        OSError: one cannot be written.
    """
    base = folder / place
    base.parent.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    if "json" in formats:
        written.append(base.with_name(f"{base.name}.json"))
        with whole_file(written[-1]) as partial:
            write_json(partial, analysis.to_json(scores=scores, details=True))
    if "npy" in formats:
        written += save_embeddings(base.with_name(f"{base.name}.npy"), analysis)
    if "csv" in formats or "parquet" in formats:
        written += _write_details(base, analysis, formats)
    return tuple(path.relative_to(folder).as_posix() for path in written)


def remove_outputs(folder: Path, outputs: Sequence[str]) -> None:
    """Remove files that were written before and are not any more."""
    root = folder.resolve()
    for name in outputs:
        path = (folder / name).resolve()
        # The list is read from a file that anybody may have edited.
        if path.is_relative_to(root) and path.suffix in (".json", ".npy", ".csv", ".parquet"):
            with contextlib.suppress(OSError):
                path.unlink()


def rows_of(analysis: FileAnalysis) -> tuple[dict[str, Any], ...]:
    """Return a row a channel: what the whole of it is like."""
    return tuple(
        {
            "file": analysis.name,
            "channel": number,
            "duration_s": round(analysis.duration_s, 3),
            "rate_hz": analysis.rate_hz,
            "model": analysis.model.name,
            "granularity": analysis.options.granularity,
            **_overall(channel),
            **({"speakers": len(channel.speakers)} if analysis.options.speakers else {}),
            "warnings": " ".join(dict.fromkeys(warning.code for warning in channel.warnings)),
        }
        for number, channel in enumerate(analysis.channels, start=1)
    )


def _overall(channel: ChannelAnalysis) -> dict[str, Any]:
    overall = channel.overall
    if overall is None:
        return {"emotion": None, "confidence": None}
    scores = zip(overall.labels, overall.posteriors.tolist(), strict=True)
    return {
        "emotion": overall.emotion,
        "confidence": round(overall.confidence, 6),
        **{label: round(value, 6) for label, value in scores},
    }


def _write_details(base: Path, analysis: FileAnalysis, formats: Sequence[Format]) -> list[Path]:
    granularity = analysis.options.granularity
    if granularity == "utterance":
        if all(len(channel.segments) < 2 for channel in analysis.channels):
            return []
        table = columns_of_segments(analysis)
    else:
        table = columns_of_results(analysis)
    written: list[Path] = []
    name = f"{base.name}.{_DETAILS[granularity]}"
    if "csv" in formats:
        written.append(base.with_name(f"{name}.csv"))
        write_csv(written[-1], table)
    if "parquet" in formats:
        written.append(base.with_name(f"{name}.parquet"))
        write_parquet(written[-1], table)
    return written
