"""Recording sessions over real sockets: SIP over UDP and TCP, and RTP."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ser_engine.types import FloatArray
from stream_server.config import ServerConfig
from stream_server.platforms.siprec.messages import Request, StreamParser, parse_message
from stream_server.platforms.siprec.sdp import parse_offer, takes_mux
from stream_server.rtp import RtpCodec
from stream_server.wire.results import Gap, Marked, StreamOpened, Summary, Warning
from tests.stream_server.decoding.test_tracks import (
    AGENT,
    CUSTOMER,
    STEP,
    changes,
    expected_changes,
    packets_of,
)
from tests.stream_server.platforms.asterisk.test_over_sockets import mulaw
from tests.stream_server.streams.timelines import tiles, timeline
from tests.support.live_lab import chunks, live_lab, stream
from tests.support.siprec_lab import (
    BOTH_ANALYSED,
    METADATA,
    Client,
    SiprecLab,
    beside,
    event,
    invite,
    offer,
    request,
    rtp,
    with_siprec,
)
from tests.support.virtual_time import virtual_time

RATE = 8000


@asynccontextmanager
async def siprec_lab(
    config: ServerConfig = BOTH_ANALYSED, *, siprec: dict[str, Any] | None = None, **limits: Any
) -> AsyncIterator[SiprecLab]:
    async with live_lab(None, with_siprec(config, **(siprec or {})), **limits) as lab:
        async with beside(lab) as made:
            yield made


def level(seconds: float, amount: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.full(round(seconds * RATE), amount, dtype=np.float32)


SIDES = [
    mulaw(np.concatenate([level(4, 0.1), level(4, 0.2)])),
    mulaw(np.concatenate([level(4, 0.3), level(4, 0.1)])),
]


def packets(data: bytes, source: int) -> list[bytes]:
    """Return 20 ms a packet; the counts begin shortly before they wrap."""
    return [
        rtp(0xFFF0 + number, 0xFFFFF000 + at, data[at : at + 160], source=source)
        for number, at in enumerate(range(0, len(data), 160))
    ]


async def speak(client: Client, sides: Sequence[Sequence[bytes]]) -> None:
    """Send both sides in real time of the loop."""
    for both in zip(*sides, strict=True):
        for line, packet in enumerate(both):
            client.send_rtp(line, packet)
        await asyncio.sleep(0.02)


@virtual_time
async def test_a_call_is_the_stream_of_its_two_sides():
    async with siprec_lab() as siprec:
        async with siprec.client() as client:
            answer = await client.invite()
            assert answer.status == 200
            await speak(client, [packets(each, at) for at, each in enumerate(SIDES)])
            assert (await client.bye()).status == 200
            await siprec.until_ended()
        told = siprec.lab.published
        assert siprec.lab.refused == []
        assert len(siprec.lab.registry) == 0
    (opened,) = [each for each in told if isinstance(each, StreamOpened)]
    assert opened.name == "a84b4c76e66710@sbc.example.net"
    assert [channel.role for channel in opened.channels] == ["customer", "agent"]
    assert opened.metadata == {"platform": "siprec", "session_id": "hVpd7YQgRW2nD22h7q60JQ=="}
    assert siprec.reasons == ["stopped"]
    async with live_lab(config=BOTH_ANALYSED) as lab:
        channels = [{"role": "customer"}, {"role": "agent"}]
        both = np.stack([np.frombuffer(each, "u1") for each in SIDES], 1).tobytes()
        native = await stream(
            lab, chunks(both), sample_rate=RATE, channels=channels, encoding="mulaw"
        )
    assert timeline(told) == timeline(native)
    assert [label for _, _, label in tiles(told, 0)] == ["angry", "happy"]


def gaps(told: Sequence[object], channel: int) -> list[tuple[float, float, str]]:
    """Return the gaps of a channel: begin and end in seconds, and why."""
    return [
        (each.start_sample / 16_000, each.end_sample / 16_000, each.reason)
        for each in told
        if isinstance(each, Gap) and each.final and each.channel == channel
    ]


@virtual_time
async def test_what_does_not_come_is_lost_and_what_comes_late_or_twice_is_not():
    """Of the customer 2 s are missing; the agent's packets come in another order, some twice."""
    async with siprec_lab() as siprec:
        async with siprec.client() as client:
            await client.invite(offer(codecs="8 0 101"))
            sides = [packets(each, at) for at, each in enumerate(SIDES)]
            for at in range(0, len(sides[0]), 4):
                if not 150 <= at < 250:
                    for packet in sides[0][at : at + 4]:
                        client.send_rtp(0, b"\x80\x08" + packet[2:])
                # The first packet of a line begins its count.
                order = sides[1][at : at + 4][:: -1 if at else 1]
                for packet in (*order, sides[1][at]):
                    client.send_rtp(1, b"\x80\x08" + packet[2:])
                await asyncio.sleep(0.08)
            await client.bye()
            await siprec.until_ended()
        told = siprec.lab.published
    lost = [each for each in gaps(told, 0) if each[2] == "lost"]
    assert len(lost) == 1
    start_s, end_s, _ = lost[0]
    assert start_s == pytest.approx(3.04, abs=0.03) and end_s == pytest.approx(5.04, abs=0.03)
    assert [each for each in gaps(told, 1) if each[2] == "lost"] == []
    warnings = [(each.code, each.channel) for each in told if isinstance(each, Warning)]
    assert ("packet_loss", 0) in warnings and ("packet_loss", 1) not in warnings


