"""Every route, feed, way in and way out, with everybody who may or may not use it.

A route that is not in :data:`WAYS`, a path for audio that is not in :data:`AUDIO_WAYS`, or a reader
of results that is not in :data:`READERS` fails a test here: whoever adds one has to say who may use
it.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import msgspec
import numpy as np
import pytest
import pytest_asyncio
import soundfile
from aiohttp import test_utils
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from stream_server.access.policy import Scope, Who
from stream_server.platforms import PLATFORMS
from stream_server.server import Server
from tests.requirements import REPOSITORY
from tests.support.mosquitto import Mosquitto
from tests.support.results import make_alert, make_closed, make_opened, make_point
from tests.support.whole_server import whole_server

LIVE, ENDED, ALERT = "live-of-sales", "ended-of-sales", "alert-of-sales"
SECRET_NAME = "Sales-call-7741"
"""What nobody of another team may read anywhere."""


@dataclass(frozen=True)
class Way:
    """One method of one path.

    Attributes:
        scope: what it takes; None: nothing, everybody may.
        shows: what of the sales team's it is about: ``nothing``; ``list``: it may show it among
            others; ``one``: it is only about that; ``total``: of all teams together.
        audit: what the audit says then; "": nothing, as nobody's emotion is in it.
        path: with what stands in its place.
        body: that is sent.
        also: statuses beside success that say that it was allowed.
    """

    scope: Scope | None
    shows: str = "nothing"
    path: str = ""
    body: Any = None
    also: frozenset[int] = frozenset()
    audit: str = ""


def read(shows: str = "nothing", path: str = "", *, audit: str = "") -> Way:
    return Way(Scope.READ, shows, path, audit=audit)


OPEN = Way(None)
STREAM, JOB = f"/api/v1/streams/{ENDED}", "/api/v1/analyse/{job}"
FORM = {"preset": ""}

WAYS: dict[tuple[str, str], Way] = {
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("POST", "/login"): OPEN,
    ("POST", "/logout"): OPEN,
    ("GET", "/login/oidc"): OPEN,
    ("GET", "/login/oidc/callback"): OPEN,
    ("POST", "/login/oidc/logout"): OPEN,
    ("GET", "/metrics"): read("total"),
    ("GET", "/feed"): read("list", audit="feed"),
    # Pages and what they load: the same for everybody who may see something.
    ("GET", "/"): read(),
    ("GET", "/streams/{id}"): read(path="/streams/x"),
    ("GET", "/microphone"): read(),
    ("GET", "/analyse"): read(),
    ("GET", "/alerts"): read(),
    ("GET", "/history"): read(),
    ("GET", "/audit"): Way(Scope.ADMIN),
    ("GET", "/oversight"): read(),
    ("GET", "/favicon.ico"): read(),
    ("GET", "/static/plotly.min.js"): read(),
    ("GET", "/static/pages.js"): read(),
    ("GET", "/static/{path}"): read(path="/static/shell/main.js"),
    ("GET", "/api/v1/info"): read(),
    ("GET", "/api/v1/models"): read(),
    ("GET", "/api/v1/openapi.json"): read(),
    ("GET", "/api/v1/results.schema.json"): read(),
    ("GET", "/api/v1/config"): Way(Scope.ADMIN, audit="settings_read"),
    ("GET", "/api/v1/audit"): Way(Scope.ADMIN, audit="audit_read"),
    ("GET", "/api/v1/audit.csv"): Way(Scope.ADMIN, audit="audit_exported"),
    ("GET", "/api/v1/live"): read("list", audit="wall"),
    ("GET", "/api/v1/streams"): read("list"),
    ("GET", "/api/v1/streams/{stream_id}"): read("one", STREAM, audit="stream"),
    ("GET", "/api/v1/streams/{stream_id}/results"): read(
        "one", f"{STREAM}/results", audit="stream_results"
    ),
    ("GET", "/api/v1/streams/{stream_id}/points.csv"): read(
        "one", f"{STREAM}/points.csv", audit="stream_exported"
    ),
    ("GET", "/api/v1/streams/{stream_id}/recording/{channel}"): read(
        "one", f"{STREAM}/recording/0", audit="recording_heard"
    ),
    ("GET", "/api/v1/streams/{stream_id}/annotations"): read(
        "one", f"{STREAM}/annotations", audit="stream_exported"
    ),
    ("GET", "/api/v1/streams/{stream_id}/labels"): read(
        "one", f"{STREAM}/labels", audit="stream_results"
    ),
    ("PUT", "/api/v1/streams/{stream_id}/labels/{channel}"): Way(
        Scope.OPERATE, "one", f"{STREAM}/labels/0", {"labels": []}, audit="stream_labelled"
    ),
    ("PUT", "/api/v1/streams/{stream_id}/speakers/{channel}"): Way(
        Scope.OPERATE,
        "one",
        f"{STREAM}/speakers/0",
        {"speaker": "speaker 1", "name": "Ms Li"},
        audit="speaker_called",
    ),
    ("GET", "/api/v1/streams/{stream_id}/report.html"): read(
        "one", f"{STREAM}/report.html", audit="stream_exported"
    ),
    ("GET", "/api/v1/alerts"): read("list"),
    ("GET", "/api/v1/alerts/precision"): read(),
    ("GET", "/api/v1/alerts/{alert_id}"): read("one", f"/api/v1/alerts/{ALERT}", audit="alert"),
    ("POST", "/api/v1/alerts/{alert_id}/assign"): Way(
        Scope.OPERATE,
        "one",
        f"/api/v1/alerts/{ALERT}/assign",
        {"to": "Ms Li"},
        audit="alert_assigned",
    ),
    ("POST", "/api/v1/alerts/{alert_id}/judge"): Way(
        Scope.OPERATE,
        "one",
        f"/api/v1/alerts/{ALERT}/judge",
        {"verdict": "right"},
        audit="alert_judged",
    ),
    ("GET", "/api/v1/analyse"): read("list"),
    ("GET", "/api/v1/analyse/{job_id}"): read("one", JOB, audit="file"),
    ("GET", "/api/v1/analyse/{job_id}/result.json"): read(
        "one", f"{JOB}/result.json", audit="file_exported"
    ),
    ("GET", "/api/v1/analyse/{job_id}/result.csv"): read(
        "one", f"{JOB}/result.csv", audit="file_exported"
    ),
    ("GET", "/api/v1/analyse/{job_id}/annotations"): read(
        "one", f"{JOB}/annotations", audit="file_exported"
    ),
    ("GET", "/api/v1/analyse/{job_id}/labels"): read("one", f"{JOB}/labels", audit="file"),
    ("PUT", "/api/v1/analyse/{job_id}/labels/{channel}"): Way(
        Scope.OPERATE, "one", f"{JOB}/labels/0", {"labels": []}, audit="file_labelled"
    ),
    # Nobody was told apart in this file.
    ("PUT", "/api/v1/analyse/{job_id}/speakers/{channel}"): Way(
        Scope.OPERATE,
        "one",
        f"{JOB}/speakers/0",
        {"speaker": "speaker 1", "name": "Ms Li"},
        frozenset({404}),
        audit="speaker_called",
    ),
    ("GET", "/api/v1/analyse/{job_id}/report.html"): read(
        "one", f"{JOB}/report.html", audit="file_exported"
    ),
    ("GET", "/api/v1/analyse/{job_id}/result.parquet"): read(
        "one", f"{JOB}/result.parquet", audit="file_exported"
    ),
    ("GET", "/api/v1/analyse/{job_id}/embedding.npy"): read(
        "one", f"{JOB}/embedding.npy", audit="file_exported"
    ),
    ("GET", "/api/v1/analyse/{job_id}/log.txt"): read(
        "one", f"{JOB}/log.txt", audit="file_exported"
    ),
    # This file has neither frames nor audio that is kept.
    ("GET", "/api/v1/analyse/{job_id}/frames"): Way(
        Scope.READ, "one", f"{JOB}/frames", also=frozenset({404}), audit="file"
    ),
    ("GET", "/api/v1/analyse/{job_id}/audio.flac"): Way(
        Scope.READ, "one", f"{JOB}/audio.flac", also=frozenset({404}), audit="recording_heard"
    ),
    ("GET", "/api/v1/analyse/{job_id}/result.zip"): read(
        "one", f"{JOB}/result.zip", audit="file_exported"
    ),
    ("POST", "/api/v1/analyse"): Way(Scope.INGEST, body=FORM, audit="file_sent"),
    ("POST", "/api/v1/analyse/sample"): Way(Scope.INGEST, body={}, audit="sample_call"),
    ("POST", "/api/v1/sample-call"): Way(Scope.INGEST, body={}, audit="sample_call"),
    ("POST", "/api/v1/alerts/{alert_id}/acknowledge"): Way(
        Scope.OPERATE, "one", f"/api/v1/alerts/{ALERT}/acknowledge", {}, audit="alert_acknowledged"
    ),
    ("GET", "/api/v1/oversight"): read(),
    ("GET", "/api/v1/ledger"): read(audit="ledger_read"),
    ("GET", "/api/v1/decisions"): read("list", audit="decisions_read"),
    ("GET", "/api/v1/decisions.csv"): read("list", audit="decisions_exported"),
    ("POST", "/api/v1/alerts/{alert_id}/override"): Way(
        Scope.OPERATE,
        "one",
        f"/api/v1/alerts/{ALERT}/override",
        {"reason": "a laugh"},
        audit="alert_overridden",
    ),
    ("POST", "/api/v1/streams/{stream_id}/speakers"): Way(
        Scope.OPERATE,
        "one",
        f"/api/v1/streams/{LIVE}/speakers",
        {"speaker": "speaker 1"},
        frozenset((409,)),
        audit="speaker_named",
    ),
    ("POST", "/api/v1/streams/{stream_id}/consent"): Way(
        # The live stream of this test is on the bus only.
        Scope.OPERATE,
        "one",
        f"/api/v1/streams/{LIVE}/consent",
        {"consent": "given"},
        frozenset((409,)),
        audit="consent_told",
    ),
    ("POST", "/api/v1/oversight"): Way(
        Scope.OPERATE, body={"halted": False, "reason": "all is well"}, audit="analysis_resumed"
    ),
    ("POST", "/api/v1/streams/delete"): Way(Scope.OPERATE, body={"stream_ids": ["unknown"]}),
    ("POST", "/api/v1/person/find"): Way(
        Scope.ADMIN, body={"value": "nobody"}, audit="person_found"
    ),
    ("POST", "/api/v1/person/export"): Way(
        Scope.ADMIN, body={"value": "nobody"}, audit="person_exported"
    ),
    ("POST", "/api/v1/person/erase"): Way(
        Scope.ADMIN, body={"value": "nobody"}, audit="person_erased"
    ),
    ("POST", "/api/v1/streams/{stream_id}/objection"): Way(
        Scope.OPERATE, "one", f"/api/v1/streams/{LIVE}/objection", audit="objection"
    ),
    # Last: what they are about is gone after them.
    ("POST", "/api/v1/analyse/{job_id}/cancel"): Way(
        Scope.OPERATE, "one", f"{JOB}/cancel", audit="file_cancelled"
    ),
    ("DELETE", "/api/v1/analyse/{job_id}"): Way(Scope.OPERATE, "one", JOB, audit="file_deleted"),
    ("DELETE", "/api/v1/streams/{stream_id}"): Way(
        Scope.OPERATE, "one", STREAM, audit="stream_deleted"
    ),
}
"""Who may use what. HEAD is GET; what has no handler of its own is not in here."""

AUDIO_WAYS = {
    *("/", "/v1", "/audiohook", "/twilio", "/telnyx", "/plivo", "/exotel", "/vonage"),
    *("/freeswitch", "/asterisk", "/signalwire", "/azure", "/bandwidth", "/audiocodes"),
}
"""Paths for audio. Each takes ``ingest``."""

LISTENERS = {"asterisk", "siprec", "rtp", "amazon_connect"}
"""Platforms with a port of their own, without paths: AudioSocket, SIPREC and RTP have a list of
addresses, and a team by setting. Amazon Connect's takes a token: its own test sends them."""

