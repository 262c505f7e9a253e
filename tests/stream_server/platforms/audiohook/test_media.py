from __future__ import annotations

import pytest

from stream_server.platforms.audiohook.dialect import channels_of, choose_media, format_of
from stream_server.platforms.audiohook.messages import MediaOffer
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.errors import ErrorCode, ProtocolError


def offer(*channels: str, form: str = "PCMU", rate: int = 8000, kind: str = "audio") -> MediaOffer:
    return MediaOffer(type=kind, format=form, channels=channels, rate=rate)


BOTH = offer("external", "internal")
INVERTED = offer("internal", "external")
EXTERNAL = offer("external")
INTERNAL = offer("internal")
LINEAR = offer("external", "internal", form="L16")
UNKNOWN = (offer("external", form="OPUS"), offer("external", kind="video"), offer("left", "right"))


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ([BOTH, EXTERNAL, INTERNAL], BOTH),
        ([INTERNAL, EXTERNAL, BOTH], BOTH),
        ([INTERNAL, EXTERNAL], EXTERNAL),
        ([INTERNAL], INTERNAL),
        ([INVERTED, EXTERNAL], INVERTED),
        ([LINEAR, BOTH], BOTH),
        ([LINEAR, EXTERNAL], LINEAR),
        ([*UNKNOWN, EXTERNAL], EXTERNAL),
    ],
)
def test_the_best_of_what_is_offered_is_taken(offers: list[MediaOffer], expected: MediaOffer):
    assert choose_media(offers) is expected


@pytest.mark.parametrize(
    "offers",
    [
        [],
        list(UNKNOWN),
        [offer()],
        [offer("external", "external")],
        [offer("external", rate=0)],
        [offer("external", rate=1 << 70)],
    ],
)
def test_media_that_is_not_known_is_refused(offers: list[MediaOffer]):
    with pytest.raises(ProtocolError, match=f"none of {len(offers)} offered media") as caught:
        choose_media(offers)
    assert caught.value.code is ErrorCode.BAD_FORMAT


def test_what_the_offers_are():
    assert format_of(BOTH) == AudioFormat("mulaw", 8000, 2)
    assert format_of(LINEAR) == AudioFormat("pcm_s16le", 8000, 2)
    assert format_of(INTERNAL) == AudioFormat("mulaw", 8000, 1)


def test_roles_go_by_the_names_of_channels():
    roles = ("customer", "agent")
    assert [c.role for c in channels_of(BOTH, roles)] == ["customer", "agent"]
    assert [c.role for c in channels_of(INVERTED, roles)] == ["agent", "customer"]
    assert [(c.role, c.name) for c in channels_of(INTERNAL, roles)] == [("agent", "internal")]
