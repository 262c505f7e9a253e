"""Transactions and dialogs, on a clock of the test's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.platforms.siprec import agent as agent_module
from stream_server.platforms.siprec.agent import (
    GIVE_UP_S,
    Dialog,
    Ended,
    Ignored,
    Offered,
    Peer,
    UserAgent,
)
from stream_server.platforms.siprec.messages import Request, Response, parse_message
from tests.support.siprec_lab import invite, request

PEER = Peer("10.0.0.9", 5070)


class Wire:
    """An agent and its only peer."""

    def __init__(self, peer: Peer = PEER) -> None:
        self.agent = UserAgent(lambda peer: "<sip:10.0.0.1:5060>")
        self.peer = peer
        self.now_s = 100.0
        self.events: list[object] = []

    def send(self, data: bytes) -> list[str]:
        """Send a message; return the first lines of what comes back."""
        message = parse_message(data)
        self.agent.receive(message, self.peer, self.now_s)
        return self.firsts()

    def answers(self) -> list[Request | Response]:
        self.events += self.agent.take_events()
        return [parse_message(data) for peer, data in self.agent.take_sends()]

    def firsts(self) -> list[str]:
        return [
            str(each.status) if isinstance(each, Response) else each.method
            for each in self.answers()
        ]

    def wait(self, seconds: float) -> list[str]:
        """Let time pass; return what is sent meanwhile."""
        until_s, sent = self.now_s + seconds, []
        while (due_s := self.agent.due_s) is not None and due_s <= until_s:
            self.now_s = due_s
            self.agent.wake(due_s)
            sent += self.firsts()
        self.now_s = until_s
        return sent

    def accepted(self) -> str:
        """Begin a call; return the tag of the agent."""
        assert self.send(invite()) == ["100"]
        (offered,) = self.events
        assert isinstance(offered, Offered)
        self.events.clear()
        self.dialog = offered.dialog
        self.agent.accept(self.dialog, b"v=0\r\n", self.now_s)
        (answer,) = self.answers()
        assert answer.body == b"v=0\r\n"
        assert answer.get("contact") == "<sip:10.0.0.1:5060>;+sip.srs"
        return answer.tag("to")

    def confirmed(self) -> str:
        tag = self.accepted()
        assert self.send(request("ACK", to_tag=tag, branch="ack")) == []
        return tag


def test_a_call_from_invite_to_bye():
    wire = Wire()
    tag = wire.confirmed()
    assert wire.wait(60) == []
    bye = request("BYE", cseq=2, branch="2", to_tag=tag)
    assert wire.send(bye) == ["200"]
    assert wire.events == [Ended(wire.dialog, "bye")]
    assert len(wire.agent) == 0
    # Its repetition gets the same answer, as long as it may come; then there is no such call.
    assert wire.send(bye) == ["200"]
    wire.wait(GIVE_UP_S + 1)
    assert wire.send(bye) == ["481"]
    assert wire.events == [Ended(wire.dialog, "bye")]
    wire.wait(2 * GIVE_UP_S)
    assert wire.agent.due_s is None


def test_the_answer_is_repeated_until_it_is_confirmed():
    wire = Wire()
    tag = wire.accepted()
    assert wire.wait(4) == ["200"] * 3  # after 0.5, 1.5 and 3.5 s
    assert wire.send(invite()) == ["200"]
    wire.send(request("ACK", to_tag=tag, branch="ack"))
    assert wire.wait(GIVE_UP_S) == []
    assert wire.events == []


@pytest.mark.parametrize("peer", [PEER, Peer("10.0.0.9", 5070, connection=1)])
def test_a_call_that_is_never_confirmed_ends_with_a_bye(peer: Peer):
    wire = Wire(peer)
    wire.accepted()
    sent = wire.wait(GIVE_UP_S)
    assert sent[-1] == "BYE" and set(sent[:-1]) == {"200"}
    assert wire.events == [Ended(wire.dialog, "unconfirmed")]
    assert set(wire.wait(100)) <= {"BYE"}
    assert wire.agent.num_asked == 0


def test_a_refusal_is_repeated_until_it_is_confirmed():
    wire = Wire()
    wire.send(invite())
    (offered,) = wire.events
    assert isinstance(offered, Offered)
    wire.agent.refuse(
        offered.dialog, 503, "Service Unavailable", 100.0, warning='it "is" full', retry_after_s=5.2
    )
    (answer,) = wire.answers()
    assert isinstance(answer, Response)
    assert (answer.status, answer.get("retry-after")) == (503, "5")
    assert answer.get("warning") == "399 emotion-monitor \"it 'is' full\""
    assert wire.wait(1) == ["503"]
    assert wire.send(request("ACK", to_tag=answer.tag("to"))) == []
    assert wire.wait(GIVE_UP_S) == []
    assert len(wire.agent) == 0


def test_a_cancel_ends_what_is_not_answered_and_nothing_else():
    wire = Wire()
    wire.send(invite())
    assert wire.send(request("CANCEL")) == ["200", "487"]
    (offered, ended) = wire.events
    assert isinstance(offered, Offered)
    assert ended == Ended(offered.dialog, "cancelled")
    # Who was about to accept it comes too late.
    wire.agent.accept(offered.dialog, b"v=0", wire.now_s)
    assert wire.answers() == []
    other = Wire()
    other.accepted()
    assert other.send(request("CANCEL")) == ["200"]
    assert other.events == []
    assert other.send(request("CANCEL", branch="unknown")) == ["481"]


def test_offers_within_a_call():
    wire = Wire()
    tag = wire.confirmed()
    again = invite(cseq=2, branch="2", to_tag=tag)
    assert wire.send(again) == []
    (offered,) = wire.events
    assert offered == Offered(wire.dialog, wire.dialog.offer, is_new=False)  # type: ignore[arg-type]
    # One at a time, and in order.
    for cseq, branch in ((3, "3"), (2, "4")):
        assert wire.send(invite(cseq=cseq, branch=branch, to_tag=tag)) == ["500"]
        wire.send(request("ACK", cseq=cseq, branch=branch, to_tag=tag))
    wire.agent.refuse(wire.dialog, 488, "Not Acceptable Here", wire.now_s)
    assert wire.firsts() == ["488"]
    wire.send(request("ACK", cseq=2, branch="2", to_tag=tag))
    # The call goes on, and a refresh without a description needs no decision.
    assert wire.send(request("UPDATE", cseq=4, branch="5", to_tag=tag)) == ["200"]
    assert wire.send(request("UPDATE", cseq=5, branch="6", to_tag=tag, body=b"v=0")) == []
    wire.agent.accept(wire.dialog, b"", wire.now_s)
    assert wire.firsts() == ["200"]
    assert wire.wait(GIVE_UP_S) == []
    assert len(wire.agent) == 1


def test_refreshes_of_the_session_are_left_to_the_other_side():
    wire = Wire()
    timer = [b"Supported: 100rel, timer\r\n", b"x: 1800;refresher=uac\r\nMax-"]
    wire.send(invite().replace(b"Max-", b"".join(timer)))
    (offered,) = wire.events
    assert isinstance(offered, Offered)
    wire.agent.accept(offered.dialog, b"v=0", wire.now_s)
    (answer,) = wire.answers()
    assert answer.get("session-expires") == "1800;refresher=uac"
    assert answer.get("require") == "timer"


def test_this_side_ends_a_call_only_when_it_is_confirmed():
    wire = Wire()
    tag = wire.accepted()
    wire.agent.leave(wire.dialog, wire.now_s)
    assert wire.firsts() == []
    assert wire.events == [Ended(wire.dialog, "left")]
    assert wire.send(request("ACK", to_tag=tag, branch="ack")) == ["BYE"]
    assert wire.wait(1) == ["BYE"]


def test_a_bye_of_this_side_is_a_request_of_the_dialog_and_ends_with_its_answer():
    wire = Wire()
    wire.send(invite().replace(b"Max-", b"Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\nMax-"))
    (offered,) = wire.events
    assert isinstance(offered, Offered)
    wire.agent.accept(offered.dialog, b"v=0", wire.now_s)
    (answer,) = (each for each in wire.answers() if each.body)
    assert answer.all("record-route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    wire.send(request("ACK", to_tag=answer.tag("to"), branch="ack"))
    wire.agent.leave(offered.dialog, wire.now_s)
    ((peer, data),) = wire.agent.take_sends()
    bye = parse_message(data)
    assert isinstance(bye, Request)
    assert (peer, bye.method, bye.uri) == (PEER, "BYE", "sip:src@127.0.0.1:5070")
    assert bye.all("route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert (bye.tag("from"), bye.tag("to")) == (answer.tag("to"), answer.tag("from"))
    wire.send(b"SIP/2.0 200 OK\r\nVia: " + bye.get("via").encode() + b"\r\nCSeq: 1 BYE\r\n\r\n")
    assert wire.wait(10) == []
    assert wire.agent.num_asked == 0


def test_what_cannot_be_served_is_answered():
    wire = Wire()
    assert wire.send(request("OPTIONS")) == ["200"]
    assert wire.send(request("REGISTER", branch="2")) == ["405"]
    assert wire.send(request("BYE", branch="3")) == ["481"]
    assert wire.send(request("INVITE", branch="4", headers=["Require: 100rel"])) == ["420"]
    assert wire.send(request("ACK", branch="5")) == []
    assert wire.events == []
    assert wire.send(request("OPTIONS", branch="6").replace(b"From: ", b"X: ")) == ["400"]
    (ignored,) = wire.events
    assert isinstance(ignored, Ignored)
    wire.events.clear()
    # The same INVITE by another way is no second call.
    wire.accepted()
    assert wire.send(invite(branch="7")) == ["482"]


@pytest.mark.parametrize(
    ("sent_by", "port"), [("a:53", 53), ("a", 5060), ("[::1]", 5060), ("a:99999", 5060)]
)
def test_an_answer_never_goes_to_another_address(sent_by: str, port: int):
    wire = Wire()
    spoofed = request("OPTIONS").replace(
        b"127.0.0.1:5070;branch=z9hG4bK1;rport",
        sent_by.encode() + b";branch=z9hG4bK1;received=192.0.2.1",
    )
    wire.agent.receive(parse_message(spoofed), PEER, 0.0)
    ((peer, data),) = wire.agent.take_sends()
    # Without rport the port of the Via counts (RFC 3261, section 18.2.2).
    assert peer == Peer("10.0.0.9", port)
    assert b"received=10.0.0.9" in data and b"192.0.2.1" not in data


def test_transactions_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agent_module, "MAX_TRANSACTIONS", 20)
    wire = Wire()
    wire.send(invite())
    for number in range(100):
        wire.send(request("OPTIONS", branch=f"o{number}", call_id=str(number)))
    assert len(wire.agent._transactions) == 20
    # The call that waits for its answer is not forgotten for them.
    (offered,) = wire.events
    assert isinstance(offered, Offered)
    wire.agent.accept(offered.dialog, b"v=0", wire.now_s)
    assert wire.firsts() == ["200"]


METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "UPDATE", "FOO")
STEPS = st.one_of(
    st.tuples(st.sampled_from(METHODS), st.integers(1, 4), st.integers(1, 3), st.booleans()),
    st.sampled_from(["accept", "refuse", "leave"]),
    st.floats(0.1, 40),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_whatever_comes_every_call_ends_once_and_all_is_forgotten(steps: list[object]):
    wire = Wire()
    tag = ""
    dialogs: list[Dialog] = []
    for step in steps:
        match step:
            case (str(method), int(cseq), int(branch), bool(is_within)):
                within = tag if is_within else ""
                wire.send(
                    request(method, cseq=cseq, branch=str(branch), to_tag=within, body=b"v=0")
                )
            case float(seconds):
                wire.wait(seconds)
            case decision:
                for dialog in dialogs[-1:]:
                    if decision == "accept":
                        wire.agent.accept(dialog, b"v=0", wire.now_s)
                    elif decision == "refuse":
                        wire.agent.refuse(dialog, 488, "No", wire.now_s)
                    else:
                        wire.agent.leave(dialog, wire.now_s)
        wire.firsts()
        dialogs = [each.dialog for each in wire.events if isinstance(each, Offered)]
        tag = dialogs[-1].local_tag if dialogs else ""
    ended = [each.dialog for each in wire.events if isinstance(each, Ended)]
    assert len(ended) == len(set(map(id, ended)))
    for dialog in dialogs:
        wire.agent.accept(dialog, b"v=0", wire.now_s)
        wire.send(request("ACK", cseq=dialog.invite_cseq, branch="last", to_tag=dialog.local_tag))
        wire.agent.leave(dialog, wire.now_s)
    wire.wait(5 * GIVE_UP_S)
    assert len(wire.agent) == 0
    assert wire.agent.due_s is None
    assert wire.agent.num_asked == 0
