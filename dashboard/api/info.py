"""What the server is: version, model, settings without their secrets."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from aiohttp import web

from dashboard.api.routes import Call, Routes, reply
from dashboard.backend import (
    Backend,
    EngineView,
    KnownModel,
    ModelsView,
    RuleView,
    UpgradeView,
)
from dashboard.config import DashboardConfig
from dashboard.jobs.options import Options, options_of
from ser_engine.schema import LabelName, schema_document
from stream_server.access.policy import Scope, Who
from stream_server.wire.masking import masked

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


class InfoModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model new streams get; empty texts while it is being loaded."""

    name: str = ""
    licence: str = ""
    notice: str = ""
    runtime: str = ""


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and what it may do.

    Attributes:
        kind: ``machine``: a client on the server's machine, which need not log in; ``token``;
            ``user``.
        scopes: some of ``ingest``, ``read``, ``operate``, ``admin``; the last includes the others.
        teams: whose streams it sees; None: all.
    """

    kind: str
    name: str
    scopes: tuple[str, ...]
    teams: tuple[str, ...] | None


class NoticeView(msgspec.Struct, frozen=True, kw_only=True):
    """The notice that a page shows before it opens the microphone; without texts there is none."""

    version: str = ""
    texts: dict[str, str] = {}


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What a page needs first.

    Attributes:
        ingest_url: where a page streams its microphone to.
        ready: whether new streams are taken.
        upgrade: a model that is being fetched.
        labels: classes, in the order of ``posteriors``.
        analyse_roles: roles that are analysed.
        recording: whether audio is kept.
        store: whether timelines are kept.
        max_file_mb: largest file that is analysed, MiB.
        presets: what files can be analysed for, by name.
        notice: shown before a page opens the microphone.
        rules: that raise alerts.
        me: who asks.
    """

    me: Me
    version: str
    ingest_url: str
    ready: bool
    model: InfoModel
    upgrade: UpgradeView
    labels: tuple[LabelName, ...]
    analyse_roles: tuple[str, ...]
    recording: bool
    store: bool
    max_file_mb: int
    presets: dict[str, Options]
    notice: NoticeView
    rules: tuple[RuleView, ...]


class Models(ModelsView, frozen=True, kw_only=True):
    """Models that are in use, being fetched, and on disk."""

    on_disk: tuple[KnownModel, ...]


ROUTES = Routes()


@ROUTES.on("GET", "/info", response=Info)
async def info(call: Call) -> web.Response:
    """What the server is."""
    backend, config = call.services.backend, call.services.config
    models = backend.models()
    engine = models.engines[0] if models.engines else None
    return reply(
        Info(
            me=_me(call.who),
            version=backend.version,
            ingest_url=ingest_url(call.request, backend, config),
            ready=models.is_ready,
            model=InfoModel() if engine is None else _info_model(engine),
            upgrade=models.upgrade,
            labels=engine.labels if engine is not None else (),
            analyse_roles=backend.analyse_roles,
            recording=backend.recordings is not None,
            store=backend.store is not None,
            max_file_mb=config.analyse.max_file_mb,
            presets={
                name: msgspec.convert(options_of({"preset": name}, backend.presets), type=Options)
                for name in backend.presets
            },
            notice=_notice(backend),
            rules=backend.rules,
        )
    )


def _notice(backend: Backend) -> NoticeView:
    if backend.rights is None:
        return NoticeView()
    config = backend.rights.config
    return NoticeView(version=config.notice_version, texts=config.notice_texts)


def _me(who: Who) -> Me:
    teams = who.visible_teams
    return Me(
        kind=who.kind,
        name=who.name,
        scopes=tuple(scope.value for scope in Scope if who.may(scope)),
        teams=None if teams is None else tuple(sorted(teams)),
    )


@ROUTES.on("GET", "/models", response=Models)
async def models(call: Call) -> web.Response:
    """Models in use and on disk."""
    backend = call.services.backend
    view = backend.models()
    return reply(Models(**msgspec.structs.asdict(view), on_disk=await backend.known_models()))


@ROUTES.on("GET", "/config", response=dict[str, Any], needs=Scope.ADMIN, audit="settings_read")
async def config(call: Call) -> web.Response:
    """Every setting in effect; secrets are replaced by •••."""
    return reply(masked(call.services.backend.config()))


@ROUTES.on("GET", "/results.schema.json", response=dict[str, Any])
async def results_schema(_: Call) -> web.Response:
    """The JSON Schema of results: of a file, and of the events of a stream."""
    return reply(schema_document())


def ingest_url(request: web.Request, backend: Backend, config: DashboardConfig) -> str:
    """Return where a page streams its microphone to: this host, by the name the page has of it."""
    if config.ingest_url:
        return config.ingest_url
    # The header is the client's: what is no host name must not get into a policy or a page.
    matched = _HOST.fullmatch(request.host)
    host = matched[1] if matched is not None else "localhost"
    scheme = "wss" if request.secure else "ws"
    return f"{scheme}://{host}:{backend.ingest_port()}"


def _info_model(engine: EngineView) -> InfoModel:
    return InfoModel(
        name=engine.name, licence=engine.licence, notice=engine.notice, runtime=engine.runtime
    )
