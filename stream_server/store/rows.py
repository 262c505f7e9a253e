"""Results as rows of the tables, and back.

Posteriors are kept as float32 and read back with six decimals, which is what is published: the
bytes are the same as on the wire. An alert is one row from when it is raised on, and up to two
results.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Table
from sqlalchemy.engine import RowMapping

from ser_engine.frames import samples_to_s
from ser_engine.schema import ChannelSummary, ModelNotice, rounded_all
from ser_engine.schema import Measures as StreamMeasures
from stream_server.store import schema
from stream_server.store.records import AlertRecord, StreamRecord
from stream_server.store.schema import NARROW_BAND, PROVISIONAL, WIDENED
from stream_server.wire.results import (
    Alert,
    Consent,
    Gap,
    Marked,
    Measures,
    Point,
    Segment,
    StreamChannel,
    StreamClosed,
    StreamOpened,
    Summary,
    Warning,
    in_envelope,
)


class StreamInfo(msgspec.Struct, frozen=True):
    """What the results of a stream have in common, so that it is not kept with each.

    Attributes:
        model: of points that name no other.
        roles: by index of the channel.
    """

    stream_id: str
    model: str
    roles: dict[int, str]
    model_sha256: str = ""
    team: str = ""

    @classmethod
    def of(cls, row: RowMapping) -> StreamInfo:
        """Read it from a row of ``streams``."""
        roles = {channel["index"]: channel["role"] for channel in row["channels"]}
        return cls(row["id"], row["model"], roles, row["model_sha256"], row["team"])


def clean(value: Any) -> Any:
    """Return a value without the character 0 in its texts, which PostgreSQL's TEXT cannot hold."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case dict():
            return {clean(name): clean(one) for name, one in value.items()}
        case list() | tuple():
            return [clean(one) for one in value]
    return value


def _shared(table: Table, kind: type[msgspec.Struct], *but: str) -> tuple[str, ...]:
    """Return the columns that have the name and the value of a field.

    A new field of a result needs a column and a migration, and no line here. What is packed, shared
    with the stream or derived is ``but``.
    """
    names = kind.__struct_fields__
    return tuple(each.name for each in table.c if each.name in names and each.name not in but)


_STREAM_COLUMNS = _shared(schema.streams, StreamOpened, "model")
_POINT_COLUMNS = _shared(schema.points, Point, "posteriors", "model", "best", "speaker")
_SEGMENT_COLUMNS = _shared(schema.segments, Segment, "best", "speaker")
_GAP_COLUMNS = _shared(schema.gaps, Gap)
_WARNING_COLUMNS = _shared(schema.warnings, Warning)
_CONSENT_COLUMNS = _shared(schema.consents, Consent)
_LEDGER_COLUMNS = _shared(schema.ledger, Consent)
_ALERT_COLUMNS = _shared(schema.alerts, Alert, "labels")
_DECISION_COLUMNS = _shared(schema.decisions, Alert)
_RECORD_COLUMNS = _shared(schema.alerts, AlertRecord, "labels")


def _cleaned(result: object, columns: tuple[str, ...]) -> dict[str, Any]:
    return {name: clean(getattr(result, name)) for name in columns}


def _kept(row: Any, columns: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in columns}


def stream_row(opened: StreamOpened, owner: str) -> dict[str, Any]:
    """Return the row of a stream that begins."""
    return {
        **_cleaned(opened, _STREAM_COLUMNS),
        "channels": clean(msgspec.to_builtins(opened.channels)),
        "id": opened.stream_id,
        "owner": owner,
        "model": clean(opened.model.name),
        "model_licence": clean(opened.model.licence),
        "model_notice": clean(opened.model.notice),
        "opened_seq": opened.seq,
    }


def opened_of(row: RowMapping) -> StreamOpened:
    """Return how a stream began."""
    kept: dict[str, Any] = {name: row[name] for name in _STREAM_COLUMNS}
    kept["channels"] = msgspec.convert(row["channels"], tuple[StreamChannel, ...])
    kept["labels"] = tuple(row["labels"])
    model = ModelNotice(name=row["model"], licence=row["model_licence"], notice=row["model_notice"])
    return StreamOpened(stream_id=row["id"], seq=row["opened_seq"], model=model, **kept)


