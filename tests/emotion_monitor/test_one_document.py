"""One analysis, one document: command line, API, wire and store say the same of the same audio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from dashboard.backend import AnalysisRequest
from dashboard.config import AnalyseConfig
from dashboard.jobs.analyser import PoolAnalyser
from dashboard.results import read_view
from emotion_monitor import main
from emotion_monitor.commands import options as command_options
from ser_engine.files import AnalysisOptions, Granularity, analyze, file_sha256
from ser_engine.schema import FileResult, schema_document
from stream_server.config import StoreConfig
from stream_server.store import Store
from stream_server.streams.session import Session
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.feed_messages import encode_result
from stream_server.wire.messages import ChannelSpec
from stream_server.wire.results import Gap, Point, Result, Segment
from stream_server.wire.start import StreamSpec
from tests.requirements import REPOSITORY
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine
from tests.support.live_lab import ENGINE_CONFIG, LabEngine
from tests.support.results import without_envelope

GRANULARITIES: tuple[Granularity, ...] = ("utterance", "frame", "stream")


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """Two channels of 16 kHz: angry, then happy; neutral."""
    left = np.concatenate([make_audio((40_000, 0.1)), make_audio((40_321, 0.2))])
    right = make_audio((80_321, 0.3), seed=1)
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([left, right], axis=1).clip(-1, 0.999), 16_000, "PCM_16")
    return path


@pytest.fixture
def job_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


def of_command(
    path: Path, granularity: Granularity, capsys: pytest.CaptureFixture[str], *more: str
) -> Any:
    arguments = ["analyze", str(path), "-g", granularity, "--details", "--no-cache", *more]
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--set", "ser_engine.vad.detector=off"])
    assert not caught.value.code
    return json.loads(capsys.readouterr().out)


async def of_api(
    path: Path, granularity: Granularity, folder: Path, roles: tuple[str, ...] = ()
) -> tuple[bytes, bytes]:
    """Return what ``result.json`` and the body of the job are read from."""
    options = {"granularity": granularity, "frame_hop_ms": 20, "embeddings": False}
    request = AnalysisRequest(
        path, str(path), {**options, "speakers": False, "roles": roles}, folder, file_sha256(path)
    )
    analyser = PoolAnalyser(
        LabEngine(), AnalyseConfig(max_pass_s=30), ("customer",) if roles else None
    )
    await analyser(request, lambda progress: None)
    view = read_view(folder)
    assert view is not None
    return (folder / "result.json").read_bytes(), view


def of_stream(path: Path) -> list[Result]:
    engine = FakeEngine()
    pcm, _ = soundfile.read(path, dtype="int16")
    channels = (ChannelSpec(role="a"), ChannelSpec(role="b"))
    session = Session(
        stream_id="id",
        spec=StreamSpec(AudioFormat("pcm_s16le", 16_000, 2), channels),
        model=engine.info,
        engine_config=ENGINE_CONFIG,
        analyse_roles={"a", "b"},
    )
    session.opened(at=0.0)
    session.receive(pcm.astype("<i2").tobytes())
    while session.has_backlog:
        for channel, window in session.advance():
            session.answer(channel, window, engine.run(window))
    for channel, window in session.finish():
        session.answer(channel, window, engine.run(window))
    session.close("stopped", at=1.0)
    return session.take_results()


def timelines(results: list[Result]) -> list[dict[str, Any]]:
    """Return the timeline of each channel as a file's document has it."""
    return [
        {
            name: [
                json.loads(msgspec.json.encode(without_envelope(one)))
                for one in sorted(
                    (r for r in results if isinstance(r, kind)), key=lambda r: r.start_sample
                )
                if one.channel == channel and getattr(one, "final", True)
            ]
            for name, kind in (("points", Point), ("segments", Segment), ("gaps", Gap))
        }
        for channel in (0, 1)
    ]


@pytest.mark.parametrize("granularity", GRANULARITIES)
async def test_the_command_line_and_the_api_give_one_document(
    granularity: Granularity,
    call: Path,
    job_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(command_options, "build_engine", lambda config: FakeEngine())
    told = of_command(call, granularity, capsys)
    result, view = await of_api(call, granularity, job_folder)
    # An utterance always has its embedding; frames have theirs on request.
    assert json.loads(result) == json.loads(view) == told
    options = AnalysisOptions(granularity)
    python = analyze(call, options.granularity, engine=FakeEngine(), config=ENGINE_CONFIG)
    assert msgspec.json.decode(result, type=FileResult) == python.document()


@pytest.mark.parametrize("granularity", GRANULARITIES)
async def test_a_channel_whose_role_is_not_analysed_has_no_result_anywhere(
    granularity: Granularity,
    call: Path,
    job_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(command_options, "build_engine", lambda config: FakeEngine())
    roles = ("agent", "customer")
    told = of_command(call, granularity, capsys, "--roles", ",".join(roles))
    result, view = await of_api(call, granularity, job_folder, roles)
    assert json.loads(result) == json.loads(view) == told
    (channel,) = told["channels"]
    assert (channel["channel"], channel["role"]) == (1, "customer")
    # What is said of the customer does not depend on who else is in the file.
    everybody = json.loads((await of_api(call, granularity, job_folder))[0])["channels"][1]
    assert {**channel, "role": "speaker"} == everybody
    table = (job_folder / "result.csv").read_text(encoding="utf-8").splitlines()
    assert {row.split(",")[1] for row in table[1:]} == {"0", "1"}


async def test_wire_and_store_tell_the_timeline_of_the_document(call: Path, tmp_path: Path):
    published = of_stream(call)
    document = analyze(call, "stream", engine=FakeEngine(), config=ENGINE_CONFIG).to_json()
    plain = json.loads(msgspec.json.encode(document))
    expected = [
        {name: channel[name] for name in ("points", "segments", "gaps")}
        for channel in plain["channels"]
    ]
    assert len(expected[0]["points"]) > 5
    wired = [msgspec.json.decode(encode_result(each), type=Result) for each in published]
    assert timelines(wired) == expected

    store = await Store.open(StoreConfig(url=f"sqlite:///{tmp_path}/store.db"))
    try:
        for result in published:
            store.write(result)
        await store.flush()
        kept = await store.results("id")
        assert kept is not None
        assert timelines(list(kept.results)) == expected
    finally:
        await store.close()


def test_the_published_schema_is_that_of_the_structs():
    text = (REPOSITORY / "docs" / "reference" / "results.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == schema_document(), "python scripts/make_results_schema.py makes it"


def test_the_page_names_every_field():
    page = (REPOSITORY / "docs" / "reference" / "results.md").read_text(encoding="utf-8")
    for name, kind in schema_document()["$defs"].items():
        assert f"`{name}`" in page, name
        for field in kind["properties"]:
            assert f"`{field}`" in page, f"{name}.{field}"
