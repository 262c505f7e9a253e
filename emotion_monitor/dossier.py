"""The technical file of an installation: what it is, how good, how it is set, what it is not for.

For a deployer's own assessment under the AI Act (Annex IV as a guide) and the GDPR (Article 35). It
says what the software knows of itself; purpose, legal basis and proportionality are the deployer's.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import distributions, version
from pathlib import Path

import yaml

import ser_engine.models
from emotion_monitor.settings import Settings
from ser_engine.config import ModelConfig
from stream_server.wire.masking import masked

_CARD = "MODEL_CARD.md"


def dossier(settings: Settings, *, now: datetime.datetime) -> str:
    """Return the file as Markdown."""
    parts: list[tuple[str, Callable[[Settings], Iterator[str]]]] = [
        ("What needs attention", _findings),
        ("The system", _system),
        ("Who is analysed, with what notice and consent", _people),
        ("What is kept, for how long", _kept),
        ("Who receives results", _recipients),
        ("Models on this machine", _models),
        ("Accuracy by group, and limits", _cards),
        ("Facts for an impact assessment", _impact),
        ("Settings in effect", _settings),
        ("Packages", _packages),
    ]
    lines = [
        "# Technical file: Emotion Monitor",
        "",
        f"Made {now:%Y-%m-%d %H:%M} UTC by version {version('emotion-monitor')} from what is"
        " installed. Purpose, legal basis and proportionality are for the deployer to add.",
    ]
    for number, (title, part) in enumerate(parts, 1):
        lines += ["", f"## {number}. {title}", "", *part(settings)]
    return "\n".join(lines) + "\n"


def as_html(markdown: str) -> str:
    """Return Markdown as a page that needs nothing else."""
    from markdown_it import MarkdownIt

    # Without raw HTML: names in settings are not to become elements.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:4px 8px;"
        "text-align:left;vertical-align:top}pre{overflow:auto;background:#f6f6f6;padding:1rem}"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Technical file</title><style>{style}</style></head>\n"
        f"<body>\n{body}</body></html>\n"
    )


def _findings(settings: Settings) -> Iterator[str]:
    found = [text for is_so, text in _checks(settings) if is_so]
    if not found:
        yield "Nothing was found among what the software can see."
    for text in found:
        yield f"- {text}"


def _checks(settings: Settings) -> list[tuple[bool, str]]:
    server = settings.stream_server
    rights, roles = server.rights, server.streams.analyse_roles
    return [
        (
            bool({"agent", "mixed"} & set(roles)),
            "`streams.analyse_roles` has a role of people at work. In the EU inferring their"
            " emotions is prohibited save for medical or safety reasons (AI Act, Article 5(1)(f)).",
        ),
        (
            rights.require_notice == "no",
            "Streams are analysed that do not say that notice was given (`rights.require_notice`);"
            " Article 50(3) asks that people are told.",
        ),
        (not rights.notice_texts, "There is no notice for the browser (`rights.notice_texts`)."),
        (
            not rights.require_consent,
            "Consent is not asked for (`rights.require_consent`): another legal basis is needed.",
        ),
        (not rights.overseers, "Nobody is named as overseer (`rights.overseers`)."),
        (not rights.objection_key, "Callers cannot object by a key (`rights.objection_key`)."),
        (server.store.retention_days == 0, "Timelines are kept for ever (`store.retention_days`)."),
        (not server.store.url, "Nothing is stored: there is no ledger and no log of decisions."),
    ]


def _system(settings: Settings) -> Iterator[str]:
    yield from _table(
        ("What", "It is"),
        [
            ("version", version("emotion-monitor")),
            ("Python", platform.python_version()),
            ("operating system", platform.platform()),
            ("intended use", "watching how speech sounds, live and in recordings"),
            (
                "not for",
                "hiring, rating, disciplining, diagnosing, insuring, lending to or screening"
                " anybody; emotions of people at work or in education",
            ),
            (
                "how it works",
                "a network scores 20 ms frames of speech; scores are pooled and smoothed; a label"
                " is said only above the model's threshold, else `unclear`",
            ),
            ("human oversight", "page *Oversight*: a stop for all analysis, overrides of alerts"),
        ],
    )


def _people(settings: Settings) -> Iterator[str]:
    server = settings.stream_server
    rights = server.rights
    yield from _table(
        ("What", "It is"),
        [
            ("roles that are analysed", ", ".join(server.streams.analyse_roles)),
            (
                "consent",
                "required" if rights.require_consent else "not required; refusal is obeyed",
            ),
            ("notice", rights.require_notice),
            ("version of the notice", rights.notice_version or "–"),
            ("languages of the notice", ", ".join(rights.notice_texts) or "–"),
            ("objection on the telephone", rights.objection_key or "–"),
            ("overseers", ", ".join(rights.overseers) or "–"),
            ("metadata kept as hashes", ", ".join(rights.pseudonymised_metadata) or "–"),
        ],
    )
    for language, text in rights.notice_texts.items():
        yield from ("", f"Notice ({language}):", "", f"> {' '.join(text.split())}")


def _kept(settings: Settings) -> Iterator[str]:
    server = settings.stream_server
    audio = (
        f"{server.recording.retention_hours:g} hours" if server.recording.enabled else "not kept"
    )
    timelines = (
        f"{server.store.retention_days:g} days" if server.store.retention_days else "for ever"
    )
    files = "kept" if settings.dashboard.analyse.keep_audio else "deleted once analysed"
    yield from _table(
        ("What", "How long"),
        [
            ("timelines: scores, labels, alerts, name and metadata of a stream", timelines),
            *(
                (f"the same of the team {team}", f"{days:g} days")
                for team, days in server.store.team_retention_days.items()
            ),
            ("audio of streams", audio),
            ("audio of files", files),
            ("decisions, ledger of notices", f"{server.rights.decision_retention_days:g} days"),
            ("audit", f"{server.store.audit_retention_days:g} days"),
        ],
    )


def _recipients(settings: Settings) -> Iterator[str]:
    server = settings.stream_server
    rules = server.alerts.rules
    yield from _table(
        ("Where", "In use"),
        [
            ("people who log in, and tokens", "see `emotion-monitor user list`, `token list`"),
            ("MQTT broker", "yes" if server.feeds.mqtt_url else "no"),
            ("databroker of a car", "yes" if server.feeds.vss_url else "no"),
            ("webhooks of alerts", "yes" if any(rule.webhook for rule in rules) else "no"),
            ("mail, chats and others", "yes" if any(rule.notify for rule in rules) else "no"),
            ("database server", "yes" if server.store.url.startswith("postgres") else "no"),
        ],
    )


def _models(settings: Settings) -> Iterator[str]:
    from ser_engine.models.registry import inventory

    config: ModelConfig = settings.ser_engine.model
    yield f"In use: `{config.name}`."
    yield ""
    rows = [
        (model.name, model.form.value, model.licence, f"`{model.sha256 or 'not known'}`")
        for model in inventory(config)
    ]
    yield from _table(("Model", "Form", "Licence", "SHA-256 of its weights"), rows)


def _cards(settings: Settings) -> Iterator[str]:
    folder = Path(str(ser_engine.models.__file__)).parent
    yield "The cards of the models that are part of the package, in full."
    for card in sorted(folder.glob(f"*/{_CARD}")):
        yield ""
        for line in card.read_text(encoding="utf-8").splitlines():
            # Two levels below the headings of this file.
            yield f"##{line}" if line.startswith("#") else line
    yield ""
    yield (
        "emotion2vec+: its makers report 47 % (MELD) and 57 % (MSP-Podcast) unweighted accuracy"
        " over four classes for the large model on natural conversation, and name no groups."
    )


def _impact(settings: Settings) -> Iterator[str]:
    yield from (
        "- Data: speech, from it scores of emotions (sensitive in effect, though no biometric"
        " identification is made); names and metadata as senders give them.",
        "- People concerned: those whose channel has an analysed role, and everybody else heard"
        " in it.",
        "- No decision is made about anybody: alerts are shown to people, who acknowledge or"
        " override them; each is logged with model, version, rule and score.",
        "- Rights: notice and consent per stream with a ledger; objection by message, API or"
        " telephone key; finding, export and erasure of one person's data.",
        "- Errors to expect: see the cards; accuracy differs by sex, language and recording;"
        " natural speech scores far lower than acted speech.",
        "- Security: docs/how-to/security.md has the threats, what stops them and the tests.",
        "- Registration (AI Act, Article 49, Annex VIII): name and version as above; provider and"
        " deployer, purpose and status are the deployer's to add.",
    )


def _settings(settings: Settings) -> Iterator[str]:
    yield "Secrets are masked."
    yield from ("", "```yaml")
    shown = masked(yaml.safe_load(settings.to_yaml()))
    yield yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).rstrip()
    yield "```"


def _packages(settings: Settings) -> Iterator[str]:
    found = {each.metadata["Name"]: each.version for each in distributions()}
    yield ", ".join(f"{name} {found[name]}" for name in sorted(found, key=str.lower))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
