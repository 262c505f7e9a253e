"""Streams: natural speech, sounds without speech, alerts, changes of the emotion."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from benchmarks.transitions import draw_transitions, play
from ser_engine.config import EngineConfig
from ser_engine.files import StreamResult, analyze_channel
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import Point
from ser_engine.types import Core, FloatArray
from stream_server.alerts import DEFAULT_RULES
from stream_server.alerts.evaluator import AlertEvaluator
from stream_server.wire.results import Point as WirePoint
from training.augment import telephone
from training.clips import CORPORA, Clip, read_clip
from training.corpora import NATURAL, read_more_clips
from training.tones import KINDS, tone

_SPEECHLESS_S = 12
_ANGER_S = 40
_RULE = DEFAULT_RULES[0]
_DOUBT = "unclear"


def shown_labels(points: Sequence[Point], abstain_below: float) -> list[str]:
    """Return what a person is shown at each point: an emotion, ``neutral`` or ``unclear``.

    Neutral needs no certainty: it is what is shown of ordinary speech. An emotion does.
    """
    shown = []
    for point in points:
        if point.label is None or point.label in ("unknown", "other"):
            shown.append(_DOUBT)
        elif point.label != "neutral" and point.confidence < abstain_below:
            shown.append(_DOUBT)
        else:
            shown.append(point.label)
    return shown


def natural_recordings(data: Path) -> Iterator[tuple[str, FloatArray]]:
    """Yield the natural validation recordings, channel by channel, and all again by telephone."""
    found = []
    for clip in read_more_clips(data, [NATURAL], ["val"]):
        found.append((clip.path.stem, read_clip(clip)))
    for path in sorted((data / "calls").glob("*.wav")):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        for channel in range(samples.shape[1]):
            at_rate = soxr.resample(samples[:, channel], rate, SAMPLE_RATE_HZ).astype(np.float32)
            found.append((f"{path.stem}/{channel}", at_rate))
    yield from found


def natural_row(
    engine: Core,
    recordings: Iterable[tuple[str, FloatArray]],
    config: EngineConfig,
    abstain_below: float,
    summary: dict[str, float],
) -> list[dict[str, Any]]:
    """Stream natural speech: what it is called, how often that changes, false alerts."""
    rows, recordings = [], list(recordings)
    for line, name in ((None, "natural"), (telephone, "natural_telephone")):
        counts = {"neutral": 0, _DOUBT: 0, "emotion": 0}
        changes = alerts = 0
        sure = 0
        speech_s = audio_s = 0.0
        each = {}
        for recording, samples in recordings:
            points = _points(engine, samples if line is None else line(samples), config)
            shown = shown_labels(points, abstain_below)
            kinds = [label if label in ("neutral", _DOUBT) else "emotion" for label in shown]
            for kind in kinds:
                counts[kind] += 1
            sure += sum(
                p.confidence > 0.6 and p.label not in ("neutral", "unknown", "other")
                for p in points
            )
            changes += sum(a != b for a, b in itertools.pairwise(shown))
            speech_s += sum(p.speech_share * (p.end_sample - p.start_sample) for p in points) / 16e3
            audio_s += len(samples) / SAMPLE_RATE_HZ
            alerts += _alerts(points, engine.info.labels.names)
            each[recording] = round(kinds.count("emotion") / max(1, len(kinds)), 3)
        total = max(1, sum(counts.values()))
        summary[f"{name}_neutral"] = counts["neutral"] / total
        summary[f"{name}_abstained"] = counts[_DOUBT] / total
        summary[f"{name}_emotion"] = counts["emotion"] / total
        summary[f"{name}_emotion_above_0.6"] = sure / total
        summary[f"{name}_changes_per_min"] = changes / (audio_s / 60)
        summary[f"{name}_alerts_per_hour"] = alerts / (audio_s / 3600)
        summary[f"{name}_minutes"] = audio_s / 60
        rows.append(
            {"name": name, "points": total, "alerts": alerts, "speech_s": speech_s}
            | {"shown_as_emotion": each}
        )
    return rows


def sounds_row(
    engine: Core, config: EngineConfig, abstain_below: float, summary: dict[str, float]
) -> dict[str, Any]:
    """Stream sounds without speech; only what the speech detector lets through is scored."""
    emotion = total = scored_s = 0.0
    each: dict[str, float] = {}
    for kind in KINDS:
        wrong = count = 0
        for number in range(4):
            rng = np.random.default_rng([7, KINDS.index(kind), number])
            samples = tone(kind, _SPEECHLESS_S * SAMPLE_RATE_HZ, rng) * np.float32(0.2)
            if number % 2:
                samples = telephone(samples)
            points = _points(engine, samples, config)
            shown = shown_labels(points, abstain_below)
            wrong += sum(label not in ("neutral", _DOUBT) for label in shown)
            count += len(points)
            scored_s += sum(p.end_sample - p.start_sample for p in points) / SAMPLE_RATE_HZ
        each[kind] = wrong / max(1, count)
        emotion, total = emotion + wrong, total + count
    summary["tones_emotion"] = emotion / max(1.0, total)
    summary["tones_let_through"] = scored_s / (4 * len(KINDS) * _SPEECHLESS_S)
    return {"name": "tones", "points": total, "shown_as_emotion": each}


def anger_alert_row(
    engine: Core, clips: Sequence[Clip], config: EngineConfig, summary: dict[str, float]
) -> dict[str, Any]:
    """Stream 40 s of acted anger of each speaker; the default rule should be raised."""
    each = {}
    for speaker in sorted({clip.speaker for clip in clips}):
        angry = [c for c in clips if c.speaker == speaker and c.emotion == "angry"]
        if not angry:
            continue
        pieces: list[FloatArray] = []
        while sum(map(len, pieces)) < _ANGER_S * SAMPLE_RATE_HZ:
            pieces.append(read_clip(angry[len(pieces) % len(angry)]))
        samples = np.concatenate(pieces)[: _ANGER_S * SAMPLE_RATE_HZ]
        samples *= np.float32(0.05 / (np.sqrt(np.mean(samples**2)) + 1e-9))
        points = _points(engine, samples, config)
        each[speaker] = _alerts(points, engine.info.labels.names)
    summary["anger_alerts_hit"] = sum(count > 0 for count in each.values()) / len(each)
    return {"name": "anger_alerts", "alerts": each}


def transition_rows(
    engine: Core,
    clips: Sequence[Clip],
    count: int,
    config: EngineConfig,
    summary: dict[str, float],
) -> list[dict[str, Any]]:
    """Stream changes between angry and neutral, in both directions."""
    rows, wrong, total = [], 0, 0
    for first, second in (("angry", "neutral"), ("neutral", "angry")):
        results = []
        for corpus in CORPORA:
            of_corpus = [clip for clip in clips if clip.corpus == corpus]
            drawn = draw_transitions(of_corpus, first, second, max(1, count // 3), 1)
            played = [play(engine, transition, config) for transition in drawn]
            results += played
            rows.append(
                {
                    "name": f"{first}_to_{second}_{corpus}",
                    "streams": len(played),
                    "eder": sum(r.wrong for r in played) / max(1, sum(r.total for r in played)),
                    "found": sum(r.delay_s is not None for r in played),
                    "delays_s": [r.delay_s for r in played],
                }
            )
        delays = sorted(r.delay_s for r in results if r.delay_s is not None)
        name = f"{first}_to_{second}"
        summary[f"{name}_delay_p50_s"] = statistics.median(delays) if delays else math.nan
        summary[f"{name}_delay_p90_s"] = (
            delays[min(len(delays) - 1, int(0.9 * len(delays)))] if delays else math.nan
        )
        summary[f"{name}_missed"] = len(results) - len(delays)
        summary[f"{name}_streams"] = len(results)
        wrong += sum(r.wrong for r in results)
        total += sum(r.total for r in results)
    summary["eder"] = wrong / max(1, total)
    return rows


def _points(engine: Core, samples: FloatArray, config: EngineConfig) -> Sequence[Point]:
    result = analyze_channel(engine, samples, "stream", config)
    assert isinstance(result, StreamResult)
    return result.points


def _alerts(points: Sequence[Point], names: Sequence[str]) -> int:
    """Return how often the default rule for angry customers is raised."""
    evaluator = AlertEvaluator((_RULE,), "benchmark", names)
    role = _RULE.roles[0] if _RULE.roles else ""
    for point in points:
        evaluator.feed(
            WirePoint(
                stream_id="benchmark",
                seq=0,
                channel=0,
                role=role,
                start_sample=point.start_sample,
                end_sample=point.end_sample,
                start_s=point.start_sample / SAMPLE_RATE_HZ,
                end_s=point.end_sample / SAMPLE_RATE_HZ,
                posteriors=point.posteriors,
                label=point.label,
                confidence=point.confidence,
                speech_share=point.speech_share,
                provisional=point.provisional,
                widened=point.widened,
                narrow_band=False,
                model="benchmark",
            )
        )
    return evaluator.num_raised
