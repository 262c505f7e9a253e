"""Paths of requests as this server knows them, below whatever path a proxy serves it.

::

    browser                       proxy                      this server
    /emotion/streams/a   ──▶   removes /emotion   ──▶   /streams/a            nothing to set
    /emotion/streams/a   ──▶   passes it on       ──▶   /emotion/streams/a    base_path: /emotion

What is sent to a browser is relative to the page it asked for, so it is right in both cases.
"""

from __future__ import annotations

from aiohttp import web

BASE_PATH = web.AppKey("base_path", str)
"""The setting ``listen.base_path``."""


def own_path(request: web.Request) -> str:
    """Return the path of a request without the base path; it begins with "/"."""
    return request.path.removeprefix(request.config_dict[BASE_PATH])


def own_path_qs(request: web.Request) -> str:
    """Return the path with its query, as it was sent, without the base path."""
    return request.path_qs.removeprefix(request.config_dict[BASE_PATH])


def to_root(request: web.Request) -> str:
    """Return the way from the page of a request to "/": "./", "../" and so on."""
    # As it was sent: in "/streams/a%2Fb" the browser sees two parts.
    raw = request.rel_url.raw_path.removeprefix(request.config_dict[BASE_PATH])
    return "../" * (raw.count("/") - 1) or "./"
