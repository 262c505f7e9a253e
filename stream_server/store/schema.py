"""The tables. ``migrations/`` makes them; a test holds the two against each other.

A stream is known by a small ``key`` in all tables but its own. Its results keep their ``seq``, so
that what is stored and what is live can be joined. Files that are analysed on request are ``jobs``,
which belong to no stream. Times are seconds since 1970, UTC; positions are samples of the stream's
16 kHz clock.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

PROVISIONAL, WIDENED, NARROW_BAND = 1, 2, 4
"""Bits of ``points.flags``."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_JSON = JSON().with_variant(JSONB(), "postgresql")
# SQLite numbers rows by itself only in a column declared INTEGER, exactly that word: it is then an
# alias of the rowid (https://www.sqlite.org/lang_createtable.html#rowid).
_KEY = BigInteger().with_variant(Integer(), "sqlite")


def _stream_key() -> Column[int]:
    return Column(
        "stream_key", _KEY, ForeignKey("streams.key", ondelete="CASCADE"), primary_key=True
    )


streams = Table(
    "streams",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),  # which server writes it
    Column("name", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_licence", Text, nullable=False),
    Column("model_notice", Text, nullable=False),
    Column("labels", _JSON, nullable=False),  # names, in the order of points.posteriors
    Column("channels", _JSON, nullable=False),
    Column("metadata", _JSON, nullable=False),  # as the client gave it
    Column("sample_rate", Integer, nullable=False),
    Column("encoding", Text, nullable=False),
    Column("step_ms", Integer, nullable=False),
    Column("opened_seq", BigInteger, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("closed_seq", BigInteger),
    Column("closed_at", Double),  # NULL: live
    Column("reason", Text),  # why it ended
    Column("duration_s", Double),
    Column("summary_seq", BigInteger),
    Column("summary", _JSON),  # the channels, received_samples and alerts of the summary
    Column("continues", Text),  # id of the stream that the client continues
    Column("team", Text, nullable=False, server_default=""),  # "": no team
    Column("model_sha256", Text, nullable=False, server_default=""),
    Column("notice_version", Text, nullable=False, server_default=""),  # the latest one stated
    Column("consent", Text, nullable=False, server_default="unknown"),
    Column("speakers", _JSON),  # what people call them, by channel and speaker; NULL: nobody did
    Index(None, "opened_at"),
    Index(None, "closed_at"),
    Index(None, "continues"),
    # AUTOINCREMENT: a key is never used again, whatever is deleted. The writer remembers keys.
    sqlite_autoincrement=True,
)
"""A stream, live or ended."""

points = Table(
    "points",
    metadata,
    _stream_key(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("channel", SmallInteger, nullable=False),
    Column("start_sample", BigInteger, nullable=False),
    Column("end_sample", BigInteger, nullable=False),
    Column("posteriors", LargeBinary, nullable=False),  # float32, little-endian
    Column("label", Text),  # NULL: unclear
    Column("confidence", Double, nullable=False),
    Column("speech_share", Double, nullable=False),  # 0 to 1, of the step
    Column("flags", SmallInteger, nullable=False),  # sum of 1 provisional, 2 widened, 4 narrow band
    Column("model", Text),  # NULL: as in streams
    Column("best", Text),  # NULL: the label
    Column("speaker", Text),  # NULL: not told apart, or not known
    # Rows are kept in the tree of the primary key itself, in the order in which they are read; with
    # a rowid the largest table would have a second tree.
    sqlite_with_rowid=False,
)
"""The state of one channel after one step. The 20 ms frames of a point are not kept."""


def _span_columns() -> list[Column[int]]:
    # The key has no seq: there is one row for a span, which a later version of it, with a larger
    # seq, replaces.
    return [
        _stream_key(),
        Column("channel", SmallInteger, primary_key=True, autoincrement=False),
        Column("start_sample", BigInteger, primary_key=True, autoincrement=False),
        Column("end_sample", BigInteger, nullable=False),
        Column("seq", BigInteger, nullable=False),
    ]


segments = Table(
    "segments",
    metadata,
    *_span_columns(),
    Column("label", Text),  # NULL: unclear
    Column("confidence", Double, nullable=False),
    Column("final", Boolean, nullable=False),
    Column("best", Text),  # NULL: the label
    Column("speaker", Text),  # as in points
    sqlite_with_rowid=False,
)
"""Consecutive time with one label, or unclear; its latest version."""

gaps = Table(
    "gaps",
    metadata,
    *_span_columns(),
    Column("reason", Text, nullable=False),
    Column("final", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
"""Consecutive time without a result; its latest version."""

alerts = Table(
    "alerts",
    metadata,
    Column("id", Text, primary_key=True),
    Column(
        "stream_key",
        _KEY,
        ForeignKey("streams.key", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("rule", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("channel", SmallInteger, nullable=False),
    Column("role", Text, nullable=False),
    Column("labels", _JSON, nullable=False),
    Column("since_sample", BigInteger, nullable=False),
    Column("raised_seq", BigInteger),
    Column("raised_at", Double, nullable=False, index=True),
    Column("raised_sample", BigInteger, nullable=False),
    Column("raised_posterior", Double, nullable=False),
    Column("cleared_seq", BigInteger),
    Column("cleared_at", Double),
    Column("cleared_sample", BigInteger),
    Column("cleared_posterior", Double),
    Column("acknowledged_at", Double),
    Column("acknowledged_note", Text),
    Column("acknowledged_by", Text),  # NULL: nobody has, or before this was kept
    Column("assigned_to", Text),  # who is to deal with it; NULL: nobody in particular
    Column("verdict", Text),  # right, wrong; NULL: not judged
    # Those that the rule asks for, by name; NULL: it asks for none.
    Column("raised_measures", _JSON),
    Column("cleared_measures", _JSON),
)
"""An alert, active or cleared."""

annotated = Table(
    "annotations",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=True),
    Column(
        "stream_key",
        _KEY,
        ForeignKey("streams.key", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("who", Text, nullable=False),  # who labelled it
    Column("channel", SmallInteger, nullable=False),
    Column("start_sample", BigInteger, nullable=False),
    Column("end_sample", BigInteger, nullable=False),
    Column("label", Text, nullable=False),
    Column("at", Double, nullable=False),  # when it was labelled
)
"""Labels by people: one row per labelled span."""

marks = Table(
    "marks",
    metadata,
    _stream_key(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("at_sample", BigInteger, nullable=False),
)
"""Marks that the client set."""

warnings = Table(
    "warnings",
    metadata,
    _stream_key(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("code", Text, nullable=False),
    Column("channel", SmallInteger),
    Column("message", Text, nullable=False),
    Column("at_s", Double, nullable=False),
)
"""Problems of the audio or its transmission."""

measured = Table(
    "measures",
    metadata,
    _stream_key(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_sample", BigInteger, nullable=False),
    Column("measures", LargeBinary, nullable=False),  # JSON, compressed (zlib)
)
"""How the conversation was up to a moment, every 5 s: rules that ask for it are tried on them."""


def _told() -> list[Column[str]]:
    return [
        Column("consent", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("notice_version", Text, nullable=False),
        Column("notice_language", Text, nullable=False),
        Column("notice_how", Text, nullable=False),
        Column("withheld", Text),  # NULL: nothing is withheld
    ]


consents = Table(
    "consents",
    metadata,
    _stream_key(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    *_told(),
    Column("at_s", Double, nullable=False),
    Column("told_at", Double, nullable=False),
)
"""Consent and notice as stated while the stream ran."""

ledger = Table(
    "ledger",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False, index=True),
    Column("stream_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("team", Text, nullable=False),
    *_told(),
    UniqueConstraint("stream_id", "seq"),
    sqlite_autoincrement=True,
)
"""Consent and notice as stated; it outlives the streams."""

decisions = Table(
    "decisions",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False, index=True),
    Column("kind", Text, nullable=False),  # raised, cleared, acknowledged, overridden
    Column("stream_id", Text, nullable=False, index=True),
    Column("alert_id", Text, nullable=False),
    Column("seq", BigInteger),  # NULL: by a person
    Column("team", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_sha256", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("labels", _JSON, nullable=False),
    Column("posterior", Double),
    Column("who", Text, nullable=False),
    Column("note", Text, nullable=False),
    UniqueConstraint("alert_id", "kind", "seq"),
    sqlite_autoincrement=True,
)
"""Decisions of rules and people; they outlive the streams, without scores once one is erased."""

halts = Table(
    "halts",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("halted", Boolean, nullable=False),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""Whether overseers have halted all analysis; the last row is valid."""

server_keys = Table(
    "server_keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""A secret of the servers, by which they recognise clients."""

jobs = Table(
    "jobs",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=True),  # in order of arrival
    Column("id", Text, nullable=False, unique=True),
    Column("owner", Text, nullable=False),  # the folder that has the file
    Column("name", Text, nullable=False),
    Column("options", _JSON, nullable=False),
    Column("state", Text, nullable=False),  # waiting, running, done, failed, ...
    Column("progress", Double, nullable=False),
    Column("attempts", SmallInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),  # NULL: it waits or runs
    Column("duration_s", Double),
    Column("error_code", Text),
    Column("error", Text),
    Column("folder", Text),  # of its result, below the server's own
    Column("kept_bytes", BigInteger, nullable=False),
    Column("summary", _JSON),
    Column("cache_key", Text),
    Column("team", Text, nullable=False, server_default=""),
    Column("metadata", _JSON),  # NULL: from an older version
    Column("labels", _JSON),  # labels by person and channel; NULL: none
    Column("speakers", _JSON),  # as in streams
    Index(None, "owner", "state"),
    Index(None, "finished_at"),
    Index(None, "cache_key"),
    sqlite_autoincrement=True,
)
"""A file that is analysed on request."""

credentials = Table(
    "credentials",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # token, user
    Column("name", Text, nullable=False),
    Column("secret", Text, nullable=False),  # hashed
    Column("scopes", _JSON, nullable=False),
    Column("role", Text),
    Column("teams", JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),  # the row stays, for the audit
)
"""A token, or a person who may log in."""

ended_sessions = Table(
    "ended_sessions",
    metadata,
    Column("id", Text, primary_key=True),  # of the session, or of the person or provider's session
    Column("is_elsewhere", Boolean, primary_key=True),  # a provider ended what began until then
    Column("at", Double, nullable=False),
    Column("until_at", Double, nullable=False),  # it would have ended by itself by then
)
"""A session of a browser that was ended, of several servers that share them."""

audit = Table(
    "audit",
    metadata,
    Column("key", _KEY, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False, index=True),
    Column("kind", Text, nullable=False),  # who did it: token, user, machine, ...
    Column("name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),  # id of the stream, file, alert; or a name
    Column("team", Text, nullable=False),
    Column("detail", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""Append-only: a trigger refuses changes. Rows go when they are old."""
