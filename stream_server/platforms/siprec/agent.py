"""The side of SIP that is called (RFC 3261): transactions and dialogs, without I/O or a clock.

It answers what needs no decision (``OPTIONS``, ``ACK``, ``BYE``, ``CANCEL``, repetitions) by itself
and says what was decided elsewhere::

    agent.receive(message, peer, now_s)    INVITE ─▶ Offered ─▶ agent.accept(...), agent.refuse(...)
    agent.wake(now_s)                      at agent.due_s: repetitions, waits that are over
    agent.take_events(), agent.take_sends()

Nothing is proxied, registered or authenticated: who may speak with it is decided before
:meth:`UserAgent.receive`. Answers go to the address that a request came from and nowhere else, so
that no ``Via`` can make this server send to a third party.
"""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from stream_server.platforms.siprec.messages import (
    BRANCH_COOKIE,
    Request,
    Response,
    checked,
    encode_request,
    encode_response,
    split_list,
)
from stream_server.wire.errors import ErrorCode, ProtocolError

T1_S = 0.5
"""Estimate of a round trip: the first wait before a repetition (section 17.1.1.1)."""
T2_S = 4.0
"""Longest wait between two repetitions."""
GIVE_UP_S = 64 * T1_S
"""How long is repeated, and how long a finished transaction is remembered: timers H, J and F."""
MAX_TRANSACTIONS = 4096
"""Transactions remembered; where there are more, the oldest is forgotten."""

ALLOWED = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "UPDATE")
# Extensions that a request may require of this side; ``timer`` (RFC 4028) because refreshes are
# answered, and the other side may be left to make them.
_SUPPORTED = ("siprec", "timer")
_ALLOW = ("Allow", ", ".join(ALLOWED))


@dataclass(frozen=True, slots=True)
class Peer:
    """Where messages come from and answers go.

    ``connection`` is the number of a TCP connection; 0: UDP.
    """

    host: str
    port: int
    connection: int = 0
    is_secure: bool = False


@dataclass(slots=True, eq=False)
class Dialog:
    """One call, from its INVITE on (section 12).

    Attributes:
        local, remote: ``To`` and ``From`` of the INVITE, without tags.
        state: ``offered`` until the INVITE is answered, ``accepted`` until that is confirmed.
    """

    peer: Peer
    call_id: str
    local_tag: str
    remote_tag: str
    local: str
    remote: str
    target: str
    routes: tuple[str, ...]
    remote_cseq: int
    invite_cseq: int  # of the latest INVITE, which its ACK has, too
    state: Literal["offered", "accepted", "confirmed", "over"] = "offered"
    local_cseq: int = 0
    offer: Request | None = None  # an INVITE or UPDATE that is not answered yet
    is_leaving: bool = False  # BYE follows the ACK: not before it (section 15)
    unconfirmed: bytes = b""  # the response that the ACK is waited for