@virtual_time
async def test_a_call_that_pauses_and_goes_on_with_its_keys_and_its_summary():
    async with siprec_lab() as siprec:
        async with siprec.client() as client:
            await client.invite()
            sides = [packets(each, at) for at, each in enumerate(SIDES)]
            await speak(client, [each[:150] for each in sides])
            answer = await client.invite(offer(direction="inactive"))
            assert answer.body.count(b"a=inactive") == 2
            # Sent all the same, and not to be heard.
            await speak(client, [each[150:250] for each in sides])
            await client.invite()
            key = event(5, 160)
            client.send_rtp(
                0, rtp(0xFFF0 + 250, 0xFFFFF000 + 250 * 160, key, payload_type=101, source=0)
            )
            await speak(client, [each[251:] for each in sides])
            await client.bye()
            await siprec.until_ended()
        told = siprec.lab.published
    paused = [each for each in gaps(told, 0) if each[2] == "paused"]
    assert len(paused) == 1
    start_s, end_s, _ = paused[0]
    assert start_s == pytest.approx(3.0, abs=0.03) and end_s == pytest.approx(5.0, abs=0.1)
    assert [each.name for each in told if isinstance(each, Marked)] == ["dtmf"]
    (summary,) = [each for each in told if isinstance(each, Summary)]
    assert summary.duration_s == pytest.approx(8.0, abs=0.1)
    assert siprec.reasons == ["stopped"]


@virtual_time
async def test_lines_that_are_given_up_are_a_pause_and_their_ports_are_free():
    async with siprec_lab() as siprec, siprec.client() as client:
        await client.invite()
        before = client.rtp_ports
        given_up = offer().replace("m=audio 9000", "m=audio 0").replace("m=audio 9002", "m=audio 0")
        assert (await client.invite(given_up)).status == 200
        assert client.rtp_ports == [0, 0]
        (stream,) = siprec.lab.registry.running()
        held = [stream.runner.session.is_paused]
        for port in before:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
                free.bind(("127.0.0.1", port))
        await client.invite()
        held.append(stream.runner.session.is_paused)
        assert held == [True, False]
        assert 0 not in client.rtp_ports


