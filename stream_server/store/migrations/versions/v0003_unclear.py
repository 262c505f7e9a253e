"""Results without a label: ``label`` may be NULL; ``best`` is the likeliest class there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = ("points", "segments")


def upgrade() -> None:
    """Alter both tables. Rows from before have no ``best``: it is their label."""
    for table in _TABLES:
        op.add_column(table, sa.Column("best", sa.Text()))
    if op.get_bind().dialect.name == "sqlite":
        _let_be_null_in_sqlite()
        return
    for table in _TABLES:
        op.alter_column(table, "label", nullable=True)


def _let_be_null_in_sqlite() -> None:
    # SQLite has no statement for it. Copying would take minutes and twice the disk for the largest
    # table; for a change that leaves every row as it is, its documentation has this way:
    # https://www.sqlite.org/lang_altertable.html#otheralter, the second procedure.
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    for table in _TABLES:
        connection.execute(
            sa.text(
                "UPDATE sqlite_schema SET sql = replace(sql, 'label TEXT NOT NULL', 'label TEXT')"
                " WHERE type = 'table' AND name = :table"
            ),
            {"table": table},
        )
    connection.exec_driver_sql(f"PRAGMA schema_version = {int(version) + 1}")
    # RESET: with OFF this very connection would go by the tables it has read before.
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")