READERS = {
    "store": "its rows have the team; the routes ask",
    "live_streams": "its streams have the team; routes and feeds ask",
    "wall": "test_the_wall_tells_a_team_of_its_own_streams_as_they_come_and_go",
    "dashboard": "test_a_feed_of_one_stream_is_for_its_team",
    "kind": "test_a_feed_of_one_stream_is_for_its_team",  # websocket or sse
    "mqtt": "test_what_leaves_the_server_by_itself_is_for_those_who_may_read_it",
    "vss": "the databroker of one car, for one role (docs/how-to/feeds.md)",
    "alerts": "test_what_leaves_the_server_by_itself_is_for_those_who_may_read_it",
    "front": "another process of this server",
    "nats": "servers of one operator; who may read it sees all teams (docs/how-to/cluster.md)",
    "nats_kept": "the same",
}
"""Everything that reads results, by its name on the bus, and what holds it to teams."""

NOBODY = Who("token", "nobody", frozenset())
SALES = frozenset(("sales",))
OTHERS = frozenset(("support",))
PEOPLE = {
    "without rights": NOBODY,
    "sends for sales": Who("token", "sender", frozenset((Scope.INGEST,)), SALES),
    "views support": Who("token", "viewer", frozenset((Scope.READ,)), OTHERS),
    "runs support": Who(
        "user", "supervisor", frozenset((Scope.READ, Scope.OPERATE, Scope.INGEST)), OTHERS
    ),
    "views sales": Who("token", "sales viewer", frozenset((Scope.READ,)), SALES),
    "runs sales": Who("user", "lead", frozenset((Scope.READ, Scope.OPERATE, Scope.INGEST)), SALES),
    "admin": Who("user", "root", frozenset(Scope), frozenset()),
}
"""In the order they ask: those who may not before those who may, who may delete."""


