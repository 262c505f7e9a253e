"""The same on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from msgspec.structs import replace
from sqlalchemy import Connection, text

from ser_engine.errors import ConfigError
from stream_server.bus import Bus
from stream_server.config import StoreConfig
from stream_server.store import Store, StoreError, StoreUnavailableError
from stream_server.wire.results import (
    Flushed,
    Marked,
    Measures,
    Result,
    StreamOpened,
    in_envelope,
)
from tests.stream_server.store.conftest import OpenStore
from tests.support.results import (
    make_alert,
    make_closed,
    make_gap,
    make_marked,
    make_measures,
    make_opened,
    make_point,
    make_segment,
    make_summary,
    make_warning,
)

DAY_S = 86_400

WHOLE_STREAM: list[Result] = [
    make_opened(name="call 7", roles=("customer", "agent")),
    make_point(seq=1, posteriors=(0.123457, 0.5, 0.0, 0.376543), narrow_band=True),
    make_gap(seq=2, end_s=0.5),
    make_warning(seq=3),
    make_marked(seq=4, at_s=0.75),
    make_alert(seq=5, at_s=1.0),
    # Both unclear: they keep what they might have been.
    replace(make_point(seq=6, start_s=0.5, end_s=1.0), label=None),
    replace(make_segment(seq=7, start_s=0.5, end_s=1.25), label=None),
    make_alert(seq=8, state="cleared", at_s=1.25),
    in_envelope(Measures, make_measures(), stream_id="s1", seq=9),
    make_summary(seq=10),
    make_closed(seq=11),
]


async def stored(store: Store, stream_id: str = "s1", **wanted: Any) -> list[Result]:
    found = await store.results(stream_id, **wanted)
    assert found is not None
    return list(found.results)


async def put(store: Store, *results: Result) -> None:
    for result in results:
        store.write(result)
    await store.flush()


async def test_what_was_published_is_what_comes_back(store: Store):
    await put(store, *WHOLE_STREAM)
    found = await store.results("s1")
    assert found is not None
    assert list(found.results) == WHOLE_STREAM
    assert (found.last_seq, found.is_complete) == (11, True)
    assert (store.writer.pending, store.writer.dropped) == (0, 0)
    assert store.writer.written == len(WHOLE_STREAM)


async def test_alerts_that_were_cleared_before_the_end_are_known_for_their_cooldown(store: Store):
    before = time.time()
    # The end of the second stream cleared its alert, which held when its client was lost.
    for stream_id, closed_at in (("s1", before + 60), ("s2", before)):
        await put(
            store,
            make_opened(stream_id),
            make_alert(stream_id=stream_id, alert_id=stream_id),
            make_alert("cleared", stream_id=stream_id, alert_id=stream_id, seq=2),
        )
        ((key, at),) = (await store.cleared_alerts(stream_id)).items()
        assert key == ("customer stays angry", 0) and before <= at <= time.time()
        await put(store, replace(make_closed(stream_id, seq=3), closed_at=closed_at))
    assert await store.cleared_alerts("s1") != {}
    assert await store.cleared_alerts("s2") == {}


async def test_writing_again_changes_nothing(store: Store):
    await put(store, *WHOLE_STREAM)
    await put(store, *WHOLE_STREAM)
    assert await stored(store) == WHOLE_STREAM


async def test_what_is_published_on_the_bus_is_stored(store: Store):
    bus = Bus()
    running = asyncio.ensure_future(store.run(bus.subscribe(name="store", capacity=100)))
    await asyncio.sleep(0)
    for result in WHOLE_STREAM[:5]:
        bus.publish(result)
    await store.flush()
    assert await stored(store) == WHOLE_STREAM[:5]
    for result in WHOLE_STREAM[5:]:
        bus.publish(result)
    bus.close()
    await running
    await store.flush()
    assert await stored(store) == WHOLE_STREAM


async def test_a_segment_is_stored_in_its_latest_version(store: Store):
    await put(
        store, make_opened(roles=("customer", "agent")), make_segment(seq=1, end_s=0.5, final=False)
    )
    assert await stored(store, kinds=["segment"]) == [make_segment(seq=1, end_s=0.5, final=False)]
    await put(
        store, make_segment(seq=2, end_s=1.0, final=False), make_gap(seq=3, channel=1, final=False)
    )
    await put(store, make_segment(seq=4, end_s=1.5))
    assert await stored(store, kinds=["segment", "gap"]) == [
        make_gap(seq=3, channel=1, final=False),
        make_segment(seq=4, end_s=1.5),
    ]
    await put(store, make_segment(seq=2, end_s=1.0, final=False), make_closed(seq=5))
    assert await stored(store, kinds=["segment", "gap"]) == [
        make_gap(seq=3, channel=1, final=True),
        make_segment(seq=4, end_s=1.5),
    ]


async def test_stored_and_live_results_join_without_hole_or_double(store: Store):
    bus = Bus()
    running = asyncio.ensure_future(store.run(bus.subscribe(name="store", capacity=1000)))
    await asyncio.sleep(0)
    bus.publish(make_opened())
    for seq in range(1, 50):
        bus.publish(make_point(seq=seq))
    live = bus.subscribe(name="feed", capacity=1000)
    for seq in range(50, 60):
        bus.publish(make_point(seq=seq))
    await store.flush()
    for seq in range(60, 70):
        bus.publish(make_point(seq=seq))
    found = await store.results("s1")
    assert found is not None
    later = [result for result in live.take_waiting() if result.seq > found.last_seq]
    assert [result.seq for result in (*found.results, *later)] == list(range(70))
    bus.close()
    await running


async def test_results_come_in_pages(store: Store):
    await put(store, *WHOLE_STREAM)
    pages: list[Result] = []
    after_seq = -1
    while True:
        found = await store.results("s1", after_seq=after_seq, limit=3)
        assert found is not None
        pages += found.results
        if found.is_complete:
            break
        assert len(found.results) == 3
        after_seq = found.results[-1].seq
    assert pages == WHOLE_STREAM


async def test_results_from_a_position_on_and_of_some_kinds(store: Store):
    await put(store, *WHOLE_STREAM)
    assert [result.seq for result in await stored(store, from_sample=12_000)] == [
        *(0, 4, 5, 6, 7, 8, 9, 10, 11)
    ]
    assert [result.seq for result in await stored(store, kinds=["point", "alert"])] == [1, 5, 6, 8]
    assert await stored(store, kinds=[]) == []
    assert await store.results("nobody") is None


async def test_flushed_is_not_kept(store: Store):
    await put(store, make_opened(), Flushed(stream_id="s1", seq=1, at_sample=0, at_s=0.0))
    assert await stored(store) == [make_opened()]
    assert store.writer.dropped == 0


async def test_streams_are_listed_newest_first(store: Store):
    for number, name in enumerate(("Berlin 50%", "paris", "BERLIN 2")):
        await put(store, make_opened(f"s{number}", name=name, opened_at=1000.0 + number))
    await put(store, make_summary("s0", seq=1), make_closed("s0", seq=2, closed_at=2000.0))

    async def ids(**wanted: Any) -> list[str]:
        return [record.stream_id for record in await store.list_streams(**wanted)]

    assert await ids() == ["s2", "s1", "s0"]
    assert await ids(limit=1, offset=1) == ["s1"]
    assert await ids(since=1001.0) == ["s2", "s1"]
    assert await ids(until=1001.0) == ["s0"]
    assert await ids(name="berlin") == ["s2", "s0"]
    assert await ids(name="0%") == ["s0"]
    assert await ids(live_only=True) == ["s2", "s1"]


async def test_a_stream_is_told_of_as_a_whole(store: Store):
    await put(store, make_opened(name="x", roles=("customer", "agent")))
    record = await store.stream("s1")
    assert record is not None
    assert record.is_live
    assert record.summary is None
    assert record.metadata == {"order": "42"}
    assert [channel.role for channel in record.channels] == ["customer", "agent"]
    await put(store, make_summary(seq=1), make_closed(seq=2, reason="idle"))
    record = await store.stream("s1")
    assert record is not None
    assert (record.is_live, record.reason, record.duration_s) == (False, "idle", 1.0)
    assert record.summary is not None
    assert record.summary.channels == make_summary().channels
    assert await store.stream("nobody") is None


async def test_alerts_are_listed_and_acknowledged(open_store: OpenStore):
    clock = iter(range(1000, 2000))
    store = await open_store(options={"now": lambda: float(next(clock))})
    await put(store, make_opened(name="call"), make_opened("t"))
    await put(
        store, make_alert(alert_id="a", seq=1), make_alert(stream_id="t", alert_id="b", seq=1)
    )
    await put(store, make_alert(alert_id="a", seq=2, state="cleared", at_s=8.0))

    async def ids(**wanted: Any) -> list[str]:
        return [record.alert_id for record in await store.alerts(**wanted)]

    assert await ids() == ["b", "a"]
    assert await ids(state="raised") == ["b"]
    assert await ids(state="cleared") == ["a"]
    assert await ids(stream_id="s1") == ["a"]
    assert await ids(limit=1, offset=1) == ["a"]
    assert await store.acknowledge("a", "called back\x00", who="anna")
    assert await store.assign("a", "Ms Li")
    assert not await store.assign("nothing", "Ms Li")
    assert not await store.acknowledge("nothing")
    assert await ids(state="unacknowledged") == ["b"]
    (record,) = await store.alerts(state="acknowledged")
    assert record.cleared_at is not None
    assert record.acknowledged_at is not None
    # An alert ends as long after it began as it lasted, whatever the clock says meanwhile.
    assert 1000 == record.raised_at <= record.cleared_at <= record.acknowledged_at
    assert (record.raised_sample, record.cleared_sample) == (96_000, 128_000)
    assert record.acknowledged_note == "called back\ufffd"
    assert (record.acknowledged_by, record.assigned_to) == ("anna", "Ms Li")
    assert record.stream_name == "call"
    assert await ids(since=1001.0) == ["b"]


async def test_an_alert_keeps_the_most_of_the_measures_its_rule_asks_for(store: Store):
    raised = replace(make_alert(seq=1), measures={"turns": 4.0, "rate_change": 0.3})
    cleared = replace(
        make_alert(seq=2, state="cleared", at_s=8.0), measures={"turns": 7.0, "rate_change": 0.1}
    )
    await put(store, make_opened(), raised, cleared)
    (record,) = await store.alerts()
    assert record.measures == {"turns": 7.0, "rate_change": 0.3}
    assert await stored(store, kinds=["alert"]) == [raised, cleared]


async def test_the_last_measures_alone(store: Store):
    measures = [
        in_envelope(Measures, make_measures(at_s=5.0 * seq), stream_id="s1", seq=seq)
        for seq in (1, 2, 4)
    ]
    await put(store, make_opened(), *measures, make_point(seq=3), make_point(seq=5))

    async def seqs(**wanted: Any) -> list[int]:
        return [one.seq for one in await stored(store, **wanted)]

    assert await seqs() == [0, 1, 2, 3, 4, 5]
    assert await seqs(last_measures=True) == [0, 3, 4, 5]
    # They are not among the first, and not after themselves.
    assert await seqs(last_measures=True, limit=2) == [0, 3]
    assert await seqs(last_measures=True, after_seq=4) == [5]


async def test_an_alert_whose_raising_was_lost_is_still_known(store: Store):
    await put(store, make_opened(), make_alert(seq=2, state="cleared", at_s=2.0))
    (record,) = await store.alerts()
    assert record.cleared_sample == 32_000
    assert await stored(store, kinds=["alert"]) == [make_alert(seq=2, state="cleared", at_s=2.0)]


async def test_a_deleted_stream_is_gone(open_store: OpenStore):
    deleted: list[str] = []
    store = await open_store(options={"on_deleted": deleted.append})
    await put(store, *WHOLE_STREAM, make_opened("t"), make_point(stream_id="t"))
    assert await store.delete_stream("s1")
    assert await store.results("s1") is None
    assert await store.alerts() == []
    assert not await store.delete_stream("s1")
    assert await stored(store, "t") == [make_opened("t"), make_point(stream_id="t")]
    assert deleted == ["s1"]


async def test_a_live_stream_is_not_deleted(store: Store):
    await put(store, make_opened())
    with pytest.raises(StoreError, match="is live"):
        await store.delete_stream("s1")


async def test_streams_expire(open_store: OpenStore):
    now = 1000.0 * DAY_S
    deleted: list[str] = []
    store = await open_store(
        retention_days=10, options={"now": lambda: now, "on_deleted": deleted.append}
    )
    for name, days in (("old", 11), ("new", 9), ("live", 20)):
        await put(
            store, make_opened(name, opened_at=now - days * DAY_S), make_point(stream_id=name)
        )
        if name != "live":
            await put(store, make_closed(name, closed_at=now - days * DAY_S))
    assert await store.expire() == 1
    assert {record.stream_id for record in await store.list_streams()} == {"new", "live"}
    assert deleted == ["old"]


def events(logs: Sequence[Mapping[str, Any]]) -> set[str]:
    return {line["event"] for line in logs}


async def test_retention_runs_for_ever(tmp_path: Path):
    now = [0.0]
    config = StoreConfig(url=f"sqlite:///{tmp_path}/timelines.db", retention_days=1)
    store = await Store.open(config, now=lambda: now[0])
    with structlog.testing.capture_logs() as logs:
        running = asyncio.ensure_future(store.run_retention(interval_s=0))
        await put(store, make_opened(opened_at=0.0), make_closed(seq=1, closed_at=10.0))
        assert await store.stream("s1") is not None
        now[0] = DAY_S + 11
        while "store_expired_streams" not in events(logs):
            await store.flush()
        assert await store.stream("s1") is None
        await store.close()
        while "store_retention_failed" not in events(logs):
            await asyncio.to_thread(events, logs)
    running.cancel()


async def test_a_team_has_a_retention_of_its_own(open_store: OpenStore):
    now = [1000.0 * DAY_S]
    store = await open_store(
        retention_days=10,
        team_retention_days={"brief": 1.0, "long": 100.0},
        options={"now": lambda: now[0]},
    )
    for team in ("brief", "long", ""):
        opened = make_opened(f"of {team}", opened_at=now[0])
        store.write(msgspec.structs.replace(opened, team=team))
        store.write(make_closed(f"of {team}", closed_at=now[0]))
    await store.flush()
    left = []
    for days in (2, 11, 101):
        now[0] = (1000.0 + days) * DAY_S
        await store.expire()
        left.append({one.stream_id for one in await store.list_streams()})
    assert left == [{"of long", "of "}, {"of long"}, set()]


async def test_streams_are_kept_for_ever_without_retention(open_store: OpenStore):
    store = await open_store(retention_days=0)
    await put(store, make_opened(opened_at=0.0), make_closed(seq=1, closed_at=1.0))
    assert await store.expire() == 0


async def test_long_streams_are_deleted_bit_by_bit(store: Store):
    await put(
        store,
        make_opened(),
        *(make_point(seq=seq) for seq in range(1, 5100)),
        make_closed(seq=5100),
    )
    assert await store.delete_stream("s1")
    assert await store.list_streams() == []


async def test_what_a_dead_server_left_open_is_closed(open_store: OpenStore):
    dead = await open_store()
    await put(dead, make_opened(opened_at=1000.0), make_alert(seq=1), make_point(seq=2, end_s=0.5))
    await put(dead, make_segment(seq=3, end_s=1.5, final=False))
    await dead.close()
    store = await open_store()
    record = await store.stream("s1")
    assert record is not None
    assert (record.reason, record.duration_s, record.closed_at) == ("server_stopped", 1.5, 1001.5)
    results = await stored(store, after_seq=2)
    assert results == [
        make_segment(seq=3, end_s=1.5, final=True),
        make_alert(seq=4, state="cleared", at_s=1.5),
        make_closed(seq=5, reason="server_stopped", closed_at=1001.5),
    ]
    assert await store.alerts(state="raised") == []


async def test_the_streams_of_another_server_are_left_alone(open_store: OpenStore):
    first = await open_store(options={"owner": "a"})
    await put(first, make_opened())
    second = await open_store(options={"owner": "b"})
    assert len(await second.list_streams(live_only=True)) == 1
    await put(first, make_point(seq=1))
    assert len(await stored(second)) == 2


async def test_a_second_server_leaves_the_file_of_the_first_alone(tmp_path: Path):
    """Started twice by mistake, it would take the live streams of the first for abandoned ones."""
    config = StoreConfig(url=f"sqlite:///{tmp_path}/timelines.db")
    first = await Store.open(config)
    await put(first, make_opened())
    with pytest.raises(StoreError, match="a running server writes to the file"):
        await Store.open(config)
    assert len(await first.list_streams(live_only=True)) == 1
    await first.close()
    await (await Store.open(config)).close()


async def test_two_servers_may_open_a_new_database_at_once(open_store: OpenStore):
    stores = await asyncio.gather(
        *(open_store(options={"owner": str(number)}) for number in range(3))
    )
    await put(stores[0], make_opened())
    assert await stored(stores[2]) == [make_opened()]


async def test_results_without_a_stream_are_counted(store: Store):
    await put(store, make_point(stream_id="unknown"), make_opened(), make_point(seq=1))
    assert store.writer.dropped == 1
    assert len(await stored(store)) == 2


async def test_text_of_all_kinds_is_kept(store: Store):
    name = "客户 😀 '; DROP TABLE streams;--"
    await put(store, make_opened(name=name + "\x00"), make_marked())
    (first, *_) = await stored(store)
    assert isinstance(first, StreamOpened)
    assert first.name == name + "\ufffd"


async def test_a_result_the_database_refuses_holds_up_nobody(store: Store):
    # Half of a surrogate pair is no text in any encoding.
    bad = Marked(stream_id="s1", seq=2, name="\ud800", at_sample=0, at_s=0.0)
    with structlog.testing.capture_logs() as logs:
        await put(store, make_opened(), make_point(seq=1), bad, make_point(seq=3))
    assert [result.seq for result in await stored(store)] == [0, 1, 3]
    assert (store.writer.dropped, store.is_ready) == (1, True)
    (line,) = logs
    assert (line["event"], line["kind"]) == ("store_refused_result", "Marked")


async def test_closing_writes_what_waits(open_store: OpenStore):
    store = await open_store(write_interval_ms=10_000)
    for result in WHOLE_STREAM:
        store.write(result)
    await store.close()
    again = await open_store()
    assert await stored(again) == WHOLE_STREAM


async def test_a_closed_store_says_so(open_store: OpenStore):
    store = await open_store()
    await store.close()
    assert not store.is_ready
    store.write(make_opened())
    assert store.writer.dropped == 1
    for call in (store.flush(), store.stream("s1"), store.acknowledge("a"), store.expire()):
        with pytest.raises(StoreUnavailableError, match="closed"):
            await call


async def test_only_the_owner_may_read_the_file(tmp_path: Path):
    path = tmp_path / "new" / "timelines.db"
    store = await Store.open(StoreConfig(url=f"sqlite:///{path}"))
    await put(store, make_opened())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    await store.close()


async def test_a_deleted_stream_makes_the_file_smaller(tmp_path: Path):
    store = await Store.open(StoreConfig(url=f"sqlite:///{tmp_path}/timelines.db"))
    await put(
        store,
        make_opened(),
        *(make_point(seq=seq) for seq in range(1, 5000)),
        make_closed(seq=5000),
    )

    def pages(connection: Connection) -> int:
        return int(connection.execute(text("PRAGMA page_count")).scalar_one())

    before = await store.read(pages)
    await store.delete_stream("s1")
    assert await store.read(pages) < before / 2
    await store.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("x" * 10_000)
    with pytest.raises(StoreError, match="file is not a database"):
        await Store.open(StoreConfig(url=f"sqlite:///{path}"))


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be opened"):
        await Store.open(StoreConfig(url=f"sqlite:///{tmp_path}/file/timelines.db"))


@pytest.mark.needs("postgresql")
async def test_a_database_that_does_not_answer_is_an_error(tmp_path: Path):
    url = f"postgresql://somebody:secret@/x?host={tmp_path}"
    with pytest.raises(StoreUnavailableError, match="cannot be used") as caught:
        await Store.open(StoreConfig(url=url))
    assert "secret" not in str(caught.value)
