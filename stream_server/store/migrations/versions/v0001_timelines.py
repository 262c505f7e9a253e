"""Streams and what is published about them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "streams",
        sa.Column("key", _KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_licence", sa.Text(), nullable=False),
        sa.Column("model_notice", sa.Text(), nullable=False),
        sa.Column("labels", _JSON, nullable=False),
        sa.Column("channels", _JSON, nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("sample_rate", sa.Integer(), nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("step_ms", sa.Integer(), nullable=False),
        sa.Column("opened_seq", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("closed_seq", sa.BigInteger()),
        sa.Column("closed_at", sa.Double()),
        sa.Column("reason", sa.Text()),
        sa.Column("duration_s", sa.Double()),
        sa.Column("summary_seq", sa.BigInteger()),
        sa.Column("summary", _JSON),
        sa.PrimaryKeyConstraint("key", name="pk_streams"),
        sa.UniqueConstraint("id", name="uq_streams_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_streams_opened_at", "streams", ["opened_at"])
    op.create_index("ix_streams_closed_at", "streams", ["closed_at"])
    _by_seq(
        "points",
        sa.Column("channel", sa.SmallInteger(), nullable=False),
        sa.Column("start_sample", sa.BigInteger(), nullable=False),
        sa.Column("end_sample", sa.BigInteger(), nullable=False),
        sa.Column("posteriors", sa.LargeBinary(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("speech_share", sa.Double(), nullable=False),
        sa.Column("flags", sa.SmallInteger(), nullable=False),
        sa.Column("model", sa.Text()),
        sqlite_with_rowid=False,
    )
    _by_start(
        "segments",
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
    )
    _by_start("gaps", sa.Column("reason", sa.Text(), nullable=False))
    op.create_table(
        "alerts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("stream_key", _KEY, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("channel", sa.SmallInteger(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("labels", _JSON, nullable=False),
        sa.Column("since_sample", sa.BigInteger(), nullable=False),
        sa.Column("raised_seq", sa.BigInteger()),
        sa.Column("raised_at", sa.Double(), nullable=False),
        sa.Column("raised_sample", sa.BigInteger(), nullable=False),
        sa.Column("raised_posterior", sa.Double(), nullable=False),
        sa.Column("cleared_seq", sa.BigInteger()),
        sa.Column("cleared_at", sa.Double()),
        sa.Column("cleared_sample", sa.BigInteger()),
        sa.Column("cleared_posterior", sa.Double()),
        sa.Column("acknowledged_at", sa.Double()),
        sa.Column("acknowledged_note", sa.Text()),
        _of_stream("alerts"),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
    )
    op.create_index("ix_alerts_stream_key", "alerts", ["stream_key"])
    op.create_index("ix_alerts_raised_at", "alerts", ["raised_at"])
    _by_seq(
        "marks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at_sample", sa.BigInteger(), nullable=False),
    )
    _by_seq(
        "warnings",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("channel", sa.SmallInteger()),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("at_s", sa.Double(), nullable=False),
    )


def _of_stream(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["stream_key"], ["streams.key"], name=f"fk_{table}_stream_key", ondelete="CASCADE"
    )


def _by_seq(name: str, *columns: sa.Column[object], **options: bool) -> None:
    op.create_table(
        name,
        sa.Column("stream_key", _KEY, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        *columns,
        _of_stream(name),
        sa.PrimaryKeyConstraint("stream_key", "seq", name=f"pk_{name}"),
        **options,
    )


def _by_start(name: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        name,
        sa.Column("stream_key", _KEY, nullable=False),
        sa.Column("channel", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("start_sample", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end_sample", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        *columns,
        sa.Column("final", sa.Boolean(), nullable=False),
        _of_stream(name),
        sa.PrimaryKeyConstraint("stream_key", "channel", "start_sample", name=f"pk_{name}"),
        sqlite_with_rowid=False,
    )