def routes_of(server: Server) -> set[tuple[str, str]]:
    found = set()
    for route in server.app.router.routes():
        path = route.resource.canonical if route.resource is not None else ""
        if route.method not in ("HEAD", "*"):
            found.add((route.method, path))
    return found


@asynccontextmanager
async def guarded(folder: Path, *assignments: str) -> AsyncIterator[tuple[Server, dict[str, str]]]:
    """Run a server on which the sales team has a live stream, an ended one and an alert."""
    async with whole_server(
        folder,
        "stream_server.access.tokens={first: 0123456789abcdef}",
        # A provider that is not there: what somebody may do here is not its business.
        "stream_server.access.oidc.issuer=http://localhost:9",
        "stream_server.access.oidc.client_id=monitor",
        "stream_server.access.group_roles={leads: supervisor}",
        "stream_server.recording.enabled=true",
        f"stream_server.recording.dir={folder}/recordings",
        "stream_server.rights.overseers=[supervisor, lead]",
        *assignments,
    ) as server:
        for stream_id in (ENDED, LIVE):
            opened = make_opened(stream_id, name=SECRET_NAME)
            server.bus.publish(msgspec.structs.replace(opened, team="sales"))
            server.bus.publish(make_point(stream_id=stream_id))
            if stream_id == ENDED:
                alert = make_alert(alert_id=ALERT, stream_id=stream_id, seq=2)
                server.bus.publish(alert)
                server.bus.publish(make_closed(stream_id=stream_id, seq=3))
        assert server.store is not None
        await server.store.flush()
        (folder / "recordings" / f"{ENDED}.0.flac").write_bytes(b"fLaC")
        tokens = {name: server.access.book.issue(who) for name, who in PEOPLE.items()}
        yield server, tokens


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Server, dict[str, str]]]:
    """One for the tests that change nothing which another one looks at."""
    async with guarded(tmp_path_factory.mktemp("shared")) as server_and_tokens:
        yield server_and_tokens


