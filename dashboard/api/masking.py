"""Settings as they may be shown: secrets are replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["MASK", "masked"]

MASK = "•••"

_SECRET = re.compile(r"secret|password|token(?!s\b)|api_?key", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)([^/@:]*)(:[^/@]*)?@")


def masked(value: Any, name: str = "") -> Any:
    """Return settings without secrets: tokens, passwords, what webhooks are signed with.

    Of a webhook's address the host is shown; whoever knows the rest may post there.

    Args:
        value: a tree of mappings and lists.
        name: under which it stands in the tree.
    """
    if isinstance(value, Mapping):
        # Names of tokens tell who connects, their values let them in.
        inner = "secret" if name in ("tokens", "keys") else None
        return {str(key): masked(one, inner or str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [masked(one, name) for one in value]
    if not isinstance(value, str) or not value:
        return value
    if _SECRET.search(name):
        return MASK
    if name == "webhook":
        parts = urlsplit(value)
        return f"{parts.scheme}://{parts.hostname or ''}/{MASK}"
    return _USER_INFO.sub(lambda found: f"{found[1]}:{MASK}@" if found[2] else found[0], value)
