"""Tokens and people as rows. The command line changes them, whether or not a server runs.

And sessions of browsers that were ended, where several servers share them.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from ser_engine.errors import ConfigError
from stream_server.access.credentials import Credential, EndedSession
from stream_server.access.policy import Scope
from stream_server.store.schema import credentials, ended_sessions


def list_credentials(connection: Connection) -> list[Credential]:
    """Return all of them, revoked ones included, in the order they were made."""
    query = select(credentials).order_by(credentials.c.created_at, credentials.c.id)
    return [_credential(row) for row in connection.execute(query)]


def add_credential(connection: Connection, credential: Credential) -> None:
    """Add a token or person.

    Raises:
        ConfigError: there is one of that name that is not revoked.
    """
    if _find(connection, credential.kind, credential.name) is not None:
        raise ConfigError(
            f"got the {credential.kind} '{credential.name}' a second time, expected another name;"
            " or revoke that one first"
        )
    connection.execute(
        insert(credentials).values(
            **asdict(credential) | {"scopes": [scope.value for scope in credential.scopes]}
        )
    )


def revoke_credential(connection: Connection, kind: str, name: str, now: float) -> None:
    """Let a token or person in no more.

    Raises:
        ConfigError: there is none of that name.
    """
    found = _known(connection, kind, name)
    statement = update(credentials).where(credentials.c.id == found.id)
    connection.execute(statement.values(revoked_at=now))


def change_secret(connection: Connection, kind: str, name: str, secret: str) -> None:
    """Give a person another password.

    Raises:
        ConfigError: there is none of that name.
    """
    found = _known(connection, kind, name)
    connection.execute(
        update(credentials).where(credentials.c.id == found.id).values(secret=secret)
    )


def add_ended_session(connection: Connection, ended: EndedSession, now: float) -> None:
    """Keep that a session was ended, until it would have ended by itself."""
    table = ended_sessions
    same = (table.c.id == ended.id, table.c.is_elsewhere == ended.is_elsewhere)
    connection.execute(delete(table).where(table.c.until_at < now))
    known = connection.execute(select(table.c.at).where(*same)).scalar_one_or_none()
    # What a provider said last holds; a session ends once.
    if known is None or known < ended.at:
        connection.execute(delete(table).where(*same))
        connection.execute(insert(table).values(asdict(ended)))


def list_ended_sessions(connection: Connection) -> list[EndedSession]:
    """Return those that were ended."""
    rows = connection.execute(select(ended_sessions))
    return [EndedSession(row.id, row.is_elsewhere, row.at, row.until_at) for row in rows]


def _known(connection: Connection, kind: str, name: str) -> Credential:
    found = _find(connection, kind, name)
    if found is None:
        raise ConfigError(
            f"got the {kind} '{name}', expected one that `emotion-monitor {kind} list` shows"
        )
    return found


def _find(connection: Connection, kind: str, name: str) -> Credential | None:
    query = select(credentials).where(
        credentials.c.kind == kind,
        credentials.c.name == name,
        credentials.c.revoked_at.is_(None),
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _credential(row)


def _credential(row: Row[tuple[object, ...]]) -> Credential:
    values: dict[str, Any] = dict(row._mapping)
    values["scopes"] = tuple(Scope(scope) for scope in values["scopes"])
    values["teams"] = None if values["teams"] is None else tuple(values["teams"])
    return Credential(**values)
