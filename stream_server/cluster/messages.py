"""What the front process and its workers say to each other; one message an envelope, no arrays.

::

    worker ── Joined ──────────────▶ front      who it is
           ◀─ Welcome ──────────────            keys and who may connect
           ── Listening ───────────▶            its ports are open
           ── Published, Status ───▶            results in order; once a second, how it is doing
           ◀─ Access, Elsewhere ────            who may connect now; what others hold of the limits
           ◀─ Continued ────────────            a stream's client is in another one by now
           ◀─ Told, Objected ───────            what is said of a stream's consent
           ◀─ Cooling ──────────────            alerts in the stream that it continues
           ◀─ Drain ────────────────            stop
           ── Left ────────────────▶            its last result is out
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stream_server.access import Who
from stream_server.access.credentials import Credential
from stream_server.alerts.evaluator import Cooldown
from stream_server.metrics import Family
from stream_server.rights import Halt
from stream_server.streams.registry import Held
from stream_server.wire.messages import ConsentTold, Heartbeat, SpeakerTold
from stream_server.wire.results import Result


class _Message(msgspec.Struct, frozen=True, tag=True):
    """An object with a ``type``."""


class AccessState(msgspec.Struct, frozen=True):
    """Who may connect, and whether anything is analysed: what the front knows.

    Attributes:
        credentials: of the store.
        own: tokens the server made for itself, and whose they are.
        session_key: signs cookies.
        ended: sessions that were ended, by id, and until when their cookies would be valid.
        ended_elsewhere: sessions that a provider ended; see ``Sessions``.
        halt: whether all analysis is halted.
        person_key: for hashes of metadata; None: there is no store.
    """

    credentials: tuple[Credential, ...]
    own: tuple[tuple[str, Who], ...]
    session_key: bytes
    ended: dict[str, float]
    ended_elsewhere: dict[str, float]
    halt: Halt
    person_key: bytes | None


class Joined(_Message, frozen=True, tag=True):
    """A process is up. Its first message.

    Attributes:
        name: ``worker-0``, ``engine``; the same after a restart.
        run: tells two runs of the same name apart.
    """

    name: str
    run: str


class Listening(_Message, frozen=True, tag=True):
    """A worker's ports are open.

    Attributes:
        ports: of the platforms' own listeners, by their names.
    """

    ports: dict[str, int]


class Published(_Message, frozen=True, tag=True):
    """Results, in the order they were published.

    Attributes:
        traces: which of them, by index, come of windows that are traced, and their
            ``traceparent``.
    """

    results: tuple[Result, ...]
    traces: tuple[tuple[int, str], ...] = ()


class Status(_Message, frozen=True, tag=True):
    """How a process is doing.

    Attributes:
        held: its streams, as the limits count them; None: it has none ever.
        heartbeats: of its streams.
        families: its metrics. Of both, None: they are sent once a second only.
    """

    held: Held | None
    heartbeats: tuple[Heartbeat, ...] | None
    families: tuple[Family, ...] | None


class Left(_Message, frozen=True, tag=True):
    """All is published; the process ends."""


class Welcome(_Message, frozen=True, tag=True):
    """What a worker needs to know before it listens."""

    resume_key: bytes
    access: AccessState


class Access(_Message, frozen=True, tag=True):
    """Who may connect from now on."""

    access: AccessState


class Elsewhere(_Message, frozen=True, tag=True):
    """What the other workers hold."""

    held: Held


class Continued(_Message, frozen=True, tag=True):
    """A stream that waits for its client waits in vain: it is in another one."""

    stream_id: str


class Told(_Message, frozen=True, tag=True):
    """Consent or notice of a stream."""

    stream_id: str
    told: ConsentTold | SpeakerTold


class Cooling(_Message, frozen=True, tag=True):
    """Alerts that cool down since the stream that this one continues."""

    stream_id: str
    cooldowns: tuple[Cooldown, ...]


class Objected(_Message, frozen=True, tag=True):
    """Somebody in a stream objects: it ends."""

    stream_id: str


class Drain(_Message, frozen=True, tag=True):
    """End every stream, and then the process."""


FromProcess = Joined | Listening | Published | Status | Left
FromFront = Welcome | Access | Elsewhere | Continued | Told | Cooling | Objected | Drain

encode = msgspec.msgpack.Encoder().encode
from_process: Callable[[bytes], FromProcess] = msgspec.msgpack.Decoder(FromProcess).decode
from_front: Callable[[bytes], FromFront] = msgspec.msgpack.Decoder(FromFront).decode
