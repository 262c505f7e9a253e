"""Tokens, passwords and sessions: what proves who somebody is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stream_server.access.credentials import (
    Book,
    Credential,
    Session,
    Sessions,
    hash_of,
    is_secret,
    new_token,
    new_user,
)
from stream_server.access.policy import Scope

NOW = 1_800_000_000.0


def book(*credentials: Credential, tokens: dict[str, str] | None = None) -> Book:
    made = Book(tokens)
    made.replace(credentials)
    return made


def test_a_hash_tells_the_secret_from_others_and_not_what_it_is():
    hashed = hash_of("correct horse", 10)
    assert is_secret("correct horse", hashed)
    assert not is_secret("correct horsf", hashed)
    assert "horse" not in hashed
    assert hash_of("correct horse", 10) != hashed


def test_a_token_is_kept_as_a_hash_and_proves_its_owner():
    credential, text = new_token("crm", [Scope.READ], ["sales"], now=NOW)
    assert text.partition("_")[2].partition("_")[2] not in repr(credential) + credential.secret
    known = book(credential)
    for _ in range(2):  # The second time it is remembered.
        who = known.by_token(text, NOW)
        assert who is not None
        assert (who.kind, who.name, who.scopes) == ("token", "crm", frozenset((Scope.READ,)))
        assert (who.sees("sales"), who.sees("support"), who.sees("")) == (True, False, False)
    for wrong in (text[:-1], text + "x", "emt__", "emt_", credential.secret, ""):
        assert known.by_token(wrong, NOW) is None


@pytest.mark.parametrize(
    "change", [{"expires_at": NOW}, {"revoked_at": NOW - 1}, {"kind": "user"}, {"secret": ""}]
)
def test_an_ended_token_proves_nothing_though_it_was_right_before(change: dict[str, Any]):
    credential, text = new_token("crm", [Scope.READ], None, now=NOW)
    known = book(credential)
    assert known.by_token(text, NOW) is not None
    if change == {"secret": ""}:
        change = {"secret": hash_of("another", 10)}
    known.replace([replace(credential, **change)])
    assert known.by_token(text, NOW) is None


def test_revoking_the_last_token_does_not_open_the_server():
    credential, _ = new_token("crm", [Scope.READ], None, now=NOW)
    assert not book().is_configured
    assert book(replace(credential, revoked_at=NOW)).is_configured
    # What the server made for itself is nobody's.
    own = book()
    own.issue(credential.who)
    assert not own.is_configured


def test_a_person_proves_itself_by_its_password_and_by_nothing_else():
    person = new_user("anna", "supervisor", None, "a long password", now=NOW)
    known = book(person)
    who = known.by_password("anna", "a long password", NOW)
    assert who is not None and who.may(Scope.OPERATE) and not who.may(Scope.ADMIN)
    assert known.by_password("anna", "a long passwore", NOW) is None
    assert known.by_password("bert", "a long password", NOW) is None
    assert known.by_token("a long password", NOW) is None


def test_a_session_ends_by_rest_by_age_and_by_leaving():
    sessions = Sessions(idle_s=100, longest_s=1000)
    session = sessions.begin("ref", NOW)
    cookie = sessions.cookie(session)
    assert sessions.read(cookie, NOW + 99) == session
    assert sessions.read(cookie, NOW + 100) is None
    # Seen again and again it lasts, up to its age.
    assert sessions.seen(session, NOW + 1) is None
    again = sessions.seen(session, NOW + 50)
    assert again is not None
    assert sessions.read(sessions.cookie(again), NOW + 149) == again
    old = replace(again, seen_at=NOW + 999)
    assert sessions.read(sessions.cookie(old), NOW + 1000) is None
    sessions.end(session, NOW)
    assert sessions.read(sessions.cookie(again), NOW + 60) is None


def test_sessions_end_with_those_of_the_provider_that_vouches():
    sessions = Sessions(idle_s=1000, longest_s=1000)
    one, two = (sessions.begin("anna", NOW, elsewhere=each) for each in ("sid:1", "sid:2"))
    sessions.end_elsewhere("sid:1", NOW)
    later = sessions.begin("anna", NOW + 1, elsewhere="sid:1")
    assert [sessions.is_valid(each, NOW + 2) for each in (one, two, later)] == [False, True, True]
    sessions.end_elsewhere("anna", NOW + 1)
    assert not any(sessions.is_valid(each, NOW + 2) for each in (two, later))
    # Forgotten when no session of then can be valid any more.
    sessions.end_elsewhere("bert", NOW + 1002)
    assert set(sessions.ended_elsewhere) == {"bert"}


def test_a_cookie_that_was_made_elsewhere_or_changed_is_none():
    sessions = Sessions(idle_s=100, longest_s=1000)
    cookie = sessions.cookie(Session("id", "ref", NOW, NOW))
    body, _, signature = cookie.partition(".")
    other = Sessions(idle_s=100, longest_s=1000).cookie(Session("id", "ref", NOW, NOW))
    for wrong in (other, f"{body}.", f".{signature}", "", ".", "ü.ü", f"{body[:-2]}AA.{signature}"):
        assert sessions.read(wrong, NOW) is None
