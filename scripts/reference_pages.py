"""Write the pages of docs/reference that the code knows: tables of the store, events of the log.

    python -m scripts.reference_pages

A test holds the pages to what this prints.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Column, MetaData

from stream_server.store import schema

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
PACKAGES = ("emotion_monitor", "stream_server", "ser_engine", "dashboard", "mic_client")

_TABLES = """# Tables of the store

Written from `stream_server/store/schema.py` by `python -m scripts.reference_pages`. What is kept,
where and for how long: [store](../how-to/store.md).

Times (`…_at`, `at`) are seconds since 1970, UTC. Positions (`…_sample`) count samples at 16 kHz
from the start of the stream; `…_s` are seconds. `stream_key` is `key` in `streams`; what has it
goes with its stream. Results carry their `seq`, which orders them within their stream.
`posteriors` is one little-endian float32 for each of the stream's `labels`, in that order. A
segment or gap that goes on is stored in its latest version, which the next one replaces.

```sql
-- Seconds by label of the last hundred streams.
SELECT s.id, g.label, SUM(g.end_sample - g.start_sample) / 16000.0 AS seconds
FROM (SELECT * FROM streams ORDER BY opened_at DESC LIMIT 100) s
JOIN segments g ON g.stream_key = s.key GROUP BY s.id, g.label;
```
"""

_EVENTS = """# Events of the log

Written from the code by `python -m scripts.reference_pages`. The log goes to standard error, one
line an event: on a terminal as text, else as JSON (`stream_server.logging.format`) with
`timestamp`, `level`, `logger`, `event` and the fields below. Events carry ids and counts, never
audio, a label, a name or metadata of a stream. Libraries log sentences instead of events; so does
the engine, when a model is prepared or a batch fails.

