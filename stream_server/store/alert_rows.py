"""Alerts as rows: one row from raising on, two results."""

from __future__ import annotations

from typing import Any

from ser_engine.frames import samples_to_s
from stream_server.protocol.results import Alert
from stream_server.store.records import AlertRecord
from stream_server.store.rows import StreamInfo, text

__all__ = ["alert_of", "alert_record_of", "alert_row"]


def alert_row(alert: Alert, stream_key: int, at: float) -> dict[str, Any]:
    """Return the row of an alert, raised or cleared at a time in seconds since 1970.

    A row that tells of clearing is whole too, for the case that the raising was lost.
    """
    row = {
        "id": alert.alert_id,
        "stream_key": stream_key,
        "rule": text(alert.rule),
        "severity": alert.severity,
        "channel": alert.channel,
        "role": alert.role,
        "labels": [text(label) for label in alert.labels],
        "since_sample": alert.since_sample,
        "raised_at": at,
        "raised_sample": alert.since_sample,
        "raised_posterior": alert.posterior,
    }
    state = alert.state
    return {
        **row,
        f"{state}_seq": alert.seq,
        f"{state}_at": at,
        f"{state}_sample": alert.at_sample,
        f"{state}_posterior": alert.posterior,
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
                rule=row.rule,
                state="raised" if state == "raised" else "cleared",
                severity=row.severity,
                channel=row.channel,
                role=row.role,
                labels=tuple(row.labels),
                posterior=row.raised_posterior if posterior is None else posterior,
                since_sample=row.since_sample,
                at_sample=at_sample,
                since_s=samples_to_s(row.since_sample),
                at_s=samples_to_s(at_sample),
            )
        )
    return found


def alert_record_of(row: Any) -> AlertRecord:
    """Return an alert as it is listed."""
    return AlertRecord(
        alert_id=row.id,
        stream_id=row.stream_id,
        stream_name=row.stream_name,
        rule=row.rule,
        severity=row.severity,
        channel=row.channel,
        role=row.role,
        labels=tuple(row.labels),
        posterior=row.raised_posterior,
        since_sample=row.since_sample,
        raised_sample=row.raised_sample,
        raised_at=row.raised_at,
        cleared_sample=row.cleared_sample,
        cleared_at=row.cleared_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_note=row.acknowledged_note,
    )
