"""``emotion-monitor alerts``: alert rules, tried on what was recorded and fitted to verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from emotion_monitor.commands.options import note, settings_of
from emotion_monitor.config_file import read_config_file
from emotion_monitor.settings import Settings, first_error, load_settings
from ser_engine.errors import ConfigError
from ser_engine.frames import SAMPLE_RATE_HZ
from stream_server.alerts import AlertRule

if TYPE_CHECKING:
    from stream_server.alerts.judgement import Fit, Judged
    from stream_server.alerts.replay import Replay, Timeline
    from stream_server.config import StoreConfig

_MAX_STREAMS = 1_000_000

app = typer.Typer(
    help="Try alert rules on recorded timelines, and fit them to people's verdicts.",
    no_args_is_help=True,
)


@app.command("replay")
def replay(
    context: typer.Context,
    rules_file: Annotated[
        Path,
        typer.Argument(metavar="RULES", help="File with rules, or a whole config.yaml."),
    ],
    timelines: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TIMELINE",
            help="Output of `analyze -g stream --json` or `stream --json`; with --store, stream"
            " ids.",
        ),
    ] = None,
    store: Annotated[
        bool,
        typer.Option(
            "--store", help="Read streams from the configured store: those named, or all."
        ),
    ] = False,
    role: Annotated[
        str,
        typer.Option(
            "--role",
            help="Role to assume for recordings. [default: any, so that every rule applies]",
        ),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")
    ] = False,
) -> None:
    """Count the alerts that rules would have raised on recorded timelines."""
    from stream_server.alerts import replay as replays
    from stream_server.alerts.replay import read_timelines

    rules = read_rules(rules_file)
    names = timelines or []
    found: list[Timeline] = []
    if store:
        import asyncio

        found = asyncio.run(_stored(settings_of(context).stream_server.store, names))
    elif names:
        for name in names:
            found += read_timelines(Path(name), role)
    else:
        raise typer.BadParameter("name a file, or give --store", param_hint="TIMELINE")
    result = replays.replay(rules, found)
    if as_json:
        print(json.dumps(_document(result), ensure_ascii=False))
    else:
        _show(result)


@app.command("test")
def test(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="RULE", help="Name of a rule of the settings.")],
) -> None:
    """Send a test alert to every receiver of a rule."""
    import asyncio

    from stream_server.alerts.actions import try_receivers
    from stream_server.wire.masking import masked

    alerts = settings_of(context).stream_server.alerts
    rule = next((each for each in alerts.rules if each.name == name), None)
    if rule is None:
        names = ", ".join(f"'{each.name}'" for each in alerts.rules)
        raise typer.BadParameter(f"got '{name}', expected one of {names}", param_hint="RULE")
    if not (rule.webhook or rule.notify):
        raise typer.BadParameter(
            f"'{name}' has neither 'webhook' nor 'notify'; set one of them", param_hint="RULE"
        )
    answers = asyncio.run(try_receivers(rule, alerts.dashboard_url))
    for setting, url, answer in answers:
        outcome = "took it" if answer.is_good else "did not take it"
        if setting == "webhook":
            outcome += f" (status {answer.status})" if answer.status != 599 else " (no answer)"
        print(f"{masked(url, setting)} {outcome}")
    if not all(answer.is_good for *_, answer in answers):
        raise typer.Exit(1)


@app.command("fit")
def fit(
    context: typer.Context,
    rules_file: Annotated[
        Path,
        typer.Argument(metavar="RULES", help="File with rules, or a whole config.yaml."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")
    ] = False,
) -> None:
    """Fit threshold, hold_s and measures of each rule to people's verdicts in the store."""
    import asyncio

    from stream_server.alerts.judgement import fit as fit_rule

    rules = read_rules(rules_file)
    judged = asyncio.run(_judged(settings_of(context).stream_server.store))
    fits = [fit_rule(rule, judged[rule.name]) for rule in rules if rule.name in judged]
    if as_json:
        print(json.dumps([_fit_document(each) for each in fits], ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    if not fits:
        note("no alert of these rules was judged; right and wrong are said on the page Alerts")
        return
    table = Table(box=None)
    named = any(each.rule.measures for each in fits)
    heads = ("rule", "threshold", "hold_s", *(("measures",) if named else ()))
    heads += ("right kept", "right lost", "wrong kept")
    for head in heads:
        table.add_column(head, justify="left" if head == "rule" else "right", overflow="fold")
    for each in fits:
        for rule, kept in ((each.rule, each.before), (each.fitted, each.after)):
            is_first = rule is each.rule
            figures = (kept.right, kept.right_lost, kept.wrong)
            table.add_row(
                rule.name if is_first else "  fitted",
                f"{rule.threshold:g}",
                f"{rule.hold_s:g}",
                *((_measures_text(rule),) if named else ()),
                *map(str, figures),
            )
    Console().print(table)


def _measures_text(rule: AlertRule) -> str:
    return ", ".join(f"{name} {least:g}" for name, least in rule.measures.items())


def _fit_document(fitted: Fit) -> dict[str, Any]:
    return {
        "rule": fitted.rule.name,
        **{
            name: {
                "threshold": rule.threshold,
                "hold_s": rule.hold_s,
                "measures": rule.measures,
                "right_kept": kept.right,
                "right_lost": kept.right_lost,
                "wrong_kept": kept.wrong,
            }
            for name, rule, kept in (
                ("before", fitted.rule, fitted.before),
                ("fitted", fitted.fitted, fitted.after),
            )
        },
    }


async def _judged(config: StoreConfig) -> dict[str, list[tuple[Timeline, list[Judged]]]]:
    """Return by rule the stored streams with judged alerts, and these."""
    from stream_server.alerts.judgement import Judged
    from stream_server.alerts.replay import TimelineError, timelines_of
    from stream_server.store.reader import reading

    if not config.url:
        raise TimelineError("got no stream_server.store.url, expected a store's URL")
    async with reading(config.url) as store:
        by_stream: dict[str, dict[str, list[Judged]]] = {}
        for alert in await store.alerts(limit=_MAX_STREAMS):
            if alert.verdict is None:
                continue
            end_sample = alert.cleared_sample or alert.raised_sample
            judged = Judged(
                alert.channel,
                alert.since_sample / SAMPLE_RATE_HZ,
                end_sample / SAMPLE_RATE_HZ,
                alert.verdict == "right",
                alert.measures,
            )
            by_stream.setdefault(alert.stream_id, {}).setdefault(alert.rule, []).append(judged)
        found: dict[str, list[tuple[Timeline, list[Judged]]]] = {}
        for stream_id, by_rule in by_stream.items():
            results = [one async for page in store.pages(stream_id) for one in page]
            for timeline in timelines_of(results):
                for rule, alerts in by_rule.items():
                    found.setdefault(rule, []).append((timeline, alerts))
        return found


async def _stored(config: StoreConfig, names: list[str]) -> list[Timeline]:
    from stream_server.alerts.replay import TimelineError, timelines_of
    from stream_server.store.reader import reading

    if not config.url:
        raise TimelineError("got --store without stream_server.store.url, expected a store's URL")
    async with reading(config.url) as store:
        if not names:
            names = [stream.stream_id for stream in await store.list_streams(limit=_MAX_STREAMS)]
        found: list[Timeline] = []
        for name in names:
            results = [result async for page in store.pages(name) for result in page]
            if not results:
                raise TimelineError(f"got the stream '{name}', expected one that is stored")
            found += timelines_of(results)
        return found


def _document(result: Replay) -> dict[str, Any]:
    return {
        "duration_s": round(result.duration_s, 3),
        "rules": [
            {
                "rule": count.rule.name,
                "severity": count.rule.severity,
                "raised": len(count.alerts),
                "per_hour": round(result.per_hour(count), 3),
                "alert_s": round(count.alert_s, 3),
                "alerts": [
                    {
                        "timeline": alert.timeline,
                        "channel": alert.channel,
                        "role": alert.role,
                        "since_s": alert.since_s,
                        "raised_s": alert.raised_s,
                        "cleared_s": alert.cleared_s,
                        "posterior": round(alert.posterior, 6),
                    }
                    for alert in count.alerts
                ],
            }
            for count in result.rules
        ],
    }


def _show(result: Replay) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    counts = Table(box=None, caption=f"{_time(result.duration_s)} of streams")
    for column in ("rule", "severity", "raised", "an hour", "time in alerts"):
        right = column not in ("rule", "severity")
        counts.add_column(column, justify="right" if right else "left", overflow="fold")
    for count in result.rules:
        counts.add_row(
            count.rule.name,
            count.rule.severity,
            str(len(count.alerts)),
            f"{result.per_hour(count):.1f}",
            _time(count.alert_s),
        )
    console.print(counts)
    alerts = Table(box=None, title="raised", title_justify="left")
    for column in ("rule", "timeline", "role", "since", "raised", "cleared", "posterior"):
        right = column in ("since", "raised", "cleared", "posterior")
        alerts.add_column(column, justify="right" if right else "left", overflow="fold")
    for count in result.rules:
        for alert in count.alerts:
            alerts.add_row(
                count.rule.name,
                alert.timeline,
                alert.role or "–",
                _time(alert.since_s),
                _time(alert.raised_s),
                _time(alert.cleared_s),
                f"{alert.posterior:.0%}",
            )
    if alerts.row_count:
        console.print(alerts)


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{seconds:04.1f}" if hours else f"{minutes}:{seconds:04.1f}"


def read_rules(path: Path) -> tuple[AlertRule, ...]:
    """Read rules.

    From a configuration file, or one with ``alerts: {rules: [...]}`` or ``rules: [...]``.

    Raises:
        ConfigError: one line that names the file and what is wrong.
    """
    values = read_config_file(path)
    if {"ser_engine", "stream_server"} & set(values):
        return load_settings(path).stream_server.alerts.rules
    group = values.get("alerts", values)
    if not isinstance(group, dict) or set(group) != {"rules"}:
        raise ConfigError(
            f"{path}: got {', '.join(map(str, values)) or 'nothing'}, expected 'rules:' with a list"
            " of rules as in config.yaml, or a whole config.yaml"
        )
    try:
        settings = Settings.model_validate({"stream_server": {"alerts": group}})
    except ValidationError as error:
        where, message = first_error(error)
        raise ConfigError(f"{path}: {'.'.join(where[2:])}: {message}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return settings.stream_server.alerts.rules
