"""The command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_monitor.commands.options import note, settings_of, writing

if TYPE_CHECKING:
    from dashboard.report import CallReport
    from stream_server.config import StoreConfig


def report(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="CALL",
            help="What `analyze FILE --details` prints or `analyze --out` writes as JSON; with"
            " --store the id of a stream.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.html", help="Page to write; default: CALL.html here."),
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Read a stream from the configured store.")
    ] = False,
    language: Annotated[
        str, typer.Option("--lang", metavar="en|zh", help="Language of the page.")
    ] = "en",
) -> None:
    """Write a report of a call: one self-contained page, to read anywhere or to print."""
    from dashboard.report.page import LANGUAGES, report_page
    from ser_engine.files.whole_files import whole_file

    if language not in LANGUAGES:
        raise typer.BadParameter(
            f"got '{language}', expected {' or '.join(LANGUAGES)}", param_hint="--lang"
        )
    if store:
        import asyncio

        found = asyncio.run(_of_store(settings_of(context).stream_server.store, source))
    else:
        found = _of_document(Path(source))
    path = out or Path(f"{source if store else Path(source).stem}.html")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            partial.write_text(report_page(found, language), encoding="utf-8")
    note(f"{path}")


def _of_document(path: Path) -> CallReport:
    import msgspec

    from dashboard.report import report_of_file
    from ser_engine.errors import AudioError
    from ser_engine.schema import FileResult

    try:
        data = path.read_bytes()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return report_of_file(msgspec.json.decode(data, type=FileResult))
    except msgspec.MsgspecError as error:
        raise AudioError(
            f"{path}: got {str(error)[:200]}, expected what `emotion-monitor analyze FILE"
            " --details` prints; a recording has to be analysed first"
        ) from None


async def _of_store(config: StoreConfig, stream_id: str) -> CallReport:
    from dashboard.report import report_of_stream
    from stream_server.store import StoreError
    from stream_server.store.reader import reading

    if not config.url:
        raise StoreError("got --store without stream_server.store.url, expected a store's URL")
    async with reading(config.url) as store:
        record = await store.stream(stream_id)
        if record is None:
            raise StoreError(f"got the stream '{stream_id}', expected one that is stored")
        results = [one async for page in store.pages(stream_id) for one in page]
        alerts = await store.alerts(stream_id=stream_id, limit=1000)
        return report_of_stream(record, results, alerts)
