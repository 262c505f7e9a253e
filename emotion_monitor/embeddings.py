"""Embeddings of recordings: where they come from, and groups of them as a picture.

They come from ``.npy`` files, folders of results, or recordings that are analysed; the picture is
one HTML page that takes no network.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emotion_monitor.report import report_page
from ser_engine.config import EngineConfig
from ser_engine.errors import EmbeddingError
from ser_engine.files import AnalysisOptions, Engine, FileAnalysis
from ser_engine.files.analyser import Answer, FileAnalyser, Wanted
from ser_engine.files.embeddings import Embedding
from ser_engine.files.search import find_recordings
from ser_engine.files.whole_files import whole_file


def write_picture(path: Path, table: dict[str, list[Any]], shares: tuple[float, float]) -> None:
    """Write the page.

    ``table``: ``file``, ``cluster`` (from 1), ``x`` and ``y`` of every recording; ``shares`` of the
    variance that either axis shows, 0 to 1.

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


_MOST_JSON_BYTES = 64 << 20


def embeddings_of(
    paths: Sequence[Path],
    open_engine: Callable[[], Engine],
    config: EngineConfig,
    *,
    use_cache: bool,
) -> list[Embedding]:
    """Return the embeddings that files and folders stand for, in their order.

    A ``.npy`` file is one, or one a channel; of a folder it is all of those in it, at whatever
    depth, or where there are none all of its recordings. A recording is analysed; it has an
    embedding a channel.

    ``open_engine`` is called when a recording is to be analysed. ``use_cache``: take results that
    were had before, and keep new ones.

    Raises:
        EmbeddingError: a file is no embedding, a folder holds none, a recording cannot be analysed.
        ConfigError, EngineDeadError, CheckpointError, HubUnavailableError: of the engine.
    """
    sources = [source for path in paths for source in _sources(path)]
    recordings = [path for path in sources if path.suffix != ".npy"]
    analysed: dict[Path, list[Embedding]] = {}
    if recordings:
        analysed = _analyse(recordings, open_engine(), config, use_cache=use_cache)
    return [
        each
        for path in sources
        for each in (_read(path) if path.suffix == ".npy" else analysed[path])
    ]


def _sources(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    arrays = sorted(
        each
        for each in path.rglob("*.npy")
        if not any(part.startswith(".") for part in each.relative_to(path).parts)
    )
    found = arrays or [each.path for each in find_recordings([path], recursive=True)]
    if not found:
        raise EmbeddingError(
            f"{path}: got no .npy file and no recording in it, expected some; emotion-monitor"
            " analyze … --out DIR --format npy writes embeddings"
        )
    yield from found


def _read(path: Path) -> list[Embedding]:
    try:
        # Mapped, not read: a header may claim what it likes, and frames of hours may be many.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise EmbeddingError(f"{path}: there is no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise EmbeddingError(f"{path}: got no array that can be read: {error}") from None
    if not isinstance(array, np.ndarray) or array.ndim not in (1, 2, 3) or array.dtype.kind != "f":
        raise EmbeddingError(
            f"{path}: got {getattr(array, 'dtype', 'several arrays')} of shape"
            f" {getattr(array, 'shape', '?')}, expected floats (dim,) or (frames, dim), or several"
            " channels of them"
        )
    if not array.size:
        raise EmbeddingError(f"{path}: got no value, expected an embedding")
    beside = _beside(path)
    # (2, dim) may be two frames or two channels: the shape does not tell, the document does.
    per_channel = array.ndim == 3 or (array.ndim == 2 and beside.channels == len(array) > 1)
    named = (
        [(f"{path}, channel {index}", each) for index, each in enumerate(array)]
        if per_channel
        else [(str(path), array)]
    )
    vectors = [
        (name, each if each.ndim == 1 else each.mean(axis=0, dtype=np.float64))
        for name, each in named
    ]
    return [
        Embedding(name, np.array(vector, dtype=np.float32), beside.model)
        for name, vector in vectors
        # A channel that could not be scored is NaN among the others.
        if not per_channel or np.isfinite(vector).all()
    ]


class _Model(msgspec.Struct):
    name: str
    sha256: str


class _Result(msgspec.Struct):
    """What is needed of a FileResult, so that those of earlier versions can be read as well."""

    model: _Model
    granularity: str = ""
    channels: tuple[msgspec.Raw, ...] = ()


@dataclass(frozen=True, slots=True)
class _Beside:
    """What the result beside an embedding says of it.

    Attributes:
        model: name and hash, or "".
        channels: length of the first axis of an array of wholes; with 1 it has no such axis.
    """

    model: str = ""
    channels: int = 1


def _beside(path: Path) -> _Beside:
    for beside in (path.with_name(f"{path.stem}.json"), path.with_name("details.json")):
        try:
            if beside.stat().st_size > _MOST_JSON_BYTES:
                continue
            result = msgspec.json.decode(beside.read_bytes(), type=_Result)
        except (OSError, msgspec.DecodeError, RecursionError):
            continue
        channels = len(result.channels) if result.granularity in ("utterance", "stream") else 1
        return _Beside(f"{result.model.name} ({result.model.sha256[:12]})", channels)
    return _Beside()


def _analyse(
    paths: Sequence[Path], engine: Engine, config: EngineConfig, *, use_cache: bool
) -> dict[Path, list[Embedding]]:
    found: dict[Path, list[Embedding]] = {}
    model = f"{engine.info.name} ({engine.info.sha256[:12]})"

    def take(answer: Answer) -> None:
        path, outcome = answer.wanted.path, answer.outcome
        if not isinstance(outcome, FileAnalysis):
            raise EmbeddingError(f"{path}: {outcome}")
        several = len(outcome.channels) > 1
        found[path] = [
            Embedding(
                f"{path}, channel {index}" if several else str(path),
                channel.overall.embedding,
                model,
            )
            for index, channel in enumerate(outcome.channels)
            if channel.overall is not None
        ]

    analyser = FileAnalyser(engine, config, AnalysisOptions(), use_cache=use_cache)
    analyser.run([Wanted(path, str(path)) for path in dict.fromkeys(paths)], take)
    return found
