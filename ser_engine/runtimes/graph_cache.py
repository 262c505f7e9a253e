"""Where converted and calibrated graphs are kept, so that a model is prepared once."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from ser_engine.models.checkpoint import Checkpoint

__all__ = ["GraphCache"]

_FORMAT = 1
"""Raised when the graphs' inputs, outputs or arithmetic change, so that old files are left."""

_log = logging.getLogger(__name__)


class GraphCache:
    """Folders of graphs under ``<models_dir>/graphs``, one a model and kind.

    Args:
        models_dir: the folder of all models.
        checkpoint: the model the graphs are made from; its hash and labels are part of the key.
    """

    def __init__(self, models_dir: Path, checkpoint: Checkpoint) -> None:
        info = checkpoint.info
        key = hashlib.sha256(f"{_FORMAT} {info.sha256} {info.labels}".encode()).hexdigest()[:16]
        self._root = models_dir / "graphs" / f"{Path(info.name).name}-{key}"

    def folder(self, kind: str, write: Callable[[Path], None]) -> Path:
        """Return the folder of a kind of graph, made by ``write`` where it is not there yet.

        ``write`` fills a folder beside the final place, which is renamed when it is complete: a
        start that is cut short leaves nothing that could be taken for a graph. Where the place
        cannot be written the graphs go to a temporary folder and are made again next time.
        """
        target = self._root / kind
        if target.is_dir():
            return target
        partial = self._root / f".{uuid.uuid4().hex}.partial"
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            _log.warning("prepared graphs cannot be kept in %s: %s", self._root, error)
            partial = Path(tempfile.mkdtemp(prefix="emotion-monitor-"))
            write(partial)
            return partial
        try:
            write(partial)
            os.replace(partial, target)
        except OSError:
            # Another start was faster; its folder is complete.
            if not target.is_dir():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target
