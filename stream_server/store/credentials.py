"""Tokens and people as rows. The command line changes them, whether or not a server runs."""

from __future__ import annotations

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection, Row

from ser_engine.errors import ConfigError
from stream_server.access.credentials import Credential
from stream_server.access.policy import Scope
from stream_server.store.schema import credentials


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
            id=credential.id,
            kind=credential.kind,
            name=credential.name,
            secret=credential.secret,
            scopes=[scope.value for scope in credential.scopes],
            role=credential.role,
            teams=None if credential.teams is None else list(credential.teams),
            created_at=credential.created_at,
            expires_at=credential.expires_at,
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
    values = row._mapping
    return Credential(
        id=values["id"],
        kind=values["kind"],
        name=values["name"],
        secret=values["secret"],
        scopes=tuple(Scope(scope) for scope in values["scopes"]),
        role=values["role"],
        teams=None if values["teams"] is None else tuple(values["teams"]),
        created_at=values["created_at"],
        expires_at=values["expires_at"],
        revoked_at=values["revoked_at"],
    )
