"""Run by Alembic: applies the steps on the connection it is handed by ``stream_server.store``."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], transaction_per_migration=False
)
context.run_migrations()
