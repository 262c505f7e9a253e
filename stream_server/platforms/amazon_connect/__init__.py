"""Amazon Connect: calls whose audio lies in a Kinesis video stream, from where it is read.

Nothing connects to this server with audio. A function of the contact flow announces a contact by
HTTP, and the server asks Kinesis Video Streams for it, with boto3.

Amazon Connect uses a video stream for one contact after another. A tag of every fragment says whose
it is, often only behind the audio, so a fragment's audio is held until its contact is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from ser_engine.config import Range, check_fields
from stream_server.platforms.amazon_connect.matroska import (
    Begin,
    Block,
    MatroskaReader,
    Tag,
    TrackEntry,
)
from stream_server.platforms.media_stream import call_spec, roles_of
from stream_server.platforms.platform import Platform, TelephonySettings
from stream_server.tracks import TrackAligner
from stream_server.tracks.track import TrackStats
from stream_server.wire.audio_format import AudioFormat, Linear16
from stream_server.wire.dialect import AudioData, bad_message
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.start import StreamSpec

RATE_HZ = 8000
"""Of every contact (Administrator Guide, "Plan for live media streaming")."""

_SAMPLE_NS = 1_000_000_000 // RATE_HZ
_FROM_CUSTOMER = ("AUDIO_FROM_CUSTOMER", "Track_audio/L16")
"""The track of what the customer says; the second name is that of streams with this track only."""
_TO_CUSTOMER = "AUDIO_TO_CUSTOMER"
_ARN = re.compile(r"arn:aws[a-z-]*:kinesisvideo:([a-z]{2}(?:-[a-z0-9]+)+):\d+:stream/[\w.-]+/\d+")
_FRAGMENT = re.compile(r"\d{1,128}")
_RATE = re.compile(r"audio/L16;\s*rate=(\d+)", re.IGNORECASE)
_MAX_HELD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class AmazonConnectConfig:
    """Contacts of Amazon Connect, read from Kinesis Video Streams."""

    port: Annotated[int, Range(-1, 65_535)] = -1
    """TCP port for HTTP, where a Lambda function announces contacts. -1: none; 0: any free one."""
    end_after_s: Annotated[float, Range(1, 300)] = 15.0
    """Time without audio of a contact after which its stream ends."""

    def __post_init__(self) -> None:
        check_fields(self, "telephony.amazon_connect")


@dataclass(frozen=True)
class AmazonConnectSettings(TelephonySettings):
    """Settings of Amazon Connect."""

    amazon_connect: AmazonConnectConfig = field(default_factory=AmazonConnectConfig)


# The names are Amazon's; what a contact lacks is null.
class _Audio(msgspec.Struct):
    StreamARN: str | None = None
    StartFragmentNumber: str | None = None


class _Customer(msgspec.Struct):
    Audio: _Audio | None = None


class _MediaStreams(msgspec.Struct):
    Customer: _Customer | None = None


class _Queue(msgspec.Struct):
    Name: str | None = None


class _ContactData(msgspec.Struct):
    ContactId: str
    MediaStreams: _MediaStreams | None = None
    Queue: _Queue | None = None


class _Details(msgspec.Struct):
    ContactData: _ContactData
    Parameters: dict[str, str] | None = None


class _Event(msgspec.Struct):
    Details: _Details


_decoder = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the event of a Lambda function says of a contact.

    Attributes:
        arn: of the video stream with its audio.
        after: number of the fragment that its audio begins after; "": what comes from now on.
        parameters: of the function, in the flow: ``roles`` and ``team``.
    """

    contact_id: str
    arn: str
    region: str
    after: str
    queue: str
    parameters: dict[str, str]

    @classmethod
    def of(cls, body: bytes) -> Announcement:
        """Return what an event says. Raises ProtocolError: BAD_MESSAGE or BAD_START."""
        try:
            details = _decoder.decode(body).Details
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise bad_message(f"got no event of a Lambda function: {error}") from None
        contact = details.ContactData
        customer = contact.MediaStreams and contact.MediaStreams.Customer
        audio = (customer and customer.Audio) or _Audio()
        arn, after = audio.StreamARN or "", audio.StartFragmentNumber or ""
        if not re.fullmatch(r"[\w-]{1,128}", contact.ContactId):
            raise _bad(f"ContactId {shown(contact.ContactId)}", "the id of a contact")
        if (found := _ARN.fullmatch(arn)) is None:
            raise _bad(
                f"StreamARN {shown(arn)}",
                "that of a Kinesis video stream; the flow has to start media streaming before it"
                " calls the function",
            )
        if after and not _FRAGMENT.fullmatch(after):
            raise _bad(f"StartFragmentNumber {shown(after)}", "a number")
        return cls(
            contact_id=contact.ContactId,
            arn=arn,
            region=found[1],
            after=after,
            queue=(contact.Queue and contact.Queue.Name) or "",
            parameters=details.Parameters or {},
        )

    def spec(self, default_roles: Sequence[str], num_channels: int) -> StreamSpec:
        """Return the stream of the contact: what the customer says, and perhaps hears."""
        return call_spec(
            AudioFormat("pcm_s16le", RATE_HZ, num_channels),
            roles_of(self.parameters, default_roles)[:num_channels],
            call_id=self.contact_id,
            details={"platform": "amazon-connect", "queue": self.queue},
        )


