"""The store as the rest of the server sees it: results go in, timelines come out.

Reads run in a few threads of their own, changes in the writer's thread: nothing here blocks the
event loop. All methods are called on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import structlog
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from stream_server.access.credentials import EndedSession
from stream_server.bus import Subscription
from stream_server.config import StoreConfig
from stream_server.rights import Halt
from stream_server.store import partitions, upkeep
from stream_server.store.audit import AuditEntry, add_entry, expire_entries
from stream_server.store.credentials import add_ended_session
from stream_server.store.database import (
    Claim,
    DatabaseFile,
    StoreError,
    StoreUnavailableError,
    describe,
    is_away,
    make_engine,
    parse_store_url,
    upgrade_schema,
)
from stream_server.store.jobs import JobTable
from stream_server.store.ledger import (
    DecisionKind,
    add_decision,
    add_halt,
    forget_stream,
    objected,
)
from stream_server.store.ledger import expire as expire_ledger
from stream_server.store.persons import find_jobs, find_streams, purge_file
from stream_server.store.reader import StoreReader
from stream_server.store.records import Annotation, Verdict
from stream_server.store.rows import clean
from stream_server.store.writer import StoreWriter
from stream_server.wire.results import Result

_log = structlog.get_logger(__name__)

_DAY_S = 86_400
_RETENTION_INTERVAL_S = 600.0
_STREAMS_AT_A_TIME = 100
_PROBE_INTERVAL_S = 5.0
_PROBE_TIMEOUT_S = 10.0


class Store(StoreReader):
    """Timelines in a database; made by :meth:`open`.

    Attributes:
        fingerprint: eight letters that tell this database from others, the same whenever it is
            opened.
        file: of a SQLite database; None: it is a database server's.
        retention_s: age at which what is kept is deleted; 0: never.
        team_retention_s: the same of some teams, by their names.
        decision_retention_s: age at which the log of decisions and the ledger are deleted.
        resume_key: by which the servers of this database know the resume tokens they made.
        person_key: by which metadata are hashed, the same for all servers of this database.
        session_key: signs cookies, where the servers of this database share sessions.
    """

    def __init__(
        self,
        *,
        config: StoreConfig,
        engine: Engine,
        readers: Engine,
        claim: Claim,
        owner: str,
        resume_key: bytes,
        person_key: bytes,
        session_key: bytes,
        on_deleted: Callable[[str], object] | None,
        now: Callable[[], float],
    ) -> None:
        self.resume_key = resume_key
        self.retention_s = config.retention_days * _DAY_S
        self.team_retention_s = {
            team: days * _DAY_S for team, days in config.team_retention_days.items()
        }
        self.person_key = person_key
        self.session_key = session_key
        self._audit_retention_s = config.audit_retention_days * _DAY_S
        self.decision_retention_s = 183.0 * _DAY_S
        self.fingerprint = _fingerprint(engine.url)
        is_file = engine.url.get_backend_name() == "sqlite"
        self.file = Path(str(engine.url.database)) if is_file else None
        super().__init__(readers)
        self._engine = engine
        self._claim = claim
        self._database_file = None if self.file is None else DatabaseFile(self.file)
        self._problem: str | None = None  # found by the last probe
        self._on_deleted = on_deleted
        self._now = now
        self.writer = StoreWriter(
            engine,
            owner=owner,
            write_interval_ms=config.write_interval_ms,
            max_pending_results=config.max_pending_results,
            now=now,
        )

    @classmethod
    async def open(
        cls,
        config: StoreConfig,
        *,
        owner: str = "",
        on_deleted: Callable[[str], object] | None = None,
        now: Callable[[], float] = time.time,
    ) -> Store:
        """Open the database: bring its tables up to date, close what a dead server left open.

        Args:
            config: the ``store`` group of the settings, with a ``url``.
            owner: name of this server. Where several write to one database each needs its own, so
                that none closes another's live streams as abandoned ones.
            on_deleted: called with the id of each stream that was deleted, in a thread.
            now: the time, seconds since 1970.

        Raises:
            ConfigError: the URL is wrong, its driver is missing, or the file cannot be made.
            StoreUnavailableError: the database does not answer.
            StoreVersionError: a newer version made the database.
            StoreError: the database refuses, or the file is not a database; or a running server of
                this name writes to it.
        """
        return await asyncio.to_thread(cls._open, config, owner, on_deleted, now)

    @classmethod
    def _open(
        cls,
        config: StoreConfig,
        owner: str,
        on_deleted: Callable[[str], object] | None,
        now: Callable[[], float],
    ) -> Store:
        url = parse_store_url(config.url)
        engine = make_engine(url, read_only=False)
        claim = Claim(url, owner)
        try:
            with engine.begin() as connection:
                upgrade_schema(connection)
                partitions.ensure(connection)
                abandoned = upkeep.close_abandoned(connection, owner)
                resume_key = upkeep.key_of(connection, "resume")
                person_key = upkeep.key_of(connection, "persons")
                session_key = upkeep.key_of(connection, "sessions")
        except SQLAlchemyError as error:
            engine.dispose()
            claim.release()
            kind = StoreUnavailableError if is_away(error) else StoreError
            raise kind(
                f"the database {url.render_as_string()} cannot be used: {describe(error)}; check"
                " store.url, that the database answers, and that this user may change it"
            ) from error
        except BaseException:
            engine.dispose()
            claim.release()
            raise
        if abandoned:
            _log.info("store_closed_abandoned_streams", streams=abandoned)
        readers = make_engine(url, read_only=True)
        return cls(
            config=config,
            engine=engine,
            readers=readers,
            claim=claim,
            owner=owner,
            resume_key=resume_key,
            person_key=person_key,
            session_key=session_key,
            on_deleted=on_deleted,
            now=now,
        )

    @property
    def is_ready(self) -> bool:
        """Whether the database answered last time."""
        return self.problem is None

    @property
    def problem(self) -> str | None:
        """Why what is published is not stored at the moment; None: it is."""
        if not self.writer.is_ready:
            return "the database takes no results; they are kept, and tried again"
        return self._problem

    async def probe(self, timeout_s: float = _PROBE_TIMEOUT_S) -> None:
        """Find out whether the database can be written; :attr:`problem` has the answer."""

        def try_it(connection: Connection) -> str | None:
            # In the writer's thread, so that no checkpoint of its own is under way.
            upkeep.touch(connection)
            return None if self._database_file is None else self._database_file.problem()

        try:
            async with asyncio.timeout(timeout_s):
                problem = await self.writer.submit(try_it)
        except TimeoutError:
            problem = f"the database has not answered for {timeout_s:g} s"
        except StoreError as error:
            problem = str(error)
        if (problem is None) != (self._problem is None):
            _log.log(
                logging.ERROR if problem else logging.INFO,
                "store_probed",
                problem=problem or "none",
            )
        self._problem = problem

    async def run_probe(self, interval_s: float = _PROBE_INTERVAL_S) -> None:
        """Call :meth:`probe` every ``interval_s``, for ever."""
        while True:
            await self.probe()
            await asyncio.sleep(interval_s)

    def jobs(self, owner: str) -> JobTable:
        """Return the files that are analysed on request.

        ``owner`` names the folder they are in. The server that keeps the files deletes the rows.
        """
        return JobTable(self.writer, self, owner)

    # What goes in

    def write(self, result: Result) -> None:
        """Have a result written within ``write_interval_ms``; never blocks, never raises."""
        self.writer.write(result)

    async def run(self, subscription: Subscription) -> None:
        """Write what a subscription brings, until it ends."""
        await self.writer.run(subscription)

    async def flush(self) -> None:
        """Wait until all that was published before is written.

        Raises:
            StoreUnavailableError: the database does not answer, or the store is closed.
        """
        await self.writer.flush()

    async def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits and close the connections; reads that have begun are answered.

        What is not written within ``timeout_s`` is dropped and counted.
        """
        await self.writer.close(timeout_s)
        await self.close_reader()
        await asyncio.to_thread(self._engine.dispose)
        self._claim.release()

    # Changes

    def note(self, **fields: str) -> AuditEntry:
        """Add an entry to the audit, and return it; the fields of :class:`AuditEntry` but the time.

        It does not wait: entries are written in their order, before the store is closed.
        """
        entry = AuditEntry(at=self._now(), **fields)
        adding = self.writer.submit(lambda connection: add_entry(connection, entry))
        adding.add_done_callback(_log_lost_entry)
        return entry

    async def acknowledge(
        self, alert_id: str, note: str = "", *, who: str = "", overridden: bool = False
    ) -> bool:
        """Note that somebody has dealt with an alert; return False if there is none with that id.

        A second acknowledgement replaces the first; the log of decisions has both.

        ``overridden``: an overseer says that it is not to be acted on.
        """
        at = self._now()
        kind: DecisionKind = "overridden" if overridden else "acknowledged"

        def change(connection: Connection) -> bool:
            found = upkeep.acknowledge(connection, alert_id, clean(note), at, clean(who))
            add_decision(connection, alert_id, kind, who, note, at)
            return found

        return await self.writer.submit(change)

    def end_session(self, ended: EndedSession) -> None:
        """Keep that a session was ended, for the other servers; does not wait."""
        now = self._now()
        adding = self.writer.submit(lambda connection: add_ended_session(connection, ended, now))
        adding.add_done_callback(_log_lost_entry)

    async def set_halt(self, halt: Halt) -> None:
        """Keep the word of an overseer."""
        await self.writer.submit(lambda connection: add_halt(connection, halt))

    async def assign(self, alert_id: str, to: str) -> bool:
        """Assign an alert to a person, "": to nobody; return False if no alert has this id."""
        return await self.writer.submit(
            lambda connection: upkeep.assign(connection, alert_id, clean(to))
        )

    async def judge(self, alert_id: str, verdict: Verdict | None) -> bool:
        """Note whether an alert was right, None: take that back; return False as above."""
        return await self.writer.submit(
            lambda connection: upkeep.judge(connection, alert_id, verdict)
        )

    async def annotate(
        self, stream_id: str, who: str, channel: int, tier: Sequence[Annotation]
    ) -> bool:
        """Replace what a person hears in a channel; return False if there is no such stream."""
        return await self.writer.submit(
            lambda connection: upkeep.annotate(connection, stream_id, who, channel, tier)
        )

    async def name_speaker(self, stream_id: str, channel: int, speaker: str, name: str) -> bool:
        """Call a speaker by a name, "" by none; return False if there is no such stream."""
        return await self.writer.submit(
            lambda connection: upkeep.name_speaker(
                connection, stream_id, channel, speaker, clean(name)
            )
        )

    async def delete_stream(self, stream_id: str) -> bool:
        """Delete a stream with all its results; return False if there is none with that id.

        Raises:
            StoreError: it is live.
        """
        found = await self.writer.submit(
            lambda connection: upkeep.key_of_ended(connection, stream_id)
        )
        if found is None:
            return False
        key, has_ended = found
        if not has_ended:
            raise StoreError(
                f"stream {stream_id} is live; only one that has ended can be deleted: stop it first"
            )
        await self._delete(key, stream_id)
        return True

    async def erase_stream(self, stream_id: str) -> bool:
        """Delete a stream, and what the log of decisions says of it; False: there is none.

        Raises:
            StoreError: it is live.
        """
        found = await self.delete_stream(stream_id)
        await self.writer.submit(lambda connection: forget_stream(connection, stream_id))
        return found

    async def purge(self) -> bool:
        """Leave nothing of deleted rows in the files of the database; False: something is left.

        That is when the database was too busy. It is always so of a database server, whose tables
        nobody could write to meanwhile: ``emotion-monitor person purge`` does it when that suits.
        """
        return self.file is not None and await asyncio.to_thread(purge_file, self.file)

    async def find_person(
        self, values: Collection[str], name: str = ""
    ) -> tuple[list[str], list[str]]:
        """Return ids of the streams and files with one of the values in their metadata."""
        # What was published before must be found.
        await self.flush()
        return await self.read(
            lambda connection: (
                find_streams(connection, values, name),
                find_jobs(connection, values, name),
            )
        )

    async def expire(self) -> int:
        """Delete the streams that ended longer ago than they are kept; return how many."""
        # Those that a server erased no more before it ended.
        for stream_id in await self.read(objected):
            await self.erase_stream(stream_id)
        await self._keep_partitions()
        num_deleted = 0
        teams = self.team_retention_s
        for team, retention_s in teams.items():
            num_deleted += await self._expire_before(self._now() - retention_s, team=team)
        if self.retention_s:
            before = self._now() - self.retention_s
            num_deleted += await self._expire_before(before, but=tuple(teams))
        return num_deleted

    async def _keep_partitions(self) -> None:
        """Make the partitions of points that streams to come need, and drop those that are over."""
        await self.writer.submit(partitions.ensure)
        if not self.retention_s:
            return
        # All teams' streams are in one partition: it goes when nobody keeps any of it.
        before = self._now() - max(self.retention_s, *self.team_retention_s.values(), 0.0)
        dropped = await self.writer.submit(
            lambda connection: partitions.drop_expired(connection, before)
        )
        if dropped:
            _log.info("store_dropped_partitions", partitions=dropped)

    async def _expire_before(
        self, before: float, *, team: str | None = None, but: Collection[str] = ()
    ) -> int:
        num_deleted = 0
        while expired := await self.writer.submit(
            lambda connection: upkeep.ended_before(
                connection, before, _STREAMS_AT_A_TIME, team=team, but=but
            )
        ):
            for key, stream_id in expired:
                await self._delete(key, stream_id)
                num_deleted += 1
        return num_deleted

    async def run_retention(self, interval_s: float = _RETENTION_INTERVAL_S) -> None:
        """Call :meth:`expire` every ``interval_s``, for ever."""
        while True:
            try:
                if num_deleted := await self.expire():
                    _log.info("store_expired_streams", streams=num_deleted)
                await self._expire_audit()
                await self._expire_ledger()
            except StoreError as error:
                _log.warning("store_retention_failed", error=str(error))
            await asyncio.sleep(interval_s)

    async def _expire_audit(self) -> None:
        before = self._now() - self._audit_retention_s
        await self.writer.submit(lambda connection: expire_entries(connection, before))

    async def _expire_ledger(self) -> None:
        before = self._now() - self.decision_retention_s
        await self.writer.submit(lambda connection: expire_ledger(connection, before))

    async def _delete(self, key: int, stream_id: str) -> None:
        # In small transactions: an hour of a stream is thousands of rows, and results have to be
        # written in between. The stream's own row goes last, so that an interrupted deletion is
        # found again.
        while await self.writer.submit(lambda connection: upkeep.delete_points(connection, key)):
            pass
        await self.writer.submit(lambda connection: upkeep.delete_stream(connection, key))
        await self.writer.submit(upkeep.give_space_back)
        if self._on_deleted is not None:
            await asyncio.to_thread(self._on_deleted, stream_id)


def _log_lost_entry(adding: asyncio.Future[None]) -> None:
    if not adding.cancelled() and (error := adding.exception()) is not None:
        _log.error("audit_entry_lost", error=str(error))


def _fingerprint(url: URL) -> str:
    place = f"{url.get_backend_name()}://{url.host or ''}:{url.port or ''}/{url.database}"
    return hashlib.sha256(place.encode()).hexdigest()[:8]
