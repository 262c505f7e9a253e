"""What people call the speakers of streams and files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column to both tables; it is NULL in the rows of before."""
    for table in ("streams", "jobs"):
        op.add_column(table, sa.Column("speakers", sa.JSON().with_variant(JSONB(), "postgresql")))
