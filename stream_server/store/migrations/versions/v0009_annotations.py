"""What people hear in streams, beside what the model says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "annotations",
        sa.Column("key", _KEY, nullable=False, autoincrement=True),
        sa.Column("stream_key", _KEY, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("channel", sa.SmallInteger(), nullable=False),
        sa.Column("start_sample", sa.BigInteger(), nullable=False),
        sa.Column("end_sample", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["stream_key"],
            ["streams.key"],
            name="fk_annotations_stream_key",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("key", name="pk_annotations"),
    )
    op.create_index("ix_annotations_stream_key", "annotations", ["stream_key"])
