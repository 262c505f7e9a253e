"""``emotion-monitor person``: find, export and erase what is kept of one person.

A running server does it, by its JSON interface: it alone knows of live calls, of files that are
being analysed and of what a broker retains. ``purge`` works on the database itself.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any
from urllib import error, request
from urllib.parse import urlsplit

import typer

from emotion_monitor.commands.options import ServerCertificateOption, note, settings_of, writing
from ser_engine.errors import ConfigError

if TYPE_CHECKING:
    import ssl

person = typer.Typer(help="Find, export and erase the data of one person.", no_args_is_help=True)

# Thousands of calls take a while to export.
_TIMEOUT_S = 600.0

_Value = Annotated[
    str,
    typer.Argument(
        metavar="VALUE",
        help="Value in the metadata, such as the caller's number; -: the first line of standard"
        " input, which keeps it out of the shell's history.",
    ),
]
_Name = Annotated[
    str, typer.Option("--name", help="Look only at the metadata of this name, e.g. caller.")
]
_Url = Annotated[
    str,
    typer.Option(
        "--url", metavar="URL", help="Address of the server's pages.  [default: the settings']"
    ),
]
_Token = Annotated[
    str,
    typer.Option(
        "--token", envvar="EMOTION_MONITOR_TOKEN", help="Token with the scope admin, if one is set."
    ),
]
_CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        envvar="EMOTION_MONITOR_CA_FILE",
        help="Trust the certificate authorities of this PEM file, for https://.",
    ),
]


@person.command("find")
def find(
    context: typer.Context,
    value: _Value,
    name: _Name = "",
    url: _Url = "",
    token: _Token = "",
    ca_file: _CaFile = None,
    server_certificate: ServerCertificateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List streams and files with VALUE in their metadata."""
    server = _server(context, url, token, ca_file, server_certificate)
    with server.post("find", _text(value), name) as answer:
        found = json.load(answer)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    _list(found)


@person.command("export")
def export(
    context: typer.Context,
    value: _Value,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.zip", help="File to write, for its owner only.")
    ],
    name: _Name = "",
    url: _Url = "",
    token: _Token = "",
    ca_file: _CaFile = None,
    server_certificate: ServerCertificateOption = None,
) -> None:
    """Write all data of the person (results, audio, the ledger) into a ZIP file."""
    from ser_engine.files.whole_files import whole_file

    server = _server(context, url, token, ca_file, server_certificate)
    with server.post("export", _text(value), name) as answer:
        with (
            writing(out),
            whole_file(out) as partial,
            open(partial, "wb", opener=_for_owner_only) as file,
        ):
            shutil.copyfileobj(answer, file)
    note(f"{out}")


@person.command("erase")
def erase(
    context: typer.Context,
    value: _Value,
    name: _Name = "",
    url: _Url = "",
    token: _Token = "",
    ca_file: _CaFile = None,
    server_certificate: ServerCertificateOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
) -> None:
    """Erase all data of the person and end their live streams, after a list and a question."""
    server, text = _server(context, url, token, ca_file, server_certificate), _text(value)
    with server.post("find", text, name) as answer:
        found = json.load(answer)
    _list(found)
    if not found["streams"] and not found["files"]:
        return
    if not yes and not typer.confirm("Erase all of it?", default=False):
        raise typer.Exit(1)
    with server.post("erase", text, name) as answer:
        erased = json.load(answer)
    note(f"erased {erased['streams']} streams and {erased['files']} files")
    if not erased["is_complete"]:
        note("the database's files still hold it; run emotion-monitor person purge")


@person.command("purge")
def purge(context: typer.Context) -> None:
    """Remove erased data from the files of the configured database, too.

    PostgreSQL rewrites its tables (VACUUM FULL). Servers cannot write to a table meanwhile and keep
    their results in memory. You have to erase backups, replicas and archives of its log yourself.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from stream_server.store import parse_store_url
    from stream_server.store.database import describe, make_engine
    from stream_server.store.persons import purge_database

    url = settings_of(context).stream_server.store.url
    if not url:
        raise ConfigError("got no store.url, expected the database that was erased from")
    engine = make_engine(parse_store_url(url), read_only=False)
    try:
        problem = purge_database(engine)
    except SQLAlchemyError as away:
        problem = f"the database of store.url cannot be used: {describe(away)}"
    finally:
        engine.dispose()
    if problem:
        note(problem)
        raise typer.Exit(1)
    note("nothing of what was erased is left in the files of the database")


@dataclass(frozen=True, slots=True)
class _Server:
    """Where requests go.

    Attributes:
        url: of the pages.
        token: "": none.
        tls: what is trusted.
    """

    url: str
    token: str
    tls: ssl.SSLContext

    @contextmanager
    def post(self, path: str, value: str, name: str) -> Iterator[IO[bytes]]:
        """Yield the server's answer; a refusal, or that there is none, ends the command."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        asked = request.Request(
            f"{self.url}/api/v1/person/{path}",
            json.dumps({"value": value, "name": name}).encode(),
            headers,
        )
        handlers: list[request.BaseHandler] = [request.HTTPSHandler(context=self.tls)]
        if urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1"):
            # A proxy would take it for the machine that it runs on itself.
            handlers.append(request.ProxyHandler({}))
        try:
            with request.build_opener(*handlers).open(asked, timeout=_TIMEOUT_S) as answer:
                yield answer
        except error.HTTPError as refusal:
            note(f"the server refused: {_message(refusal)}")
            raise typer.Exit(1) from None
        except error.URLError as problem:
            note(f"no server at {self.url}: {problem.reason}; start it, or name another with --url")
            raise typer.Exit(1) from None


def _message(refusal: error.HTTPError) -> str:
    try:
        told = json.loads(refusal.read())
        return f"{told['message']}; {told['remedy']}"
    except (ValueError, TypeError, KeyError):
        return f"HTTP status {refusal.code}"  # A proxy's page.


def _server(
    context: typer.Context,
    url: str,
    token: str,
    ca_file: Path | None,
    server_certificate: Path | None,
) -> _Server:
    import ssl

    from mic_client.connection import tls_of_server, tls_trusting

    if not url:
        listen = settings_of(context).stream_server.listen
        scheme = "https" if listen.tls_certificate else "http"
        url = f"{scheme}://localhost:{listen.http_port}{listen.base_path}"
        if listen.tls_certificate:
            server_certificate = server_certificate or Path(listen.tls_certificate)
    elif urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"got the URL '{url}', expected http://HOST:PORT or https://HOST:PORT")
    if server_certificate is not None:
        tls = tls_of_server(server_certificate)
    elif ca_file is not None:
        tls = tls_trusting(ca_file)
    else:
        tls = ssl.create_default_context()
    return _Server(url.rstrip("/"), token, tls)


def _text(value: str) -> str:
    text = sys.stdin.readline() if value == "-" else value
    if not text.strip():
        raise ConfigError("got an empty VALUE, expected one of some metadata")
    return text.strip()


def _list(found: dict[str, list[dict[str, Any]]]) -> None:
    for stream in found["streams"]:
        state = "live" if stream["live"] else "ended"
        began = _at(stream["opened_at"])
        print(f"stream {stream['stream_id']}, {began}, {state}: {stream['name']}")
    for file in found["files"]:
        print(f"file {file['job_id']}, {_at(file['created_at'])}: {file['name']}")
    note(f"streams: {len(found['streams'])}, files: {len(found['files'])}")


def _at(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _for_owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
