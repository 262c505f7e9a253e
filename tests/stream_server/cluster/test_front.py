"""The front and its workers, without processes: what each is told, and what a death leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from stream_server.access import Access, AccessConfig, ListenConfig, Scope, Who
from stream_server.alerts.evaluator import Cooldown
from stream_server.bus import Bus
from stream_server.cluster import Frame, messages
from stream_server.cluster.front import WorkersIngest
from stream_server.cluster.worker import take_access
from stream_server.config import ServerConfig
from stream_server.metrics import Metrics
from stream_server.rights import Halt, Rights
from stream_server.streams.handshakes import Descriptors
from stream_server.streams.ingest import IngestContext
from stream_server.streams.live_streams import LiveStreams
from stream_server.streams.registry import Held, ResumeTokens
from stream_server.wire.messages import ConsentTold, Heartbeat
from stream_server.wire.results import Alert, Gap, Result, Segment, StreamClosed
from tests.support.live_lab import LabEngine
from tests.support.results import make_alert, make_opened, make_segment
from tests.support.virtual_time import virtual_time


class Wire:
    """Stands for the sockets: what workers say goes in, what they are told comes out."""

    def __init__(self) -> None:
        self._said: asyncio.Queue[tuple[bytes, list[bytes]]] = asyncio.Queue()
        self.told: dict[bytes, list[Any]] = {}

    async def receive(self) -> tuple[bytes, list[bytes]]:
        return await self._said.get()

    async def send(self, peer: bytes, frames: Sequence[Frame]) -> None:
        self.told.setdefault(peer, []).append(messages.from_front(bytes(frames[0])))

    def close(self) -> None:
        pass

    def say(self, peer: bytes, *said: messages.FromProcess) -> None:
        for message in said:
            self._said.put_nowait((peer, [messages.encode(message)]))


class Processes:
    """Two workers that nothing runs."""

    port = 4711

    def __init__(self) -> None:
        self.on_ended: Callable[[str], None] = lambda name: None

    async def start(self, on_ended: Callable[[str], None]) -> None:
        self.on_ended = on_ended

    async def wait_failed(self) -> None:
        await asyncio.Event().wait()

    def expect_end(self) -> None:
        pass

    async def wait_ended(self) -> None:
        pass


class Lab:
    """The front, and the results that are on its bus."""

    def __init__(self, config: ServerConfig) -> None:
        self.wire = Wire()
        self.processes = Processes()
        self.bus = Bus()
        self.metrics = Metrics()
        self.rights = Rights(config.rights)
        self.access = Access(config.access, config.listen)
        context = IngestContext(
            config=config,
            engines=LabEngine(),
            access=self.access,
            metrics=self.metrics,
            publish=lambda result: None,
            tokens=ResumeTokens(),
            descriptors=Descriptors(1024),
            recordings=None,
            pass_on=self.bus.publish,
            rights=self.rights,
            live=LiveStreams(self.bus),
        )
        self.front = WorkersIngest(context, host=self.wire, workers=self.processes, num_workers=2)
        self._seen = self.bus.subscribe(name="test", capacity=100)

    def seen(self) -> list[Result]:
        return self._seen.take_waiting()


@asynccontextmanager
async def a_front() -> AsyncIterator[Lab]:
    """A front whose two workers, ``one`` and ``two``, listen."""
    lab = Lab(ServerConfig())
    for name in ("one", "two"):
        lab.wire.say(name.encode(), messages.Joined(name, f"{name} 1"), messages.Listening({}))
    await lab.front.start()
    yield lab
    await settled()
    for name in ("one", "two"):
        lab.wire.say(name.encode(), messages.Left())
    await lab.front.aclose()


async def settled() -> None:
    """Let everything that was said be dealt with, and the time of grace pass."""
    await asyncio.sleep(1)


def a_beat(stream_id: str, received_s: float) -> Heartbeat:
    return Heartbeat(
        stream_id=stream_id,
        received_samples=round(received_s * 16_000),
        received_s=received_s,
        published_s=0.0,
        lag_ms=0.0,
        real_time_factor=0.1,
        effective_step_ms=500.0,
    )


@virtual_time
async def test_a_dead_workers_streams_end_here_and_nothing_is_added_later():
    async with a_front() as lab:
        results = (
            make_opened("s1"),
            make_segment(0, 2, final=True, seq=1),
            make_segment(2, 3, final=False, seq=2),
            make_alert(at_s=2.5, seq=3),
        )
        lab.wire.say(
            b"one",
            messages.Published(results),
            messages.Status(Held(streams=1), (a_beat("s1", 4.5),), None),
        )
        lab.wire.say(b"two", messages.Published((make_opened("s2"),)))
        await settled()
        assert len(lab.seen()) == 5
        beat = lab.front.heartbeat("s1")
        assert beat is not None and beat.received_s == 4.5
        lab.processes.on_ended("one")
        # Sent before it died; it comes within the time of grace.
        lab.wire.say(b"one", messages.Published((make_segment(2, 3.5, final=False, seq=4),)))
        await settled()
        lab.wire.say(b"one", messages.Published((make_segment(2, 9, final=True, seq=5),)))
        await settled()
        # The last interim version is merged into the final one.
        final, gap, cleared, closed = lab.seen()
        assert isinstance(final, Segment) and final.final and final.end_s == 3.5
        assert isinstance(gap, Gap) and gap.final
        assert (gap.reason, gap.start_s, gap.end_s) == ("error", 3.5, 4.5)
        assert isinstance(cleared, Alert) and cleared.state == "cleared"
        assert isinstance(closed, StreamClosed) and closed.reason == "internal"
        assert [one.seq for one in (final, gap, cleared, closed)] == [5, 6, 7, 8]
        assert {one.stream_id for one in (final, gap, cleared, closed)} == {"s1"}
        assert lab.front.heartbeat("s1") is None


@virtual_time
async def test_a_worker_that_is_started_again_takes_the_place_of_the_dead_one():
    async with a_front() as lab:
        lab.wire.say(b"one", messages.Published((make_opened("s1"),)))
        lab.processes.on_ended("one")
        # Within the time of grace.
        lab.wire.say(b"one again", messages.Joined("one", "one 2"), messages.Listening({}))
        lab.wire.say(b"one again", messages.Published((make_opened("s3"),)))
        await settled()
        kinds = [(type(one).__name__, one.stream_id) for one in lab.seen()]
        assert kinds == [
            ("StreamOpened", "s1"),
            ("StreamClosed", "s1"),
            ("StreamOpened", "s3"),
        ]


@virtual_time
async def test_each_worker_knows_what_the_others_hold_and_who_may_come_in():
    async with a_front() as lab:
        held = Held(streams=3, of_token={"shop": 2}, of_address={"10.0.0.7": 3})
        lab.wire.say(b"one", messages.Status(held, None, None))
        await settled()
        assert lab.wire.told[b"two"][-1] == messages.Elsewhere(held)
        # What other servers hold is added for every worker, and is not told as this server's own.
        lab.front.held_elsewhere({"shop": 5})
        await settled()
        assert lab.wire.told[b"two"][-1].held.of_token == {"shop": 7}
        assert lab.wire.told[b"one"][-1].held == Held(of_token={"shop": 5})
        assert lab.front.of_token() == {"shop": 2}
        lab.front.held_elsewhere({})
        token = lab.access.book.issue(Who("machine", "", frozenset((Scope.INGEST,))))
        lab.access.end_given("anna", "", at=5.0)
        await lab.front.end_outdated()
        told = lab.wire.told[b"one"][-1]
        assert isinstance(told, messages.Access)
        assert [own for own, _ in told.access.own] == [token]
        of_worker = Access(AccessConfig(), ListenConfig())
        take_access(of_worker, Rights(), told.access)
        assert of_worker.sessions.ended_elsewhere == lab.access.sessions.ended_elsewhere != {}
        before = len(lab.wire.told[b"one"])
        await lab.front.end_outdated()
        assert len(lab.wire.told[b"one"]) == before
        lab.processes.on_ended("one")
        await settled()
        assert lab.wire.told[b"two"][-1] == messages.Elsewhere(Held())


@virtual_time
async def test_the_worker_of_a_stream_is_told_what_cools_down_in_it():
    async with a_front() as lab:
        lab.wire.say(b"two", messages.Published((make_opened("s2"),)))
        await settled()
        cooldowns = (Cooldown("angry", 0, 16_000),)
        lab.front.cool("s2", cooldowns)
        lab.front.cool("unknown", cooldowns)
        await settled()
        assert lab.wire.told[b"two"][-1] == messages.Cooling("s2", cooldowns)
        assert not any(isinstance(one, messages.Cooling) for one in lab.wire.told[b"one"])


@virtual_time
async def test_the_worker_of_a_continued_stream_is_told():
    async with a_front() as lab:
        lab.wire.say(b"one", messages.Published((make_opened("s1"),)))
        opened = msgspec.structs.replace(make_opened("s2"), continues="s1")
        lab.wire.say(b"two", messages.Published((opened,)))
        await settled()
        assert lab.wire.told[b"one"][-1] == messages.Continued("s1")


@virtual_time
async def test_a_halt_an_objection_and_consent_reach_the_stream():
    async with a_front() as lab:
        lab.wire.say(b"one", messages.Published((make_opened("s1"),)))
        await settled()
        lab.rights.set_halt(Halt(halted=True, at=1.0, by="an overseer"))
        told = ConsentTold(consent="given", source="the agent")
        assert lab.front.tell("s1", told)
        assert not lab.front.tell("s2", told)
        await settled()
        access, consent = lab.wire.told[b"one"][-2:]
        assert isinstance(access, messages.Access) and access.access.halt.halted
        assert consent == messages.Told("s1", told)
        lab.seen()
        objecting = asyncio.create_task(lab.front.object("s1"))
        await settled()
        assert lab.wire.told[b"one"][-1] == messages.Objected("s1")
        # The worker dies over it: the stream ends as objected to all the same, so it is erased.
        lab.processes.on_ended("one")
        assert await objecting
        (closed,) = lab.seen()
        assert isinstance(closed, StreamClosed) and closed.reason == "objected"
        assert not await lab.front.object("s1")
