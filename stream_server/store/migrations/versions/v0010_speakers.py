"""Who speaks in a point or segment, where the speakers of a channel are told apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column to both tables; it is NULL in the rows of before."""
    for table in ("points", "segments"):
        op.add_column(table, sa.Column("speaker", sa.Text()))
