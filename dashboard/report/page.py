"""A report as HTML. Text of others is escaped; words are those of the pages, in their languages."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

from dashboard.report import CallReport, ReportChannel, ReportSpeaker
from ser_engine.schema import ChannelMeasures, Gap, Measures, Segment, Shares, Voice
from stream_server.store import AlertRecord

LANGUAGES = ("en", "zh")

_HERE = Path(__file__).parent
# Not from dashboard.shell: it knows all pages, and two of them have reports.
_SHELL = _HERE.parent / "shell"
_ENTRY = re.compile(r'^  "([^"]+)":\s*("(?:[^"\\]|\\.)*"),$', re.MULTILINE)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_ORDER = ("angry", "fearful", "sad", "disgusted", "surprised", "happy", "neutral", "other")
_UNCLEAR = "unclear"
_CHART_PX, _RIBBON_PX, _TURN_PX, _NARROWEST_PX = 1000.0, 26, 10, 0.75
_LEAST_SHARED_S = 0.05
_TICK_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


@cache
def words(language: str) -> dict[str, str]:
    """Return the texts of the pages' shell and of reports by key."""
    shell = (_SHELL / f"words.{language}.js").read_text("utf-8")
    own: dict[str, str] = json.loads((_HERE / f"words.{language}.json").read_text("utf-8"))
    return {key: json.loads(text) for key, text in _ENTRY.findall(shell)} | own


def report_page(report: CallReport, language: str = "en") -> str:
    """Return the page, in one of :data:`LANGUAGES`."""
    return _Page(report, words(language), language).text()