| event | level | fields | what it says |
|---|---|---|---|
"""

_HOLES = {
    "result.state": ("raised", "cleared"),
    "listener.name": ("audiosocket", "siprec", "rtp"),
    "self._setting": ("notify", "webhook"),
}
"""What stands in the place of an expression in the name of an event."""

LEVELS = {
    "_log.debug": "debug",
    "_log.info": "info",
    "_log.warning": "warning",
    "_log.error": "error",
    "_log.exception": "error",
    "_log.log": "info or error",
    "tell": "warning",
}
"""Calls that log an event, and the level it has then."""

EVENTS = {
    "access_guessed": "an address has tried wrong tokens or passwords, and has to wait",
    "access_not_refreshed": "tokens and people could not be read from the store; those known go on",
    "alert_cleared": "an alert's condition holds no more",
    "alert_raised": "a rule holds",
    "analyses_expired": "results of files were deleted by age or for room",
    "analyses_taken_up": "a start found files that waited; what belonged to none was deleted",
    "analyses_upkeep_failed": "expired results could not be deleted; it is tried again",
    "analysis_failed": "a mistake in the program ended the analysis of a file; with a traceback",
    "analysis_given_up": "after a start: a file is lost, or ended the server before",
    "analysis_not_ended": "a mistake in the program; the queue goes on; with a traceback",
    "analysis_not_stored": "the database refused how an analysis ended",
    "analysis_without_room": "the disk has no room for a result",
    "api_failed": "the database reported an error to a request",
    "api_without_store": "the database does not answer a request",
    "audiohook_unauthorized": "a signature of Genesys is wrong; as many as `left_out` got no line",
    "audiosocket_ended": "a call of AudioSocket ended with an error",
    "audiosocket_failed": "a mistake in the program ended a call; with a traceback",
    "audiosocket_listening": "the port for AudioSocket is open",
    "audiosocket_not_listening": "it could not be opened; the server runs without it",
    "audit_entry_lost": "the database refused an entry of the audit",
    "bus_away": "NATS is not there; it is tried again",
    "bus_connected": "NATS is there",
    "bus_error": "what the NATS client reports",
    "bus_failed": "a mistake in the program; the bus is joined again; with a traceback",
    "bus_keeps_nothing": "NATS has no JetStream: alerts are not kept while a server is away",
    "bus_lost": "NATS went away; it is tried again",
    "bus_message_ignored": "another server's message could not be read: compare the versions",
    "bus_name_taken": "another server has the same `bus.name`: each needs its own",
    "call_ended": "a call of AudioSocket ended; `lost_ms` is audio that never came",
    "certificate_not_reloaded": "the new files do not fit; the certificate before them stays",
    "certificate_reloaded": "new connections get the new certificate",
    "connection_ended": "a client was told an error that ends its stream or connection",
    "cooldowns_not_known": "the database did not say which alerts were cleared lately",
    "engine_call_failed": "a call to engines of Ray failed; with a traceback",
    "engine_closed": "an engine's last stream has ended, and another one has taken its place",
    "engine_failed": "the connection to an engine failed in an unforeseen way; with a traceback",
    "engine_left_out": "one of several engines is not used",
    "engine_lost": "an engine elsewhere is gone; its windows are given to others or are gaps",
    "engine_message_ignored": "a client of an engine sent what could not be read",
    "engine_not_followed": "an engine elsewhere changed its model and was not reached; tried again",
    "engine_ready": "a model is loaded and takes streams",
    "feed_reads_behind_the_store": "the store is slow: a reader may miss the newest results",
    "front_lost": "a worker has lost the front process, and connects again or ends",
    "limits_counted_alone": "NATS is not there: each server counts a token's streams alone",
    "message_ignored": "the first message of a connection that makes no sense",
    "model_fetch_progress": "how far a download is",
    "model_fetch_started": "a better model is being downloaded",
    "model_fetched": "it is on disk",
    "model_not_fetched": "no hub answered; asked again in an hour",
    "model_not_used": "a better model could not be opened; streams go on with the one there is",
    "mqtt_connected": "the broker is there",
    "mqtt_lost": "the broker went away; tried again",
    "mqtt_state_not_removed": "the retained state of an ended stream is still on the broker",
    "mqtt_stream_not_announced": "not announced to Home Assistant, which has as many as it may",
    "notify_failed": "a message or page about an alert could not be sent",
    "objected_stream_waits": "an objection is kept, its erasure waits for the database",
    "oidc_failed": "a login at the provider failed",
    "process_ended": "a process of the server ended and is started again",
    "process_joined": "a process of the server is ready",
    "ray_away": "Ray is not reached; streams wait, and it is tried again",
    "recording_cut": "a recording ends early: the disk is full and the server stops",
    "recording_failed": "a recording cannot be written; its time is silence until it can",
    "recording_goes_on": "it can be written again",
    "recording_not_deleted": "an expired file could not be deleted",
    "recordings_expired": "recordings were deleted by age",
    "replica_lost": "an engine of Ray is gone; its windows are given to others",
    "sample_call_ended": "the sample call of the dashboard broke off",
    "server_does_not_answer": "another server does not send what was missed",
    "server_found": "another server is on the bus",
    "server_gone": "another server has left the bus; its streams are taken off the wall",
    "server_stopped": "the server has ended",
    "server_stopping": "it was asked to end; live streams get their results",
    "vss_connected": "the car's databroker takes signals",
    "vss_lost": "the databroker refused a signal or is away; tried again",
    "rtp_ended": "a stream of plain RTP was ended with an error",
    "rtp_listening": "a port for plain RTP is open",
    "rtp_not_listening": "it could not be opened; the server does not start",
    "rtp_stream_ended": "a stream of plain RTP ended; packets that were not read",
    "siprec_call_ended": "a recorded call ended; packets of unknown senders and unread ones",
    "siprec_ended": "a recorded call was ended with an error",
    "siprec_listening": "the port for SIPREC is open",
    "siprec_not_listening": "it could not be opened; the server does not start",
    "store_available": "the database answers again",
    "store_closed_abandoned_streams": "a start closed streams that a killed server had left open",
    "store_closed_with_results_left": "the server ended before all results were written",
    "store_dropped_partitions": "PostgreSQL: partitions whose streams have all expired",
    "store_expired_streams": "streams were deleted by age",
    "store_probed": "a write for trial failed, or is possible again: `/readyz` says the same",
    "store_refused_result": "the database refused a result; it is dropped and counted",
    "store_retention_failed": "expired streams could not be deleted; tried again",
    "store_unavailable": "the database does not answer; results wait in memory",
    "stream_closed": "a stream has ended",
    "stream_failed": "a mistake in the program ended a stream; with a traceback",
    "stream_given_up": "a stream that waited for its client has given its place up",
    "stream_opened": "a stream has begun",
    "stream_refused": "a connection was refused; as many as `left_out` got no line",
    "task_failed": "a task in the background failed; with a traceback",
    "track_ended": "how the packets of a call's channel came, at its end",
    "webhook_failed": "an alert could not be posted",
    "speakers_not_told_apart": "speakers should be told apart, and there is no model",
    "voice_failed": "a voice could not be heard; what it speaks for is nobody's",
    "window_failed": "a window could not be scored; its time is a gap",
    "worker_lost": "a worker process is gone; its clients come back to another one",
    "worker_message_ignored": "a worker sent what could not be read",
}
"""What each event says; the rest of its row is read from the calls."""


def tables_page() -> str:
    """Return docs/reference/tables.md."""
    source = ast.parse(Path(schema.__file__).read_text("utf-8"))
    comments = _comments(Path(schema.__file__).read_text("utf-8"))
    meanings = dict(_meanings(source))
    metadata: MetaData = schema.metadata
    text = _TABLES
    for name, table in metadata.tables.items():
        text += f"\n## `{name}`\n\n{meanings[name]}\n\n| column | type | |\n|---|---|---|\n"
        for column in table.columns:
            said = comments.get((name, column.name)) or comments.get(("", column.name), "")
            text += f"| `{column.name}` | {_type(column)} | {said} |\n"
    return text


def _type(column: Column[object]) -> str:
    name = str(column.type).lower().replace("json", "JSON")
    return name + (", may be NULL" if column.nullable else "")


def _meanings(source: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield name and docstring of each table."""
    for node, after in zip(source.body, source.body[1:], strict=False):
        if name := _table(node):
            assert isinstance(after, ast.Expr), name
            yield name, " ".join(str(ast.literal_eval(after.value)).split())


