"""Who guesses tokens and passwords is slowed down, address by address. Pure: time is an argument.

Each address has a bucket of attempts. A wrong one is lost, a right one comes back, and one more
comes back every :data:`REFILL_S`; with an empty bucket nothing is looked at any more. A token that
was right from an address before is no attempt, so that one who guesses does not keep out the others
behind the same address.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import OrderedDict

MAX_ATTEMPTS = 20
REFILL_S = 3.0
# Addresses, and tokens that were right, that are remembered; the oldest go first.
_MAX_REMEMBERED = 10_000


class Guesses:
    """The attempts of all addresses."""

    def __init__(self) -> None:
        # Attempts left at a time, seconds.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._right: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._wrong: OrderedDict[str, int] = OrderedDict()

    def begin(self, address: str, secret: str, now: float) -> float:
        """Take an attempt; return 0, or how long to wait, s, if none is left."""
        place = _place(address)
        if (place, _digest(secret)) in self._right:
            return 0.0
        left, since = self._left.get(place, (float(MAX_ATTEMPTS), now))
        left = min(float(MAX_ATTEMPTS), left + max(0.0, now - since) / REFILL_S)
        if left < 1:
            self._remember(self._left, place, (left, now))
            return (1 - left) * REFILL_S
        self._remember(self._left, place, (left - 1, now))
        return 0.0

    def was_right(self, address: str, secret: str) -> None:
        """Give an attempt back."""
        place, known = _place(address), (_place(address), _digest(secret))
        if known in self._right:
            self._right.move_to_end(known)
            return
        self._remember(self._right, known, None)
        if place in self._left:
            left, since = self._left[place]
            self._left[place] = left + 1, since

    def was_wrong(self, address: str) -> int:
        """Return how many were wrong so far from an address."""
        place = _place(address)
        self._remember(self._wrong, place, self._wrong.get(place, 0) + 1)
        return self._wrong[place]

    @staticmethod
    def _remember(store: OrderedDict, key: object, value: object) -> None:  # type: ignore[type-arg]
        store[key] = value
        store.move_to_end(key)
        if len(store) > _MAX_REMEMBERED:
            store.popitem(last=False)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


def _place(address: str) -> str:
    """Return what one attacker has: an address, of IPv6 a network of 64 bits (RFC 6177)."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return (
        str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
    )