on_shared_server = pytest.mark.asyncio(loop_scope="session")


def sound() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16_000, dtype=np.float32), 16_000, format="WAV")
    return file.getvalue()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def ask(
    session: aiohttp.ClientSession, method: str, path: str, way: Way, headers: dict[str, str]
) -> tuple[int, str]:
    """Return status and the beginning of what is shown."""
    if path == "/api/v1/live":
        try:
            async with session.ws_connect(path, headers=headers) as socket:
                return 101, await socket.receive_str()
        except aiohttp.WSServerHandshakeError as error:
            return error.status, ""
    options: dict[str, Any] = {}
    if way.body is FORM:
        options["data"] = aiohttp.FormData()
        options["data"].add_field("file", sound(), filename="mine.wav")
    elif way.body is not None:
        options["json"] = way.body
    async with session.request(
        method, path, headers=headers, allow_redirects=False, **options
    ) as answer:
        if path == "/feed":
            return answer.status, await first_event(answer)
        return answer.status, (await answer.read()).decode(errors="replace")


async def first_event(answer: aiohttp.ClientResponse) -> str:
    """Return the first event of a feed, which is the snapshot; of a refusal, all of it."""
    text = ""
    while "\ndata: " not in text or not text.endswith("\n\n"):
        chunk = await answer.content.readany()
        if not chunk:
            break
        text += chunk.decode()
    return text


