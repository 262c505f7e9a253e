"""How ``emotion-monitor models`` shows models and downloads to people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from ser_engine.config import EngineConfig
from ser_engine.models.hub import FetchProgress
from ser_engine.models.inventory import ModelOnDisk
from stream_server.engines.fetching import fetch_in_child

__all__ = ["fetch_with_bar", "table"]


def table(models: Sequence[ModelOnDisk], *, taken: ModelOnDisk | None) -> Table:
    """Return a table of models; ``taken`` is marked."""
    shown = Table(box=None)
    for column in ("", "model", "kept as", "size", "sha256", "licence", "place"):
        shown.add_column(
            column,
            justify="right" if column == "size" else "left",
            no_wrap=column not in ("licence", "place"),
            overflow="fold",
        )
    for model in models:
        shown.add_row(
            "▸" if model is taken else "",
            model.name,
            model.form.value,
            _size(model.size_bytes),
            model.sha256[:12] or "not read yet",
            model.licence.partition(",")[0] or "not stated",
            str(model.folder),
        )
    return shown


def _size(num_bytes: int) -> str:
    mebibytes = num_bytes / (1 << 20)
    return f"{mebibytes:.0f} MiB" if mebibytes >= 10 else f"{mebibytes:.1f} MiB"


async def fetch_with_bar(name: str, config: EngineConfig, console: Console) -> None:
    """Fetch a known model and show how far it is.

    Raises:
        SerEngineError: as :func:`stream_server.engines.fetching.fetch_in_child`.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"asking for {name}", total=None)

        def show(told: FetchProgress) -> None:
            progress.update(
                task,
                description=f"{name} from {told.hub}",
                completed=told.done_bytes,
                total=told.total_bytes,
            )

        await fetch_in_child(name, config, progress=show)
