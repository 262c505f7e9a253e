from __future__ import annotations

import json

import pytest

from dashboard.config import DashboardConfig
from stream_server.access import AccessConfig, ListenConfig
from stream_server.wire.masking import MASK, masked
from tests.requirements import REPOSITORY
from tests.support.dashboard_lab import serve_dashboard

TOKEN = "crm-0123456789abcdef"


async def test_info_tells_what_pages_need():
    async with serve_dashboard() as lab:
        info = await lab.get("/info")
        assert info["version"] == "1.2.3"
        assert info["ingest_url"] == "ws://127.0.0.1:8765"
        assert info["model"] == {
            "name": "fake",
            "licence": "none",
            "notice": "A fake model.",
            "runtime": "fake cpu",
        }
        assert info["labels"][0] == {"name": "angry", "name_zh": "angry"}
        assert info["analyse_roles"] == ["customer"]
        assert (info["ready"], info["recording"], info["store"]) == (True, False, False)


async def test_info_while_the_model_is_being_loaded():
    async with serve_dashboard(is_ready=False) as lab:
        info = await lab.get("/info")
        assert (info["ready"], info["model"]["name"], info["labels"]) == (False, "", [])


async def test_the_microphone_goes_to_the_host_the_page_was_had_from():
    async with serve_dashboard() as lab:
        for host, expected in (
            ("localhost:7860", "ws://localhost:8765"),
            ("[::1]:7860", "ws://[::1]:8765"),
            ("localhost", "ws://localhost:8765"),
        ):
            answer = await lab.client.get("/api/v1/info", headers={"Host": host})
            assert (await answer.json())["ingest_url"] == expected


async def test_behind_a_proxy_the_settings_say_where_it_goes():
    config = DashboardConfig(ingest_url="wss://monitor.example.org/ingest")
    async with serve_dashboard(config=config) as lab:
        assert (await lab.get("/info"))["ingest_url"] == "wss://monitor.example.org/ingest"


async def test_models():
    async with serve_dashboard() as lab:
        models = await lab.get("/models")
        assert models["engines"][0]["name"] == "fake"
        assert models["on_disk"][0]["form"] == "built in"
        assert models["upgrade"]["state"] == "idle"


async def test_the_schema_of_results_is_the_published_one():
    async with serve_dashboard() as lab:
        published = REPOSITORY / "docs" / "reference" / "results.schema.json"
        assert await lab.get("/results.schema.json") == json.loads(published.read_text())


async def test_settings_are_shown_without_their_secrets():
    settings = {"stream_server": {"access": {"tokens": {"crm": TOKEN}}}}
    async with serve_dashboard(settings=settings) as lab:
        body = await lab.get("/config")
        assert body == {"stream_server": {"access": {"tokens": {"crm": MASK}}}}


def test_what_is_masked():
    tree = {
        "store": {"url": "postgresql+psycopg://user:pa55@host/db"},
        "feeds": {"mqtt_url": "mqtts://user:pa55@broker:8883"},
        "sqlite": {"url": "sqlite:////data/x.db"},
        "alerts": {
            "rules": [
                {
                    "name": "angry",
                    "webhook": "https://hooks.example.org/services/T0/B0/s3cr3t",
                    "webhook_secret": "shh",
                    "notify": ["slack://T0/B0/s3cr3t", "s3cr3t"],
                },
                {"name": "none", "webhook": "", "webhook_secret": ""},
            ]
        },
        "timeline": {"window_ms": 4000, "offline": True},
    }
    shown = masked(tree)
    assert shown["store"]["url"] == f"postgresql+psycopg://user:{MASK}@host/db"
    assert shown["feeds"]["mqtt_url"] == f"mqtts://user:{MASK}@broker:8883"
    assert shown["sqlite"]["url"] == "sqlite:////data/x.db"
    assert shown["alerts"]["rules"][0] == {
        "name": "angry",
        "webhook": f"https://hooks.example.org/{MASK}",
        "webhook_secret": MASK,
        "notify": [f"slack://{MASK}", f"://{MASK}"],
    }
    assert shown["alerts"]["rules"][1]["webhook"] == ""
    assert shown["timeline"] == tree["timeline"]


async def test_the_sample_call_is_played():
    async with serve_dashboard() as lab:
        assert await lab.ask("POST", "/sample-call", 201, json={}) == {"stream_id": "s1"}
        answer = await lab.client.post("/api/v1/sample-call")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        assert (await answer.json())["code"] == "too_many_sample_calls"


async def test_no_sample_call_while_the_model_is_being_loaded():
    async with serve_dashboard(is_ready=False) as lab:
        assert (await lab.ask("POST", "/sample-call", 503))["code"] == "not_ready"


async def test_paths_and_methods_there_are_not():
    async with serve_dashboard() as lab:
        assert (await lab.get("/nothing", 404))["code"] == "not_found"
        answer = await lab.client.post("/api/v1/streams")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")
        assert (await answer.json())["code"] == "method_not_allowed"
        assert (await lab.client.head("/api/v1/info")).status == 200


@pytest.mark.parametrize("path", ["/api/v1/info", "/api/v1/live", "/api/v1/streams"])
async def test_elsewhere_a_token_is_needed(path: str):
    access = AccessConfig(tokens={"crm": TOKEN})
    async with serve_dashboard(listen=ListenConfig(host="0.0.0.0"), access=access) as lab:
        assert (await lab.client.get(path)).status == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert (await lab.client.get(path, headers=headers)).status in (200, 400)
