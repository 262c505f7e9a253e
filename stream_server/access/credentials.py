"""Tokens, people and sessions: what proves who somebody is. In memory; time is an argument.

A token that the server made is ``emt_ID_SECRET``: the id finds it, the secret proves it. What is
kept of a secret is a scrypt hash (RFC 7914). A token's secret has 256 random bits, which no cost of
a hash makes harder to guess, so its hash is cheap enough for every request; a password's is not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any, Literal

from stream_server.access.policy import SCOPES_OF_ROLE, Given, Role, Scope, Who

TOKEN_PREFIX = "emt_"
MIN_PASSWORD_LENGTH = 10

# Powers of two of scrypt's cost N, with r = 8 and p = 1. 2^15 takes 32 MiB and a tenth of a second.
_TOKEN_COST, _PASSWORD_COST = 10, 15
_BLOCK = 8
_MAX_MEMORY_BYTES = 1 << 27
# Tokens whose hash was compared lately.
_MAX_PROVEN = 1024


@dataclass(frozen=True, slots=True)
class Credential:
    """A token or a person, as the store keeps it.

    Attributes:
        id: random; names it in tokens and sessions.
        name: unique among those of its kind that are not revoked.
        secret: hash of a token's secret or a person's password.
        teams: names; None: all.
        created_at, expires_at, revoked_at: seconds since 1970, UTC; None: never, not yet.
    """

    id: str
    kind: Literal["token", "user"]
    name: str
    secret: str = field(repr=False)
    scopes: tuple[Scope, ...]
    role: Role | None
    teams: tuple[str, ...] | None
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def is_valid(self, now: float) -> bool:
        """Whether it lets somebody in."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def who(self) -> Who:
        """Whom it proves."""
        scopes = frozenset(self.scopes) if self.role is None else SCOPES_OF_ROLE[self.role]
        teams = None if self.teams is None else frozenset(self.teams)
        return Who(self.kind, self.name, scopes, teams, ref=self.id)


def new_token(
    name: str,
    scopes: Iterable[Scope],
    teams: Iterable[str] | None,
    *,
    now: float,
    expires_at: float | None = None,
) -> tuple[Credential, str]:
    """Return a new token as it is kept, and its text, which is shown once."""
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    credential = Credential(
        id=token_id,
        kind="token",
        name=name,
        secret=hash_of(secret, _TOKEN_COST),
        scopes=tuple(sorted(scopes)),
        role=None,
        teams=None if teams is None else tuple(sorted(teams)),
        created_at=now,
        expires_at=expires_at,
    )
    return credential, f"{TOKEN_PREFIX}{token_id}_{secret}"


def new_user(
    name: str, role: Role, teams: Iterable[str] | None, password: str, *, now: float
) -> Credential:
    """Return a person who may log in."""
    return Credential(
        id=secrets.token_hex(6),
        kind="user",
        name=name,
        secret=password_hash(password),
        scopes=(),
        role=role,
        teams=None if teams is None else tuple(sorted(teams)),
        created_at=now,
    )


def password_hash(password: str) -> str:
    """Return the hash of a password; takes a tenth of a second."""
    return hash_of(password, _PASSWORD_COST)


def hash_of(secret: str, cost: int) -> str:
    """Return a salted hash, with what it takes to compare it: ``scrypt$COST$SALT$HASH``."""
    salt = secrets.token_bytes(16)
    return f"scrypt${cost}${_text(salt)}${_text(_scrypt(secret, salt, cost))}"


def is_secret(secret: str, hashed: str) -> bool:
    """Return whether a secret has that hash, in constant time."""
    name, cost, salt, expected = hashed.split("$")
    assert name == "scrypt", "the store keeps no other hashes"
    return hmac.compare_digest(_scrypt(secret, _bytes(salt), int(cost)), _bytes(expected))


