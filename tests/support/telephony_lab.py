"""A telephone call for every dialect's test, and the timeline it has to give.

    call = load_call(shared_data)                         # needs("shared-data")
    async with telephony_lab() as lab:
        reference = await native_timeline(lab, call)
        ...                                               # the same audio through the dialect
        assert_same_timeline(reference, await published_timeline(lab, "the call's id"))

The engine is the compact model, so audio that is lost, shifted or of the wrong channel shows in the
figures. Both roles are analysed. A call's first track is the customer's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.core.factory import build_engine
from ser_engine.raw_audio import ALAW, MULAW
from ser_engine.types import FloatArray
from stream_server.config import ServerConfig, StreamsConfig
from stream_server.wire.audio_format import Encoding
from stream_server.wire.results import Gap, Point, Result, Segment, StreamClosed, StreamOpened
from tests.support.live_lab import Lab, LabEngine, live_lab, stream

PHONE_RATE_HZ = 8_000
ROLES = ("customer", "agent")
ENGINE_CONFIG = EngineConfig(model=ModelConfig(name="compact", device="cpu", offline=True))
_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Call:
    """Ten seconds of a customer and an agent.

    Attributes:
        encoding: of the samples.
        rate_hz: of the samples.
        tracks: encoded samples, the customer's and the agent's, equally long.
    """

    encoding: Encoding
    rate_hz: int
    tracks: tuple[bytes, bytes]

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample of one track."""
        return 2 if self.encoding == "pcm_s16le" else 1

    @property
    def num_samples(self) -> int:
        """Of each track."""
        return len(self.tracks[0]) // self.sample_bytes

    def packets(self, ms: int = 20) -> list[tuple[bytes, bytes]]:
        """Return the call in packets of ``ms``, one of each track at a time."""
        size = self.rate_hz * ms // 1000 * self.sample_bytes
        first, second = self.tracks
        return [
            (first[at : at + size], second[at : at + size]) for at in range(0, len(first), size)
        ]

    @property
    def interleaved(self) -> bytes:
        """Both tracks, customer first, as a stream of two channels carries them."""
        columns = [
            np.frombuffer(track, dtype=np.uint8).reshape(-1, self.sample_bytes)
            for track in self.tracks
        ]
        return np.stack(columns, axis=1).tobytes()


@dataclass(frozen=True, slots=True)
class Timeline:
    """What was published of one stream: points, and the final segments and gaps, in order."""

    points: tuple[Point, ...]
    segments: tuple[Segment, ...]
    gaps: tuple[Gap, ...]

    @classmethod
    def of(cls, results: Iterable[Result]) -> Timeline:
        """Sort results of one stream."""
        kept = list(results)
        return cls(
            tuple(each for each in kept if isinstance(each, Point)),
            tuple(each for each in kept if isinstance(each, Segment) and each.final),
            tuple(each for each in kept if isinstance(each, Gap) and each.final),
        )

    def tiles(self, channel: int) -> list[Segment | Gap]:
        """Return what a channel's time consists of, in order."""
        both: list[Segment | Gap] = [*self.segments, *self.gaps]
        return sorted(
            (each for each in both if each.channel == channel), key=lambda each: each.start_sample
        )


def load_call(
    shared_data: Path, encoding: Encoding = "mulaw", *, rate_hz: int = PHONE_RATE_HZ
) -> Call:
    """Return the recorded call as a telephone carries it.

    Args:
        shared_data: the fixture of that name; the test is marked ``needs("shared-data")``.
        encoding: ``mulaw``, ``alaw`` or ``pcm_s16le``.
        rate_hz: of the samples.
    """
    path = shared_data / "calls" / "two_channel_agent_customer_16k.wav"
    samples, file_rate_hz = soundfile.read(path, dtype="float32")
    if rate_hz != file_rate_hz:
        samples = soxr.resample(samples, file_rate_hz, rate_hz, quality="VHQ")
    agent, customer = (_encode(track, encoding) for track in samples.T)
    return Call(encoding, rate_hz, (customer, agent))


@asynccontextmanager
async def telephony_lab(config: ServerConfig | None = None, **limits: Any) -> AsyncIterator[Lab]:
    """Run a gateway with the compact model that analyses both of a call's roles."""
    config = config if config is not None else ServerConfig()
    config = replace(config, streams=StreamsConfig(analyse_roles=ROLES))
    async with live_lab(LabEngine(_compact(), ENGINE_CONFIG), config, **limits) as lab:
        yield lab


