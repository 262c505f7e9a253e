"""HTTP message signatures as AudioHook makes them: the client holds the secret of its API key.

``Signature-Input`` lists what was signed and when, ``Signature`` is the HMAC-SHA256 over it
(draft-ietf-httpbis-message-signatures, now RFC 9421; structured fields: RFC 8941)::

    Signature-Input: sig1=("@request-target" "@authority" "x-api-key" ...);keyid="...";nonce="..."
        ;alg="hmac-sha256";created=1641013200;expires=1641013210
    Signature: sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from stream_server.wire.errors import ErrorCode, ProtocolError

REQUIRED_COMPONENTS = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)
"""What a signature must cover; anything else could be replaced by someone who overheard it."""

MAX_CLOCK_SKEW_S = 3.0
"""How far the platform's clock may be ahead of this one's, and how late ``expires`` may be."""
MIN_NONCE_LENGTH = 22
"""Characters of a nonce: Base64 of 128 bits."""
MAX_NONCES = 65_536
"""Nonces that are remembered. Only the holder of a secret can fill it."""

_ALGORITHM = "hmac-sha256"
_NO_KEY = bytes(32)

# The subset of structured fields (RFC 8941, section 3) that signatures use: a dictionary of inner
# lists of strings, with parameters that are strings or integers of up to 15 digits.

_KEY = r"[a-z*][a-z0-9_.*-]*"
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_PARAMETER = rf"; *({_KEY})=({_STRING}|[0-9]{{1,15}})"
_INPUT = re.compile(rf"({_KEY})=(\(( *{_STRING}(?: +{_STRING})*)? *\)(?:{_PARAMETER})*)")
_SIGNATURE = re.compile(rf"({_KEY})=:([A-Za-z0-9+/]*={{0,2}}):")
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*")
_PARAMETERS = re.compile(_PARAMETER)
_STRINGS = re.compile(_STRING)


@dataclass(frozen=True, slots=True)
class _Input:
    """One member of ``Signature-Input``: its text, the components it covers and its parameters."""

    text: str
    components: tuple[str, ...]
    parameters: dict[str, str | int]

    def number(self, name: str) -> int | None:
        value = self.parameters.get(name)
        if isinstance(value, str):
            raise _refused(f"{name} is not a number")
        return value

    def string(self, name: str) -> str:
        value = self.parameters.get(name, "")
        if isinstance(value, int):
            raise _refused(f"{name} is not a string")
        return value


class SignatureVerifier:
    """Checks signatures, and that none is used twice. Time is an argument.

    Args:
        keys: API keys and their secrets, decoded.
        max_age_s: age at which a signature is refused.
        authority: host that the platform connects to; "": that of the ``Host`` header.
    """

    def __init__(self, keys: Mapping[str, bytes], *, max_age_s: float, authority: str = "") -> None:
        self._keys = dict(keys)
        self._max_age_s = max_age_s
        self._authority = authority
        self._nonces: OrderedDict[tuple[str, str], float] = OrderedDict()  # until when

    def check(self, headers: Mapping[str, str], target: str, now_s: float) -> None:
        """Check the signature of a request.

        Raises:
            ProtocolError: UNAUTHORIZED; its text is for the operator and repeats nothing of the
                request.
        """
        signed = _parse_input(headers.get("signature-input", ""))
        signature = _parse_signature(headers.get("signature", ""), signed[0])
        fields = signed[1]
        base = _signature_base(fields, self._values(headers, target))
        key_id = fields.string("keyid")
        secret = self._keys.get(key_id)
        # An unknown key takes as long as a wrong signature, so that time does not tell which.
        computed = hmac.new(
            _NO_KEY if secret is None else secret,
            base.encode(errors="surrogatepass"),
            hashlib.sha256,
        ).digest()
        if not hmac.compare_digest(computed, signature) or secret is None:
            raise _refused("the key is unknown, or the signature was made with another secret")
        # After the signature: an unsigned request learns nothing from which check fails.
        if headers.get("x-api-key") != key_id:
            raise _refused("keyid differs from X-API-KEY")
        if fields.parameters.get("alg", _ALGORITHM) != _ALGORITHM:
            raise _refused(f"the algorithm is not {_ALGORITHM}")
        created_s = self._check_time(fields, now_s)
        self._use(key_id, fields.string("nonce"), created_s + self._max_age_s, now_s)

    def _values(self, headers: Mapping[str, str], target: str) -> dict[str, str]:
        return {
            **{name: value.strip(" \t") for name, value in headers.items()},
            "@request-target": target,
            "@authority": self._authority or headers.get("host", "").strip().lower(),
        }

    def _check_time(self, fields: _Input, now_s: float) -> int:
        created_s, expires_s = fields.number("created"), fields.number("expires")
        if created_s is None:
            raise _refused("created is missing")
        if created_s > now_s + MAX_CLOCK_SKEW_S:
            raise _refused("it was created in the future: compare the clocks")
        if created_s + self._max_age_s <= now_s:
            raise _refused(f"it is older than {self._max_age_s:g} s")
        if expires_s is not None and expires_s + MAX_CLOCK_SKEW_S <= now_s:
            raise _refused("it has expired")
        return created_s

    def _use(self, key_id: str, nonce: str, until_s: float, now_s: float) -> None:
        """Refuse a nonce that was used, and remember it for as long as its signature is valid."""
        if len(nonce) < MIN_NONCE_LENGTH:
            raise _refused(f"the nonce is shorter than {MIN_NONCE_LENGTH} characters")
        # Nearly in order of time: one behind a later one is forgotten with it.
        while self._nonces and next(iter(self._nonces.values())) <= now_s:
            self._nonces.popitem(last=False)
        if (key_id, nonce) in self._nonces:
            raise _refused("its nonce was used already")
        if len(self._nonces) >= MAX_NONCES:
            raise _refused(f"more than {MAX_NONCES} connections within {self._max_age_s:g} s")
        self._nonces[key_id, nonce] = until_s


def authority_of(url: str) -> str:
    """Return ``@authority`` (RFC 9421, section 2.2.3): lower case, without a default port."""
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0].lower()
    default = {"wss": ":443", "ws": ":80"}.get(scheme.lower(), "")
    return authority.removesuffix(default) if default else authority


def _refused(why: str) -> ProtocolError:
    return ProtocolError(ErrorCode.UNAUTHORIZED, f"invalid signature: {why}")


def _parse_input(header: str) -> tuple[str, _Input]:
    """Return the first member of ``Signature-Input``, and its label."""
    match = _first_member(_INPUT, header, "Signature-Input")
    text = match[2]
    components, _, parameters_text = text.partition(")")
    parameters: dict[str, str | int] = {}
    for name, value in _PARAMETERS.findall(parameters_text):
        if name in parameters:
            raise _refused(f"{name} comes twice")
        parameters[name] = _unquoted(value) if value.startswith('"') else int(value)
    names = tuple(_unquoted(name) for name in _STRINGS.findall(components))
    return match[1], _Input(text, names, parameters)


def _parse_signature(header: str, label: str) -> bytes:
    match = _first_member(_SIGNATURE, header, "Signature")
    if match[1] != label:
        raise _refused("Signature and Signature-Input have different labels")
    try:
        return base64.b64decode(match[2], validate=True)
    except binascii.Error:
        raise _refused("Signature is not Base64") from None


def _first_member(pattern: re.Pattern[str], header: str, name: str) -> re.Match[str]:
    """Return the first member of a dictionary, all of whose members must be well formed."""
    if not header:
        raise _refused(f"{name} is missing")
    text = header.strip(" \t")
    first = match = pattern.match(text)
    while match is not None and match.end() < len(text):
        separator = _SEPARATOR.match(text, match.end())
        match = pattern.match(text, separator.end()) if separator is not None else None
    if first is None or match is None:
        raise _refused(f"{name} is not well formed")
    return first


def _signature_base(fields: _Input, values: Mapping[str, str]) -> str:
    """Return what is signed (RFC 9421, section 2.5)."""
    # RFC 9421, section 2.5: each component once, and an error if one is not in the request.
    if len(set(fields.components)) < len(fields.components):
        raise _refused("a component is covered twice")
    for name in REQUIRED_COMPONENTS:
        if name not in fields.components:
            raise _refused(f"{name} is not covered")
    for name in fields.components:
        if not values.get(name):
            raise _refused("a component that is covered is not in the request")
    lines = [f'"{name}": {values[name]}' for name in fields.components]
    # The parameters as they came: to serialise them anew might not give the signer's bytes.
    return "\n".join([*lines, f'"@signature-params": {fields.text}'])


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
