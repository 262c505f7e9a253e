"""Streams, their results and their audio, over real sockets and a real database."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from dashboard.report.page import words
from ser_engine import schema
from ser_engine.schema import ChannelSummary
from tests.support.dashboard_lab import DashboardLab, serve_dashboard
from tests.support.results import (
    LABELS,
    make_alert,
    make_closed,
    make_gap,
    make_measures,
    make_opened,
    make_point,
    make_points,
    make_segment,
    make_summary,
)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[DashboardLab]:
    folder = tmp_path / "recordings"
    async with serve_dashboard(database=tmp_path / "x.db", recordings=folder) as lab:
        yield lab


async def settled(lab: DashboardLab) -> None:
    assert lab.store is not None
    await lab.store.flush()


def publish_ended(lab: DashboardLab, stream_id: str = "s1", **fields: object) -> None:
    summary = msgspec.structs.replace(
        make_summary(stream_id, seq=90),
        duration_s=2.0,
        channels=(
            ChannelSummary(
                channel=0,
                role="customer",
                scored_s=2.0,
                label_s={"angry": 1.5, "neutral": 0.5},
                gap_s={},
                points=4,
            ),
        ),
        alerts=1,
    )
    opened = msgspec.structs.replace(make_opened(stream_id), **{"opened_at": 1e9, **fields})
    lab.publish(opened, *make_points([0.9, 0.9, 0.9, 0.1], stream_id=stream_id))
    lab.publish(
        make_segment(0.0, 1.5, stream_id=stream_id, seq=10),
        make_gap(1.5, 2.0, stream_id=stream_id, seq=11),
        make_alert(stream_id=stream_id, alert_id=f"{stream_id}-a", seq=12),
        summary,
        make_closed(stream_id, seq=91),
    )


async def test_an_ended_stream_is_listed_with_what_it_was_like(lab: DashboardLab):
    publish_ended(lab)
    await settled(lab)
    body = await lab.get("/streams")
    (stream,) = body["streams"]
    assert not body["more"]
    assert (stream["stream_id"], stream["live"], stream["duration_s"]) == ("s1", False, 2.0)
    assert stream["share"] == {"angry": 0.75, "neutral": 0.25}
    assert (stream["alerts"], stream["open_alerts"]) == (1, 1)
    assert await lab.get("/streams/s1") == stream


async def test_a_live_stream_is_listed_with_what_it_is_like_so_far(lab: DashboardLab):
    lab.publish(make_opened(), *make_points([0.9, 0.1]))
    stream = await lab.get("/streams/s1")
    assert (stream["live"], stream["duration_s"], stream["closed_at"]) == (True, 1.0, None)
    assert stream["share"] == {"angry": 0.5, "neutral": 0.5}


async def test_a_stream_and_the_one_that_continues_it_know_of_each_other(lab: DashboardLab):
    publish_ended(lab)
    lab.publish(msgspec.structs.replace(make_opened("s2"), continues="s1"))
    await settled(lab)
    one, other = await lab.get("/streams/s1"), await lab.get("/streams/s2")
    assert (one["continues"], one["continued_by"]) == (None, "s2")
    assert (other["continues"], other["continued_by"]) == ("s1", None)
    assert (await lab.get("/streams"))["streams"] == [other, one]
    (opened, *_) = (await lab.get("/streams/s2/results"))["results"]
    assert opened["continues"] == "s1"


async def test_what_was_published_just_now_is_told_of(lab: DashboardLab):
    """Whoever follows a link from the wall does not come before the database."""
    publish_ended(lab)
    assert not (await lab.get("/streams/s1"))["live"]
    publish_ended(lab, "s2")
    assert len((await lab.get("/streams/s2/results"))["results"]) == 10


async def test_streams_are_found(lab: DashboardLab):
    publish_ended(lab, "a", name="Anna", opened_at=1000.0)
    publish_ended(lab, "b", name="Bert", opened_at=2000.0)
    lab.publish(make_opened("c", name="Cleo"))
    await settled(lab)

    async def found(query: str) -> list[str]:
        return [one["stream_id"] for one in (await lab.get(f"/streams?{query}"))["streams"]]

    assert await found("") == ["c", "b", "a"]
    assert await found("live=true") == ["c"]
    assert await found("live=false") == ["b", "a"]
    assert await found("name=ANN") == ["a"]
    assert await found("since=1500&until=1000000") == ["b"]
    assert await found("limit=1&offset=1") == ["b"]
    assert (await lab.get("/streams?limit=2"))["more"]


async def test_results_are_had_by_time_and_type(lab: DashboardLab):
    publish_ended(lab)

    async def found(query: str) -> list[tuple[str, int]]:
        results = (await lab.get(f"/streams/s1/results?{query}"))["results"]
        return [(one["type"], one["seq"]) for one in results]

    assert len(await found("")) == 10
    assert await found("types=segment,gap") == [("segment", 10), ("gap", 11)]
    assert await found("types=point&from_s=1.5") == [("point", 4)]
    assert await found("types=point&to_s=0.4") == [("point", 1)]
    page = await lab.get("/streams/s1/results?limit=2")
    assert (page["complete"], page["next_seq"]) == (False, 1)
    assert await found("types=point&after_seq=2") == [("point", 3), ("point", 4)]
    assert (await lab.get("/streams/s1/results?after_seq=91"))["next_seq"] == 91


async def test_points_are_had_as_a_table(lab: DashboardLab):
    publish_ended(lab)
    answer = await lab.client.get("/api/v1/streams/s1/points.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert 'filename="s1.csv"' in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert len(rows) == 4
    assert (rows[0]["start_s"], rows[0]["label"], rows[0]["role"]) == ("0.0", "angry", "customer")
    assert [float(rows[3][label]) for label in LABELS] == pytest.approx([0.1, 0, 0.9, 0])


async def test_segments_are_had_as_annotations(lab: DashboardLab):
    lab.publish(make_opened(), make_segment(0.0, 1.5), make_gap(1.5, 4.0))
    answer = await lab.client.get("/api/v1/streams/s1/annotations?format=audacity")
    assert 'filename="s1.labels.txt"' in answer.headers["Content-Disposition"]
    assert await answer.text() == "0.000000\t1.500000\tangry\n"
    text_grid = await (await lab.client.get("/api/v1/streams/s1/annotations")).text()
    assert 'name = "customer 0"' in text_grid
    assert "xmax = 4.000000" in text_grid


async def test_what_a_person_hears_is_kept_exported_and_held_against_the_model(lab: DashboardLab):
    publish_ended(lab)
    await settled(lab)
    path = "/streams/s1/labels/0"
    heard = [
        {"start_s": 1.0, "end_s": 2.0, "label": "neutral"},
        {"start_s": 0.0, "end_s": 1.0, "label": "angry"},
    ]
    await lab.ask("PUT", path, 204, json={"labels": heard[1:]})
    await lab.ask("PUT", path, 204, json={"labels": heard})
    (tier,) = (await lab.get("/streams/s1/labels"))["tiers"]
    assert (tier["who"], tier["channel"]) == ("machine", 0)
    assert tier["labels"] == heard[::-1]
    # The model's segment is angry up to 1.5 s: half a second of the person's neutral is not.
    assert tier["agreement"]["confusion"] == {"angry": {"angry": 1.0}, "neutral": {"angry": 0.5}}
    assert tier["agreement"]["share"] == pytest.approx(2 / 3)
    text = await (await lab.client.get("/api/v1/streams/s1/annotations?format=textgrid")).text()
    assert 'name = "customer 0"' in text and 'name = "machine 0"' in text
    for wrong in (
        [{"start_s": 0.0, "end_s": 1.0, "label": "bored"}],
        [{"start_s": 1.0, "end_s": 1.0, "label": "sad"}],
        [*heard, {"start_s": 0.5, "end_s": 1.5, "label": "sad"}],
    ):
        body = await lab.ask("PUT", path, 400, json={"labels": wrong})
        assert body["code"] == "bad_request"
    assert (await lab.ask("PUT", "/streams/s1/labels/7", 404, json={"labels": []}))["code"]
    # What is said of nothing takes it back.
    await lab.ask("PUT", path, 204, json={"labels": []})
    assert (await lab.get("/streams/s1/labels"))["tiers"] == []


async def test_a_speaker_is_called_by_the_name_that_somebody_gave(lab: DashboardLab):
    assert lab.store is not None
    spoken = [make_point(seq=at, speaker=f"speaker {at}") for at in (1, 2, 3)]
    lab.publish(make_opened(), *spoken)
    for at in (1, 2, 3):
        lab.publish(make_segment(at, at + 1, seq=at + 3, speaker=f"speaker {at}"))
    path = "/streams/s1/speakers/0"
    await lab.ask("PUT", path, 204, json={"speaker": "speaker 2", "name": "=Mr Oe"})
    await lab.ask("PUT", path, 204, json={"speaker": "speaker 1", "name": " Ms Li "})
    called = {"0": {"speaker 1": "Ms Li", "speaker 2": "=Mr Oe"}}
    assert (await lab.get("/streams/s1"))["speakers"] == called
    # The third one turns out to be the first.
    measures = msgspec.json.decode(msgspec.json.encode(make_measures()))
    told = {"talk_s": 1.0, "talk_share": 0.3, "left_out": False, "labels": {}, "unclear": 0.0}
    measures["channels"][0]["speakers"] = [
        {"name": "speaker 3", "same_as": "speaker 1", **told},
        {"name": "speaker 4", **told, "left_out": True},
    ]
    summary = msgspec.structs.replace(
        make_summary(seq=20), measures=msgspec.convert(measures, schema.Measures)
    )
    lab.publish(summary, make_closed(seq=21))
    await settled(lab)
    assert (await lab.get("/streams/s1"))["speakers"] == called
    table = await (await lab.client.get("/api/v1/streams/s1/points.csv")).text()
    # A cell that begins as a formula does is none.
    assert [row["speaker"] for row in csv.DictReader(io.StringIO(table))] == [
        *("Ms Li", "'=Mr Oe", "Ms Li")
    ]
    labels = await lab.client.get("/api/v1/streams/s1/annotations?format=audacity")
    assert "1.000000\t2.000000\tcustomer 0 speakers: Ms Li\n" in await labels.text()
    report = await (await lab.client.get("/api/v1/streams/s1/report.html")).text()
    assert "speaker 1" not in report.lower()
    assert report.count("Ms Li") >= 3 and "Speaker 4" in report
    # Who was heard shares a channel, which has no turns of its own.
    assert words("en")["measures.shared"] in report
    assert await lab.store.find_person(["Ms Li"]) == (["s1"], [])
    for wrong in ({"speaker": "nobody"}, {"name": "x" * 81}, {"name": "a\nb"}):
        body = {"speaker": "speaker 1", "name": "x", **wrong}
        assert (await lab.ask("PUT", path, 400, json=body))["code"] == "bad_request"
    body = {"speaker": "speaker 1", "name": "x"}
    await lab.ask("PUT", "/streams/s1/speakers/7", 404, json=body)
    for speaker in ("speaker 1", "speaker 2"):
        await lab.ask("PUT", path, 204, json={"speaker": speaker, "name": ""})
    assert (await lab.get("/streams/s1"))["speakers"] == {}


async def test_a_long_stream_is_had_as_a_table_whole(lab: DashboardLab):
    lab.publish(make_opened(), *make_points([0.5] * 4100))
    assert lab.store is not None
    # A request waits 3 s at most for what is being stored; a busy machine takes longer for this.
    await lab.store.flush()
    answer = await lab.client.get("/api/v1/streams/s1/points.csv")
    assert len((await answer.text()).splitlines()) == 4101


async def test_audio_is_had_in_parts(lab: DashboardLab):
    assert lab.recordings is not None
    publish_ended(lab)
    recording = lab.recordings.record("s1")
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    recording.tap(0, noise)
    await lab.recordings.close()
    assert (await lab.get("/streams/s1"))["recorded"] == [0]
    whole = await lab.client.get("/api/v1/streams/s1/recording/0")
    audio = await whole.read()
    assert whole.headers["Content-Type"] == "audio/flac"
    assert audio.startswith(b"fLaC")
    headers = {"Range": "bytes=10-19"}
    part = await lab.client.get("/api/v1/streams/s1/recording/0", headers=headers)
    assert (part.status, await part.read()) == (206, audio[10:20])
    for channel in ("1", "-1", "0.flac", "..%2F..%2Fx"):
        await lab.get(f"/streams/s1/recording/{channel}", 404)
    await lab.get("/streams/..%2Fs1/recording/0", 404)
    await lab.ask("DELETE", "/streams/s1", 204)
    await lab.get("/streams/s1/recording/0", 404)


async def test_an_ended_stream_can_be_deleted(lab: DashboardLab):
    publish_ended(lab)
    assert await lab.ask("DELETE", "/streams/s1", 204) is None
    assert (await lab.get("/streams/s1", 404))["code"] == "not_found"
    assert (await lab.ask("DELETE", "/streams/s1", 404))["code"] == "not_found"
    assert (await lab.get("/streams"))["streams"] == []


async def test_a_live_stream_cannot_be_deleted(lab: DashboardLab):
    lab.publish(make_opened())
    assert (await lab.ask("DELETE", "/streams/s1", 409))["code"] == "stream_is_live"


async def test_unknown_streams(lab: DashboardLab):
    for path in ("", "/results", "/points.csv", "/annotations", "/recording/0"):
        assert (await lab.get(f"/streams/nobody{path}", 404))["code"] == "not_found"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "limit=1.5",
        "offset=-1",
        "live=yes",
        "since=nan",
        "a=1",
        "name=a&name=b",
    ],
)
async def test_wrong_queries_get_one_clear_error(lab: DashboardLab, query: str):
    error = await lab.get(f"/streams?{query}", 400)
    assert (error["type"], error["code"]) == ("error", "bad_request")
    assert "expected" in error["message"]
    assert error["remedy"]


async def test_a_wrong_type_of_result(lab: DashboardLab):
    error = await lab.get("/streams/s1/results?types=points", 400)
    assert "expected one of stream_opened, point" in error["message"]


async def test_without_a_store_live_streams_are_listed():
    async with serve_dashboard() as lab:
        lab.publish(make_opened("a", name="Anna"), make_opened("b"), make_point(stream_id="b"))
        body = await lab.get("/streams")
        assert [one["stream_id"] for one in body["streams"]] == ["b", "a"]
        assert (await lab.get("/streams?name=ann"))["streams"][0]["stream_id"] == "a"
        assert (await lab.get("/streams?live=false"))["streams"] == []
        assert (await lab.get("/streams/b"))["share"] == {"neutral": 1.0}
        assert (await lab.get("/streams/b/results", 409))["code"] == "no_store"
        assert (await lab.ask("DELETE", "/streams/b", 409))["code"] == "no_store"


async def test_a_database_that_does_not_answer_is_said_so(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        assert lab.store is not None
        await lab.store.close()
        answer = await lab.client.get("/api/v1/streams")
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "5"
        assert (await answer.json())["code"] == "store_away"