def _bad(got: str, expected: str) -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_START, f"got {got}, expected {expected}")


class ContactAudio:
    """Reads the audio of one contact from the responses of ``GetMedia``.

    Attributes:
        num_channels: 0 until the tracks are known.
        token: of the last whole fragment, to go on after it; "": there was none.
        error_code: what Kinesis says went wrong on its side; "": nothing.
        is_over: audio of another contact came.
    """

    def __init__(self, announced: Announcement, *, max_jitter_ms: int) -> None:
        self.token = ""
        self.num_channels = 0
        self.error_code = ""
        self.is_over = False
        self._contact_id = announced.contact_id
        self._max_jitter_ms = max_jitter_ms
        self._reader = MatroskaReader()
        self._tracks: dict[int, int] = {}  # channel, by the number of the track
        self._is_ours = False  # whether the fragment is known to be of the contact
        self._held: list[Block] = []
        self._held_bytes = 0
        self._orders: list[Linear16] = []
        self._aligner: TrackAligner | None = None

    @property
    def stats(self) -> TrackStats:
        return TrackStats(()) if self._aligner is None else self._aligner.stats

    def begin_response(self) -> None:
        """Forget what of a fragment came before: another response begins."""
        self._reader = MatroskaReader()
        self._held.clear()
        self._held_bytes = 0

    def receive(self, data: bytes) -> list[AudioData]:
        """Take bytes of a response; return the audio that is complete.

        Raises:
            ProtocolError: BAD_FORMAT: they cannot be read, or are no audio of Amazon Connect.
        """
        pieces: list[AudioData] = []
        for element in self._reader.receive(data):
            if self.is_over:
                break
            match element:
                case Begin():
                    pieces += self._settle()
                    self._is_ours = False
                case TrackEntry():
                    self._declare(element)
                case Tag():
                    pieces += self._tag(element)
                case Block() if self._is_ours:
                    pieces += self._put(element)
                case Block():
                    self._held.append(element)
                    self._held_bytes += len(element.data)
                    if self._held_bytes > _MAX_HELD_BYTES:
                        pieces += self._settle()
        return pieces

    def flush(self) -> list[AudioData]:
        """Return what is held, at the end."""
        pieces = [] if self.is_over else self._settle()
        return pieces + ([] if self._aligner is None else self._aligner.flush())

    def _declare(self, track: TrackEntry) -> None:
        if track.name in _FROM_CUSTOMER:
            self._tracks[track.number] = 0
        elif track.name == _TO_CUSTOMER:
            self._tracks[track.number] = 1
        if self._aligner is None and track.number in self._tracks:
            # What is only heard has a channel for what is said, too: channels have fixed sides.
            self.num_channels = 1 + max(self._tracks.values())

    def _tag(self, tag: Tag) -> list[AudioData]:
        match tag.name:
            case "ContactId" if tag.text == self._contact_id:
                self._is_ours = True
                return self._settle()
            case "ContactId":
                # The video stream has gone on to another contact, whose audio nobody asked for.
                self.is_over = True
                self._held.clear()
            case "AWS_KINESISVIDEO_CONTINUATION_TOKEN":
                # The last tag of a fragment; one without a contact is of the contact before.
                self.token = tag.text
                return self._settle()
            case "AWS_KINESISVIDEO_ERROR_CODE":
                self.error_code = tag.text[:32]
            case "MimeType":
                rate = _RATE.match(tag.text)
                if rate is not None and int(rate[1]) != RATE_HZ:
                    raise ProtocolError(
                        ErrorCode.BAD_FORMAT,
                        f"got audio of {rate[1]} Hz, expected {RATE_HZ} Hz of Amazon Connect",
                    )
        return []

    def _settle(self) -> list[AudioData]:
        held, self._held, self._held_bytes = self._held, [], 0
        return [piece for block in held for piece in self._put(block)]

    def _put(self, block: Block) -> list[AudioData]:
        channel = self._tracks.get(block.track)
        if channel is None:
            return []
        if self._aligner is None:
            audio_format = AudioFormat("pcm_s16le", RATE_HZ, self.num_channels)
            self._aligner = TrackAligner(audio_format, max_jitter_ms=self._max_jitter_ms)
            # L16 is big-endian by its name and little-endian in all that was seen.
            self._orders = [Linear16("little") for _ in range(self.num_channels)]
        if channel >= self.num_channels:
            return []
        whole = block.data[: len(block.data) // 2 * 2]
        samples = self._orders[channel].decode(whole)
        return self._aligner.put(channel, samples, at_tick=block.at_ns // _SAMPLE_NS)


PLATFORM = Platform({}, AmazonConnectSettings, has_ports=True)
