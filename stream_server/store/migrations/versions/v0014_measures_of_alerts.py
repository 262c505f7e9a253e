"""The measures an alert was raised and cleared with, where its rule asks for some."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; they are NULL in the rows of before."""
    for state in ("raised", "cleared"):
        kind = sa.JSON().with_variant(JSONB(), "postgresql")
        op.add_column("alerts", sa.Column(f"{state}_measures", kind))
