"""Progress on the terminal, in lines, so that it reads well in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Progress(Generic[T]):
    """Go through ``items`` and say every ten seconds how far it is."""

    def __init__(self, items: Sequence[T], name: str, every_s: float = 10.0) -> None:
        self._items = items
        self._name = name
        self._every_s = every_s

    def __iter__(self) -> Iterator[T]:
        begun = said = time.monotonic()
        for index, item in enumerate(self._items):
            yield item
            now = time.monotonic()
            if now - said >= self._every_s:
                said = now
                print(
                    f"{self._name}: {index + 1}/{len(self._items)}, {now - begun:.0f} s", flush=True
                )
        print(f"{self._name}: done, {time.monotonic() - begun:.0f} s", flush=True)
