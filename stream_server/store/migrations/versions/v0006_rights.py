"""Consent and notice of streams, the ledger and the log of decisions, halts; metadata of files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def _told() -> list[sa.Column[str]]:
    return [
        sa.Column("consent", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("notice_version", sa.Text(), nullable=False),
        sa.Column("notice_language", sa.Text(), nullable=False),
        sa.Column("notice_how", sa.Text(), nullable=False),
        sa.Column("withheld", sa.Text()),
    ]


def upgrade() -> None:
    """Add the columns and make the tables."""
    for name in ("model_sha256", "notice_version"):
        op.add_column("streams", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.add_column(
        "streams", sa.Column("consent", sa.Text(), nullable=False, server_default="unknown")
    )
    op.add_column("jobs", sa.Column("metadata", _JSON))
    op.create_table(
        "consents",
        sa.Column("stream_key", _KEY, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        *_told(),
        sa.Column("at_s", sa.Double(), nullable=False),
        sa.Column("told_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("stream_key", "seq", name="pk_consents"),
        sa.ForeignKeyConstraint(
            ["stream_key"],
            ["streams.key"],
            name="fk_consents_stream_key",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "ledger",
        sa.Column("key", _KEY, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        *_told(),
        sa.PrimaryKeyConstraint("key", name="pk_ledger"),
        sa.UniqueConstraint("stream_id", "seq", name="uq_ledger_stream_id_seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_ledger_at", "ledger", ["at"])
    op.create_table(
        "decisions",
        sa.Column("key", _KEY, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger()),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_sha256", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("labels", _JSON, nullable=False),
        sa.Column("posterior", sa.Double()),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_decisions"),
        sa.UniqueConstraint("alert_id", "kind", "seq", name="uq_decisions_alert_id_kind_seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_decisions_at", "decisions", ["at"])
    op.create_index("ix_decisions_stream_id", "decisions", ["stream_id"])
    op.create_table(
        "halts",
        sa.Column("key", _KEY, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("halted", sa.Boolean(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_halts"),
        sqlite_autoincrement=True,
    )