def stream_record_of(row: RowMapping) -> StreamRecord:
    """Return a stream as it is listed."""
    opened = msgspec.structs.asdict(opened_of(row))
    del opened["seq"]
    return StreamRecord(
        **opened,
        closed_at=row["closed_at"],
        reason=row["reason"],
        duration_s=row["duration_s"],
        summary=summary_of(row),
        consent=row["consent"],
        notice_version=row["notice_version"],
        speakers=row["speakers"] or {},
    )


def summary_values(summary: Summary) -> dict[str, Any]:
    """Return the columns of ``streams`` that a summary fills."""
    return {
        "summary_seq": summary.seq,
        "reason": summary.reason,
        "duration_s": summary.duration_s,
        "summary": {
            "received_samples": summary.received_samples,
            "alerts": summary.alerts,
            "channels": msgspec.to_builtins(summary.channels),
            "measures": msgspec.to_builtins(summary.measures),
        },
    }


def summary_of(row: RowMapping) -> Summary | None:
    """Return the summary of a stream, if it has one."""
    if row["summary"] is None:
        return None
    return Summary(
        stream_id=row["id"],
        seq=row["summary_seq"],
        reason=row["reason"],
        duration_s=row["duration_s"],
        received_samples=row["summary"]["received_samples"],
        channels=msgspec.convert(row["summary"]["channels"], tuple[ChannelSummary, ...]),
        alerts=row["summary"]["alerts"],
        # Of streams that were stored before there were measures it has none.
        measures=msgspec.convert(row["summary"].get("measures"), StreamMeasures | None),
    )


def closed_of(row: RowMapping) -> StreamClosed | None:
    """Return how a stream ended, if it has."""
    if row["closed_at"] is None:
        return None
    return StreamClosed(
        stream_id=row["id"],
        seq=row["closed_seq"],
        reason=row["reason"],
        closed_at=row["closed_at"],
    )


def point_row(point: Point, stream_key: int, info: StreamInfo) -> dict[str, Any]:
    """Return the row of a point."""
    flags = PROVISIONAL * point.provisional | WIDENED * point.widened
    return {
        **_kept(point, _POINT_COLUMNS),
        "stream_key": stream_key,
        "posteriors": struct.pack(f"<{len(point.posteriors)}f", *point.posteriors),
        "flags": flags | NARROW_BAND * point.narrow_band,
        "model": None if point.model == info.model else clean(point.model),
        "best": None if point.best == point.label else point.best,
        "speaker": point.speaker or None,
    }


def point_of(row: Any, info: StreamInfo) -> Point:
    """Return a point; its frames are not kept."""
    blob, flags = row.posteriors, row.flags
    return Point(
        **_fields(row, info, _POINT_COLUMNS),
        best=row.best or row.label,
        speaker=row.speaker or UNSET,
        posteriors=rounded_all(struct.unpack(f"<{len(blob) // 4}f", blob)),
        provisional=bool(flags & PROVISIONAL),
        widened=bool(flags & WIDENED),
        narrow_band=bool(flags & NARROW_BAND),
        model=row.model or info.model,
    )


def span_row(span: Segment | Gap, stream_key: int) -> dict[str, Any]:
    """Return the row of a segment or gap."""
    columns = _SEGMENT_COLUMNS if isinstance(span, Segment) else _GAP_COLUMNS
    row = {"stream_key": stream_key, **_kept(span, columns)}
    if isinstance(span, Segment):
        row["best"] = None if span.best == span.label else span.best
        row["speaker"] = span.speaker or None
    return row


def segment_of(row: Any, info: StreamInfo) -> Segment:
    """Return a segment."""
    fields = _fields(row, info, _SEGMENT_COLUMNS)
    return Segment(**fields, best=row.best or row.label, speaker=row.speaker or UNSET)


def gap_of(row: Any, info: StreamInfo) -> Gap:
    """Return a gap."""
    return Gap(**_fields(row, info, _GAP_COLUMNS))


def marked_of(row: Any, info: StreamInfo) -> Marked:
    """Return a mark."""
    return Marked(
        stream_id=info.stream_id,
        seq=row.seq,
        name=row.name,
        at_sample=row.at_sample,
        at_s=samples_to_s(row.at_sample),
    )


def warning_row(warning: Warning, stream_key: int) -> dict[str, Any]:
    """Return the row of a warning."""
    return {**_cleaned(warning, _WARNING_COLUMNS), "stream_key": stream_key}


def warning_of(row: Any, info: StreamInfo) -> Warning:
    """Return a warning."""
    return Warning(stream_id=info.stream_id, **_kept(row, _WARNING_COLUMNS))


