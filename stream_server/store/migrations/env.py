"""Run by Alembic: applies the migrations on the connection that ``stream_server.store`` hands it.

``versions/`` tells how the tables came to be, step by step; each step names the one before it. A
step is never changed once released: a change of ``schema.py`` comes with a step of its own, and a
test holds the outcome of all steps against ``schema.py``.
"""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # All steps or none: the connection's own transaction spans them.
    transaction_per_migration=False,
)
context.run_migrations()