def _table(node: ast.stmt) -> str:
    """Return the table's name where the statement makes one."""
    call = node.value if isinstance(node, ast.Assign) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func) == "Table":
        return str(ast.literal_eval(call.args[0]))
    return ""


def _comments(source: str) -> dict[tuple[str, str], str]:
    """Return what is written behind each column: of a table, or "" of columns several share."""
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body:
        for line in lines[node.lineno - 1 : node.end_lineno]:
            if match := re.search(r'Column\("(\w+)".*\),?  # (.*)$', line):
                found[_table(node), match[1]] = match[2]
    return found


def events_page() -> str:
    """Return docs/reference/log-events.md.

    Raises:
        ValueError: an event has no meaning here yet.
    """
    rows: dict[str, tuple[set[str], list[str]]] = {}
    for name, level, fields in _calls():
        if name not in EVENTS:
            raise ValueError(f"{__name__}.EVENTS does not say what '{name}' means")
        levels, known = rows.setdefault(name, (set(), []))
        levels.add(level)
        known += [field for field in fields if field not in known]
    return _EVENTS + "".join(
        f"| `{name}` | {', '.join(sorted(levels))} |"
        f" {', '.join(f'`{field}`' for field in fields)} | {EVENTS[name]} |\n"
        for name, (levels, fields) in sorted(rows.items())
    )


def _calls() -> Iterator[tuple[str, str, list[str]]]:
    """Yield event, level and fields of every call of a structured logger."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text("utf-8")
            if "structlog.get_logger" not in text:
                continue
            for node in ast.walk(ast.parse(text)):
                if not isinstance(node, ast.Call):
                    continue
                level = LEVELS.get(ast.unparse(node.func))
                if level is None:
                    continue
                fields = [each.arg or "" for each in node.keywords]
                for name in _names(
                    node.args[1 if "log.log" in ast.unparse(node.func) else 0], text
                ):
                    yield name, level, [field for field in fields if field not in ("", "exc_info")]


def _names(node: ast.expr, source: str) -> list[str]:
    """Return the events that the first argument of a call may be."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        (hole,) = [part for part in node.values if isinstance(part, ast.FormattedValue)]
        before, after = ast.unparse(node)[2:-1].split("{" + ast.unparse(hole.value) + "}")
        return [before + word + after for word in _HOLES[ast.unparse(hole.value)]]
    # A variable: the words it is given a few lines above.
    given = re.search(rf"\b{ast.unparse(node)} = (.*)", source)
    assert given, ast.unparse(node)
    return re.findall(r'"(\w+)"', given[1])


PAGES = {"tables.md": tables_page, "log-events.md": events_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
