"""The pages' files: one HTML document for every page, and what it loads."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from dashboard.pages import PAGES
from stream_server.access.policy import Scope
from stream_server.http import needs
from stream_server.http.login import to_root, wants_page

SHELL_DIR = Path(__file__).parent / "shell"

_PLACEHOLDER = "<!doctype html><title>Emotion Monitor</title><p>The pages are not installed."
_STYLES = "<!-- styles of the pages -->"
# Kept, and asked for each time whether it is still valid: scripts of two versions must not mix.
_REVALIDATE = "no-cache"
_FOR_EVER = "public, max-age=31536000, immutable"
_SERVED = ("shell", "pages")
# The types that are served: page folders hold Python too.
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


def content_security_policy(own: str, ingest: str) -> str:
    """Return what a page may load and connect to.

    ``own`` is the origin of the page's own WebSockets, which Safari does not count as ``'self'``.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            # Plotly sets style attributes.
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


class Shell:
    """Serves the document of the pages, and their scripts and styles.

    Args:
        ingest: returns where the microphone of the page in a request streams to.
        root: holds the folders ``shell`` and ``pages``; their paths below ``/static`` are those on
            disk, so that a module's relative imports mean the same for editors and browsers.
    """

    def __init__(self, ingest: Callable[[web.Request], str], root: Path = SHELL_DIR.parent) -> None:
        self._ingest = ingest
        self._root = root.resolve()

    def add_to(self, app: web.Application) -> None:
        """Serve them; the application has to check access itself."""
        for page in PAGES:
            app.router.add_get(page.path, needs(Scope(page.needs), self.document))
        app.router.add_get("/favicon.ico", needs(Scope.READ, self.favicon))
        # Before the pattern: neither is a file of ours.
        app.router.add_get("/static/plotly.min.js", needs(Scope.READ, self.plotly))
        app.router.add_get("/static/pages.js", needs(Scope.READ, self.page_list))
        app.router.add_get("/static/{path:.+}", needs(Scope.READ, self.static))
        app.middlewares.append(self._missing)

    async def document(self, request: web.Request) -> web.Response:
        """Answer the path of any page; which one it is, its script finds out."""
        ingest = self._ingest(request)
        own = f"{'wss' if request.secure else 'ws'}://{_own_host(request)}"
        headers = {
            "Content-Security-Policy": content_security_policy(own, ingest),
            # Not no-referrer, with which the form that logs out has no Origin to be checked.
            "Referrer-Policy": "same-origin",
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
            # Its policy changes with the ingest's address, so a kept copy could be wrong.
            hdrs.CACHE_CONTROL: "no-store",
        }
        index = self._root / "shell" / "index.html"
        try:
            text = await asyncio.to_thread(index.read_text, encoding="utf-8")
        except FileNotFoundError:
            text = _PLACEHOLDER
        text = text.replace(_STYLES, "\n    ".join(_style_link(page.name) for page in PAGES))
        # Relative to the page: a proxy may serve it below a path that this server does not know of.
        text = text.replace('="static/', f'="{to_root(request)}static/')
        return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)

    @property
    def _missing(self) -> Middleware:
        """Answers a person's request for an unknown path with a page that says so."""

        @web.middleware
        async def missing(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPNotFound:
                # Programs, scripts and styles are told in the status alone.
                if not wants_page(request) or "/static/" in request.path:
                    raise
            response = await self.document(request)
            response.set_status(404)
            return response

        return missing

    async def page_list(self, _: web.Request) -> web.Response:
        """Answer with :data:`~dashboard.pages.PAGES` as a module."""
        text = f"export const PAGES = {json.dumps([asdict(page) for page in PAGES])};\n"
        headers = {hdrs.CONTENT_TYPE: _TYPES[".js"], hdrs.CACHE_CONTROL: _REVALIDATE}
        return web.Response(text=text, headers=headers)

    async def static(self, request: web.Request) -> web.StreamResponse:
        """Answer ``/static/...``."""
        try:
            path = (self._root / request.match_info["path"]).resolve()
        except ValueError:  # a NUL
            raise web.HTTPNotFound from None
        # Resolved first: neither ".." nor a symbolic link leads out.
        is_served = any(path.is_relative_to(self._root / name) for name in _SERVED)
        if not is_served or path.suffix not in _TYPES or not path.is_file():
            raise web.HTTPNotFound
        return _file(path, _REVALIDATE)

    async def favicon(self, _: web.Request) -> web.StreamResponse:
        """Answer browsers that ask for it whatever the document says."""
        path = self._root / "shell" / "favicon.svg"
        if not path.is_file():
            raise web.HTTPNotFound
        return _file(path, _REVALIDATE)

    async def plotly(self, request: web.Request) -> web.StreamResponse:
        """Answer with the bundle of the ``plotly`` package.

        With its version in the query, ``?v=7.1.0``, browsers keep it for ever.
        """
        bundle = plotly_bundle()
        if bundle is None:
            raise web.HTTPNotFound
        path, installed = bundle
        return _file(path, _FOR_EVER if request.query.get("v") == installed else _REVALIDATE)


@cache
def plotly_bundle() -> tuple[Path, str] | None:
    """Return Plotly's bundle and its version, None if it is not installed."""
    try:
        # Found without importing it, which takes a second.
        spec = importlib.util.find_spec("plotly")
        installed = version("plotly")
    except (ImportError, PackageNotFoundError):
        return None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "package_data" / "plotly.min.js"
    return (path, installed) if path.is_file() else None


def _style_link(page: str) -> str:
    return f'<link rel="stylesheet" href="static/pages/{page}/style.css" />'


def _file(path: Path, caching: str) -> web.FileResponse:
    headers = {hdrs.CONTENT_TYPE: _TYPES[path.suffix], hdrs.CACHE_CONTROL: caching}
    return web.FileResponse(path, headers=headers)


def _own_host(request: web.Request) -> str:
    """Return the host of the request, if it is fit to be part of a header."""
    host = request.host
    plain = all(character.isalnum() or character in ".:-_[]" for character in host)
    return host if plain and host.isascii() else "localhost"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
