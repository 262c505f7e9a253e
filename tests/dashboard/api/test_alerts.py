from __future__ import annotations

from pathlib import Path

from tests.support.dashboard_lab import DashboardLab, serve_dashboard
from tests.support.results import make_alert, make_opened, make_segment


async def alert_ids(lab: DashboardLab, query: str = "") -> list[str]:
    return [one["alert_id"] for one in (await lab.get(f"/alerts?{query}"))["alerts"]]


async def test_alerts_are_listed_and_acknowledged(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.publish(make_opened(), make_alert(alert_id="a1"))
        lab.publish(make_alert(alert_id="a2", seq=2), make_alert("cleared", alert_id="a2", seq=3))
        answer = await lab.ask("POST", "/alerts/a1/acknowledge", json={"note": "called back"})
        assert (answer["alert_id"], answer["acknowledged_note"]) == ("a1", "called back")
        assert await alert_ids(lab, "state=acknowledged") == ["a1"]
        assert await alert_ids(lab, "state=unacknowledged") == ["a2"]
        assert await alert_ids(lab, "state=raised") == ["a1"]
        assert sorted(await alert_ids(lab)) == ["a1", "a2"]
        assert (await lab.get("/alerts?limit=1"))["more"]
        assert await alert_ids(lab, "stream=s2") == []
        (alert,) = (await lab.get("/alerts?state=acknowledged"))["alerts"]
        assert (alert["stream_name"], alert["acknowledged_note"]) == ("a call", "called back")
        assert (await lab.get("/streams/s1"))["open_alerts"] == 1


async def test_the_wall_shows_it_at_once(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.publish(make_opened(), make_alert(alert_id="a1"))
        page = await lab.open()
        assert not (await page.read())["tiles"][0]["alerts"][0]["acknowledged"]
        await lab.ask("POST", "/alerts/a1/acknowledge")
        (changed,) = (await page.read())["changed"]
        assert changed["alerts"][0]["acknowledged"]
        assert changed["worst"] == 0.0


async def test_it_is_still_acknowledged_after_a_restart(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.publish(make_opened(), make_alert(alert_id="a1"))
        await lab.ask("POST", "/alerts/a1/acknowledge", json={"note": "x"})
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        assert await alert_ids(lab, "state=acknowledged") == ["a1"]


async def test_wrong_requests(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        assert (await lab.get("/alerts?state=open", 400))["code"] == "bad_request"
        error = await lab.ask("POST", "/alerts/nobody/acknowledge", 404, json={})
        assert error["code"] == "not_found"
        for data in (b"{", b"[]", b'{"note": 1}', b'{"note": "%s"}' % (b"x" * 2001)):
            error = await lab.ask("POST", "/alerts/a1/acknowledge", 400, data=data)
            assert error["code"] == "bad_request"
        error = await lab.ask("POST", "/alerts/a1/acknowledge", 400, data=b"x" * 70_000)
        assert "65536 bytes" in error["message"]


async def test_without_a_store():
    async with serve_dashboard() as lab:
        assert (await lab.get("/alerts", 409))["code"] == "no_store"
        assert (await lab.ask("POST", "/alerts/a/acknowledge", 409))["code"] == "no_store"


async def test_an_alert_is_explained_and_judged(tmp_path: Path):
    async with serve_dashboard(database=tmp_path / "x.db") as lab:
        lab.publish(
            make_opened(),
            make_segment(seq=1, end_s=1.0),
            make_alert(alert_id="a1", seq=2, at_s=1.0),
        )
        found = await lab.get("/alerts/a1")
        assert found["alert"]["verdict"] is None
        assert found["minute"]["labels"] == {"angry": 1.0}
        assert found["outcome"] is None
        # Later the minute does not begin with the call, and has no more than a minute of speech.
        lab.publish(
            make_segment(seq=3, start_s=1.0, end_s=100.0, label="neutral"),
            make_segment(seq=4, start_s=100.0, end_s=115.0),
            make_alert(alert_id="a2", seq=5, at_s=115.0),
        )
        minute = (await lab.get("/alerts/a2"))["minute"]
        assert (minute["duration_s"], minute["speech_s"]) == (60.0, 60.0)
        assert minute["labels"] == {"angry": 0.25, "neutral": 0.75}
        await lab.ask("POST", "/alerts/a1/judge", json={"verdict": "wrong"})
        assert (await lab.get("/alerts/a1"))["alert"]["verdict"] == "wrong"
        (week,) = (await lab.get("/alerts/precision"))["weeks"]
        assert (week["right"], week["wrong"], week["precision"]) == (0, 1, 0.0)
        await lab.ask("POST", "/alerts/a1/judge", json={"verdict": None})
        assert (await lab.get("/alerts/a1"))["alert"]["verdict"] is None
        await lab.ask("POST", "/alerts/a1/judge", 400, json={"verdict": "maybe"})
        for to, kept in ((" Ms Li ", "Ms Li"), (" ", None)):
            told = await lab.ask("POST", "/alerts/a1/assign", json={"to": to})
            found = (await lab.get("/alerts/a1"))["alert"]
            assert told["assigned_to"] == found["assigned_to"] == kept
        await lab.ask("POST", "/alerts/a1/assign", 400, json={"to": "x" * 81})
        await lab.ask("POST", "/alerts/nobody/assign", 404, json={"to": "x"})
        await lab.ask("POST", "/alerts/nobody/judge", 404, json={"verdict": "right"})
        await lab.get("/alerts/nobody", 404)