# All but the envelope; of two channels a third of the bytes of plain JSON.
_encode_measures = msgspec.json.Encoder().encode


def measures_row(measures: Measures, stream_key: int) -> dict[str, Any]:
    """Return the row of how a conversation was up to a moment."""
    own = {name: getattr(measures, name) for name in StreamMeasures.__struct_fields__}
    return {
        "stream_key": stream_key,
        "seq": measures.seq,
        "at_sample": measures.at_sample,
        "measures": zlib.compress(_encode_measures(own)),
    }


def measures_of(row: Any, info: StreamInfo) -> Measures:
    """Return how a conversation was up to a moment."""
    own = msgspec.json.decode(zlib.decompress(row.measures), type=StreamMeasures)
    return in_envelope(Measures, own, stream_id=info.stream_id, seq=row.seq)


def consent_row(consent: Consent, stream_key: int) -> dict[str, Any]:
    """Return the row of what was told of consent."""
    return {**_cleaned(consent, _CONSENT_COLUMNS), "stream_key": stream_key}


def consent_of(row: Any, info: StreamInfo) -> Consent:
    """Return what was told of consent."""
    return Consent(stream_id=info.stream_id, **_kept(row, _CONSENT_COLUMNS))


def ledger_row(consent: Consent, info: StreamInfo) -> dict[str, Any]:
    """Return the entry of the ledger."""
    return {**_cleaned(consent, _LEDGER_COLUMNS), "team": info.team, "at": consent.told_at}


def decision_row(alert: Alert, info: StreamInfo, at: float) -> dict[str, Any]:
    """Return the entry of the log of decisions for an alert."""
    about = {"team": info.team, "model": info.model, "model_sha256": info.model_sha256}
    told = {"at": at, "kind": alert.state, "who": "", "note": ""}
    return {**_cleaned(alert, _DECISION_COLUMNS), **about, **told}


def _fields(row: Any, info: StreamInfo, columns: tuple[str, ...]) -> dict[str, Any]:
    """Return what a row says of a span, and its envelope."""
    return {
        **_kept(row, columns),
        "stream_id": info.stream_id,
        "role": info.roles.get(row.channel, ""),
    }


def alert_row(alert: Alert, stream_key: int, at: float) -> dict[str, Any]:
    """Return the row of an alert, raised or cleared at a time in seconds since 1970.

    A row that tells of clearing is whole too, for the case that the raising was lost.
    """
    state = alert.state
    return {
        **_cleaned(alert, (*_ALERT_COLUMNS, "labels")),
        "id": alert.alert_id,
        "stream_key": stream_key,
        "raised_at": at,
        "raised_sample": alert.since_sample,
        "raised_posterior": alert.posterior,
        f"{state}_seq": alert.seq,
        f"{state}_at": at,
        f"{state}_sample": alert.at_sample,
        f"{state}_posterior": alert.posterior,
        f"{state}_measures": alert.measures or None,
    }


def alert_of(row: Any, info: StreamInfo) -> list[Alert]:
    """Return the results an alert was published as, one or two."""
    found = []
    for state in ("raised", "cleared"):
        seq, at_sample = getattr(row, f"{state}_seq"), getattr(row, f"{state}_sample")
        if seq is None:
            continue
        posterior = getattr(row, f"{state}_posterior")
        found.append(
            Alert(
                stream_id=info.stream_id,
                seq=seq,
                alert_id=row.id,
                state="raised" if state == "raised" else "cleared",
                labels=tuple(row.labels),
                posterior=row.raised_posterior if posterior is None else posterior,
                at_sample=at_sample,
                **_kept(row, _ALERT_COLUMNS),
                measures=getattr(row, f"{state}_measures") or UNSET,
            )
        )
    return found


def alert_record_of(row: Any) -> AlertRecord:
    """Return an alert as it is listed."""
    return AlertRecord(
        alert_id=row.id,
        stream_id=row.stream_id,
        stream_name=row.stream_name,
        labels=tuple(row.labels),
        posterior=row.raised_posterior,
        measures=_largest(row.raised_measures, row.cleared_measures),
        **_kept(row, _RECORD_COLUMNS),
    )


def _largest(*each: dict[str, float] | None) -> dict[str, float]:
    figures: dict[str, float] = {}
    for one in each:
        for name, value in (one or {}).items():
            figures[name] = max(value, figures.get(name, value))
    return figures