class _Page:
    def __init__(self, report: CallReport, texts: dict[str, str], language: str) -> None:
        self._report = report
        self._texts = texts
        self._language = language

    def text(self) -> str:
        report = self._report
        name = report.name or f"{self._t('common.unnamed')} {report.source_id[:6]}"
        styles = "\n".join(
            path.read_text("utf-8") for path in (_SHELL / "tokens.css", _HERE / "style.css")
        )
        body = "".join(
            (
                self._head(name),
                self._timeline(),
                self._wholes(),
                self._speakers(),
                "" if report.measures is None else self._measures(report.measures),
                self._alerts(),
                self._notes(),
                self._segments(),
                self._limits(),
            )
        )
        return f"""<!doctype html>
<html lang="{self._language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{_text(name)} · {self._t("report.title")}</title>
<link rel="icon" href="data:,">
<style>{styles}</style>
</head>
<body>
<main>{body}</main>
</body>
</html>
"""

    # -- sections ----------------------------------------------------------------------------------

    def _head(self, name: str) -> str:
        report = self._report
        facts = [self._t("report.length", length=_clock(report.duration_s))]
        if report.began_at is not None:
            facts.insert(0, self._t("report.began", when=_when(report.began_at)))
        if report.is_live:
            facts.append(self._t("report.so_far"))
        facts += [f"{key}: {value}" for key, value in report.metadata.items()]
        if report.source_id:
            facts.append(report.source_id)
        return (
            f'<header><p class="kind">{self._t("report.title")}</p><h1>{_text(name)}</h1>'
            f'<p class="facts">{_joined(facts)}</p></header>'
        )

    def _timeline(self) -> str:
        rows = "".join(
            f"<h3>{_text(self._name(channel))}</h3>{self._turns(channel)}{self._ribbon(channel)}"
            for channel in self._report.channels
            if channel.is_analysed and channel.spans
        )
        if not rows:
            return ""
        seen = {
            span.label or _UNCLEAR
            for channel in self._report.channels
            for span in channel.spans
            if isinstance(span, Segment)
        }
        key = "".join(
            f'<li><i class="swatch e-{_class(label)}"></i>{_text(self._label(label))}</li>'
            for label in _in_order(seen)
        )
        return self._section("report.timeline", f'{rows}{self._axis()}<ul class="key">{key}</ul>')

    def _ribbon(self, channel: ReportChannel) -> str:
        scale = _CHART_PX / max(self._report.duration_s, 0.001)
        parts: list[str] = []
        for span in channel.spans:
            if isinstance(span, Gap):
                continue
            label = span.label or _UNCLEAR
            # Short ones stay visible however long the call is.
            width = max((span.end_s - span.start_s) * scale, _NARROWEST_PX)
            about = f"{_clock(span.start_s)} – {_clock(span.end_s)} {self._label(label)}"
            parts.append(
                f'<rect class="e-{_class(label)}" x="{span.start_s * scale:.2f}" y="10"'
                f' width="{width:.2f}" height="{_RIBBON_PX}"><title>{_text(about)}</title></rect>'
            )
        for alert in self._report.alerts:
            if alert.role == channel.role:
                at = alert.raised_s * scale
                parts.append(
                    f'<path class="alert-mark" d="M{at - 5:.1f} 0h10l-5 9z"><title>'
                    f"{_text(alert.rule)} {_clock(alert.raised_s)}</title></path>"
                )
        whole = self._shares_text(channel)
        return (
            f'<svg class="ribbon" viewBox="0 0 {_CHART_PX:.0f} {_RIBBON_PX + 10}" role="img"'
            f' aria-label="{_text(whole)}" preserveAspectRatio="none">'
            f'<rect class="silence" x="0" y="10" width="{_CHART_PX:.0f}" height="{_RIBBON_PX}"/>'
            f"{''.join(parts)}</svg>"
        )

    def _turns(self, channel: ReportChannel) -> str:
        """Return who speaks when, a line each."""
        scale = _CHART_PX / max(self._report.duration_s, 0.001)
        lines: list[str] = []
        for speaker in channel.speakers:
            bars = "".join(
                f'<rect class="turn" x="{start_s * scale:.2f}" y="1" height="{_TURN_PX - 2}"'
                f' width="{max((end_s - start_s) * scale, _NARROWEST_PX):.2f}"/>'
                for start_s, end_s in speaker.turns
            )
            lines.append(
                f'<div class="turns"><span>{_text(self._speaker(speaker.name))}</span>'
                f'<svg viewBox="0 0 {_CHART_PX:.0f} {_TURN_PX}" aria-hidden="true"'
                f' preserveAspectRatio="none">{bars}</svg></div>'
            )
        return "".join(lines)

    def _speakers(self) -> str:
        rows = "".join(
            f"<tr><td>{_text(self._name(channel))}</td>"
            f'<th scope="row">{_text(self._speaker(speaker.name))}</th>'
            f"<td>{_clock(speaker.talk_s)}</td><td>{_text(self._heard(speaker))}</td></tr>"
            for channel in self._report.channels
            for speaker in channel.speakers
        )
        if not rows:
            return ""
        heads = self._heads(
            *("report.segment.channel", "chart.segments.speaker"),
            *("measures.talk", "report.segment.emotion"),
        )
        return self._section(
            "report.speakers",
            f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>",
        )

    def _heard(self, speaker: ReportSpeaker) -> str:
        if speaker.is_left_out:
            return self._t("chart.left_out")
        return ", ".join(
            self._label(label) if share is None else f"{self._label(label)} {_percent(share)}"
            for label, share in sorted(speaker.labels.items(), key=lambda each: -(each[1] or 0))
        )

    def _speaker(self, name: str) -> str:
        number = name.removeprefix("speaker ")
        return self._t("common.speaker_n", n=number) if number.isdecimal() else name

    def _axis(self) -> str:
        duration_s = max(self._report.duration_s, 0.001)
        step_s = next((step for step in _TICK_STEPS_S if duration_s / step <= 10), 14_400)
        ticks = "".join(
            f'<span style="left:{100 * at / duration_s:.3f}%">{_clock(at)}</span>'
            for at in range(0, math.floor(duration_s * 0.97) + 1, step_s)
        )
        return f'<div class="axis" aria-hidden="true">{ticks}</div>'

    def _wholes(self) -> str:
        cards = "".join(self._whole(channel) for channel in self._report.channels)
        return self._section("report.wholes", f'<div class="wholes">{cards}</div>')

    def _whole(self, channel: ReportChannel) -> str:
        title = f"<h3>{_text(self._name(channel))}</h3>"
        whole = channel.whole
        if not channel.is_analysed:
            return f"<article>{title}<p>{self._t('common.not_analysed')}</p></article>"
        if whole is None or not whole.shares.speech_s:
            return f"<article>{title}<p>{self._t('whole.no_speech')}</p></article>"
        shares = whole.shares
        of_what = "whole.of_speech" if channel.spans else "whole.of_all"
        rows = "".join(
            f'<tr><th scope="row"><i class="swatch e-{_class(name)}"></i>'
            f"{_text(self._label(name))}</th><td>{_percent(share)}</td></tr>"
            for name, share in sorted(_parts(shares).items(), key=lambda each: -each[1])
        )
        others = [
            self._t("whole.of_time", word=self._t(key), share=_percent(share))
            for key, share in (
                ("gap.silence", shares.silence),
                ("whole.left_out", shares.left_out or 0.0),
                ("whole.missing", shares.missing),
            )
            if share
        ]
        quarters = "".join(
            f"<li>{self._bar(quarter)}<span>{self._t('whole.quarter', n=str(number))}</span></li>"
            for number, quarter in enumerate(whole.quarters, start=1)
        )
        moved = [
            f"{self._label(name)} {change:+.2f}".replace("-", "−")
            for name, change in whole.trend.items()
            if abs(change) >= 0.05
        ]
        trend = (
            f"<p>{self._t('whole.trend')}: {_joined(moved)}"
            f" <small>{self._t('whole.trend_formula')}</small></p>"
            if moved
            else ""
        )
        return (
            f"<article>{title}"
            f"<p>{self._t(of_what, time=_clock(shares.speech_s))}</p>"
            f"{self._bar(shares)}<table>{rows}</table><p>{_joined(others)}</p>"
            f'<h4>{self._t("whole.course")}</h4><ol class="quarters">{quarters}</ol>{trend}'
            "</article>"
        )

    def _bar(self, shares: Shares) -> str:
        parts = _parts(shares)
        words = ", ".join(f"{self._label(name)} {_percent(share)}" for name, share in parts.items())
        bars = "".join(
            f'<i class="e-{_class(name)}" style="flex-grow:{share:.4f}"></i>'
            for name, share in parts.items()
        )
        about = _text(words or self._t("whole.no_speech"))
        return f'<div class="bar" role="img" aria-label="{about}">{bars}</div>'

    def _measures(self, measures: Measures) -> str:
        # Whose turns they are is told where the speakers are.
        shared = {each.index for each in self._report.channels if len(each.speakers) > 1}
        rows: list[tuple[str, Callable[[ChannelMeasures], str]]] = [
            ("talk", lambda each: f"{_clock(each.talk_s)} ({_percent(each.talk_share)})"),
        ]
        # Of one channel alone turns say nothing: who answers is not heard.
        if len(measures.channels) > 1:
            rows += [
                ("turns", lambda each: "–" if each.channel in shared else str(each.turns)),
                (
                    "longest_turn",
                    lambda each: "–" if each.channel in shared else _clock(each.longest_turn_s),
                ),
                ("interruptions", lambda each: str(each.interruptions)),
                ("interrupted", lambda each: str(each.interrupted)),
            ]
        rows += [
            ("rate", lambda each: self._voice(each, "syllables_per_s", "rate_change")),
            ("level", lambda each: self._voice(each, "level_dbfs", "level_change_db")),
            ("pitch", lambda each: self._voice(each, "pitch_hz", "pitch_change_st")),
            ("range", lambda each: self._voice(each, "pitch_range_st", "range_change_st")),
        ]
        names = {channel.index: self._name(channel) for channel in self._report.channels}
        heads = "".join(
            f'<th scope="col">{_text(names.get(each.channel, str(each.channel)))}</th>'
            for each in measures.channels
        )
        body = "".join(
            f'<tr><th scope="row">{self._t(f"measures.{key}")}</th>'
            + "".join(f"<td>{_text(of(each))}</td>" for each in measures.channels)
            + "</tr>"
            for key, of in rows
        )
        facts = [self._t("measures.silence", time=_clock(measures.silence_s))]
        if len(measures.channels) > 1:
            facts.append(self._t("measures.overlap", time=_clock(measures.overlap_s)))
        return self._section(
            "measures.title",
            f"<p>{_joined(facts)}</p><table><thead><tr><td></td>{heads}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
            + (f"<p><small>{self._t('measures.shared')}</small></p>" if shared else "")
            + f"<p><small>{self._t('measures.note')}</small></p>",
        )

    def _voice(self, channel: ChannelMeasures, field: str, change: str) -> str:
        value = None if channel.voice is None else _figure(channel.voice, field)
        if value is None:
            return "–"
        text = {
            "syllables_per_s": lambda: self._t("measures.per_s", n=f"{value:.1f}"),
            "level_dbfs": lambda: f"{value:.0f} dBFS",
            "pitch_hz": lambda: f"{value:.0f} Hz",
            "pitch_range_st": lambda: self._t("measures.semitones", n=f"{value:.1f}"),
        }[field]()
        moved = channel.changes().get(change)
        if moved is None:
            return text.replace("-", "−")
        sign = {
            "rate_change": lambda: f"{100 * moved:+.0f} %",
            "level_change_db": lambda: f"{moved:+.0f} dB",
        }.get(change, lambda: self._t("measures.semitones", n=f"{moved:+.1f}"))()
        # Of what rounds to nothing there is no direction.
        sign = re.sub(r"[+-](?=0(?:\.0)?(?![.\d]))", "±", sign)
        return f"{text}, {sign}".replace("-", "−")

    def _alerts(self) -> str:
        if not self._report.alerts:
            return (
                self._section("report.alerts", f"<p>{self._t('report.no_alerts')}</p>")
                if self._report.source_id
                else ""
            )
        columns = ("rule", "who", "raised", "ended", "seen", "note")
        heads = self._heads(*(f"report.alert.{name}" for name in columns))
        rows = "".join(map(self._alert, self._report.alerts))
        title = self._t("report.alerts")
        return self._section(
            "report.alerts",
            f'<div class="scroll" role="group" tabindex="0" aria-label="{title}">'
            f'<table class="alerts"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
            "</div>",
        )

    def _alert(self, alert: AlertRecord) -> str:
        severity = self._texts.get(f"severity.{alert.severity}", alert.severity)
        labels = ", ".join(map(self._label, alert.labels))
        cells = (
            f"{self._rule(alert.rule)} ({severity}: {labels} {_percent(alert.posterior)})",
            self._role(alert.role),
            f"{_clock(alert.raised_s)} ({self._t('report.since', when=_clock(alert.since_s))})",
            self._t("common.active") if alert.cleared_s is None else _clock(alert.cleared_s),
            "–" if alert.acknowledged_at is None else _when(alert.acknowledged_at),
            alert.acknowledged_note or "",
        )
        return f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>"

    def _rule(self, name: str) -> str:
        return self._texts.get(f"rule.{name}", name)

    def _notes(self) -> str:
        report = self._report
        rows = [(at_s, self._t("report.mark"), name) for name, at_s in report.marks] + [
            (one.at_s, self._texts.get(f"warning.{one.code}", one.code), one.message)
            for _, one in report.warnings
        ]
        if not rows:
            return ""
        body = "".join(
            f"<tr><td>{_clock(at_s)}</td><td>{_text(kind)}</td><td>{_text(about)}</td></tr>"
            for at_s, kind, about in sorted(rows)
        )
        return self._section("report.notes", f"<table><tbody>{body}</tbody></table>")

    def _segments(self) -> str:
        told_apart = any(channel.speakers for channel in self._report.channels)
        rows = "".join(
            f"<tr><td>{_text(self._name(channel))}</td><td>{_clock(span.start_s)}</td>"
            f"<td>{_clock(span.end_s)}</td>"
            + (f"<td>{_text(self._speaks(channel, span))}</td>" if told_apart else "")
            + f"<td>{_text(self._span(span))}</td></tr>"
            for channel in self._report.channels
            for span in channel.spans
        )
        if not rows:
            return ""
        heads = self._heads(
            *("report.segment.channel", "report.segment.from", "report.segment.to"),
            *(("chart.segments.speaker",) if told_apart else ()),
            "report.segment.emotion",
        )
        return (
            f"<section><details><summary>{self._t('report.segments')}</summary><table>"
            f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></details></section>"
        )

    def _speaks(self, channel: ReportChannel, span: Segment | Gap) -> str:
        if isinstance(span, Gap):
            return ""
        names = (
            [span.speaker]
            if span.speaker
            else [
                speaker.name
                for speaker in channel.speakers
                if any(
                    min(end_s, span.end_s) - max(start_s, span.start_s) > _LEAST_SHARED_S
                    for start_s, end_s in speaker.turns
                )
            ]
        )
        return ", ".join(dict.fromkeys(self._speaker(name) for name in names))

    def _span(self, span: Segment | Gap) -> str:
        if isinstance(span, Gap):
            return self._texts.get(f"gap.{span.reason}", span.reason)
        label = self._label(span.label or _UNCLEAR)
        return label if span.label is None else f"{label} {_percent(span.confidence)}"

    def _limits(self) -> str:
        model = self._report.model
        notice = self._texts.get(f"notice.{model.name}", model.notice) if model.notice else ""
        notice = f"<p>{_text(notice)}</p>" if notice else ""
        limits = "".join(
            f"<li>{self._t(f'report.limit.{key}')}</li>"
            for key in ("scores", "unclear", "use", "measures")
        )
        made = self._t(
            "report.made",
            model=model.name,
            licence=model.licence,
            version=version("emotion-monitor"),
            when=_when(datetime.now(UTC).timestamp()),
        )
        return self._section("report.limits", f"<ul>{limits}</ul>{notice}<p>{_text(made)}</p>")

    # -- words -------------------------------------------------------------------------------------

    def _heads(self, *keys: str) -> str:
        """Return the heads of a table's columns."""
        return "".join(f'<th scope="col">{self._t(key)}</th>' for key in keys)

    def _section(self, title: str, body: str) -> str:
        return f"<section><h2>{self._t(title)}</h2>{body}</section>"

    def _t(self, key: str, **values: str) -> str:
        text = self._texts[key]
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def _label(self, label: str) -> str:
        return self._texts.get(f"emotion.{label}", label.capitalize())

    def _role(self, role: str) -> str:
        return self._texts.get(f"role.{role}", role.replace("_", " ").capitalize())

    def _name(self, channel: ReportChannel) -> str:
        role = self._role(channel.role) or self._t("common.channel", n=str(channel.index))
        return f"{role} · {channel.name}" if channel.name else role

    def _shares_text(self, channel: ReportChannel) -> str:
        parts = {} if channel.whole is None else _parts(channel.whole.shares)
        return ", ".join(f"{self._label(name)} {_percent(share)}" for name, share in parts.items())


def _parts(shares: Shares) -> dict[str, float]:
    parts = {name: shares.labels[name] for name in _in_order(shares.labels)}
    return parts | ({_UNCLEAR: shares.unclear} if shares.unclear else {})


def _in_order(labels: Sequence[str] | set[str] | dict[str, float]) -> list[str]:
    known = [name for name in _ORDER if name in labels]
    others = sorted(name for name in labels if name not in _ORDER and name != _UNCLEAR)
    return known + others + ([_UNCLEAR] if _UNCLEAR in labels else [])


def _figure(voice: Voice, field: str) -> float | None:
    value: float | None = getattr(voice, field)
    return value


def _class(label: str) -> str:
    # A model's label may be anything; a class that has no colour is drawn grey.
    return re.sub(r"[^a-z]", "", label.lower())


def _text(text: str) -> str:
    return html.escape(text)


def _joined(parts: Sequence[str]) -> str:
    return " · ".join(map(_text, parts))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _clock(seconds: float) -> str:
    whole = max(0, math.floor(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _when(at: float) -> str:
    # A file is read anywhere: its times are told with their zone.
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
