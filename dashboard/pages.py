"""The pages' files: one HTML shell for every path, and what it loads."""

from __future__ import annotations

import asyncio
import importlib.util
import mimetypes
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import hdrs, web

__all__ = ["PAGES", "STATIC_DIR", "Pages", "content_security_policy", "plotly_bundle"]

STATIC_DIR = Path(__file__).parent / "static"

PAGES = ("/", "/streams/{stream_id}", "/microphone", "/analyse", "/alerts", "/history")
"""Paths that are answered with the shell; the page's own router does the rest."""

_PLACEHOLDER = "<!doctype html><title>Emotion Monitor</title><p>The pages are not installed."
_REVALIDATE = "no-cache"
_FOR_EVER = "public, max-age=31536000, immutable"
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css"}


def content_security_policy(own: str, ingest: str) -> str:
    """Return what the shell may load and connect to.

    Styles are allowed inline because Plotly sets style attributes; scripts are not.

    Args:
        own: origin of the page's own WebSockets: not every browser counts it as ``'self'``.
        ingest: where its microphone goes.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "manifest-src 'self'",
            f"connect-src 'self' {own} {_origin(ingest)}",
            "worker-src 'self'",
            "media-src 'self' blob:",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class Pages:
    """Serves them.

    Args:
        ingest: returns where a page's microphone goes, as that page knows this server.
        folder: with ``index.html``.
    """

    def __init__(self, ingest: Callable[[web.Request], str], folder: Path = STATIC_DIR) -> None:
        self._ingest = ingest
        self._folder = folder.resolve()

    def add_to(self, app: web.Application) -> None:
        """Serve the shell and its files; the application has to check access itself."""
        for path in PAGES:
            app.router.add_get(path, self.shell)
        app.router.add_get("/favicon.ico", self.favicon)
        app.router.add_get("/static/plotly.min.js", self.plotly)
        app.router.add_get("/static/{path:.+}", self.static)

    async def shell(self, request: web.Request) -> web.StreamResponse:
        """Answer every page."""
        ingest = self._ingest(request)
        own = f"{'wss' if request.secure else 'ws'}://{_own_host(request)}"
        headers = {
            "Content-Security-Policy": content_security_policy(own, ingest),
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
            # Small, and its policy changes with the ingest's address: nobody is to keep it.
            hdrs.CACHE_CONTROL: "no-store",
        }
        index = self._folder / "index.html"
        try:
            text = await asyncio.to_thread(index.read_text, encoding="utf-8")
        except FileNotFoundError:
            text = _PLACEHOLDER
        return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)

    async def static(self, request: web.Request) -> web.StreamResponse:
        """Answer ``/static/...``."""
        try:
            path = (self._folder / request.match_info["path"]).resolve()
        except ValueError:
            raise web.HTTPNotFound from None
        if not path.is_relative_to(self._folder) or not path.is_file():
            raise web.HTTPNotFound
        return _file(path, _REVALIDATE)

    async def favicon(self, _: web.Request) -> web.StreamResponse:
        """Answer browsers that ask without being told to."""
        path = self._folder / "favicon.svg"
        if not path.is_file():
            raise web.HTTPNotFound
        return _file(path, _REVALIDATE)

    async def plotly(self, request: web.Request) -> web.StreamResponse:
        """Answer with the bundle of the ``plotly`` package.

        With its version in the query, ``?v=7.1.0``, it is kept for ever; without, it is asked for
        anew each time and not sent again unless it has changed.
        """
        bundle = plotly_bundle()
        if bundle is None:
            raise web.HTTPNotFound
        path, installed = bundle
        return _file(path, _FOR_EVER if request.query.get("v") == installed else _REVALIDATE)


@cache
def plotly_bundle() -> tuple[Path, str] | None:
    """Return Plotly's bundle and its version; None: it is not installed. Imports nothing."""
    try:
        spec = importlib.util.find_spec("plotly")
        installed = version("plotly")
    except (ImportError, PackageNotFoundError):
        return None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    return (path, installed) if path.is_file() else None


def _file(path: Path, caching: str) -> web.FileResponse:
    guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    kind = _TYPES.get(path.suffix, guessed)
    if kind.startswith("text/") or kind.endswith(("json", "svg+xml")):
        kind += "; charset=utf-8"
    return web.FileResponse(path, headers={hdrs.CONTENT_TYPE: kind, hdrs.CACHE_CONTROL: caching})


def _own_host(request: web.Request) -> str:
    """Return the host of the request as a header may repeat it."""
    host = request.host
    plain = all(character.isalnum() or character in ".:-_[]" for character in host)
    return host if plain and host.isascii() else "localhost"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