@pytest.mark.needs("av")
async def test_a_call_in_a_codec_that_is_decoded():
    """G.722, whose samples are twice as many as its timestamps say."""
    async with siprec_lab() as siprec:
        expected = await expected_changes(siprec.lab, CUSTOMER, AGENT)
        async with siprec.client() as client:
            await client.invite(offer(codecs="9 0 101"))
            both = [packets_of("g722", each) for each in (CUSTOMER, AGENT)]
            for number, pair in enumerate(zip(*both, strict=True)):
                for line, payload in enumerate(pair):
                    if line == 0 and 50 <= number < 75:
                        continue
                    packet = rtp(number, 160 * number, payload, payload_type=9, source=line)
                    client.send_rtp(line, packet)
                await asyncio.sleep(0)
            await client.bye()
            async with asyncio.timeout(60):
                await siprec.until_ended()
        told = siprec.lab.published
    assert siprec.reasons == ["stopped"]
    lost = [each for each in gaps(told, 0) if each[2] == "lost"]
    assert [each[:2] for each in lost] == [pytest.approx((1.0, 1.5), abs=0.03)]
    assert [each for each in gaps(told, 1) if each[2] == "lost"] == []
    for channel, there in enumerate(expected):
        assert changes(told, channel) == pytest.approx(there, abs=STEP)


@virtual_time
async def test_a_line_that_is_added_later_is_the_other_side():
    async with siprec_lab(siprec={"agents": ("*@pbx.example.org",)}) as siprec:
        async with siprec.client() as client:
            await client.invite(offer(("2",)))
            sides = [packets(each, at) for at, each in enumerate(SIDES)]
            for packet in sides[1][:100]:
                client.send_rtp(0, packet)
                await asyncio.sleep(0.02)
            answer = await client.invite(offer(("2", "1")))
            assert len(set(client.rtp_ports)) == 2 and answer.status == 200
            await speak(client, [sides[1][100:], sides[0][100:]])
            await client.bye()
            await siprec.until_ended()
        told = siprec.lab.published
    (opened,) = [each for each in told if isinstance(each, StreamOpened)]
    assert [channel.role for channel in opened.channels] == ["agent", "customer"]
    # Of the customer nothing came in the first two seconds.
    (lost,) = [each for each in gaps(told, 1) if each[2] == "lost"]
    assert lost[0] == 0 and lost[1] == pytest.approx(2.0, abs=0.05)
    assert [each for each in gaps(told, 0) if each[2] == "lost"] == []


SECURE = offer(profile="RTP/SAVP")


@pytest.mark.parametrize(
    ("fields", "settings", "status", "code", "warning"),
    [
        ({"description": offer(codecs="18 101")}, {}, 488, "bad_format", "G729"),
        ({"description": SECURE}, {}, 488, "bad_format", "SRTP"),
        ({"description": "hello"}, {}, 488, "bad_format", "no session description"),
        ({"metadata": "<!DOCTYPE x>" + METADATA[55:]}, {}, 400, "bad_message", "document type"),
        ({}, {"agents": ("*",)}, 488, "nothing_to_analyse", ""),
    ],
)
@virtual_time
async def test_a_call_that_cannot_be_taken_is_refused_and_leaves_nothing(
    fields: dict[str, Any], settings: dict[str, Any], status: int, code: str, warning: str
):
    async with siprec_lab(ServerConfig(), siprec=settings) as siprec:
        async with siprec.client() as client:
            answer = await client.invite(**fields)
        assert (answer.status, siprec.lab.refused) == (status, [code])
        assert warning in answer.get("warning")
        assert len(siprec.lab.registry) == 0


@virtual_time
async def test_a_full_server_says_when_to_try_again():
    async with siprec_lab(max_streams=1) as siprec:
        async with siprec.client() as first, siprec.client(call_id="another") as second:
            assert (await first.invite()).status == 200
            answer = await second.invite()
            assert (answer.status, answer.get("retry-after")) == (503, "5")
            # Ports are given back, and so is the place.
            await first.bye()
            await siprec.until_ended()
            assert (await second.invite()).status == 200


