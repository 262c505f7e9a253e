"""Where embeddings come from: files of them, folders of results, recordings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ser_engine.config import EngineConfig
from ser_engine.errors import EmbeddingError
from ser_engine.files import AnalysisOptions, Engine, FileAnalysis
from ser_engine.files.analyser import Answer, FileAnalyser, Wanted
from ser_engine.files.embeddings import Embedding
from ser_engine.files.search import find_recordings

_NUMBERED = re.compile(r"(.+)\.\d+")
_MOST_JSON_BYTES = 64 << 20


def embeddings_of(
    paths: Sequence[Path],
    open_engine: Callable[[], Engine],
    config: EngineConfig,
    *,
    use_cache: bool,
) -> list[Embedding]:
    """Return the embeddings that files and folders stand for, in their order.

    A ``.npy`` file is one; of a folder it is all of those in it, at whatever depth, or where there
    are none all of its recordings. A recording is analysed; it has an embedding a channel.

    Args:
        paths: of files and folders.
        open_engine: called when a recording is to be analysed.
        config: how it is analysed.
        use_cache: take results that were had before, and keep new ones.

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
        for each in ([_read(path)] if path.suffix == ".npy" else analysed[path])
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


def _read(path: Path) -> Embedding:
    try:
        # Mapped, not read: a header may claim what it likes, and frames of hours may be many.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise EmbeddingError(f"{path}: there is no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise EmbeddingError(f"{path}: got no array that can be read: {error}") from None
    if not isinstance(array, np.ndarray) or array.ndim not in (1, 2) or array.dtype.kind != "f":
        raise EmbeddingError(
            f"{path}: got {getattr(array, 'dtype', 'several arrays')} of shape"
            f" {getattr(array, 'shape', '?')}, expected floats (dim,) or (frames, dim)"
        )
    if not array.size:
        raise EmbeddingError(f"{path}: got no value, expected an embedding")
    vector = array if array.ndim == 1 else array.mean(axis=0, dtype=np.float64)
    return Embedding(str(path), np.array(vector, dtype=np.float32), _model_of(path))


def _model_of(path: Path) -> str:
    """Return the hash of the model, where the JSON beside an embedding tells of it."""
    numbered = _NUMBERED.fullmatch(path.stem)
    stem = numbered.group(1) if numbered else path.stem
    for beside in (path.with_name(f"{stem}.json"), path.with_name("details.json")):
        try:
            if beside.stat().st_size > _MOST_JSON_BYTES:
                continue
            model = json.loads(beside.read_bytes())["model"]
            return f"{model['name']} ({model['sha256'][:12]})"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return ""


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
                f"{path}, channel {number}" if several else str(path),
                channel.overall.embedding,
                model,
            )
            for number, channel in enumerate(outcome.channels, start=1)
            if channel.overall is not None
        ]

    analyser = FileAnalyser(engine, config, AnalysisOptions(), use_cache=use_cache)
    analyser.run([Wanted(path, str(path)) for path in dict.fromkeys(paths)], take)
    return found
