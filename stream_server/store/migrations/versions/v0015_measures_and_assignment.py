"""The measures of a conversation while it went on; who acknowledged an alert, and whose it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and add the columns, which are NULL in the rows of before.

    Streams of before have their last measures only, in their summary.
    """
    for name in ("acknowledged_by", "assigned_to"):
        op.add_column("alerts", sa.Column(name, sa.Text()))
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "measures",
        sa.Column("stream_key", key, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_sample", sa.BigInteger(), nullable=False),
        sa.Column("measures", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream_key", "seq", name="pk_measures"),
        sa.ForeignKeyConstraint(
            ["stream_key"], ["streams.key"], name="fk_measures_stream_key", ondelete="CASCADE"
        ),
    )
