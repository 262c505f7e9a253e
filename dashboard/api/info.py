"""Settings as they may be shown: secrets are replaced.

What the server is: version, model, settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from dashboard.api.analyse import Options, options_of
from dashboard.api.routes import Call, Route, reply
from dashboard.backend import Backend, BusyError, EngineView, KnownModel, ModelsView, UpgradeView
from dashboard.config import DashboardConfig
from dashboard.errors import ApiError
from ser_engine.schema import LabelName

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


class InfoModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model new streams get; empty texts while it is being loaded."""

    name: str
    licence: str
    notice: str
    runtime: str


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What pages need to know before all else.

    Attributes:
        version: of the project.
        ingest_url: where a page streams its microphone to.
        ready: whether new streams are taken.
        model: see :class:`InfoModel`.
        upgrade: a model that is being fetched.
        labels: classes, in the order of ``posteriors``.
        analyse_roles: roles that are analysed.
        recording: whether audio is kept.
        store: whether timelines are kept.
        max_file_mb: largest file that is analysed, MiB.
        presets: what files can be analysed for, by name.
    """

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


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """Models that are in use, on their way, and on disk."""

    is_ready: bool
    engines: tuple[EngineView, ...]
    upgrade: UpgradeView
    on_disk: tuple[KnownModel, ...]


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that was begun."""

    stream_id: str


class Nothing(msgspec.Struct, frozen=True):
    """An empty object."""


class InfoRoutes:
    """Handlers.

    Args:
        backend: the rest of the server.
        config: the dashboard's settings.
    """

    def __init__(self, backend: Backend, config: DashboardConfig) -> None:
        self._backend = backend
        self._config = config

    def routes(self) -> list[Route]:
        """Return the routes of this module."""
        return [
            Route("GET", "/info", "What the server is.", self.info, response=Info),
            Route("GET", "/models", "Models in use and on disk.", self.models, response=Models),
            Route(
                "GET",
                "/config",
                "Every setting in effect; secrets are replaced by •••.",
                self.config,
                response=dict[str, Any],
            ),
            Route(
                "POST",
                "/sample-call",
                "Play the sample call, 42 s with an agent and a customer, as a live stream.",
                self.play,
                body=Nothing,
                response=Played,
                status=201,
                errors=("not_ready", "too_many_sample_calls"),
            ),
        ]

    async def info(self, call: Call) -> web.StreamResponse:
        """Answer ``/info``."""
        backend = self._backend
        models = backend.models()
        engine = models.engines[0] if models.engines else None
        return reply(
            Info(
                version=backend.version,
                ingest_url=ingest_url(call.request, backend, self._config),
                ready=models.is_ready,
                model=_info_model(engine),
                upgrade=models.upgrade,
                labels=engine.labels if engine is not None else (),
                analyse_roles=backend.analyse_roles,
                recording=backend.recordings is not None,
                store=backend.store is not None,
                max_file_mb=self._config.analyse.max_file_mb,
                presets={
                    name: msgspec.convert(
                        options_of({"preset": name}, backend.presets), type=Options
                    )
                    for name in backend.presets
                },
            )
        )

    async def models(self, _: Call) -> web.StreamResponse:
        """Answer ``/models``."""
        view: ModelsView = self._backend.models()
        return reply(
            Models(
                is_ready=view.is_ready,
                engines=view.engines,
                upgrade=view.upgrade,
                on_disk=await self._backend.known_models(),
            )
        )

    async def config(self, _: Call) -> web.StreamResponse:
        """Answer ``/config``."""
        return reply(masked(self._backend.config()))

    async def play(self, _: Call) -> web.StreamResponse:
        """Answer ``/sample-call``."""
        if not self._backend.models().is_ready:
            raise ApiError("not_ready", "got a request while the model is loaded, expected later")
        try:
            return reply(Played(stream_id=await self._backend.play_sample_call()), status=201)
        except BusyError as error:
            raise ApiError("too_many_sample_calls", str(error), retry_after_s=10.0) from None


def ingest_url(request: web.Request, backend: Backend, config: DashboardConfig) -> str:
    """Return where a page streams its microphone to: this host, as the page knows it."""
    if config.ingest_url:
        return config.ingest_url
    matched = _HOST.fullmatch(request.host)
    host = matched[1] if matched is not None else "localhost"
    scheme = "wss" if request.secure else "ws"
    return f"{scheme}://{host}:{backend.ingest_port()}"


def _info_model(engine: EngineView | None) -> InfoModel:
    if engine is None:
        return InfoModel(name="", licence="", notice="", runtime="")
    return InfoModel(
        name=engine.name, licence=engine.licence, notice=engine.notice, runtime=engine.runtime
    )


MASK = "•••"

_SECRET = re.compile(r"secret|password|token(?!s\b)|api_?key", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)([^/@:]*)(:[^/@]*)?@")


def masked(value: Any, name: str = "") -> Any:
    """Return settings without secrets: tokens, passwords, what webhooks are signed with.

    Of a webhook's address the host is shown; whoever knows the rest may post there.

    Args:
        value: a tree of mappings and lists.
        name: under which it stands in the tree.
    """
    if isinstance(value, Mapping):
        # Names of tokens tell who connects, their values let them in.
        inner = "secret" if name in ("tokens", "keys") else None
        return {str(key): masked(one, inner or str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [masked(one, name) for one in value]
    if not isinstance(value, str) or not value:
        return value
    if _SECRET.search(name):
        return MASK
    if name == "webhook":
        parts = urlsplit(value)
        return f"{parts.scheme}://{parts.hostname or ''}/{MASK}"
    return _USER_INFO.sub(lambda found: f"{found[1]}:{MASK}@" if found[2] else found[0], value)
