"""What people hear in files, beside what the model says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it is NULL in the rows of before."""
    op.add_column("jobs", sa.Column("labels", sa.JSON().with_variant(JSONB(), "postgresql")))
