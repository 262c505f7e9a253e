"""Annotations, opened by the programs they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from ser_engine.errors import AnnotationError
from ser_engine.files.annotations import (
    SUFFIXES,
    AnnotationFormat,
    Interval,
    Tier,
    agreement,
    agreement_of_all,
    annotation_text,
    read_tiers,
    speaker_tier_of_events,
    tier_of_events,
    tiers_of_result,
)
from ser_engine.schema import FileResult, Gap, Segment

TIERS = [
    Tier("customer 0", (Interval(0.5, 2.0, "angry"), Interval(2.0, 2.52, "unclear"))),
    Tier('agent "1"', (Interval(0.0, 4.0, "neutral"),)),
]


def written(folder: Path, format: AnnotationFormat) -> Path:
    path = folder / "out"
    path.write_text(annotation_text(format, TIERS, 4.0), encoding="utf-8")
    return path


@pytest.mark.needs("parselmouth")
def test_praat_reads_the_text_grid(tmp_path: Path):
    import parselmouth
    from parselmouth.praat import call

    grid: Any = parselmouth.read(str(written(tmp_path, "textgrid")))
    assert (grid.xmin, grid.xmax) == (0.0, 4.0)
    assert [call(grid, "Get tier name", tier) for tier in (1, 2)] == ["customer 0", 'agent "1"']
    count = call(grid, "Get number of intervals", 1)
    intervals = [
        (
            call(grid, "Get starting point", 1, at),
            call(grid, "Get end point", 1, at),
            call(grid, "Get label of interval", 1, at),
        )
        for at in range(1, count + 1)
    ]
    # Praat covers a tier's time with intervals; gaps are those without a text.
    assert intervals == [
        (0.0, 0.5, ""),
        (0.5, 2.0, "angry"),
        (2.0, 2.52, "unclear"),
        (2.52, 4.0, ""),
    ]


@pytest.mark.needs("pympi")
def test_elan_s_file_is_read_back(tmp_path: Path):
    import pympi

    eaf = pympi.Elan.Eaf(str(written(tmp_path, "eaf")))
    assert sorted(eaf.get_tier_names()) == ['agent "1"', "customer 0"]
    assert eaf.get_annotation_data_for_tier("customer 0") == [
        (500, 2000, "angry"),
        (2000, 2520, "unclear"),
    ]


def test_audacity_s_labels_are_lines_in_order():
    lines = annotation_text("audacity", TIERS, 4.0).splitlines()
    assert lines[0].split("\t") == ["0.000000", "4.000000", 'agent "1": neutral']
    assert [line.split("\t")[2] for line in lines[1:]] == [
        "customer 0: angry",
        "customer 0: unclear",
    ]
    (line,) = annotation_text("audacity", TIERS[1:], 4.0).splitlines()
    assert line.endswith("\tneutral")


@pytest.mark.parametrize("granularity", ["utterance", "stream"])
def test_of_a_file_segments_or_pieces_and_speakers_are_tiers(granularity: str):
    def piece(start: float, label: str | None, *, has_speech: bool = True) -> dict[str, Any]:
        span = {"start_sample": round(16_000 * start), "end_sample": round(16_000 * (start + 1))}
        return {
            **span,
            "has_speech": has_speech,
            **{"label": label, "best": "sad", "confidence": 0.5, "posteriors": None},
            "speaker": None,
        }

    turn = {"start_sample": 0, "end_sample": 16_000}
    speaker = {
        **{"name": "A", "turns": [turn], "speech_s": 1.0, "label": None, "best": "sad"},
        **{"confidence": 0.5, "posteriors": [1.0]},
    }
    segment = {
        **{"start_sample": 8000, "end_sample": 24_000, "label": "angry", "best": "angry"},
        **{"confidence": 0.5, "final": True},
    }
    channel = {
        **{"channel": 0, "overall": None, "speakers": [speaker]},
        "pieces": [piece(0, "sad"), piece(1, None), piece(2, None, has_speech=False)],
        "segments": [] if granularity == "utterance" else [segment],
    }
    document = {
        **{"name": "a.wav", "granularity": granularity, "labels": [], "duration_s": 3.0},
        "model": {"name": "m", "sha256": "", "licence": "", "notice": "", "runtime": ""},
        **{"sample_rate": 16_000, "frame_hop_ms": 20, "has_embedding": False},
        "channels": [channel],
    }
    emotion, speakers = tiers_of_result(msgspec.convert(document, FileResult))
    assert emotion.intervals == (
        (Interval(0.0, 1.0, "sad"), Interval(1.0, 2.0, "unclear"))
        if granularity == "utterance"
        else (Interval(0.5, 1.5, "angry"),)
    )
    assert speakers == Tier("speaker 0", (Interval(0.0, 1.0, "A"),))


def test_of_a_stream_the_last_version_of_a_segment_counts():
    def segment(end_sample: int, label: str | None, *, final: bool) -> Segment:
        return Segment(
            start_sample=16_000,
            end_sample=end_sample,
            label=label,
            best="angry",
            confidence=0.5,
            final=final,
        )

    events: list[Segment | Gap] = [
        segment(24_000, None, final=False),
        Gap(start_sample=0, end_sample=16_000, reason="silence", final=True),
        segment(40_000, "angry", final=True),
    ]
    assert tier_of_events("x", events).intervals == (Interval(1.0, 2.5, "angry"),)


def test_of_a_stream_who_speaks_is_told_by_the_names_people_gave():
    def segment(start_s: int, end_s: int, label: str, speaker: str | UnsetType) -> Segment:
        return Segment(
            start_sample=start_s * 16_000,
            end_sample=end_s * 16_000,
            label=label,
            confidence=0.5,
            final=True,
            speaker=speaker,
        )

    events: list[Segment | Gap] = [
        segment(0, 1, "angry", "speaker 1"),
        segment(1, 2, "sad", "speaker 1"),
        segment(2, 3, "sad", "speaker 2"),
        segment(3, 4, "sad", UNSET),
        Gap(start_sample=64_000, end_sample=80_000, reason="left_out", final=True),
        Gap(start_sample=80_000, end_sample=96_000, reason="silence", final=True),
        segment(6, 7, "sad", "speaker 1"),
    ]
    assert speaker_tier_of_events("x", events, {"speaker 1": "Ms Li"}).intervals == (
        Interval(0.0, 2.0, "Ms Li"),
        Interval(2.0, 3.0, "speaker 2"),
        Interval(4.0, 5.0, "left_out"),
        Interval(6.0, 7.0, "Ms Li"),
    )


def tier(*intervals: tuple[float, float, str]) -> Tier:
    return Tier("x", tuple(Interval(*each) for each in intervals))


def test_agreement_is_weighted_by_time_and_corrected_for_chance():
    person = tier((0, 4, "angry"), (4, 8, "neutral"), (20, 30, "sad"))
    model = tier((0, 3, "angry"), (3, 10, "neutral"))
    found = agreement(person, model)
    # 8 s in which both say something: 3 s angry and 4 s neutral agree.
    assert (found.seconds, found.share) == (8.0, 0.875)
    assert found.confusion == {"angry": {"angry": 3.0, "neutral": 1.0}, "neutral": {"neutral": 4.0}}
    # Chance: (4 · 3 + 4 · 5) / 64 = 0.5.
    assert found.kappa == pytest.approx(0.75)


def test_agreement_that_chance_alone_makes_is_no_kappa():
    assert agreement(tier((0, 4, "sad")), tier((1, 9, "sad"))).kappa is None
    assert agreement(tier((0, 4, "sad")), tier((5, 9, "sad"))).seconds == 0


@pytest.mark.parametrize("format", SUFFIXES)
def test_what_is_written_can_be_read(tmp_path: Path, format: AnnotationFormat):
    path = tmp_path / f"call{SUFFIXES[format]}"
    path.write_text(annotation_text(format, TIERS, 4.0), encoding="utf-8")
    assert sorted(read_tiers(path), key=lambda tier: tier.name) == sorted(
        TIERS, key=lambda tier: tier.name
    )


def test_a_short_text_grid_in_utf_16_with_points(tmp_path: Path):
    path = tmp_path / "call.TextGrid"
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "2.5", "<exists>"]
    lines += ["2", '"TextTier"', '"clicks"', "0", "2.5", "1", "1.25", '"5 of 7"']
    lines += [
        '"IntervalTier"',
        '"Zoë 0"',
        "0",
        "2.5",
        "2",
        "0",
        "1.5",
        '" 生气 "',
        "1.5",
        "2.5",
        '""',
    ]
    path.write_text("\n".join(lines), encoding="utf-16")
    assert read_tiers(path) == [Tier("Zoë 0", (Interval(0.0, 1.5, "生气"),))]


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("a.TextGrid", "hello", "does not begin as a TextGrid"),
        ("a.TextGrid", 'File type = "ooTextFile"\n"TextGrid"\n0\n1\n<exists>\n3\n', "too early"),
        ("a.TextGrid", "\ufffe", "not a file of labels"),
        ("a.eaf", "<html/>", "its root is <html>"),
        ("a.eaf", "<", "not a file of labels"),
        ("a.labels.txt", "0.0 1.0 angry", "not a file of labels"),
        ("a.labels.txt", "0\t2\tangry\n1\t3\tsad\n", "overlap at 1.00 s"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, wrong: str):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(AnnotationError, match=f"{name}.*{wrong}"):
        read_tiers(tmp_path / name)


def test_a_label_track_of_audacity_with_frequencies(tmp_path: Path):
    path = tmp_path / "a.labels.txt"
    path.write_text("0.5\t1.5\tangry: very\n\\\t100.0\t900.0\n2\t3\tsad\n", encoding="utf-8")
    assert read_tiers(path) == [
        Tier("", (Interval(0.5, 1.5, "angry: very"), Interval(2, 3, "sad")))
    ]


def test_several_recordings_are_one_agreement():
    right = agreement(TIERS[0], Tier("", (Interval(0.0, 2.0, "angry"),)))
    wrong = agreement(TIERS[0], Tier("", (Interval(0.0, 1.0, "sad"),)))
    both = agreement_of_all([right, wrong])
    assert both.seconds == pytest.approx(2.0)
    assert both.share == pytest.approx(0.75)
    assert both.recalls == {"angry": pytest.approx(0.75)}
    assert (agreement_of_all([]).uar, agreement_of_all([]).kappa) == (None, None)
