"""Timelines that outlive the process: SQLite by default, PostgreSQL by URL.

``docs/how-to/store.md`` tells what is kept and for how long.
"""

from stream_server.store.audit import AuditEntry
from stream_server.store.database import (
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
    parse_store_url,
)
from stream_server.store.jobs import JobTable
from stream_server.store.ledger import Decision, LedgerEntry
from stream_server.store.records import (
    AlertFilter,
    AlertRecord,
    Annotation,
    JobRecord,
    JobState,
    ResultKind,
    StoredResults,
    StreamRecord,
    Verdict,
    with_name,
)
from stream_server.store.store import Store
from stream_server.store.writer import StoreWriter

__all__ = [
    "AlertFilter",
    "AlertRecord",
    "Annotation",
    "AuditEntry",
    "Decision",
    "JobRecord",
    "JobState",
    "JobTable",
    "LedgerEntry",
    "ResultKind",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "StoreVersionError",
    "StoreWriter",
    "StoredResults",
    "StreamRecord",
    "Verdict",
    "parse_store_url",
    "with_name",
]