def _scrypt(secret: str, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(
        secret.encode(errors="surrogateescape"),
        salt=salt,
        n=1 << cost,
        r=_BLOCK,
        p=1,
        maxmem=_MAX_MEMORY_BYTES,
        dklen=32,
    )


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


_NOBODY = (
    f"scrypt${_PASSWORD_COST}${_text(secrets.token_bytes(16))}${_text(secrets.token_bytes(32))}"
)
"""Compared where there is no such person, so that the time taken does not tell; of no password."""


# Begins the references of tokens that the server made for itself.
_OWN = "own:"


class Book:
    """All tokens and people: those of the settings, and those of the store as last read.

    ``tokens`` of the settings, by name, may do everything.
    """

    def __init__(self, tokens: Mapping[str, str] | None = None) -> None:
        self._fixed = {
            f"settings:{name}": (
                token.encode(),
                Who("token", name, frozenset(Scope), ref=f"settings:{name}"),
            )
            for name, token in (tokens or {}).items()
        }
        self._has_fixed = bool(self._fixed)
        self._stored: dict[str, Credential] = {}
        # Digests of tokens that were proven right, so that not every request costs a hash. Keyed,
        # so that they say nothing about the tokens.
        self._key = secrets.token_bytes(32)
        self._proven: OrderedDict[bytes, str] = OrderedDict()

    @property
    def is_configured(self) -> bool:
        """Whether there is any token or person, even one that is revoked or expired."""
        # Revoking the last token must not open the server to everybody.
        return self._has_fixed or bool(self._stored)

    def replace(self, credentials: Sequence[Credential]) -> None:
        """Take over what the store has now, revoked ones included."""
        self._stored = {credential.id: credential for credential in credentials}

    def issue(self, who: Who) -> str:
        """Return a token of the server's own for as long as it runs."""
        token = secrets.token_urlsafe(32)
        ref = f"{_OWN}{secrets.token_hex(6)}"
        self._fixed[ref] = token.encode(), Who(who.kind, who.name, who.scopes, who.teams, ref)
        return token

    @property
    def stored(self) -> Iterable[Credential]:
        """What the store had when last read."""
        return self._stored.values()

    def own(self) -> list[tuple[str, Who]]:
        """Return the tokens of :meth:`issue`, for other processes of this server."""
        return [
            (token.decode(), who)
            for ref, (token, who) in self._fixed.items()
            if ref.startswith(_OWN)
        ]

    def replace_own(self, own: Iterable[tuple[str, Who]]) -> None:
        """Take over the tokens that another process of this server made for itself."""
        kept = {ref: entry for ref, entry in self._fixed.items() if not ref.startswith(_OWN)}
        self._fixed = kept | {who.ref: (token.encode(), who) for token, who in own}

    def by_ref(self, ref: str, now: float) -> Who | None:
        """Return who has a reference, None if it is not valid any more."""
        if ref in self._fixed:
            return self._fixed[ref][1]
        credential = self._stored.get(ref)
        return credential.who if credential is not None and credential.is_valid(now) else None

    def by_token(self, token: str, now: float) -> Who | None:
        """Return whose a token is, None if it is nobody's."""
        given, found = token.encode(errors="surrogateescape"), None
        # Every one in full: how long it takes must not tell how much is right.
        for known, who in self._fixed.values():
            if hmac.compare_digest(known, given):
                found = who
        if found is not None or not token.startswith(TOKEN_PREFIX):
            return found
        token_id, _, secret = token.removeprefix(TOKEN_PREFIX).partition("_")
        credential = self._stored.get(token_id)
        if credential is None or credential.kind != "token" or not credential.is_valid(now):
            return None
        digest = hmac.digest(self._key, given, "sha256")
        if self._proven.get(digest) != credential.secret:
            if not is_secret(secret, credential.secret):
                return None
            self._proven[digest] = credential.secret
            if len(self._proven) > _MAX_PROVEN:
                self._proven.popitem(last=False)
        return credential.who

    def by_password(self, name: str, password: str, now: float) -> Who | None:
        """Return the person of a name and password, None if they are wrong. Slow: scrypt."""
        people = (one for one in self._stored.values() if one.kind == "user")
        person = next((one for one in people if one.name == name and one.is_valid(now)), None)
        is_right = is_secret(password, _NOBODY if person is None else person.secret)
        return person.who if person is not None and is_right else None


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that has logged in.

    Attributes:
        ref: of the token or person it logged in with.
        begun_at, seen_at: seconds since 1970, UTC.
        given: the person, where somebody else vouches for it; None: ``ref`` finds it in the book.
        elsewhere: id of the session at the provider that vouches; "": not told.
    """

    id: str
    ref: str
    begun_at: float
    seen_at: float
    given: Given | None = None
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class EndedSession:
    """What other servers have to know of a session that was ended.

    Attributes:
        id: of the session, or the ``ref`` or ``elsewhere`` of sessions that a provider ended.
        is_elsewhere: the latter.
        at: when that was, seconds since 1970.
        until_at: when the cookie, or every one of them, is not valid any more in any case.
    """

    id: str
    is_elsewhere: bool
    at: float
    until_at: float


def _given(name: str, role: Role, teams: list[str] | None) -> Given:
    return Given(name, role, None if teams is None else tuple(teams))


class Sessions:
    """The sessions of browsers, kept by the browsers: a cookie that is signed, and ends.

    The key is of this process, so a restart logs everybody out, and no key is kept anywhere; of
    several servers that share sessions it is in their database.

    ``idle_s``: longest time between two requests; ``longest_s``: from logging in.

    Attributes:
        key: signs the cookies.
        ended: sessions that were ended, by id, and until when their cookies would be valid.
        ended_elsewhere: ``ref`` or ``elsewhere`` of sessions that a provider ended, and when: those
            that began later are others.
        on_ended: told of each that is ended here.
    """

    def __init__(self, idle_s: float, longest_s: float) -> None:
        self._idle_s, self._longest_s = idle_s, longest_s
        self.key = secrets.token_bytes(32)
        self.ended: dict[str, float] = {}
        self.ended_elsewhere: dict[str, float] = {}
        self.on_ended: Callable[[EndedSession], None] = lambda ended: None

    def begin(
        self, ref: str, now: float, given: Given | None = None, elsewhere: str = ""
    ) -> Session:
        """Return a new session."""
        return Session(secrets.token_hex(16), ref, now, now, given, elsewhere)

    def cookie(self, session: Session) -> str:
        """Return the value of a session's cookie."""
        given = None if session.given is None else list(astuple(session.given))
        times = (session.begun_at, session.seen_at)
        fields = [session.id, session.ref, *times, given, session.elsewhere]
        return self.sign(fields)

    def sign(self, value: object) -> str:
        """Return a value as a text for a cookie that only this server can have written."""
        body = json.dumps(value, separators=(",", ":")).encode()
        return f"{_text(body)}.{_text(hmac.digest(self.key, body, 'sha256'))}"

    def signed(self, text: str) -> Any:
        """Return the value of a text of :meth:`sign`; None if it is none."""
        body_text, _, signature = text.partition(".")
        try:
            body, given = _bytes(body_text), _bytes(signature)
        except ValueError:
            return None
        if not hmac.compare_digest(given, hmac.digest(self.key, body, "sha256")):
            return None
        return json.loads(body)

    def read(self, cookie: str, now: float) -> Session | None:
        """Return the session of a cookie, None if it is not valid or not any more."""
        fields = self.signed(cookie)
        # What else is signed is no list of so many.
        if not isinstance(fields, list) or len(fields) != 6 or fields[0] == "attempt":
            return None
        session_id, ref, begun_at, seen_at, given, elsewhere = fields
        person = None if given is None else _given(*given)
        session = Session(session_id, ref, begun_at, seen_at, person, elsewhere)
        return session if self.is_valid(session, now) else None

    def is_valid(self, session: Session, now: float) -> bool:
        """Whether a session has neither ended nor timed out."""
        return not self.has_ended(session, now) and now < self.ends_at(session)

    def has_ended(self, session: Session, now: float) -> bool:
        """Whether somebody logged out of a session, or it is as long as any may be."""
        for key in (session.ref, session.elsewhere):
            if key and session.begun_at <= self.ended_elsewhere.get(key, -math.inf):
                return True
        return session.id in self.ended or now >= session.begun_at + self._longest_s

    def ends_at(self, session: Session) -> float:
        """Return when a session times out if nothing more is heard of it."""
        return min(session.seen_at + self._idle_s, session.begun_at + self._longest_s)

    def seen(self, session: Session, now: float) -> Session | None:
        """Return the session for a new cookie; None: the one it has is new enough."""
        if now - session.seen_at < self._idle_s / 20:
            return None
        return replace(session, seen_at=now)

    def end(self, session: Session, now: float) -> None:
        """Log out."""
        self.ended = {key: until for key, until in self.ended.items() if until > now}
        until = self.ended[session.id] = session.begun_at + self._longest_s
        self.on_ended(EndedSession(session.id, False, now, until))

    def end_elsewhere(self, key: str, at: float) -> None:
        """End the sessions of a ``ref`` or of an ``elsewhere`` that had begun by then."""
        kept_after = at - self._longest_s
        ended = {key: then for key, then in self.ended_elsewhere.items() if then > kept_after}
        ended[key] = max(at, ended.get(key, at))
        self.ended_elsewhere = ended
        self.on_ended(EndedSession(key, True, at, at + self._longest_s))

    def take_ended(self, ended: Iterable[EndedSession]) -> None:
        """Take over what was ended on other servers."""
        for each in ended:
            if each.is_elsewhere:
                known = self.ended_elsewhere.get(each.id, each.at)
                self.ended_elsewhere[each.id] = max(each.at, known)
            else:
                self.ended[each.id] = each.until_at
