"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["new_folder", "whole_file"]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write a file to, which takes the place of ``path`` in the end.

    Where the block raises nothing is left, and what ``path`` was before stays. A process that is
    killed leaves a hidden file ``.<name>.….new``. What is there and is no file, such as
    ``/dev/stdout``, is given itself.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f".{path.name[:64]}.{uuid.uuid4().hex[:12]}.new")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def new_folder(parent: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """Make a folder in ``parent``, have it filled, give it its name, and return it.

    Where the name is taken it gets ``name_2``, ``name_3`` and so on: nothing is written over, and
    two processes never get one name. Where ``fill`` raises nothing is left. A process that is
    killed leaves a hidden folder ``.<name>.….new``.
    """
    parent.mkdir(parents=True, exist_ok=True)
    partial = parent / f".{name}.{uuid.uuid4().hex[:12]}.new"
    partial.mkdir()
    try:
        fill(partial)
        return _rename(partial, parent, name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, parent: Path, name: str) -> Path:
    number = 1
    while True:
        target = parent / (name if number == 1 else f"{name}_{number}")
        number += 1
        if target.exists():
            continue
        # Somebody may be faster: a folder is not renamed to one that holds anything.
        try:
            os.rename(partial, target)
        except OSError:
            if not target.exists():
                raise
            continue
        return target
