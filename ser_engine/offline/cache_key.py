"""What names the result of an analysis: two with one key are the same result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ser_engine.config import EngineConfig
from ser_engine.errors import AudioError
from ser_engine.offline.options import AnalysisOptions, options_in_effect
from ser_engine.types import ModelInfo

__all__ = ["analysis_key", "file_sha256"]

_FORMAT = 1
"""Raised when the same input gives another result than before."""


def analysis_key(
    content_sha256: str, info: ModelInfo, options: AnalysisOptions, config: EngineConfig
) -> str:
    """Return the key of a result: 64 hex digits.

    In it are the file's content, the model's, the options as far as they make a difference, and
    the settings that decide about the result. A file's name is not.

    Args:
        content_sha256: see :func:`file_sha256`.
        info: the model.
        options: what is asked for.
        config: lengths, detector, smoothing, runtime.
    """
    effective = options_in_effect(options, config)
    offline = asdict(config.offline)
    model = asdict(config.model)
    parts: dict[str, Any] = {
        "format": _FORMAT,
        "content": content_sha256,
        "model": [info.name, info.sha256],
        "options": asdict(effective),
        # Arithmetic differs between runtimes, by a hundredth where it is int8.
        "runtime": {
            name: model[name]
            for name in ("device", "runtime", "precision", "features", "feature_tolerance")
        },
        "offline": {
            name: offline[name] for name in ("max_pass_s", "segment_min_s", "segment_max_s")
        },
        "vad": asdict(config.vad),
    }
    if effective.speakers:
        parts["speakers"] = asdict(config.speakers)
    if effective.granularity == "stream":
        parts |= {"timeline": asdict(config.timeline), "smoothing": asdict(config.smoothing)}
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, hex. The file is read piece by piece.

    Raises:
        AudioError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}") from None
