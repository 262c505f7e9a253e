"""Calls that come in by AudioSocket, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from structlog.testing import capture_logs

from ser_engine.errors import EngineDeadError
from ser_engine.types import FloatArray
from stream_server.platforms.asterisk import server as server_module
from stream_server.platforms.asterisk.audiosocket import (
    HANGUP,
    Frame,
    FrameType,
    encode_audio,
    encode_frame,
    encode_uuid,
)
from stream_server.streams.handshakes import Descriptors
from stream_server.wire.results import (
    Marked,
    Result,
    StreamClosed,
    StreamOpened,
    Summary,
    Warning,
)
from tests.stream_server.streams.timelines import tiles, timeline
from tests.support.asterisk_lab import CALL, RATE, asterisk_lab
from tests.support.live_lab import LabEngine, chunks, live_lab, pcm, stream
from tests.support.virtual_time import virtual_time


def level(seconds: float, amount: float) -> FloatArray:
    return np.full(round(seconds * RATE), amount, dtype=np.float32)


SIDES = [
    np.concatenate([level(4, 0.1), level(4, 0.2)]),
    np.concatenate([level(4, 0.3), level(4, 0.1)]),
]
CUSTOMER, AGENT = map(pcm, SIDES)
BOTH = pcm(np.stack(SIDES, 1))


@virtual_time
async def test_two_connections_of_one_uuid_are_one_call():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:
            await asyncio.gather(customer.speak(CUSTOMER), agent.speak(AGENT))
            await customer.hang_up()
            await agent.hang_up()
            await asterisk.until_ended()
        told = asterisk.lab.published
    (opened,) = [each for each in told if isinstance(each, StreamOpened)]
    assert (opened.name, opened.sample_rate, opened.encoding) == (str(CALL), 8000, "pcm_s16le")
    assert [channel.role for channel in opened.channels] == ["customer", "agent"]
    assert opened.metadata == {"platform": "asterisk-audiosocket"}
    assert asterisk.reasons == ["stopped"]
    assert asterisk.lab.refused == []
    assert len(asterisk.lab.registry) == 0
    # The same as a client of our own that sends both interleaved.
    async with live_lab(config=asterisk.lab.config) as lab:
        channels = [{"role": "customer"}, {"role": "agent"}]
        native = await stream(lab, chunks(BOTH), sample_rate=RATE, channels=channels)
    assert timeline(told) == timeline(native)
    assert [label for _, _, label in tiles(told, 0)] == ["angry", "happy"]
    assert [label for _, _, label in tiles(told, 1)] == ["neutral", "angry"]


@virtual_time
async def test_a_side_that_never_comes_is_lost():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer:
            await customer.speak(CUSTOMER)
        await asterisk.until_ended()
        told = asterisk.lab.published
    assert [label for _, _, label in tiles(told, 0)] == ["angry", "happy"]
    assert tiles(told, 1) == [(0, 8 * 16_000, "lost")]


@virtual_time
async def test_a_side_that_comes_later_is_lost_until_then():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:

            async def join() -> None:
                await asyncio.sleep(3)
                await agent.speak(AGENT[: 5 * RATE * 2])

            await asyncio.gather(customer.speak(CUSTOMER), join())
        await asterisk.until_ended()
        told = asterisk.lab.published
    (start, end, reason), *rest = tiles(told, 1)
    assert (start, end, reason) == (0, 3 * 16_000, "lost")
    assert rest[-1][1] == 8 * 16_000
    assert tiles(told, 0)[-1][1] == 8 * 16_000


@virtual_time
async def test_one_side_hangs_up_and_the_other_goes_on():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:

            async def leave() -> None:
                await customer.speak(CUSTOMER[: 4 * RATE * 2])
                await customer.hang_up()

            await asyncio.gather(leave(), agent.speak(AGENT))
            assert asterisk.reasons == []
        await asterisk.until_ended()
        told = asterisk.lab.published
    assert tiles(told, 0)[-1] == (4 * 16_000, 8 * 16_000, "lost")
    assert tiles(told, 1)[-1][1:] == (8 * 16_000, "angry")
    assert asterisk.reasons == ["stopped"]


@virtual_time
async def test_an_unsteady_network_moves_nothing_far():
    """Up to 60 ms late, no two frames alike: nothing is lost, and both sides stay together.

    Only at begin and end one side may be there some ms before the other.
    """
    late = random.Random(7)
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:
            await asyncio.gather(
                customer.speak(CUSTOMER, delay_s=lambda at_s: late.uniform(0, 0.06)),
                agent.speak(AGENT, delay_s=lambda at_s: late.uniform(0, 0.06)),
            )
        await asterisk.until_ended()
        told = asterisk.lab.published
    for channel, labels in ((0, ["angry", "happy"]), (1, ["neutral", "angry"])):
        heard = [tile for tile in tiles(told, channel) if tile[2] != "lost"]
        (start, middle, first), (_, end, second) = heard
        assert start + 8 * 16_000 - end <= 16_000 * 0.06
        assert [first, second] == labels
        steady = tiles(await steady_call(), channel)
        assert middle == pytest.approx(steady[0][1], abs=16_000 * 0.07)


@virtual_time
async def test_a_side_that_stalls_is_lost_meanwhile_and_in_its_place_after():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:

            def stalled(at_s: float) -> float:
                return max(0.0, 3.0 - at_s) if at_s > 2.0 else 0.0

            await asyncio.gather(customer.speak(CUSTOMER, delay_s=stalled), agent.speak(AGENT))
        await asterisk.until_ended()
        told = asterisk.lab.published
    lost = [tile for tile in tiles(told, 0) if tile[2] == "lost"]
    assert sum(end - start for start, end, _ in lost) == pytest.approx(0.8 * 16_000, abs=800)
    assert tiles(told, 0)[-1][1] == tiles(told, 1)[-1][1] == 8 * 16_000
    steady = tiles(await steady_call(), 0)
    assert tiles(told, 0)[-1] == steady[-1]


async def steady_call() -> list[Result]:
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:
            await asyncio.gather(customer.speak(CUSTOMER), agent.speak(AGENT))
        await asterisk.until_ended()
        return asterisk.lab.published


@virtual_time
async def test_a_side_on_hold_is_lost_as_long():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:

            async def hold() -> None:
                await customer.speak(CUSTOMER[: 3 * RATE * 2])
                await asyncio.sleep(2)
                await customer.speak(CUSTOMER[5 * RATE * 2 :])

            await asyncio.gather(hold(), agent.speak(AGENT))
        await asterisk.until_ended()
        told = asterisk.lab.published
    (before, lost, after) = tiles(told, 0)
    assert (before[2], lost, after[2]) == ("angry", (3 * 16_000, 5 * 16_000, "lost"), "happy")
    assert after[1] == 8 * 16_000


@virtual_time
async def test_the_next_call_of_a_uuid_is_a_new_one():
    async with asterisk_lab() as asterisk:
        for count in (1, 2):
            async with asterisk.call() as customer:
                await customer.speak(CUSTOMER[: RATE * 2])
            await asterisk.until_ended(count)
    assert asterisk.reasons == ["stopped", "stopped"]


@virtual_time
async def test_a_third_connection_is_refused_and_disturbs_nobody():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:
            both = asyncio.gather(customer.speak(CUSTOMER), agent.speak(AGENT))
            await asyncio.sleep(1)
            with capture_logs() as logs:
                async with asterisk.call() as third:
                    assert await third.answer() == HANGUP
            await both
        await asterisk.until_ended()
    assert asterisk.lab.refused == ["bad_start"]
    (log,) = [each for each in logs if each["event"] == "stream_refused"]
    assert log["reason"].startswith("got connection 3 with one UUID, expected at most 2")
    assert tiles(asterisk.lab.published, 0)[-1][1] == 8 * 16_000


@virtual_time
async def test_one_channel_a_call_of_a_team():
    async with asterisk_lab(audiosocket={"channels": 1, "team": "support"}) as asterisk:
        async with asterisk.call() as customer, asterisk.call() as second:
            speaking = asyncio.create_task(customer.speak(CUSTOMER))
            assert await second.answer() == HANGUP
            await speaking
        await asterisk.until_ended()
        told = asterisk.lab.published
    (opened,) = [each for each in told if isinstance(each, StreamOpened)]
    assert [channel.role for channel in opened.channels] == ["customer"]
    assert opened.team == "support"
    assert asterisk.lab.refused == ["bad_start"]
    assert [label for _, _, label in tiles(told)] == ["angry", "happy"]


@virtual_time
async def test_two_rates_in_a_call_are_one_too_many():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:
            await customer.speak(CUSTOMER[: RATE * 2])
            await agent.speak(bytes(640), 16_000)
            assert await agent.answer() == HANGUP
            await customer.speak(CUSTOMER[: RATE * 2])
        await asterisk.until_ended()
    assert asterisk.lab.refused == ["bad_format"]
    assert asterisk.reasons == ["stopped"]


@virtual_time
async def test_a_call_of_16_khz():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer:
            await customer.speak(pcm(np.full(32_000, 0.1, np.float32)), 16_000)
        await asterisk.until_ended()
    assert tiles(asterisk.lab.published, 0) == [(0, 32_000, "angry")]


@virtual_time
async def test_keys_are_marked_but_not_told():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer:
            await customer.speak(CUSTOMER[: RATE * 2])
            customer.writer.write(encode_frame(Frame(FrameType.DTMF, b"5")))
            await customer.speak(CUSTOMER[RATE * 2 : RATE * 4])
        await asterisk.until_ended()
    (mark,) = [each for each in asterisk.lab.published if isinstance(each, Marked)]
    assert mark.name == "dtmf"
    assert mark.at_s == pytest.approx(1.0, abs=0.25)  # What is held back is not before it.


# -- ends -----------------------------------------------------------------------------------------


@virtual_time
async def test_a_connection_that_ends_within_a_frame_is_lost():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer:
            await customer.speak(CUSTOMER[: RATE * 2])
            customer.writer.write(encode_audio(bytes(320))[:-1])
        await asterisk.until_ended()
    assert asterisk.reasons == ["client_lost"]
    # Only what came whole was audio.
    (summary,) = [each for each in asterisk.lab.published if isinstance(each, Summary)]
    assert summary.duration_s == 1.0


@virtual_time
async def test_a_connection_that_is_reset_is_lost():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer:
            await customer.speak(CUSTOMER[: RATE * 2])
            connection = customer.writer.get_extra_info("socket")
            at_once = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            customer.writer.transport.abort()
        await asterisk.until_ended()
    assert asterisk.reasons == ["client_lost"]


@virtual_time
async def test_an_error_of_asterisk_is_a_loss():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer:
            await customer.speak(CUSTOMER[: RATE * 2])
            customer.writer.write(encode_frame(Frame(FrameType.ERROR, b"\x04")))
            assert await customer.answer() == b""
        await asterisk.until_ended()
    assert asterisk.reasons == ["client_lost"]


@virtual_time
async def test_the_server_that_stops_hangs_up_and_tells_the_last_results():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:
            await asyncio.gather(customer.speak(CUSTOMER), agent.speak(AGENT))
            closing = asyncio.create_task(asterisk.server.aclose())
            assert await customer.answer() == HANGUP
            customer.writer.close()
            assert await agent.answer() == HANGUP
            agent.writer.close()
            await closing
        told = asterisk.lab.published
    assert asterisk.reasons == ["server_stopped"]
    assert [tiles(told, channel)[-1][1] for channel in (0, 1)] == [8 * 16_000] * 2


@virtual_time
async def test_a_client_that_does_not_go_is_dropped():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer:
            await customer.speak(CUSTOMER[: RATE * 2])
            began_s = asyncio.get_running_loop().time()
            speaking = asyncio.create_task(customer.speak(CUSTOMER))
            await asterisk.server.aclose()
            assert asyncio.get_running_loop().time() - began_s == pytest.approx(2)
            speaking.cancel()
    assert asterisk.reasons == ["server_stopped"]


@virtual_time
async def test_an_engine_that_dies_ends_the_call():
    engine = LabEngine()
    async with asterisk_lab(engine) as asterisk:
        async with asterisk.call() as customer, asterisk.call() as agent:
            engine.fails = EngineDeadError("it is dead")
            both = asyncio.gather(customer.speak(CUSTOMER), agent.speak(AGENT))
            assert await customer.answer() == HANGUP
            assert await agent.answer() == HANGUP
            both.cancel()
    assert asterisk.reasons == ["engine_failed"]
    assert asterisk.lab.refused == []


@virtual_time
async def test_a_call_that_is_too_long_ends():
    async with asterisk_lab(max_stream_s=3) as asterisk, asterisk.call() as customer:
        speaking = asyncio.create_task(customer.speak(CUSTOMER))
        assert await customer.answer() == HANGUP
        speaking.cancel()
        await asterisk.until_ended()
        assert asterisk.reasons == ["too_long"]


# -- who may, and how much ------------------------------------------------------------------------


@virtual_time
async def test_an_address_that_may_not_is_refused():
    async with asterisk_lab(audiosocket={"allow": ("192.0.2.0/24",)}) as asterisk:
        async with asterisk.call(None) as stranger:
            assert await stranger.answer() == HANGUP
    assert asterisk.lab.refused == ["unauthorized"]


@virtual_time
async def test_an_address_may_be_the_only_one():
    async with asterisk_lab(audiosocket={"allow": ("127.0.0.1",)}) as asterisk:
        async with asterisk.call() as customer:
            await customer.speak(CUSTOMER[: RATE * 2])
        await asterisk.until_ended()
    assert asterisk.lab.refused == []


@virtual_time
async def test_without_a_model_calls_are_refused():
    engine = LabEngine()
    engine.is_alive = False
    async with asterisk_lab(engine) as asterisk, asterisk.call() as customer:
        assert await customer.answer() == HANGUP
        assert asterisk.lab.refused == ["not_ready"]


@virtual_time
async def test_a_full_server_refuses_calls_and_takes_the_second_side_of_those_it_has():
    other = UUID(int=7)
    async with asterisk_lab(max_streams=1) as asterisk:
        async with asterisk.call() as customer:
            await customer.speak(CUSTOMER[: RATE * 2])
            async with asterisk.call(other) as refused:
                assert await refused.answer() == HANGUP
            async with asterisk.call() as agent:
                await asyncio.gather(
                    customer.speak(CUSTOMER[: RATE * 2]), agent.speak(AGENT[: RATE * 2])
                )
        await asterisk.until_ended()
    assert asterisk.lab.refused == ["server_full"]


@virtual_time
async def test_a_call_of_which_nothing_is_analysed_is_refused():
    async with asterisk_lab() as asterisk:
        config = asterisk.lab.config
    config = replace(config, streams=replace(config.streams, analyse_roles=("driver",)))
    async with asterisk_lab(config=config) as asterisk, asterisk.call() as customer:
        speaking = asyncio.create_task(customer.speak(CUSTOMER))
        assert await customer.answer() == HANGUP
        speaking.cancel()
        assert asterisk.lab.refused == ["nothing_to_analyse"]
        assert asterisk.reasons == []


@virtual_time
async def test_a_connection_that_says_nothing_is_ended():
    async with asterisk_lab(start_timeout_s=5) as asterisk, asterisk.call(None) as silent:
        assert await silent.answer() == HANGUP
        assert asyncio.get_running_loop().time() == pytest.approx(5)
        assert asterisk.lab.refused == ["not_started"]


@virtual_time
async def test_a_connection_that_falls_silent_is_ended():
    async with asterisk_lab(idle_timeout_s=10) as asterisk, asterisk.call() as customer:
        await customer.speak(CUSTOMER[: RATE * 2])
        assert await customer.answer() == HANGUP
        assert asyncio.get_running_loop().time() == pytest.approx(11)
        customer.writer.close()
        await asterisk.until_ended()
        assert asterisk.reasons == ["idle"]


@virtual_time
async def test_single_bytes_keep_nothing_alive():
    async with asterisk_lab(start_timeout_s=5, idle_timeout_s=10) as asterisk:
        async with asterisk.call(None) as slow:
            dripping = asyncio.create_task(_drip(slow.writer, encode_uuid(CALL)))
            assert await slow.answer() == HANGUP
            assert asyncio.get_running_loop().time() == pytest.approx(5)
            dripping.cancel()
        async with asterisk.call() as customer:
            await customer.speak(CUSTOMER[: RATE * 2])
            dripping = asyncio.create_task(_drip(customer.writer, encode_audio(bytes(60_000))))
            assert await customer.answer() == HANGUP
            assert asyncio.get_running_loop().time() == pytest.approx(5 + 1 + 10)
            dripping.cancel()
    assert asterisk.reasons == ["idle"]


async def _drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    for at in range(len(data)):
        writer.write(data[at : at + 1])
        await asyncio.sleep(1)


@virtual_time
async def test_a_flood_of_frames_ends_the_connection():
    async with asterisk_lab() as asterisk, asterisk.call() as customer:
        customer.writer.write(encode_frame(Frame(0x42)) * 20_000)
        assert await customer.answer() == HANGUP
        assert asterisk.lab.refused == ["too_many_messages"]


@virtual_time
async def test_what_is_no_audiosocket_is_refused():
    async with asterisk_lab() as asterisk, asterisk.call(None) as browser:
        browser.writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(0x4000 * 2))
        assert await browser.answer() == HANGUP
        assert asterisk.lab.refused == ["bad_start"]


@virtual_time
async def test_no_bytes_break_the_server():
    dice = random.Random(11)
    with capture_logs() as logs:
        async with asterisk_lab(start_timeout_s=1, idle_timeout_s=1) as asterisk:
            for number in range(40):
                call_id = None if number % 4 == 0 else UUID(int=number % 3)
                async with asterisk.call(call_id) as customer:
                    for _ in range(dice.randrange(6)):
                        kind = dice.choice([0x00, 0x01, 0x03, 0x10, 0x12, 0x17, 0xFF, 0x42])
                        frame = encode_frame(Frame(kind, dice.randbytes(dice.randrange(700))))
                        customer.writer.write(frame[: dice.choice([len(frame), 2, 100])])
                        await asyncio.sleep(0)
                    # After a hangup it does not wait for what else comes.
                    with contextlib.suppress(ConnectionResetError):
                        assert await customer.answer() in (b"", HANGUP)
            async with asterisk.call() as customer:
                await customer.speak(CUSTOMER)
            while len(asterisk.lab.registry):  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)
    assert not [log for log in logs if log["log_level"] in ("error", "critical")]
    (last,) = [each for each in asterisk.lab.published if each.stream_id][-1:]
    assert isinstance(last, StreamClosed)
    assert last.reason == "stopped"


@virtual_time
async def test_mu_law_in_frames_of_16_bits_is_warned_of():
    noise = np.random.default_rng(0).bytes(160 * 50 * 14)
    async with asterisk_lab(audiosocket={"channels": 1}) as asterisk:
        async with asterisk.call() as customer:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            for number, at in enumerate(range(0, len(noise), 160), start=1):
                await asyncio.sleep(max(began_s + number / 50 - loop.time(), 0))
                customer.writer.write(encode_audio(noise[at : at + 160]))
            await customer.hang_up()
            await asterisk.until_ended()
        told = asterisk.lab.published
    (warning,) = [each for each in told if isinstance(each, Warning) and each.code == "clock_drift"]
    assert (warning.channel, warning.at_s < 13) == (0, True)
    assert "0.50 times the 8000 Hz" in warning.message
    assert "8 kHz mu-law or A-law in frames of 16-bit audio" in warning.message


@virtual_time
async def test_descriptors_are_kept_for_the_files_of_calls():
    async with asterisk_lab() as asterisk:
        async with asterisk.call() as customer, asterisk.call(None) as silent:
            await customer.speak(CUSTOMER[: 2 * RATE])
            kept = Descriptors(64)
            kept.for_calls = silent.writer.get_extra_info("socket").fileno() + 1
            asterisk.server._descriptors = kept
            async with asterisk.call() as agent:
                # Who has said nothing makes room, and where nobody is left the new one goes.
                assert await silent.answer() == HANGUP
                assert await agent.answer() == HANGUP
            await customer.speak(CUSTOMER[2 * RATE :])
            await customer.hang_up()
            await asterisk.until_ended()
    assert set(asterisk.lab.refused) == {"server_full"}
    assert asterisk.reasons == ["stopped"]


@virtual_time
async def test_connections_without_an_id_make_room_for_a_call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_module, "_MAX_CONNECTIONS_MORE", 2)
    async with asterisk_lab() as asterisk:
        async with asterisk.call(None) as silent, asterisk.call(None) as other:
            async with asterisk.call() as customer:
                assert await silent.answer() == HANGUP
                await customer.speak(CUSTOMER)
                await customer.hang_up()
                await asterisk.until_ended()
            assert asterisk.lab.refused == ["server_full"]
            # Nobody needs the place of the other: it is closed when its time is up.
            assert await other.answer() == HANGUP
    assert asterisk.lab.refused == ["server_full", "not_started"]
    assert asterisk.reasons == ["stopped"]