async def native_timeline(lab: Lab, call: Call) -> Timeline:
    """Return what the native protocol makes of a call: the reference for all others.

    The call is told as a recording, so nothing of it is given up under load; the same holds of
    every dialect that a test runs no faster than the engine.
    """
    data, size = call.interleaved, call.rate_hz // 50 * 2 * call.sample_bytes
    seen = await stream(
        lab,
        (data[at : at + size] for at in range(0, len(data), size)),
        encoding=call.encoding,
        sample_rate=call.rate_hz,
        channels=[{"role": role} for role in ROLES],
        wants=["points", "segments"],
        live=False,
    )
    return Timeline.of(seen)


async def published_timeline(lab: Lab, name: str) -> Timeline:
    """Wait until the newest stream of that name has ended; return what was published of it."""
    async with asyncio.timeout(_DEADLINE_S):
        while True:
            opened = [
                each
                for each in lab.published
                if isinstance(each, StreamOpened) and each.name == name
            ]
            results = [
                each for each in lab.published if opened and each.stream_id == opened[-1].stream_id
            ]
            if results and isinstance(results[-1], StreamClosed):
                return Timeline.of(results)
            await asyncio.sleep(0)


def assert_same_timeline(
    reference: Timeline,
    got: Timeline,
    tolerance_s: float = 0.0,
    *,
    posterior_tolerance: float = 1e-5,
    channels: Iterable[int] = (0, 1),
) -> None:
    """Compare points, segments and gaps of every channel.

    Args:
        reference: as it has to be.
        got: as it is.
        tolerance_s: how far spans may begin or end elsewhere. Segments and gaps then have to agree
            at every 20 ms that are not nearer than that to a border of the reference.
        posterior_tolerance: how far any posterior may be off.
        channels: those that are compared.
    """
    for channel in channels:
        _assert_same_points(reference, got, channel, tolerance_s, posterior_tolerance)
        _assert_same_tiles(reference.tiles(channel), got.tiles(channel), channel, tolerance_s)


def _assert_same_points(
    reference: Timeline, got: Timeline, channel: int, tolerance_s: float, tolerance: float
) -> None:
    expected = [each for each in reference.points if each.channel == channel]
    actual = [each for each in got.points if each.channel == channel]
    assert expected, f"the reference has no points on channel {channel}"
    assert len(actual) == len(expected), f"channel {channel}: {len(actual)} points"
    for one, other in zip(actual, expected, strict=True):
        where = f"channel {channel}, {other.start_s:.2f} to {other.end_s:.2f} s"
        assert one.role == other.role, where
        assert abs(one.start_s - other.start_s) <= tolerance_s, where
        assert abs(one.end_s - other.end_s) <= tolerance_s, where
        np.testing.assert_allclose(
            one.posteriors, other.posteriors, rtol=0, atol=tolerance, err_msg=where
        )


def _assert_same_tiles(
    expected: list[Segment | Gap], actual: list[Segment | Gap], channel: int, tolerance_s: float
) -> None:
    if tolerance_s == 0:
        assert [_told(each) for each in actual] == [_told(each) for each in expected]
        return
    borders = np.array([each.start_s for each in expected] + [expected[-1].end_s])
    for at_s in np.arange(0.01, expected[-1].end_s, 0.02):
        if np.abs(borders - at_s).min() > tolerance_s:
            assert _what_at(actual, at_s) == _what_at(expected, at_s), (
                f"channel {channel} at {at_s:.2f} s"
            )


def _what_at(tiles: list[Segment | Gap], at_s: float) -> str | None:
    return next((_what(each) for each in tiles if each.start_s <= at_s < each.end_s), None)


def _what(tile: Segment | Gap) -> str | None:
    return tile.label if isinstance(tile, Segment) else f"gap: {tile.reason}"


def _told(tile: Segment | Gap) -> tuple[int, int, str | None]:
    return tile.start_sample, tile.end_sample, _what(tile)


def _encode(samples: FloatArray, encoding: Encoding) -> bytes:
    if encoding == "pcm_s16le":
        return np.rint(np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()
    table = MULAW if encoding == "mulaw" else ALAW
    order = np.argsort(table, kind="stable")
    edges = (table[order][1:] + table[order][:-1]) / 2
    return order[np.searchsorted(edges, samples)].astype(np.uint8).tobytes()


@cache
def _compact() -> Any:
    return build_engine(ENGINE_CONFIG)