@virtual_time
async def test_who_is_not_listed_is_not_answered():
    async with siprec_lab(siprec={"allow": ("127.0.0.2",)}) as siprec:
        async with siprec.client() as client:
            client.send(invite())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await client.receive()
        assert siprec.lab.refused == ["unauthorized"]


@virtual_time
async def test_garbage_is_refused_and_the_next_call_is_taken():
    async with siprec_lab() as siprec:
        async with siprec.client() as client:
            client.send(b"\r\n\r\n")
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            client.send(invite(branch="x").replace(b"CSeq: 1 ", b"CSeq: x "))
            assert (await client.response()).status == 400
            assert siprec.lab.refused == ["bad_message"] * 2
            assert (await client.invite()).status == 200


@virtual_time
async def test_a_call_without_rtp_is_ended_with_a_bye():
    async with siprec_lab(idle_timeout_s=5.0) as siprec, siprec.client() as client:
        await client.invite()
        message = await client.receive()
        assert isinstance(message, Request) and message.method == "BYE"
        await siprec.until_ended()
        assert siprec.reasons == ["idle"]


@virtual_time
async def test_a_server_that_stops_ends_its_calls():
    async with live_lab(None, with_siprec(BOTH_ANALYSED)) as lab:
        async with beside(lab) as siprec, siprec.client() as client:
            await client.invite()
            await speak(client, [packets(each[:8000], at) for at, each in enumerate(SIDES)])
            closing = asyncio.create_task(siprec.server.aclose())
            message = await client.receive()
            assert isinstance(message, Request) and message.method == "BYE"
            await closing
            assert siprec.reasons == ["server_stopped"]


async def test_a_port_that_is_taken_is_named_and_left_as_it_was():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with live_lab(None, with_siprec(BOTH_ANALYSED, port=port)) as lab:
            siprec = SiprecLab(lab)
            with pytest.raises(OSError, match="in use"):
                await siprec.server.start()
            await siprec.server.aclose()
        # TCP was had before UDP was not.
        with socket.create_server(("127.0.0.1", port)):
            pass


@virtual_time
async def test_a_call_over_tcp():
    async with siprec_lab() as siprec:
        reader, writer = await asyncio.open_connection("127.0.0.1", siprec.server.port)
        parser, answers = StreamParser(), list[Any]()

        async def final() -> Any:
            while True:
                while not answers:
                    data = await reader.read(65_536)
                    answers.extend(parse_message(each) for each in parser.receive(data))
                if (message := answers.pop(0)).status >= 200:
                    return message

        data = invite()
        writer.write(b"\r\n\r\n" + data[:100])
        assert await reader.readexactly(2) == b"\r\n"
        writer.write(data[100:])
        answer = await final()
        assert answer.status == 200 and b"transport=tcp" in answer.get("contact").encode()
        writer.write(request("ACK", branch="ack", to_tag=answer.tag("to")))
        writer.write(request("BYE", cseq=2, branch="bye", to_tag=answer.tag("to")))
        assert (await final()).status == 200
        await siprec.until_ended()
        assert siprec.reasons == ["stopped"]
        writer.write(b"not SIP at all\r\n\r\n")
        assert await reader.read() == b""
        assert siprec.lab.refused == ["bad_message"]
        writer.close()


