"""Keep what inference needs of a published folder as one safetensors file.

A published ``model.pt`` is three times the size of its weights and slow to open. The first start
writes the weights, with sizes, labels and facts in the file's metadata, to::

    <models_dir>/prepared/<name>-<key>/model.safetensors

``key`` stands for the folder's path, the size and modification time of its ``model.pt`` and the
content of its small files, so that a changed model is prepared anew. The file is written beside
its place and renamed, so that starts at the same time and starts that are cut short are harmless.
The cache is a convenience: where it cannot be written, the published folder is used as it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ser_engine.errors import CheckpointError
from ser_engine.labels import Label, LabelSet
from ser_engine.models.emotion2vec import Emotion2vecSizes
from ser_engine.models.emotion2vec.checkpoint import (
    Emotion2vecCheckpoint,
    check_tensors,
    expected_shapes,
)
from ser_engine.models.emotion2vec.folder import (
    ABSTAIN_BELOW,
    check_folder,
    load_folder,
    model_name,
)
from ser_engine.models.emotion2vec.reference import (
    CONFIG_FILE,
    TOKENS_FILE,
    WEIGHTS_FILE,
    is_published_folder,
)
from ser_engine.types import ModelInfo

PREPARED_FILE = "model.safetensors"

_FORMAT = "emotion-monitor-emotion2vec-1"
"""Changed with the meaning of the file, so that older files are prepared anew."""

_log = logging.getLogger(__name__)


def load_model(
    folder: Path, prepared_dir: Path, *, name: str | None = None
) -> Emotion2vecCheckpoint:
    """Read a published or a prepared folder; a published one is prepared for the next start.

    Args:
        name: name of the model; None: as its files or its folder call it.

    Raises:
        CheckpointError: ``folder`` holds no model that can be used.
    """
    if is_prepared_folder(folder) and not is_published_folder(folder):
        return load_prepared(folder / PREPARED_FILE)
    check_folder(folder)
    named = name or model_name(folder)
    target = prepared_file(folder, prepared_dir, named)
    if target.is_file():
        try:
            return load_prepared(target)
        except CheckpointError as error:
            _log.warning("prepared model is damaged and is made anew: %s", error)
    published = load_folder(folder, name=named)
    try:
        save_prepared(published, target)
        # From here on only the small file is mapped: the published one may be moved or replaced.
        prepared = load_prepared(target)
    except (OSError, SafetensorError, CheckpointError) as error:
        _log.warning("prepared model could not be kept in %s: %s", prepared_dir, error)
        return published
    _remove_outdated(target.parent, folder)
    return prepared


def is_prepared_folder(folder: Path) -> bool:
    """Return whether ``folder`` holds a prepared model (which may still be damaged)."""
    return (folder / PREPARED_FILE).is_file()


def prepared_file(folder: Path, prepared_dir: Path, name: str) -> Path:
    """Return where a published folder's prepared file is, or would be.

    Raises:
        OSError: ``folder`` cannot be read.
    """
    return prepared_dir / f"{_file_safe(name)}-{_key(folder)}" / PREPARED_FILE


def prepared_folders(prepared_dir: Path, name: str) -> list[Path]:
    """Return the prepared folders of a model, newest first."""
    pattern = re.compile(rf"{re.escape(_file_safe(name))}-[0-9a-f]{{16}}")
    found = [path for path in _children(prepared_dir) if pattern.fullmatch(path.name)]
    found = [path for path in found if is_prepared_folder(path)]
    return sorted(found, key=lambda path: (path / PREPARED_FILE).stat().st_mtime_ns, reverse=True)


def save_prepared(checkpoint: Emotion2vecCheckpoint, path: Path) -> None:
    """Write a checkpoint to ``path`` at once or not at all.

    Args:
        path: the file to make or replace; its folder is made.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    info = dataclasses.asdict(checkpoint.info)
    metadata = {
        "format": _FORMAT,
        "sizes": json.dumps(dataclasses.asdict(checkpoint.sizes)),
        "info": json.dumps(info, ensure_ascii=False),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        save_file(dict(checkpoint.tensors), temporary, metadata=metadata)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_prepared(path: Path) -> Emotion2vecCheckpoint:
    """Read a prepared file. Its tensors refer to the mapped file.

    Raises:
        CheckpointError: the file is missing, damaged or no prepared model.
    """
    try:
        metadata = _metadata(path)
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(
                f"got format {metadata.get('format')!r} in {path}, expected {_FORMAT!r}; remove the"
                " file, it is made again from the published folder"
            )
        sizes = _sizes(json.loads(metadata["sizes"]))
        info = _info(json.loads(metadata["info"]))
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"got {path} that cannot be read as a prepared model ({error}); remove the file, it is"
            " made again from the published folder"
        ) from error
    check_tensors(tensors, expected_shapes(sizes, len(info.labels)), str(path))
    return Emotion2vecCheckpoint(info, tensors, sizes)


def read_prepared_info(path: Path) -> ModelInfo:
    """Return the facts a prepared file holds, without its tensors.

    Raises:
        CheckpointError: the file is missing, damaged or no prepared model.
    """
    try:
        return _info(json.loads(_metadata(path)["info"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"got {path} that is no prepared model ({error})") from error


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _sizes(values: dict[str, Any]) -> Emotion2vecSizes:
    conv_layers = tuple((int(c), int(k), int(s)) for c, k, s in values.pop("conv_layers"))
    return Emotion2vecSizes(conv_layers=conv_layers, **values)


def _info(values: dict[str, Any]) -> ModelInfo:
    listed = values.pop("labels")
    labels = tuple(Label(**label) for label in listed["labels"])
    # Not the file's own: it may be older than the threshold.
    values["abstain_below"] = ABSTAIN_BELOW
    values["neutral_logits"] = ()  # JSON has no tuples; these models come without
    return ModelInfo(labels=LabelSet(labels, listed["num_tokens"]), **values)


def _key(folder: Path) -> str:
    weights = (folder / WEIGHTS_FILE).stat()
    parts = [_FORMAT, str(folder.resolve()), str(weights.st_size), str(weights.st_mtime_ns)]
    for name in (CONFIG_FILE, TOKENS_FILE):
        parts.append(hashlib.sha256((folder / name).read_bytes()).hexdigest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _remove_outdated(kept: Path, folder: Path) -> None:
    """Remove what was prepared from earlier contents of ``folder``."""
    for other in _children(kept.parent):
        if other == kept or not is_prepared_folder(other):
            continue
        try:
            info = json.loads(_metadata(other / PREPARED_FILE)["info"])
            if info["source"] == str(folder.resolve()):
                shutil.rmtree(other)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            continue


def _children(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:
        return


def _file_safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