async def job_of_sales(session: aiohttp.ClientSession, token: str) -> str:
    """Return the id of a file of the sales team that has been analysed."""
    form = aiohttp.FormData()
    form.add_field("file", sound(), filename=f"{SECRET_NAME}.wav")
    async with session.post("/api/v1/analyse", data=form, headers=bearer(token)) as answer:
        job_id: str = (await answer.json())["job_id"]
    while True:
        url = f"/api/v1/analyse/{job_id}"
        async with session.get(url, headers=bearer(token)) as answer:
            if (await answer.json())["state"] not in ("waiting", "running"):
                return job_id
        await asyncio.sleep(0.01)


async def test_every_route_is_for_those_who_may_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with guarded(tmp_path) as (server, tokens):
        assert routes_of(server) == set(WAYS)
        noted: list[str] = []
        monkeypatch.setattr(server.store, "note", lambda **entry: noted.append(entry["action"]))
        async with aiohttp.ClientSession(server.http_url) as session:
            job = await job_of_sales(session, tokens["runs sales"])
            for (method, pattern), way in WAYS.items():
                path = (way.path or pattern).replace("{job}", job)
                status, text = await ask(session, method, path, way, {})
                where = f"{method} {path}"
                if way.scope is None:
                    assert status != 403, where
                    continue
                assert status == 401, f"{where}: {status}"
                assert SECRET_NAME not in text
                status, text = await ask(session, method, path, way, bearer("wrong" * 5))
                assert status == 401, f"{where} with a wrong token"
                for name, who in PEOPLE.items():
                    noted.clear()
                    status, text = await ask(session, method, path, way, bearer(tokens[name]))
                    told = [way.audit] if way.audit and status < 400 else []
                    assert noted == told, f"the audit of {where} by who {name}: {noted}"
                    check(f"{where} by who {name}", way, who, status, text)
                    if way.scope is Scope.OPERATE and name == "runs sales":
                        break  # it is done; there is nothing left for the admin to do it with


def check(what: str, way: Way, who: Who, status: int, text: str) -> None:
    assert way.scope is not None
    if not who.may(way.scope):
        assert status == 403, f"{what}: {status}"
        assert json.loads(text or '{"code": "forbidden"}')["code"] == "forbidden", what
        assert SECRET_NAME not in text, what
        return
    if way.shows == "total" and not who.has_all_teams:
        assert status == 403, f"{what}: {status}"
    elif way.shows == "one" and not who.sees("sales"):
        # As if there were no such thing.
        assert status == 404, f"{what}: {status}"
    else:
        fine = status < 400 or status == 503 or status in way.also
        assert fine, f"{what}: {status} {text[:200]}"
    if not who.sees("sales"):
        assert SECRET_NAME not in text and LIVE not in text and ENDED not in text, what
    elif way.shows == "list":
        assert SECRET_NAME in text or ENDED in text or LIVE in text, what


