"""``emotion-monitor export``: a model as one ONNX file, for programs of other kinds."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from stream_server.cli.context import settings_of
from stream_server.cli.options import ModelOption

__all__ = ["export"]


def export(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The file to write.")],
    model: ModelOption = None,
) -> None:
    """Write a model as one ONNX file: 16 kHz samples in, frame embeddings and logits out."""
    from ser_engine.errors import RuntimeUnavailableError
    from ser_engine.models.compact.shipped import CompactCheckpoint
    from ser_engine.models.emotion2vec import build
    from ser_engine.models.find import find_model
    from ser_engine.models.onnx_export import export_whole

    if not target.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {target.parent}", param_hint="FILE.onnx")
    config = settings_of(context).ser_engine.model
    checkpoint = find_model(config if model is None else replace(config, name=model))
    if isinstance(checkpoint, CompactCheckpoint):
        raise RuntimeUnavailableError(
            "got the built-in compact model, expected an emotion2vec one: give --model a folder or"
            " one of the published names"
        )
    info = checkpoint.info
    print(f"emotion-monitor: model: {info.name} ({info.licence})", file=sys.stderr)
    export_whole(build(checkpoint.sizes, checkpoint.tensors), info, target)
    print(target)
