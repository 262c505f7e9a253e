"""``emotion-monitor token`` and ``emotion-monitor user``: who may do what, kept in the store.

They write to the database of ``store.url``. A server that runs on it knows within seconds.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_monitor.commands.options import note, settings_of
from ser_engine.errors import ConfigError
from stream_server.access.policy import SCOPES_OF_ROLE, TEAM_NAME, Scope

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from stream_server.access.credentials import Credential

tokens = typer.Typer(help="Tokens of programs: make, list, revoke.", no_args_is_help=True)
users = typer.Typer(help="People who may log in: add, list, revoke.", no_args_is_help=True)

_DAY_S = 86_400
_MAX_NAME = 64

_Teams = Annotated[
    list[str] | None,
    typer.Option("--team", help="Only streams of this team; may be repeated. Default: all."),
]


@tokens.command("create")
def create_token(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the token.")],
    scopes: Annotated[
        list[Scope], typer.Option("--scope", help="A right of the token; may be repeated.")
    ],
    teams: _Teams = None,
    expires_days: Annotated[
        float | None,
        typer.Option(
            "--expires-days",
            min=0.001,
            help="Days until it expires. [default: valid until it is revoked]",
        ),
    ] = None,
) -> None:
    """Make a token and print it. It cannot be shown again."""
    from stream_server.access.credentials import new_token
    from stream_server.store.credentials import add_credential

    now = time.time()
    credential, text = new_token(
        _name(name),
        scopes,
        _teams(teams),
        now=now,
        expires_at=None if expires_days is None else now + expires_days * _DAY_S,
    )
    with database(context) as connection:
        add_credential(connection, credential)
        add_to_audit(connection, "token_created", name, _described(credential))
    note(f"made the token '{name}': {_described(credential)}; it is shown this once:")
    print(text)


@tokens.command("list")
def list_tokens(context: typer.Context) -> None:
    """List tokens, those of the settings included, never their secrets."""
    for name in settings_of(context).stream_server.access.tokens:
        print(f"{name}: admin, all teams, in the settings")
    _list(context, "token")


@tokens.command("revoke")
def revoke_token(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the token.")]
) -> None:
    """Revoke a token; its open streams, feeds and pages end within seconds."""
    _revoke(context, "token", name)


@users.command("add")
def add_user(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name that the person logs in with.")],
    role: Annotated[str, typer.Option("--role", help="viewer, supervisor or admin.")],
    teams: _Teams = None,
) -> None:
    """Add a person; the password is asked for, or read from standard input."""
    from stream_server.access.credentials import new_user
    from stream_server.store.credentials import add_credential

    if role not in SCOPES_OF_ROLE:
        raise ConfigError(f"got the role '{role}', expected one of {', '.join(SCOPES_OF_ROLE)}")
    checked, known_teams = _name(name), _teams(teams)
    person = new_user(checked, role, known_teams, _password(), now=time.time())
    with database(context) as connection:
        add_credential(connection, person)
        add_to_audit(connection, "user_added", name, _described(person))
    note(f"added the user '{name}': {_described(person)}")


@users.command("password")
def change_password(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the person.")]
) -> None:
    """Give a person another password."""
    from stream_server.access.credentials import password_hash
    from stream_server.store.credentials import change_secret

    hashed = password_hash(_password())
    with database(context) as connection:
        change_secret(connection, "user", name, hashed)
        add_to_audit(connection, "password_changed", name)
    note(f"changed the password of '{name}'")


@users.command("list")
def list_users(context: typer.Context) -> None:
    """List people."""
    _list(context, "user")


@users.command("revoke")
def revoke_user(
    context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the person.")]
) -> None:
    """Lock a person out; their open pages end within seconds."""
    _revoke(context, "user", name)


def _list(context: typer.Context, kind: str) -> None:
    from stream_server.store.credentials import list_credentials

    with database(context) as connection:
        found = list_credentials(connection)
    for credential in found:
        if credential.kind == kind:
            print(f"{credential.name}: {_described(credential)}")


def _revoke(context: typer.Context, kind: str, name: str) -> None:
    from stream_server.store.credentials import revoke_credential

    with database(context) as connection:
        revoke_credential(connection, kind, name, time.time())
        add_to_audit(connection, f"{kind}_revoked", name)
    note(f"revoked the {kind} '{name}'")


def add_to_audit(connection: Connection, action: str, target: str, detail: str = "") -> None:
    """Add to the audit what the user of this machine does."""
    from stream_server.store.audit import AuditEntry, add_entry

    add_entry(
        connection,
        AuditEntry(
            at=time.time(),
            kind="command",
            name=system_user(),
            address="",
            action=action,
            target=target,
            detail=detail,
        ),
    )


def system_user() -> str:
    """Return the name of who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # A container's user may have no name.


def _described(credential: Credential) -> str:
    rights = credential.role or ", ".join(scope.value for scope in credential.scopes)
    teams = "all teams" if credential.teams is None else f"team {', '.join(credential.teams)}"
    told = [rights, teams]
    if credential.revoked_at is not None:
        told.append(f"revoked {_day(credential.revoked_at)}")
    elif credential.expires_at is not None:
        word = "expires" if credential.is_valid(time.time()) else "expired"
        told.append(f"{word} {_day(credential.expires_at)}")
    return ", ".join(told)


def _day(at: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _name(name: str) -> str:
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise ConfigError(f"got a name of {len(name)} characters, expected 1 to {_MAX_NAME}")
    return name


def _teams(teams: list[str] | None) -> list[str] | None:
    for team in teams or ():
        if not TEAM_NAME.fullmatch(team):
            raise ConfigError(
                f"got the team '{team}', expected a-z, 0-9, '_', '.' and '-', up to 64 characters"
            )
    return teams or None


def _password() -> str:
    from stream_server.access.credentials import MIN_PASSWORD_LENGTH

    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < MIN_PASSWORD_LENGTH:
        raise ConfigError(
            f"got a password of {len(password)} characters, expected {MIN_PASSWORD_LENGTH} or more"
        )
    return password


@contextlib.contextmanager
def database(context: typer.Context) -> Iterator[Connection]:
    """Open the database of the settings for changes, its tables brought up to date."""
    from sqlalchemy.exc import SQLAlchemyError

    from stream_server.store import StoreError, parse_store_url
    from stream_server.store.database import describe, make_engine, upgrade_schema

    url = settings_of(context).stream_server.store.url
    if not url:
        raise ConfigError("got no store.url, expected a database to keep tokens and people in")
    engine = make_engine(parse_store_url(url), read_only=False)
    try:
        with engine.begin() as connection:
            upgrade_schema(connection)
            yield connection
    except (SQLAlchemyError, StoreError) as error:
        reason = describe(error) if isinstance(error, SQLAlchemyError) else str(error)
        note(f"the database of store.url cannot be used: {reason}")
        raise typer.Exit(1) from None
    finally:
        engine.dispose()
