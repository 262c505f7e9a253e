"""Looks for a damaged file that reading does not take: ``python -m benchmarks.damaged_files``.

The damage is that of ``tests/ser_engine/files/test_damaged_files.py``, for as many seeds as asked
for. A file that ends in anything but audio or an AudioError is kept, and the run goes on.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import tempfile
from pathlib import Path

from ser_engine.errors import AudioError
from ser_engine.files.audio import AudioFile
from tests.support.damaged_files import cases, recordings


def main() -> int:
    """Run it; return how many files were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=500, help="files of each format")
    parser.add_argument("--keep", type=Path, default=Path("damaged_files"))
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    outcomes: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = recordings(folder, media=importlib.util.find_spec("av") is not None)
        for path, seed, content in cases(paths, seeds):
            each = folder / f"damaged{path.suffix}"
            each.write_bytes(content)
            try:
                with AudioFile(each) as file:
                    for _ in file.blocks():
                        pass
                outcomes["read"] += 1
            except AudioError:
                outcomes["refused"] += 1
            except Exception as error:
                outcomes["not taken"] += 1
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / f"{seed}_{path.name}").write_bytes(content)
                print(f"{path.name}, seed {seed}: {type(error).__name__}: {error}")
    print(", ".join(f"{count} {what}" for what, count in sorted(outcomes.items())))
    return outcomes["not taken"]


if __name__ == "__main__":
    raise SystemExit(min(main(), 1))