@on_shared_server
@pytest.mark.parametrize(
    "query", [f"stream={LIVE}", f"stream={ENDED}&from_s=0", f"after={ENDED}:0"]
)
async def test_a_feed_of_one_stream_is_for_its_team(
    shared: tuple[Server, dict[str, str]], query: str
):
    server, tokens = shared
    async with aiohttp.ClientSession(server.http_url) as session:
        seen = {}
        for name in ("views support", "views sales"):
            headers = bearer(tokens[name])
            async with session.get(f"/feed?{query}", headers=headers) as answer:
                seen[name] = answer.status, await first_event(answer)
        status, text = seen["views support"]
        assert SECRET_NAME not in text and '"point"' not in text
        assert status == (200 if query.startswith("after") else 404)
        assert seen["views sales"][0] == 200
        live: dict[str, int | bool] = {}
        for name in ("views support", "views sales"):
            url, headers = f"/api/v1/live?stream={LIVE}", bearer(tokens[name])
            try:
                async with session.ws_connect(url, headers=headers) as socket:
                    live[name] = SECRET_NAME in await socket.receive_str()
            except aiohttp.WSServerHandshakeError as error:
                live[name] = error.status
        assert live == {"views support": 404, "views sales": True}


@on_shared_server
async def test_the_wall_tells_a_team_of_its_own_streams_as_they_come_and_go(
    shared: tuple[Server, dict[str, str]],
):
    server, tokens = shared
    async with aiohttp.ClientSession(server.http_url) as session:
        walls = {
            name: await session.ws_connect("/api/v1/live", headers=bearer(tokens[name]))
            for name in ("views support", "views sales")
        }
        for wall in walls.values():
            await wall.receive_str()
        server.bus.publish(make_point(1.0, stream_id=LIVE, seq=5))
        for name, stream_id in (("sales", "second-of-sales"), ("support", "of-support")):
            opened = make_opened(stream_id, name=stream_id)
            server.bus.publish(msgspec.structs.replace(opened, team=name))
        assert "second-of-sales" in await walls["views sales"].receive_str()
        told = await walls["views support"].receive_str()
        assert "of-support" in told and "sales" not in told
        for wall in walls.values():
            await wall.close()


@pytest.mark.needs("mosquitto", "aiomqtt")
async def test_what_leaves_the_server_by_itself_is_for_those_who_may_read_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import aiomqtt

    readers = {name: f"emotions/{name}/#" for name in ("sales", "support")}
    broker, posted = Mosquitto(tmp_path, readers), asyncio.Queue[str]()

    async def hook(request: aiohttp.web.Request) -> aiohttp.web.Response:
        posted.put_nowait(f"{dict(request.headers)} {await request.text()}")
        return aiohttp.web.Response()

    app = aiohttp.web.Application()
    app.router.add_post("/hook", hook)
    await broker.start()
    try:
        async with (
            test_utils.TestServer(app) as receiver,
            aiomqtt.Client("127.0.0.1", broker.port, username="sales") as sales,
            aiomqtt.Client("127.0.0.1", broker.port, username="support") as support,
        ):
            for client in (sales, support):
                await client.subscribe("#", qos=1)
            hook_url = receiver.make_url("/hook")
            rule = f"{{name: customer stays angry, labels: [angry], webhook: {hook_url}}}"
            settings = (
                f"stream_server.feeds.mqtt_url=mqtt://127.0.0.1:{broker.port}",
                "stream_server.feeds.mqtt_topic=emotions/{team}",
                "stream_server.feeds.mqtt_discovery_streams=8",
                "stream_server.feeds.mqtt_discovery_prefix=emotions/{team}/home",
                f"stream_server.alerts.rules=[{rule}]",
            )
            async with guarded(tmp_path, *settings) as (server, _):
                opened = make_opened("of-support", name="their own")
                server.bus.publish(msgspec.structs.replace(opened, team="support"))
                # Names, metadata and results stay out of what an alert calls.
                call = await asyncio.wait_for(posted.get(), 20)
                assert ALERT in call and SECRET_NAME not in call and '"42"' not in call
                seen = {}
                async with asyncio.timeout(20):
                    for name, client, last in (
                        ("sales", sales, f"{ENDED}/stream_closed"),
                        ("support", support, "emotions_of-support_0/config"),
                    ):
                        seen[name] = ""
                        async for message in client.messages:
                            seen[name] += f"{message.topic} {bytes(message.payload)!r}\n"
                            if str(message.topic).endswith(last):
                                break
                assert SECRET_NAME in seen["sales"] and "of-support" not in seen["sales"]
                assert "their own" in seen["support"]
                for secret in (SECRET_NAME, ENDED, LIVE, "sales"):
                    assert secret not in seen["support"]
    finally:
        await broker.stop()
    logged = capsys.readouterr()
    assert SECRET_NAME not in logged.out + logged.err


