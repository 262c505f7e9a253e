"""Alerts by POST: the request, its signature, and when to try again.

The body is the ``alert`` message of the feed as JSON: ids, never names or metadata. It is signed::

    X-Emotion-Monitor-Timestamp: 1763816400
    X-Emotion-Monitor-Signature: sha256=HMAC-SHA256(secret, "1763816400." + body), hex

The time is part of what is signed, so that a receiver can refuse a request that was recorded and is
sent again later.
"""

from __future__ import annotations

import hashlib
import hmac
import random

import msgspec

from stream_server.protocol.results import Alert

__all__ = ["MAX_ATTEMPTS", "is_worth_retrying", "retry_delay_s", "sign", "webhook_request"]

MAX_ATTEMPTS = 8
"""Calls of one alert, the first included: the last comes one to two minutes after the first."""

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0
_TOO_MANY_REQUESTS = 429
_REQUEST_TIMEOUT = 408


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """Return the value of the signature's header.

    Args:
        body: what is posted.
        secret: shared with the receiver.
        timestamp: seconds since 1970, as in the header.
    """
    signed = f"{timestamp}.".encode() + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def webhook_request(alert: Alert, secret: str, timestamp: int) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a call.

    Args:
        alert: what to tell.
        secret: of the rule; "": not signed.
        timestamp: seconds since 1970.
    """
    body = msgspec.json.encode(alert)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "emotion-monitor",
        # The same for every attempt, so that a receiver can tell a repetition.
        "X-Emotion-Monitor-Delivery": f"{alert.alert_id}-{alert.state}",
        "X-Emotion-Monitor-Timestamp": str(timestamp),
    }
    if secret:
        headers["X-Emotion-Monitor-Signature"] = sign(body, secret, timestamp)
    return body, headers


def is_worth_retrying(status: int) -> bool:
    """Whether the same call may be answered otherwise later."""
    return status in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS) or status >= 500


def retry_delay_s(attempt: int, rng: random.Random, retry_after_s: float | None = None) -> float:
    """Return how long to wait after a call that failed.

    Doubles with every attempt; half of it is chance, so that many receivers' failures do not
    become one crowd of repetitions.

    Args:
        attempt: number of the call that failed, from 1.
        rng: where chance comes from.
        retry_after_s: what the receiver asked for.
    """
    longest_s = min(_FIRST_DELAY_S * 2.0 ** (attempt - 1), _LONGEST_DELAY_S)
    delay_s = longest_s * (0.5 + rng.random() / 2)
    return max(delay_s, min(retry_after_s or 0.0, _LONGEST_DELAY_S))