@dataclass(frozen=True, slots=True)
class Offered:
    """An INVITE, or in a dialog that runs an INVITE or UPDATE, waits for its answer."""

    dialog: Dialog
    request: Request
    is_new: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """A dialog is over.

    ``bye``: by the other side; ``cancelled``: before it was answered; ``unconfirmed``: no ACK came;
    ``left``: by this side.
    """

    dialog: Dialog
    reason: Literal["bye", "cancelled", "unconfirmed", "left"]


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message was not understood; it is answered where it could be."""

    peer: Peer
    error: ProtocolError


Event = Offered | Ended | Ignored


@dataclass(slots=True, eq=False)
class _Transaction:
    """A request of the other side, and its answer (section 17.2)."""

    request: Request
    peer: Peer
    dialog: Dialog | None = None
    response: bytes = b""
    is_final: bool = False
    is_over: bool = False  # no more repetitions


@dataclass(slots=True, eq=False)
class _Asked:
    """A request of this side, until it is answered (section 17.1.2)."""

    data: bytes
    dialog: Dialog
    is_answered: bool = False


@dataclass(order=True, slots=True)
class _Timer:
    due_s: float
    number: int
    run: Callable[[float], None] = field(compare=False)


class UserAgent:
    """A user agent server for any number of dialogs; ``contact`` makes its ``Contact``."""

    def __init__(self, contact: Callable[[Peer], str], product: str = "emotion-monitor") -> None:
        self._contact = contact
        self._product = product
        self._transactions: dict[tuple[str, str, str], _Transaction] = {}
        self._dialogs: dict[tuple[str, str, str], Dialog] = {}
        self._asked: dict[str, _Asked] = {}  # by branch
        self._timers: list[_Timer] = []
        self._numbers = count()
        self._events: list[Event] = []
        self._sends: list[tuple[Peer, bytes]] = []

    def __len__(self) -> int:
        return len(self._dialogs)

    @property
    def due_s(self) -> float | None:
        """When :meth:`wake` has to be called; None: there is nothing to wait for."""
        return self._timers[0].due_s if self._timers else None

    @property
    def num_asked(self) -> int:
        """How many requests of this side are not answered."""
        return len(self._asked)

    def take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def take_sends(self) -> list[tuple[Peer, bytes]]:
        sends, self._sends = self._sends, []
        return sends

    def wake(self, now_s: float) -> None:
        """Do what is due."""
        while self._timers and self._timers[0].due_s <= now_s:
            heapq.heappop(self._timers).run(now_s)

    # -- what comes -------------------------------------------------------------------------------

    def receive(self, message: Request | Response, peer: Peer, now_s: float) -> None:
        """Take a message of one who may speak with this server."""
        if isinstance(message, Response):
            self._answered(message)
            return
        peer = _answered_at(message, peer)
        try:
            checked(message)
        except ProtocolError as error:
            self._events.append(Ignored(peer, error))
            if message.get("via") and message.method != "ACK":
                self._send(peer, self._response(message, peer, 400, str(error)))
            return
        key = message.transaction
        known = self._transactions.get(key)
        if message.method == "ACK":
            self._confirmed(message, known, now_s)
        elif known is not None:
            if known.response:
                self._send(peer, known.response)
        elif message.method == "CANCEL":
            self._cancel(message, peer, now_s)
        else:
            self._begin(key, message, peer, now_s)

    def _begin(self, key: tuple[str, str, str], request: Request, peer: Peer, now_s: float) -> None:
        transaction = self._remember(key, request, peer, now_s)
        required = request.all("require")
        unsupported = [each for each in required if each.lower() not in _SUPPORTED]
        if request.method not in ALLOWED:
            self._respond(transaction, 405, "Method Not Allowed", now_s, headers=[_ALLOW])
        elif unsupported:
            headers = [("Unsupported", ", ".join(unsupported))]
            self._respond(transaction, 420, "Bad Extension", now_s, headers=headers)
        elif request.tag("to"):
            self._within(transaction, now_s)
        elif request.method == "OPTIONS":
            self._capabilities(transaction, now_s)
        elif request.method == "INVITE":
            self._invited(transaction, now_s)
        else:
            self._respond(transaction, 481, "Call/Transaction Does Not Exist", now_s)

    def _capabilities(self, transaction: _Transaction, now_s: float) -> None:
        headers = [
            ("Contact", f"{self._contact(transaction.peer)};+sip.srs"),
            _ALLOW,
            ("Accept", "application/sdp, application/rs-metadata+xml, multipart/mixed"),
            ("Supported", ", ".join(_SUPPORTED)),
        ]
        self._respond(transaction, 200, "OK", now_s, headers=headers)

    def _invited(self, transaction: _Transaction, now_s: float) -> None:
        request, peer = transaction.request, transaction.peer
        contact, caller = request.get("contact"), (request.get("call-id"), request.tag("from"))
        if any((each.call_id, each.remote_tag) == caller for each in self._dialogs.values()):
            # The same INVITE by another way (section 8.2.2.2).
            self._respond(transaction, 482, "Loop Detected", now_s)
            return
        dialog = Dialog(
            peer=peer,
            call_id=request.get("call-id"),
            local_tag=secrets.token_hex(8),
            remote_tag=request.tag("from"),
            local=request.get("to"),
            remote=request.get("from"),
            target=_uri(contact) or _uri(request.get("from")),
            routes=tuple(request.all("record-route")),
            remote_cseq=request.cseq[0],
            invite_cseq=request.cseq[0],
            offer=request,
        )
        transaction.dialog = dialog
        self._dialogs[_key(dialog)] = dialog
        self._respond(transaction, 100, "Trying", now_s)
        self._events.append(Offered(dialog, request, is_new=True))

    def _within(self, transaction: _Transaction, now_s: float) -> None:
        """Take a request of a dialog (section 12.2.2)."""
        request = transaction.request
        key = request.get("call-id"), request.tag("to"), request.tag("from")
        dialog = self._dialogs.get(key)
        if dialog is None or dialog.state == "over":
            self._respond(transaction, 481, "Call/Transaction Does Not Exist", now_s)
            return
        transaction.dialog = dialog
        if request.cseq[0] <= dialog.remote_cseq:
            self._respond(transaction, 500, "CSeq Out Of Order", now_s)
            return
        dialog.remote_cseq = request.cseq[0]
        match request.method:
            case "BYE":
                self._respond(transaction, 200, "OK", now_s)
                self._over(dialog, "bye", now_s)
            case "OPTIONS":
                self._capabilities(transaction, now_s)
            case "UPDATE" if not request.body:
                # A refresh (RFC 4028, section 9).
                headers = [*self._dialog_headers(dialog), *_refreshed(request)]
                self._respond(transaction, 200, "OK", now_s, headers=headers)
            case "INVITE" | "UPDATE":
                if dialog.offer is not None or dialog.state == "accepted":
                    # One offer at a time (section 14.2).
                    headers = [("Retry-After", "1")]
                    self._respond(transaction, 500, "Offer Pending", now_s, headers=headers)
                    return
                dialog.peer = transaction.peer
                dialog.target = _uri(request.get("contact")) or dialog.target
                dialog.offer = request
                if request.method == "INVITE":
                    dialog.invite_cseq = request.cseq[0]
                self._events.append(Offered(dialog, request, is_new=False))
            case _:
                self._respond(transaction, 405, "Method Not Allowed", now_s, headers=[_ALLOW])

    def _cancel(self, request: Request, peer: Peer, now_s: float) -> None:
        branch, sent_by, _ = request.transaction
        invite = self._transactions.get((branch, sent_by, "INVITE"))
        transaction = self._remember(request.transaction, request, peer, now_s)
        if invite is None:
            self._respond(transaction, 481, "Call/Transaction Does Not Exist", now_s)
            return
        transaction.dialog = invite.dialog
        self._respond(transaction, 200, "OK", now_s)
        # An INVITE that is answered already is not changed by it (section 9.2).
        if not invite.is_final and invite.dialog is not None:
            self._respond(invite, 487, "Request Terminated", now_s)
            invite.dialog.offer = None
            if invite.dialog.state == "offered":
                self._over(invite.dialog, "cancelled", now_s)

    def _confirmed(self, ack: Request, invite: _Transaction | None, now_s: float) -> None:
        if invite is not None:
            invite.is_over = True
        # The ACK of a 2xx is a transaction of its own: the dialog tells (section 13.2.2.4).
        dialog = self._dialogs.get((ack.get("call-id"), ack.tag("to"), ack.tag("from")))
        if dialog is None or ack.cseq[0] != dialog.invite_cseq or dialog.state != "accepted":
            return
        dialog.state, dialog.unconfirmed = "confirmed", b""
        if dialog.is_leaving:
            self._bye(dialog, now_s)

    def _answered(self, response: Response) -> None:
        if response.status < 200:
            return
        _, _, parameters = response.get("via").partition(";")
        for each in parameters.split(";"):
            name, _, value = each.partition("=")
            if name.strip().lower() == "branch" and (asked := self._asked.pop(value.strip(), None)):
                asked.is_answered = True

    # -- what is decided elsewhere ----------------------------------------------------------------

    def accept(self, dialog: Dialog, body: bytes, now_s: float) -> None:
        """Answer what is offered with 200 and a session description; nothing if it is over.

        The description is b"" only for an UPDATE that has none.
        """
        transaction = self._offer_of(dialog)
        if transaction is None:
            return
        headers = [
            *self._dialog_headers(dialog),
            *_refreshed(transaction.request),
            _ALLOW,
            ("Supported", ", ".join(_SUPPORTED)),
            ("Content-Type", "application/sdp" if body else ""),
        ]
        is_invite = transaction.request.method == "INVITE"
        if is_invite:
            dialog.state = "accepted"
        self._respond(transaction, 200, "OK", now_s, headers=headers, body=body)
        if is_invite:
            dialog.unconfirmed = transaction.response
            self._repeat_until_confirmed(dialog, transaction.response, now_s)

    def refuse(
        self,
        dialog: Dialog,
        status: int,
        reason: str,
        now_s: float,
        *,
        warning: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        """Refuse what is offered; a dialog that runs goes on as it was (section 14.2)."""
        transaction = self._offer_of(dialog)
        if transaction is None:
            return
        headers = []
        if warning:
            quoted = warning.replace("\\", " ").replace('"', "'")
            headers.append(("Warning", f'399 {self._product} "{quoted}"'))
        if retry_after_s is not None:
            headers.append(("Retry-After", str(max(1, round(retry_after_s)))))
        self._respond(transaction, status, reason, now_s, headers=headers)
        if dialog.state == "offered":
            dialog.state = "over"
            self._dialogs.pop(_key(dialog), None)

    def leave(self, dialog: Dialog, now_s: float) -> None:
        """End a dialog that was accepted; :class:`Ended` follows at once."""
        if dialog.is_leaving:
            return
        if dialog.state == "accepted":
            dialog.is_leaving = True
            self._events.append(Ended(dialog, "left"))
        elif dialog.state == "confirmed":
            self._events.append(Ended(dialog, "left"))
            self._bye(dialog, now_s)

    def _offer_of(self, dialog: Dialog) -> _Transaction | None:
        """Return the transaction that waits for an answer, and take it as answered."""
        request, dialog.offer = dialog.offer, None
        if request is None or dialog.state == "over":
            return None
        return self._transactions.get(request.transaction)

    def _bye(self, dialog: Dialog, now_s: float) -> None:
        branch = BRANCH_COOKIE + secrets.token_hex(12)
        dialog.local_cseq += 1
        contact = _uri(self._contact(dialog.peer))
        transport = "TLS" if dialog.peer.is_secure else "TCP" if dialog.peer.connection else "UDP"
        sent_by = contact.removeprefix("sip:").partition(";")[0]
        headers = [
            ("Via", f"SIP/2.0/{transport} {sent_by};rport;branch={branch}"),
            ("Max-Forwards", "70"),
            ("From", f"{dialog.local};tag={dialog.local_tag}"),
            ("To", dialog.remote),
            ("Call-ID", dialog.call_id),
            ("CSeq", f"{dialog.local_cseq} BYE"),
            *(("Route", each) for each in dialog.routes),
            ("User-Agent", self._product),
        ]
        asked = _Asked(encode_request("BYE", dialog.target, headers), dialog)
        self._asked[branch] = asked
        self._send(dialog.peer, asked.data)
        self._forget(dialog)

        def give_up(now_s: float) -> None:
            asked.is_answered = True
            self._asked.pop(branch, None)

        def repeat(interval_s: float, now_s: float) -> None:
            if not asked.is_answered:
                self._send(dialog.peer, asked.data)
                following_s = min(2 * interval_s, T2_S)
                self._at(now_s + following_s, lambda now_s: repeat(following_s, now_s))

        self._at(now_s + GIVE_UP_S, give_up)
        if not dialog.peer.connection:
            self._at(now_s + T1_S, lambda now_s: repeat(T1_S, now_s))

    # -- transactions -----------------------------------------------------------------------------

    def _remember(
        self, key: tuple[str, str, str], request: Request, peer: Peer, now_s: float
    ) -> _Transaction:
        if len(self._transactions) >= MAX_TRANSACTIONS:
            # A repetition of it would then be taken for a new request, which its dialog refuses.
            oldest = next(
                (each for each, one in self._transactions.items() if one.is_final),
                next(iter(self._transactions)),
            )
            del self._transactions[oldest]
        transaction = self._transactions[key] = _Transaction(request, peer)

        def forget(now_s: float) -> None:
            if self._transactions.get(key) is not transaction:
                return
            if transaction.is_final:
                del self._transactions[key]
            else:
                self._at(now_s + GIVE_UP_S, forget)

        self._at(now_s + GIVE_UP_S, forget)
        return transaction

    def _respond(
        self,
        transaction: _Transaction,
        status: int,
        reason: str,
        now_s: float,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        request, peer = transaction.request, transaction.peer
        tag = "" if status == 100 else self._tag(transaction)
        transaction.response = self._response(request, peer, status, reason, tag, headers, body)
        transaction.is_final = status >= 200
        self._send(peer, transaction.response)
        # A refusal is repeated until its ACK comes; TCP does that itself (section 17.2.1).
        if request.method == "INVITE" and status >= 300 and not peer.connection:
            self._repeat(transaction, T1_S, now_s, now_s + GIVE_UP_S)

    def _response(
        self,
        request: Request,
        peer: Peer,
        status: int,
        reason: str,
        tag: str = "",
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> bytes:
        return encode_response(
            request,
            status,
            reason,
            tag=tag or secrets.token_hex(8) if status != 100 else "",
            headers=[*headers, ("Server", self._product)],
            body=body,
            received=(peer.host, peer.port),
        )

    def _tag(self, transaction: _Transaction) -> str:
        return transaction.dialog.local_tag if transaction.dialog else ""

    def _dialog_headers(self, dialog: Dialog) -> list[tuple[str, str]]:
        # The routes as they came (section 12.1.1), and what says that this is a recording server.
        routes = [("Record-Route", each) for each in dialog.routes]
        return [*routes, ("Contact", f"{self._contact(dialog.peer)};+sip.srs")]

    def _repeat(
        self, transaction: _Transaction, interval_s: float, now_s: float, until_s: float
    ) -> None:
        def repeat(now_s: float) -> None:
            if not transaction.is_over and now_s < until_s:
                self._send(transaction.peer, transaction.response)
                self._repeat(transaction, min(2 * interval_s, T2_S), now_s, until_s)

        self._at(now_s + interval_s, repeat)

    def _repeat_until_confirmed(self, dialog: Dialog, response: bytes, now_s: float) -> None:
        """Repeat a 200 until its ACK comes; over TCP, too (section 13.3.1.4)."""
        until_s = now_s + GIVE_UP_S

        def repeat(interval_s: float, now_s: float) -> None:
            if dialog.unconfirmed is not response or dialog.state != "accepted":
                return
            if now_s < until_s:
                self._send(dialog.peer, response)
                following_s = min(2 * interval_s, T2_S)
                due_s = min(now_s + following_s, until_s)
                self._at(due_s, lambda now_s: repeat(following_s, now_s))
                return
            if not dialog.is_leaving:
                self._events.append(Ended(dialog, "unconfirmed"))
            self._bye(dialog, now_s)

        self._at(now_s + T1_S, lambda now_s: repeat(T1_S, now_s))

    def _over(self, dialog: Dialog, reason: Literal["bye", "cancelled"], now_s: float) -> None:
        # Who leaves has said so already.
        if not dialog.is_leaving:
            self._events.append(Ended(dialog, reason))
        offer = dialog.offer
        if offer is not None and (waiting := self._transactions.get(offer.transaction)):
            dialog.offer = None
            self._respond(waiting, 487, "Request Terminated", now_s)
        self._forget(dialog)

    def _forget(self, dialog: Dialog) -> None:
        dialog.state, dialog.unconfirmed = "over", b""
        self._dialogs.pop(_key(dialog), None)

    def _send(self, peer: Peer, data: bytes) -> None:
        self._sends.append((peer, data))

    def _at(self, due_s: float, run: Callable[[float], None]) -> None:
        heapq.heappush(self._timers, _Timer(due_s, next(self._numbers), run))


def _answered_at(request: Request, peer: Peer) -> Peer:
    """Return where a request is answered (section 18.2.2; RFC 3581, section 4)."""
    via = request.via
    if peer.connection or via.wants_port or not request.get("via"):
        return peer
    # The port may be another than that it was sent from; the address never.
    return Peer(peer.host, via.port)


def _key(dialog: Dialog) -> tuple[str, str, str]:
    return dialog.call_id, dialog.local_tag, dialog.remote_tag


def _uri(address: str) -> str:
    """Return the URI of a ``Contact``, ``From`` or ``To``; "": there is none."""
    first = (split_list(address) or [""])[0]
    start = first.find("<")
    if start < 0:
        # Without brackets parameters are the header's, not the URI's (section 20.10).
        uri = first.partition(";")[0].strip()
    else:
        uri = first[start + 1 :].partition(">")[0]
    is_uri = uri.lower().startswith(("sip:", "sips:", "tel:")) and " " not in uri
    return uri if is_uri else ""


def _refreshed(request: Request) -> list[tuple[str, str]]:
    """Return the headers that leave the refreshes of the session to the other side (RFC 4028)."""
    interval, _, parameters = request.get("session-expires").partition(";")
    tags = [each.lower() for each in (*request.all("supported"), *request.all("require"))]
    # Who wants this side to make them is told of no interval, so nothing expires (section 9).
    if not interval.strip().isdecimal() or "timer" not in tags or "uas" in parameters.lower():
        return []
    value = f"{interval.strip()[:10]};refresher=uac"
    return [("Session-Expires", value), ("Require", "timer")]


def refused(error: ProtocolError) -> tuple[int, str]:
    """Return the status and reason that say an error in SIP."""
    match error.code:
        case ErrorCode.BAD_MESSAGE:
            return 400, "Bad Request"
        case ErrorCode.BAD_FORMAT | ErrorCode.BAD_START | ErrorCode.NOTHING_TO_ANALYSE:
            return 488, "Not Acceptable Here"
        case ErrorCode.UNAUTHORIZED | ErrorCode.FORBIDDEN | ErrorCode.NO_NOTICE:
            return 403, "Forbidden"
        case ErrorCode.INTERNAL:
            return 500, "Server Internal Error"
        case _:
            return 503, "Service Unavailable"
