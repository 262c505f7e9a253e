"""Client and server joined back to back, with connections that break anywhere."""

from __future__ import annotations

import array

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stream_server.wire.messages import Ready, ServerMessage
from stream_server.wire.native_client import ClientState, NativeClient
from stream_server.wire.results import Marked, Point
from tests.support.protocol_lab import SPEC, ModelServer


class BrokenConnections(RuleBasedStateMachine):
    """Nothing is lost or doubled while the client keeps all that the server may not have."""

    max_kept_bytes = 1 << 20

    def __init__(self) -> None:
        super().__init__()
        self.client = NativeClient(SPEC, max_kept_bytes=self.max_kept_bytes)
        self.server = ModelServer()
        self.said: list[int | str] = []
        self.marks: list[tuple[str, int]] = []
        self.next_value = 0
        self.got: list[ServerMessage] = []
        self.uplink: list[str | bytes] = []
        self.downlink: list[str | bytes] = []
        self.is_connected = False
        self.is_paused = False

    @rule(num_samples=st.integers(0, 9), split=st.integers(0, 18))
    def say_audio(self, num_samples: int, split: int) -> None:
        if self.is_paused:
            return
        values = [(self.next_value + index) % 30_000 for index in range(num_samples)]
        self.next_value += num_samples
        self.said += values
        data = array.array("h", values).tobytes()
        self.client.send_audio(data[:split])
        self.client.send_audio(data[split:])

    @rule(num_samples=st.integers(1, 5))
    def discard(self, num_samples: int) -> None:
        if not self.is_paused:
            self.client.discard(num_samples)
            self.said += ["discarded"] * num_samples

    @rule(num_samples=st.integers(0, 5))
    def pause_or_resume(self, num_samples: int) -> None:
        if self.is_paused:
            self.client.resume(num_samples)
            self.said += ["paused"] * num_samples
        else:
            self.client.pause()
        self.is_paused = not self.is_paused

    @rule()
    def mark(self) -> None:
        self.marks.append((f"m{len(self.marks)}", len(self.said)))
        self.client.mark(self.marks[-1][0])

    @precondition(lambda self: not self.is_connected)
    @rule()
    def connect(self) -> None:
        self.is_connected = True
        self.downlink = self.server.connect(self.client.connect())

    @precondition(lambda self: self.is_connected)
    @rule()
    def write(self) -> None:
        self.uplink += self.client.take_outgoing()

    @precondition(lambda self: self.is_connected)
    @rule(count=st.integers(1, 5))
    def server_reads(self, count: int) -> None:
        self.server.receive(self.uplink[:count])
        del self.uplink[:count]
        self.downlink += self.server.take_results()

    @precondition(lambda self: self.is_connected)
    @rule(count=st.integers(1, 5))
    def client_reads(self, count: int) -> None:
        for message in self.downlink[:count]:
            self.got += self.client.receive(message)
        del self.downlink[:count]

    @precondition(lambda self: self.is_connected)
    @rule()
    def heartbeat(self) -> None:
        self.downlink += self.server.heartbeat()

    @precondition(lambda self: self.is_connected)
    @rule()
    def disconnect(self) -> None:
        assert self.client.closed(None)
        self.is_connected = False
        self.uplink.clear()
        self.downlink.clear()

    @precondition(lambda self: not self.is_connected and self.server.streams)
    @rule()
    def server_gives_the_stream_up(self) -> None:
        self.server.give_up_stream()

    def settle(self) -> None:
        if not self.is_connected:
            self.connect()
        self.client_reads(len(self.downlink))
        self.write()
        self.server_reads(len(self.uplink))
        self.client_reads(len(self.downlink))

    def said_in_this_stream(self) -> list[int | str]:
        return self.said[self.client._stream.start_sample :]

    @invariant()
    def the_server_has_a_beginning_of_what_was_said(self) -> None:
        if self.client.state is ClientState.STREAMING:
            assert_beginning(self.server.stream.timeline, self.said_in_this_stream(), self.gaps)

    def teardown(self) -> None:
        self.settle()
        stream = self.server.stream
        start = self.client._stream.start_sample
        assert self.client._log.end_sample == len(self.said)
        assert len(stream.timeline) == len(self.said_in_this_stream())
        assert_beginning(stream.timeline, self.said_in_this_stream(), self.gaps)
        assert stream.paused == self.is_paused
        marks = [(name, position + start) for name, position in stream.marks]
        assert len(set(marks)) == len(marks)
        assert set(marks) <= set(self.marks)
        self.check_marks()
        begin = max(
            index
            for index, message in enumerate(self.got)
            if isinstance(message, Ready) and not message.resumed
        )
        seqs = [result.seq for result in self.got[begin:] if isinstance(result, Point | Marked)]
        assert seqs == list(range(len(stream.results)))

    gaps: tuple[str, ...] = ()

    def check_marks(self) -> None:
        reached = {name for stream in self.server.streams for name, _ in stream.marks}
        assert reached == {name for name, _ in self.marks}


class SmallBuffer(BrokenConnections):
    """What is dropped is a gap of its length; everything else stays at its position."""

    max_kept_bytes = 1600
    gaps = ("discarded", "lost", "paused")

    def check_marks(self) -> None:
        """Marks are dropped with the audio around them."""


def assert_beginning(had: list[int | str], said: list[int | str], gaps: tuple[str, ...]) -> None:
    assert len(had) <= len(said)
    for got, expected in zip(had, said, strict=False):
        assert got == expected or got in gaps


BrokenConnections.TestCase.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None
)
SmallBuffer.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestBrokenConnections = BrokenConnections.TestCase
TestSmallBuffer = SmallBuffer.TestCase
