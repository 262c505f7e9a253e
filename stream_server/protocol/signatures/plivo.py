"""``X-Plivo-Signature-V3``.

https://www.plivo.com/docs/voice/concepts/signature-validation

An HMAC of the URL, its query sorted, and of a number used once.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qs

__all__ = ["PLIVO_NONCE", "PLIVO_SIGNATURES", "is_signed_by_plivo"]

PLIVO_SIGNATURES = ("x-plivo-signature-v3", "x-plivo-signature-ma-v3")
"""Headers, in lower case: of the account or subaccount, and of the main account."""
PLIVO_NONCE = "x-plivo-signature-v3-nonce"


def is_signed_by_plivo(
    auth_token: str, urls: Iterable[str], nonce: str, signatures: Iterable[str]
) -> bool:
    """Return whether one of several signatures is right, in the same time wherever it is not.

    Args:
        auth_token: of the account.
        urls: any of which may be the one that was signed.
        nonce: of its header.
        signatures: of their headers; each may hold several, with commas.
    """
    given = [
        each.strip().encode(errors="replace") for header in signatures for each in header.split(",")
    ]
    is_right = False
    for url in urls:
        text = f"{_sorted_query(url)}.{nonce}".encode(errors="replace")
        mac = base64.b64encode(hmac.new(auth_token.encode(), text, "sha256").digest())
        for signature in given:
            is_right |= hmac.compare_digest(mac, signature)
    return is_right


def _sorted_query(url: str) -> str:
    path, _, query = url.partition("?")
    fields = parse_qs(query, keep_blank_values=True)
    pairs = [f"{name}={value}" for name in sorted(fields) for value in sorted(fields[name])]
    return f"{path}?{'&'.join(pairs)}" if pairs else path
