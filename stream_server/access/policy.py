"""Who may do what, with whose streams. Pure: every way in asks these functions and nothing else.

::

    who      a client on this machine, a token, a person, a signed platform
    scope    what it asks for: ingest, read, operate, admin
    whose    the team of the stream it asks for

A scope is needed to do a thing at all, a team to do it with a stream. ``admin`` includes the other
scopes and every team: who makes tokens can give itself any right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Scope(StrEnum):
    """A right."""

    INGEST = "ingest"
    """Send audio: begin a stream, have a file analysed."""
    READ = "read"
    """See streams, results, alerts, recordings, and how the server is doing."""
    OPERATE = "operate"
    """Acknowledge alerts, delete streams and files."""
    ADMIN = "admin"
    """Everything: settings, tokens and people, the audit, every team."""


Role = Literal["viewer", "supervisor", "admin"]

SCOPES_OF_ROLE: dict[Role, frozenset[Scope]] = {
    "viewer": frozenset((Scope.READ,)),
    "supervisor": frozenset((Scope.READ, Scope.OPERATE, Scope.INGEST)),
    "admin": frozenset(Scope),
}
"""What a person's role means; from the one that may least."""

Teams = frozenset[str] | None
"""Names of teams; None: all of them, and streams without a team."""

TEAM_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
NO_TEAM = ""
"""The team of a stream that belongs to none: only who sees every team sees it."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks.

    Attributes:
        kind: how it is known. ``machine``: a client on this machine where none need show who it is;
            ``platform``: its requests are signed.
        name: of the token or person; "" for the other two, of which there is one each.
        teams: whose streams it has to do with.
        ref: finds the token or person again, to see whether it is still valid.
    """

    kind: Literal["machine", "token", "user", "platform"]
    name: str
    scopes: frozenset[Scope]
    teams: Teams = None
    ref: str = ""

    @property
    def has_all_teams(self) -> bool:
        """Whether it sees the streams of every team."""
        return self.teams is None or Scope.ADMIN in self.scopes

    def may(self, scope: Scope) -> bool:
        """Whether it may do what needs a scope, with some stream."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, team: str) -> bool:
        """Whether the streams of a team are its business."""
        return self.has_all_teams or team in (self.teams or ())

    @property
    def visible_teams(self) -> Teams:
        """The teams whose streams it sees; None: all."""
        return None if self.has_all_teams else self.teams


@dataclass(frozen=True, slots=True)
class Given:
    """A person whom somebody else vouches for: an OpenID Connect provider, a trusted proxy.

    Attributes:
        name: what the person is called, for the audit.
        role: by its groups.
        teams: by its groups; None: all.
    """

    name: str
    role: Role
    teams: tuple[str, ...] | None

    def who(self, ref: str) -> Who:
        """Return who it is; ``ref`` says who vouches."""
        teams = None if self.teams is None else frozenset(self.teams)
        return Who("user", self.name, SCOPES_OF_ROLE[self.role], teams, ref)


def given_by_groups(
    name: str,
    groups: Iterable[str],
    roles: Mapping[str, Role],
    teams: Mapping[str, tuple[str, ...]],
) -> Given | None:
    """Return the person of a name and groups; None if none of the groups has a role."""
    known = sorted(set(groups))
    found = {roles[group] for group in known if group in roles}
    role = next((role for role in reversed(SCOPES_OF_ROLE) if role in found), None)
    if role is None:
        return None
    if not teams:
        return Given(name, role, None)
    mine = {team for group in known for team in teams.get(group, ())}
    return Given(name, role, tuple(sorted(mine)))


MACHINE = Who("machine", "", frozenset(Scope))
SIGNED = Who("platform", "", frozenset((Scope.INGEST,)))


def refusal(who: Who, scope: Scope) -> str | None:
    """Return why something is refused, None if it is allowed."""
    if not who.may(scope):
        has = ", ".join(sorted(who.scopes)) or "none"
        return f"got the scopes {has}, expected {scope}"
    return None


def team_of_stream(who: Who, asked: Iterable[str]) -> str:
    """Return the team of a stream that somebody begins.

    ``asked``: the teams that path and metadata name, the one that counts first; "" for none.

    Raises:
        ValueError: it is not one of the sender's, or no name of a team.
    """
    wanted = next((team for team in asked if team), NO_TEAM)
    if wanted and not TEAM_NAME.fullmatch(wanted):
        raise ValueError("got a team's name with other characters than a-z, 0-9, '_', '.' and '-'")
    if who.has_all_teams:
        return wanted
    teams = sorted(who.teams or ())
    if wanted:
        if wanted not in teams:
            raise ValueError(f"got the team '{wanted}', expected one that the sender belongs to")
        return wanted
    if len(teams) != 1:
        raise ValueError(
            f"got no team, and the sender has {len(teams)}; name one in the metadata as 'team'"
        )
    return teams[0]
