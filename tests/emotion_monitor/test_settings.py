from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from emotion_monitor.app import main
from emotion_monitor.config_file import default_config_text
from emotion_monitor.settings import Settings, known_settings, load_settings
from ser_engine.config import EngineConfig
from ser_engine.errors import ConfigError
from tests.requirements import REPOSITORY

WINDOW = "ser_engine.timeline.window_ms"
WINDOW_IN_ENVIRONMENT = "EMOTION_MONITOR__SER_ENGINE__TIMELINE__WINDOW_MS"


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch):
    for name in list(os.environ):
        if name.upper().startswith("EMOTION_MONITOR__"):
            monkeypatch.delenv(name)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text("ser_engine:\n  timeline:\n    window_ms: 2000\n")
    return file


def refusal(*assignments: str, config_file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(config_file, assignments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict) and value
        found |= leaves(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


class TestConfigYaml:
    def test_is_generated_from_the_fields(self):
        """``emotion-monitor config --defaults > config.yaml`` writes it again."""
        assert default_config_text() == Settings().to_commented_yaml()

    def test_says_unit_range_and_choices(self):
        text = Settings().to_commented_yaml()
        assert "Milliseconds, 500 to 30000, a multiple of 20.\n    window_ms: 4000\n" in text
        assert "One of webrtc, silero, off.\n    detector: silero\n" in text
        assert "True or false.\n    offline: false\n" in text

    def test_is_what_a_checkout_reads(self):
        assert default_config_text() == (REPOSITORY / "config.yaml").read_text(encoding="utf-8")

    def test_equals_the_defaults_when_loaded(self):
        assert load_settings() == Settings()


class TestPrecedence:
    def test_a_file_replaces_the_defaults(self, config_file: Path):
        timeline = load_settings(config_file).ser_engine.timeline
        assert (timeline.window_ms, timeline.step_ms) == (2000, 500)

    def test_the_environment_is_stronger_than_a_file(
        self, config_file: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv(WINDOW_IN_ENVIRONMENT, "3000")
        assert load_settings(config_file).ser_engine.timeline.window_ms == 3000

    def test_the_command_line_is_stronger_than_the_environment(
        self, config_file: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv(WINDOW_IN_ENVIRONMENT, "3000")
        settings = load_settings(config_file, [f"{WINDOW}=5000"])
        assert settings.ser_engine.timeline.window_ms == 5000

    def test_the_last_of_two_assignments_holds(self):
        settings = load_settings(None, [f"{WINDOW}=5000", f"{WINDOW}=6000"])
        assert settings.ser_engine.timeline.window_ms == 6000

    def test_sources_are_merged_setting_by_setting(
        self, config_file: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("EMOTION_MONITOR__SER_ENGINE__TIMELINE__STEP_MS", "1000")
        timeline = load_settings(
            config_file, ["ser_engine.timeline.look_ahead_ms=100"]
        ).ser_engine.timeline
        assert (timeline.window_ms, timeline.step_ms, timeline.look_ahead_ms) == (2000, 1000, 100)

    def test_defaults_do_not_depend_on_the_environment(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv(WINDOW_IN_ENVIRONMENT, "3000")
        assert Settings().ser_engine.timeline.window_ms == 4000


class TestValues:
    @pytest.mark.parametrize(
        ("assignment", "expected"),
        [
            ("ser_engine.model.offline=true", True),
            ("ser_engine.model.name=12", "12"),
            ("ser_engine.model.name=a=b", "a=b"),
            ("ser_engine.vad.detector=off", "off"),
            ("ser_engine.vad.min_level_dbfs=-50", -50.0),
        ],
    )
    def test_text_becomes_the_type_of_the_setting(self, assignment: str, expected: object):
        value: Any = load_settings(None, [assignment])
        for part in assignment.partition("=")[0].split("."):
            value = getattr(value, part)
        assert value == expected
        assert type(value) is type(expected)

    def test_settings_cannot_be_changed(self):
        with pytest.raises(ValueError, match="frozen"):
            Settings().ser_engine = EngineConfig()

    def test_yaml_of_the_settings_reads_back_as_the_same_settings(self, tmp_path: Path):
        settings = load_settings(None, [f"{WINDOW}=6000", "ser_engine.vad.detector=off"])
        file = tmp_path / "again.yaml"
        file.write_text(settings.to_yaml(), encoding="utf-8")
        assert load_settings(file) == settings

    def test_known_settings_are_the_fields_of_the_sections(self):
        known = known_settings()
        written = leaves(yaml.safe_load(Settings().to_yaml()))
        # A setting may be a mapping with entries of its own.
        settings = {
            next((one for one in known if leaf.startswith(f"{one}.")), leaf) for leaf in written
        }
        assert set(known) == settings


class TestRefusals:
    def test_unknown_setting_on_the_command_line(self):
        assert refusal("ser_engine.timeline.windo_ms=3000") == (
            f"--set ser_engine.timeline.windo_ms: there is no such setting; did you mean {WINDOW}?"
        )

    def test_setting_without_its_section(self):
        assert refusal("timeline.window_ms=3000").endswith(f"did you mean {WINDOW}?")

    def test_nothing_like_it(self):
        assert refusal("zzz=3000") == (
            "--set zzz: there is no such setting; `emotion-monitor config` prints all settings"
        )

    def test_unknown_setting_in_the_environment(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("EMOTION_MONITOR__SER_ENGINE__TIMELINE__WINDO_MS", "3")
        assert refusal() == (
            "EMOTION_MONITOR__SER_ENGINE__TIMELINE__WINDO_MS: there is no such setting; did you"
            f" mean {WINDOW}?"
        )

    def test_a_variable_with_one_underscore_less(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("EMOTION_MONITOR_STREAM_SERVER__ENCRYPTION__KEYS", "{}")
        with pytest.raises(ConfigError, match="expected EMOTION_MONITOR__STREAM_SERVER__ENCRYP"):
            load_settings(None, [])

    def test_unknown_section_in_the_environment(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("EMOTION_MONITOR__ENGINE__TIMELINE__WINDOW_MS", "3")
        assert "EMOTION_MONITOR__ENGINE__TIMELINE__WINDOW_MS: there is no such" in refusal()

    def test_unknown_setting_in_a_file(self, config_file: Path):
        config_file.write_text("ser_engine:\n  timeline:\n    window: 3000\n")
        message = refusal(config_file=config_file)
        assert message.startswith(f"{config_file}: ser_engine.timeline.window: there is no such")

    def test_wrong_type_names_the_strongest_place_it_was_set(
        self, config_file: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv(WINDOW_IN_ENVIRONMENT, "long")
        assert refusal(config_file=config_file) == (
            f"{WINDOW_IN_ENVIRONMENT}: got 'long', expected a valid integer"
        )
        assert refusal(f"{WINDOW}=wide", config_file=config_file) == (
            f"--set {WINDOW}: got 'wide', expected a valid integer"
        )

    def test_wrong_choice_lists_the_choices(self):
        assert refusal("ser_engine.vad.detector=energy") == (
            "--set ser_engine.vad.detector: got 'energy', expected 'webrtc', 'silero' or 'off'"
        )

    def test_several_errors_are_counted(self):
        assert refusal(f"{WINDOW}=a", "ser_engine.model.offline=b").endswith("(and 1 more)")

    def test_out_of_range(self):
        assert refusal("ser_engine.vad.aggressiveness=4") == (
            "--set ser_engine.vad.aggressiveness: got '4', expected 0 to 3"
        )

    def test_not_a_multiple(self):
        assert refusal(f"{WINDOW}=510") == (
            f"--set {WINDOW}: got '510', expected 500 to 30000, a multiple of 20"
        )

    def test_an_entry_out_of_range(self):
        assert refusal("dashboard.wall.weights={angry: 2000}") == (
            "--set dashboard.wall.weights.angry: got 2000, expected 0 to 1000"
        )

    def test_a_contradiction_names_both_values(self):
        message = refusal("ser_engine.timeline.step_ms=9000")
        assert "timeline.step_ms 9000" in message
        assert "timeline.window_ms 4000" in message

    def test_a_value_where_a_section_belongs(self):
        assert refusal("ser_engine.timeline=3") == (
            "--set ser_engine.timeline: got '3', expected a section with settings"
        )

    @pytest.mark.parametrize("assignment", ["ser_engine", "=3", "ser_engine..model=3"])
    def test_an_assignment_that_is_none(self, assignment: str):
        assert refusal(assignment).startswith(
            f"got --set '{assignment}', expected section.group.name=value"
        )

    def test_a_whole_section_in_the_environment_that_is_no_section(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("EMOTION_MONITOR__SER_ENGINE", "{")
        assert refusal() == (
            "EMOTION_MONITOR__SER_ENGINE: got '{', expected a section with settings"
        )

    def test_a_list_in_the_environment_is_yaml(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("EMOTION_MONITOR__STREAM_SERVER__STREAMS__ANALYSE_ROLES", "[driver]")
        assert load_settings().stream_server.streams.analyse_roles == ("driver",)


@pytest.mark.parametrize(
    "assignment",
    [
        "stream_server.access.tokens=[s3cret-0123456789]",
        "stream_server.access.tokens={crm: [s3cret-0123456789]}",
        "stream_server.access=s3cret-0123456789",
        "stream_server.telephony.twilio_auth_token=[s3cret]",
        "stream_server.telephony.twilio_auth_token={s3cret: 1}",
        "stream_server.access.tokens.crm:s3cret-0123456789",
        "stream_server.telephony.public_url=https://me:s3cret/@host",
        "stream_server.feeds.mqtt_url=[mqtt://me:s3cret@host]",
        "stream_server.store=postgresql://me:s3cret@host",
    ],
)
def test_an_error_shows_no_secret(assignment: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["--set", assignment, "config", "--check"])
    told = capsys.readouterr().err
    assert caught.value.code == 2
    assert "s3cret" not in told
    assert assignment.partition("=")[0].split(":")[0] in told or "public_url" in told
