"""Secrets out of everything that is printed, logged or answered: one rule for all of it.

:func:`masked` is for settings, whose names say what is secret; :func:`masked_text` for texts such
as errors and log lines, in which a secret stands in a URL, a header or an assignment. Both rather
hide too much: what is printed ends up in tickets and chats.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

MASK = "•••"
"""Stands for a secret."""

# "max_tokens_..." would be no secret.
_WORDS = (
    r"secret|passw(?:or)?[dt]|passphrase|pwd|token(?!s(?![A-Za-z]))|credential|signature|assertion"
    r"|(?:api|access|account|private|shared)(?:[-_]|%5f)?key"
)
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_SECRETS_BY_NAME = ("tokens", "keys")
"""Settings that are mappings of names, which say who may connect, to secrets."""

# Numbers, whatever they limit: ``max_streams_per_token``.
_LIMITS = ("max_", "min_")

# Up to the last "@": passwords hold "@" and "/", though URLs should have them percent-encoded.
_URL_IN_TEXT = re.compile(r"(?<=://)([^\s/@:?#'\"]*):\S+@")
_URL = re.compile(r"(?<=://)([^\s/@:?#]*):.+@", re.DOTALL)
# A name alone is a token, but that of a user of a database or a broker.
_TOKEN_OF_URL = re.compile(r"\b(?!postgres|mysql|mqtt)([a-z][a-z0-9+.-]*://)[^\s/@:?#'\"]+@", re.I)
_IN_QUERY = re.compile(r"([?&](?:sig|key|code|auth|jwt)=)[^\s&;'\"]+", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?=-----END|\Z)", re.DOTALL)
_OPTION = re.compile(
    rf"(--[\w.-]*(?:{_WORDS})[\w-]*(?:\s+|['\"],\s*))"
    # Nor is an error's "--token is …".
    r"(?!-|(?:is|are|was|has|and|or|may|must|cannot|needs)\b)('[^']*'?|\"[^\"]*\"?|[^\s,;'\"]+)",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(
    rf"((?:[\w.-]*(?:{_WORDS}|\btokens|\bkeys)[\w.-]*)['\"]?\s*(?:=>?|%3d|:(?!//))\s*)"
    # An error's "NAME: got …" is no value.
    r"(?!(?:got|expected|there|cannot)\b)(\{[^}]*\}?|\[[^\]]*\]?"
    r"|'(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?|[^\s&,;'\"]+)",
    re.IGNORECASE,
)
_QUERY = re.compile(rf"([?&;][^=&;]*(?:{_WORDS})[^=&;]*=)[^&;]*", re.IGNORECASE | re.DOTALL)
_HEADER = re.compile(
    r"((?:authorization|cookie|x-api-key|dg-api-key|sec-websocket-protocol)['\"]?\s*[:=,]\s*)[^\r\n]+",
    re.IGNORECASE,
)
_SCHEME = re.compile(
    r"\b(bearer|basic|token|digest)(['\"]?,?\s+['\"]?)(?=\S*[\d\\=_-])[^\s'\"]{6,}", re.IGNORECASE
)


def is_secret(name: str) -> bool:
    if name.startswith(_LIMITS):
        return False
    return name in _SECRETS_BY_NAME or _SECRET.search(name) is not None


def masked(value: Any, name: str = "") -> Any:
    """Return settings without tokens, passwords, and keys that webhooks are signed with."""
    if isinstance(value, Mapping):
        # A secret that is a mapping by mistake has its own keys for text.
        inner = "secret" if is_secret(name) else None
        hides_keys = inner is not None and name not in _SECRETS_BY_NAME
        return {
            MASK if hides_keys else str(key): masked(one, inner or str(key))
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(one, name) for one in value]
    if value is None or value == "" or isinstance(value, bool):
        return value
    if is_secret(name):
        return MASK
    if not isinstance(value, str):
        return value
    if name == "webhook":
        # Services put the right to post into the path.
        return _masked_webhook(value)
    if name == "notify":
        # Any part of Apprise's URLs may be a token, the host, too.
        return f"{value.partition('://')[0] if '://' in value else ''}://{MASK}"
    return masked_text(_QUERY.sub(rf"\g<1>{MASK}", _URL.sub(rf"\g<1>:{MASK}@", value)))


def masked_text(text: str) -> str:
    """Return a text without the secrets of URLs, headers and assignments in it."""
    text = _PRIVATE_KEY.sub(rf"\g<1>{MASK}", text)
    text = _URL_IN_TEXT.sub(rf"\g<1>:{MASK}@", text)
    text = _TOKEN_OF_URL.sub(rf"\g<1>{MASK}@", text)
    text = _IN_QUERY.sub(rf"\g<1>{MASK}", _JWT.sub(MASK, text))
    text = _OPTION.sub(_masked_assignment, text)
    text = _HEADER.sub(rf"\g<1>{MASK}", text)
    text = _SCHEME.sub(rf"\g<1>\g<2>{MASK}", text)
    return _ASSIGNMENT.sub(_masked_assignment, text)


def _masked_assignment(found: re.Match[str]) -> str:
    name = re.split(r"['\"\s=:,%]", found[1].lstrip("-"))[0].rpartition(".")[2]
    return found[0] if name.startswith(_LIMITS) else f"{found[1]}{MASK}"


def _masked_webhook(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}/{MASK}"
    except ValueError:
        return MASK