def test_every_reader_of_results_is_known():
    names = set()
    for package in ("stream_server", "dashboard", "emotion_monitor"):
        for path in (REPOSITORY / package).rglob("*.py"):
            # FeedSource.open() hands on the name that it is given.
            call = re.compile(r"\.(subscribe|open)\((?:[^()]|\(\))*?\bname=([\w\"]+)")
            if path.name != "source.py":
                found = call.finditer(path.read_text(encoding="utf-8"))
                names |= {each[2].strip('"') for each in found}
    assert names == set(READERS)


@on_shared_server
async def test_audio_takes_the_right_to_send_it(shared: tuple[Server, dict[str, str]]):
    server, tokens = shared
    assert server.ingest.roots == AUDIO_WAYS
    for root in sorted(AUDIO_WAYS):
        url = server.ingest_url + root
        url += {
            "/": "?encoding=pcm_s16le&sample_rate=16000",
            "/v1": "/listen?encoding=linear16&sample_rate=16000",
        }.get(root, "")
        for name in (None, "views sales", "sends for sales", "admin"):
            headers = bearer(tokens[name]) if name is not None else {}
            status = await opened_status(url, headers)
            expected = {None: 401, "views sales": 403}.get(name, 101)
            # AudioHook refuses in its own protocol, after the handshake.
            if root == "/audiohook":
                expected = 101
            assert status == expected, f"{root} by {name}: {status}"


async def opened_status(url: str, headers: dict[str, str]) -> int:
    try:
        async with connect(url, additional_headers=headers, proxy=None):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


@on_shared_server
@pytest.mark.parametrize(
    ("name", "path", "metadata", "team"),
    [
        ("sends for sales", "/", {}, "sales"),
        ("sends for sales", "/", {"team": "sales"}, "sales"),
        ("sends for sales", "/", {"team": "support"}, None),
        ("sends for sales", "/teams/support/", {}, None),
        ("admin", "/", {}, ""),
        ("admin", "/", {"team": "support"}, "support"),
        ("admin", "/teams/support/", {"team": "sales"}, "support"),
        ("admin", "/", {"team": "Not a team!"}, None),
    ],
)
async def test_whose_a_stream_is(
    shared: tuple[Server, dict[str, str]],
    name: str,
    path: str,
    metadata: dict[str, str],
    team: str | None,
):
    server, tokens = shared
    async with connect(
        server.ingest_url + path, additional_headers=bearer(tokens[name]), proxy=None
    ) as socket:
        start = {"type": "start", "encoding": "pcm_s16le", "sample_rate": 16_000}
        await socket.send(json.dumps({**start, "metadata": metadata}))
        first = json.loads(await socket.recv())
        if team is None:
            assert (first["type"], first["code"]) == ("error", "forbidden")
            return
        (stream,) = server.live_streams.snapshot(first["stream_id"])
        assert stream.opened.team == team


async def test_what_a_revoked_token_holds_open_ends(tmp_path: Path):
    async with guarded(tmp_path) as (server, tokens):
        async with aiohttp.ClientSession(server.http_url) as session:
            headers = bearer(tokens["views sales"])
            wall = await session.ws_connect("/api/v1/live", headers=headers)
            await wall.receive_str()
            url = f"{server.ingest_url}/?encoding=pcm_s16le&sample_rate=16000"
            sends = bearer(tokens["sends for sales"])
            async with connect(url, additional_headers=sends, proxy=None) as socket:
                assert json.loads(await socket.recv())["type"] == "ready"
                ended = [tokens[name] for name in ("views sales", "sends for sales")]
                book = server.access.book
                book.replace_own(entry for entry in book.own() if entry[0] not in ended)
                await server.refresh_access()
                assert (await wall.receive()).type is not aiohttp.WSMsgType.TEXT
                await wall.close()
                with pytest.raises(ConnectionClosedError) as caught:
                    while True:
                        await socket.recv()
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 4401
            async with session.get("/api/v1/streams", headers=headers) as answer:
                assert answer.status == 401


def test_every_platform_with_a_port_of_its_own_is_known():
    assert {name for name, each in PLATFORMS.items() if each.has_ports} == LISTENERS