def certificate(folder: Path) -> dict[str, str]:
    """Write a certificate of this machine; return the settings that name it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return {
        "tls_certificate": str(folder / "cert.pem"),
        "tls_key": str(folder / "key.pem"),
        "tls_clients": str(folder / "cert.pem"),
    }


@pytest.mark.needs("av", "pylibsrtp")
async def test_a_call_over_tls_in_srtp_of_ffmpeg(tmp_path: Path):
    """Keys go through TLS, and FFmpeg encrypts; in real time, as its sockets are its own."""
    files = certificate(tmp_path)
    client = ssl.create_default_context(cafile=files["tls_certificate"])
    client.check_hostname = False
    keys = [base64.b64encode(bytes([at] * 30)).decode() for at in (1, 2)]
    lines = SECURE.split("a=label:")
    suites = ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")
    offered = lines[0] + "".join(
        f"a=crypto:1 {suite} inline:{key}\r\na=label:{rest}"
        for suite, key, rest in zip(suites, keys, lines[1:], strict=True)
    )
    async with siprec_lab(siprec={"port": -1, "tls_port": 0, **files}) as siprec:
        expected = await expected_changes(siprec.lab, CUSTOMER, AGENT)
        with pytest.raises(OSError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", siprec.server.port, ssl=client
            )
            # In TLS 1.3 a client without a certificate learns of it when it reads.
            writer.write(invite())
            assert await reader.read() == b""
            raise OSError
        client.load_cert_chain(files["tls_certificate"], files["tls_key"])
        reader, writer = await asyncio.open_connection("127.0.0.1", siprec.server.port, ssl=client)
        parser, answers = StreamParser(), list[Any]()

        async def final() -> Any:
            while True:
                while not answers:
                    data = await reader.read(65_536)
                    answers.extend(parse_message(each) for each in parser.receive(data))
                if (message := answers.pop(0)).status >= 200:
                    return message

        writer.write(invite(offered))
        answer = await final()
        assert answer.status == 200 and "transport=tls" in answer.get("contact")
        told = re.findall(rb"m=audio (\d+) RTP/SAVP 0 .*?a=crypto:1 (\S+) ", answer.body, re.DOTALL)
        assert [suite.decode() for _, suite in told] == list(suites)
        writer.write(request("ACK", branch="ack", to_tag=answer.tag("to")))
        sent = [
            (int(port), samples, suite.decode(), key)
            for (port, suite), samples, key in zip(told, (CUSTOMER, AGENT), keys, strict=True)
        ]
        await asyncio.to_thread(send_srtp, sent)
        # UDP is not read in step with TCP: all that was sent has to be there before the end.
        (running,) = siprec.lab.registry.running()
        async with asyncio.timeout(30):
            while running.runner.state().received_s < 3.7:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        writer.write(request("BYE", cseq=2, branch="bye", to_tag=answer.tag("to")))
        assert (await final()).status == 200
        await siprec.until_ended()
        writer.close()
        told_of = siprec.lab.published
    assert [
        each for channel in (0, 1) for each in gaps(told_of, channel) if each[2] == "lost"
    ] == []
    for channel, there in enumerate(expected):
        assert changes(told_of, channel) == pytest.approx(there, abs=STEP)


def send_srtp(lines: Sequence[tuple[int, FloatArray, str, str]]) -> None:
    """Send µ-law in SRTP to ports, the lines in step and faster than they are spoken."""
    import av

    with ExitStack() as stack:
        sending: list[Any] = []
        for port, _, suite, key in lines:
            # PyAV has no options for a protocol, and FFmpeg's tee has.
            options = f"f=rtp:srtp_out_suite={suite}:srtp_out_params={key}"
            url = f"[{options}]srtp://127.0.0.1:{port}?pkt_size=182"
            container = stack.enter_context(av.open(url, "w", format="tee"))
            sending.append(container.add_stream("pcm_mulaw", rate=RATE, layout="mono"))
        for at in range(0, len(lines[0][1]) // 2, 160):
            for stream_, (_, samples, _, _) in zip(sending, lines, strict=True):
                piece = np.round(samples[None, 2 * at : 2 * at + 320 : 2] * 32767).astype("<i2")
                frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
                frame.sample_rate, frame.pts = RATE, at
                stream_.container.mux(stream_.encode(frame))
            time.sleep(0.003)


@virtual_time
async def test_reports_are_answered_where_they_come_from():
    async with siprec_lab() as siprec, siprec.client() as client:
        await client.invite()
        await speak(client, [packets(each[:3200], at) for at, each in enumerate(SIDES)])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reports:
            reports.setblocking(False)
            sent = b"\x80\xc8\0\6" + bytes(3) + b"\1" + bytes(20)
            reports.sendto(sent, ("127.0.0.1", client.rtp_ports[1] + 1))
            data = await asyncio.get_running_loop().sock_recv(reports, 2048)
        assert data[:4] == b"\x81\xc9\0\7"
        # Of the second line's source, of which nothing is missing.
        assert data[8:12] == (1).to_bytes(4) and data[12:16] == bytes(4)


@virtual_time
async def test_reports_may_come_on_the_port_of_rtp_where_that_was_offered():
    report = b"\x80\xc8\0\6" + (0).to_bytes(4) + bytes(20)
    muxed = offer().replace("a=label:", "a=rtcp-mux\r\na=label:")
    async with siprec_lab() as siprec, siprec.client() as client:
        answer = await client.invite(muxed)
        assert answer.body.count(b"a=rtcp-mux\r\n") == 2
        await speak(client, [packets(each[:3200], at) for at, each in enumerate(SIDES)])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reports:
            reports.setblocking(False)
            reports.bind(("127.0.0.1", 0))
            for sent in (report, report + b"\x81\xcb\0\1" + (0).to_bytes(4)):
                reports.sendto(sent, ("127.0.0.1", client.rtp_ports[0]))
            loop = asyncio.get_running_loop()
            data, sender = await loop.sock_recvfrom(reports, 2048)
        assert (data[:4], sender[1]) == (b"\x81\xc9\0\7", client.rtp_ports[0])
        # Of the line's source, of which nothing is missing; and RTCP was no packet of it.
        assert data[8:16] == bytes(8)
        # After its BYE another source is heard at once.
        await speak(client, [packets(SIDES[0][3200:6400], 7)])
        await client.bye()
        await siprec.until_ended()
        (summary,) = [each for each in siprec.lab.published if isinstance(each, Summary)]
        assert summary.duration_s == pytest.approx(0.8, abs=0.1)
    async with siprec_lab() as siprec, siprec.client() as client:
        assert b"rtcp-mux" not in (await client.invite()).body


def test_types_that_would_look_like_rtcp_are_not_multiplexed():
    described = offer(rtpmap="72 L16/16000").replace("a=label:", "a=rtcp-mux\r\na=label:")
    media = parse_offer(described.replace("AVP 96", "AVP 72").encode())[0]
    assert media.has_mux
    taken = [takes_mux(media, RtpCodec(each, "PCMU", 8000, 1)) for each in (0, 63, 64, 95, 96)]
    assert taken == [True, True, False, False, True]


@pytest.mark.needs("sipp")
async def test_a_call_of_sipp_with_its_own_rtp(tmp_path: Path):
    """In real time: SIPp sends 2 s of the first line; the metadata says that it is the agent's."""
    (tmp_path / "call.ulaw").write_bytes(mulaw(level(2, 0.1)))
    scenario = Path(__file__).with_name("siprec.xml")
    async with siprec_lab(siprec={"agents": ("1001@pbx.example.org",)}) as siprec:
        process = await asyncio.create_subprocess_exec(
            "sipp",
            f"127.0.0.1:{siprec.server.port}",
            *("-sf", str(scenario), "-m", "1", "-i", "127.0.0.1", "-mi", "127.0.0.1"),
            *("-nostdin", "-timeout", "30", "-timeout_error"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert await process.wait() == 0
        await siprec.until_ended()
        told = siprec.lab.published
        assert siprec.lab.refused == []
    (opened,) = [each for each in told if isinstance(each, StreamOpened)]
    assert [channel.role for channel in opened.channels] == ["agent", "customer"]
    assert opened.metadata["session_id"] == "hVpd7YQgRW2nD22h7q60JQ=="
    assert "angry" in {label for _, _, label in tiles(told, 0)}
    (summary,) = [each for each in told if isinstance(each, Summary)]
    # A machine that is busy lets SIPp send some of it too late for its BYE.
    assert 1 < summary.duration_s < 2.1
    assert siprec.reasons == ["stopped"]
