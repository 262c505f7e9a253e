"""Points in partitions, in PostgreSQL: what there is becomes the first of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Put the table under a partitioned one. Nothing is copied."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    end = connection.execute(sa.text("SELECT COALESCE(MAX(key), 0) + 1 FROM streams")).scalar_one()
    first = f"points_0_{end}"
    for statement in (
        f"ALTER TABLE points RENAME TO {first}",
        f"ALTER INDEX pk_points RENAME TO pk_{first}",
        f"CREATE TABLE points (LIKE {first} INCLUDING DEFAULTS) PARTITION BY RANGE (stream_key)",
        "ALTER TABLE points ADD CONSTRAINT pk_points PRIMARY KEY (stream_key, seq)",
        "ALTER TABLE points ADD CONSTRAINT fk_points_stream_key FOREIGN KEY (stream_key)"
        " REFERENCES streams (key) ON DELETE CASCADE",
        f"ALTER TABLE points ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO ({end})",
        "CREATE TABLE points_default PARTITION OF points DEFAULT",
    ):
        op.execute(statement)
