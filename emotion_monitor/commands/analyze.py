"""``emotion-monitor analyze``: what is heard in recordings.

Results go to standard output, or with ``--out`` or ``--dated`` into a folder; the model in use, its
notice and whatever went wrong go to standard error. A file that cannot be analysed costs one line
there and the exit status 1; the others are analysed all the same.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emotion_monitor.commands.options import (
    ModelOption,
    NoCacheOption,
    RecursiveOption,
    engine_config,
    load_engine,
    raw_format,
    settings_of,
)

if TYPE_CHECKING:
    from emotion_monitor.batch import Format
    from ser_engine.config import EngineConfig
    from ser_engine.files import AnalysisOptions


class GranularityName(StrEnum):
    """The values of ``--granularity``."""

    UTTERANCE = "utterance"
    FRAME = "frame"
    STREAM = "stream"


def analyze(
    context: typer.Context,
    names: Annotated[
        list[Path], typer.Argument(metavar="FILE|DIR", help="Recordings, or folders of recordings.")
    ],
    granularity: Annotated[
        GranularityName | None,
        typer.Option(
            "--granularity",
            "-g",
            help="utterance: one result for each channel; frame: one every 20 ms;"
            " stream: the timeline of a live stream.  [default: the preset's, or utterance]",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print JSON only: for utterance and frame in the form of the emotion2vec+ web"
            " demo,"
            " for stream as --details.",
        ),
    ] = False,
    details: Annotated[
        bool,
        typer.Option(
            "--details", help="With --json: the whole document: docs/reference/results.md."
        ),
    ] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="Print the score of every class.")
    ] = False,
    recursive: RecursiveOption = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write results into this folder. Run the same command again to resume.",
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="LIST",
            help="What --out writes, of json, csv, parquet, npy (embeddings), textgrid (Praat), eaf"
            " (ELAN), audacity.  [default: json,csv]",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            metavar="N",
            min=1,
            max=256,
            help="How many processes --out analyses files in, each with the model in memory."
            "  [default: for 256 MB of files and more, by a built-in model on a CPU, one a core, at"
            " most 8; otherwise 1]",
        ),
    ] = None,
    dated: Annotated[
        bool,
        typer.Option(
            "--dated",
            help="Write each recording's audio (16 kHz) and results into a folder outputs_DATE_TIME"
            " of its own, in --out or the current folder.",
        ),
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", metavar="NAME", help="Options for a purpose (ser_engine.offline.presets)."
        ),
    ] = None,
    frame_hop_ms: Annotated[
        int | None,
        typer.Option(
            "--frame-hop-ms",
            metavar="10|20",
            help="Milliseconds between frames; 10 takes twice as long.  [default: 20]",
        ),
    ] = None,
    speakers: Annotated[
        bool, typer.Option("--speakers", help="Tell apart the speakers of each channel.")
    ] = False,
    roles: Annotated[
        str | None,
        typer.Option(
            "--roles",
            metavar="LIST",
            help="Who speaks in each channel, e.g. customer,agent; only roles of"
            " stream_server.streams.analyse_roles are analysed.  [default: speaker in all]",
        ),
    ] = None,
    no_cache: NoCacheOption = False,
    model: ModelOption = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            "--embeddings",
            metavar="FILE.npy",
            help="Save embeddings: shape (dim,) for utterance, (frames, dim) for frame, with an"
            " axis"
            " for channels in front if there are several. Several recordings: FILE.1.npy, …",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            metavar="NAME",
            help="Encoding of files without a header: pcm_s16le, pcm_s16be, pcm_s24le, pcm_s32le,"
            " pcm_f32le, pcm_f32be, pcm_u8, mulaw, alaw. Ignored for files with a header.",
        ),
    ] = None,
    rate: Annotated[
        int | None, typer.Option("--rate", metavar="HZ", help="With --encoding: their sample rate.")
    ] = None,
    num_channels: Annotated[
        int, typer.Option("--channels", metavar="N", help="With --encoding: their channels.")
    ] = 1,
) -> None:
    """Analyse recordings."""
    _refuse_contradictions(granularity, out, formats, processes, dated, embeddings)
    config = engine_config(context, model)
    options, has_embeddings = _options(config, granularity, preset, frame_hop_ms, speakers)
    options = replace(options, raw=raw_format(encoding, rate, num_channels))
    if roles is not None:
        options = _with_roles(context, options, roles)
    if dated:
        from emotion_monitor.commands.analyze_output import analyze_dated

        options = _with_embeddings(options, has_embeddings or options.granularity == "frame")
        engine = load_engine(config)
        is_fine = analyze_dated(
            engine, config, options, names, recursive, out or Path(), use_cache=not no_cache
        )
    elif out is not None:
        from emotion_monitor.commands.batch import analyze_batch

        wanted = _formats(formats, has_embeddings)
        options = _with_embeddings(options, "npy" in wanted)
        is_fine = analyze_batch(
            lambda: load_engine(config),
            config,
            options,
            names,
            out,
            wanted,
            recursive=recursive,
            use_cache=not no_cache,
            processes=processes,
        )
    else:
        from emotion_monitor.commands.analyze_output import analyze_print

        options = _with_embeddings(options, embeddings is not None)
        is_fine = analyze_print(
            load_engine(config),
            config,
            options,
            names,
            recursive=recursive,
            as_json=as_json or details,
            details=details,
            scores=scores,
            embeddings=embeddings,
            use_cache=not no_cache,
        )
    if not is_fine:
        raise typer.Exit(1)


def _refuse_contradictions(
    granularity: GranularityName | None,
    out: Path | None,
    formats: str | None,
    processes: int | None,
    dated: bool,
    embeddings: Path | None,
) -> None:
    if embeddings is not None and granularity is GranularityName.STREAM:
        raise typer.BadParameter(
            "a stream has no embeddings; use -g utterance or frame",
            param_hint="--embeddings",
        )
    if embeddings is not None and (dated or out is not None):
        raise typer.BadParameter(
            "is for results on standard output; for --out DIR use --format npy (--dated always has"
            " them)",
            param_hint="--embeddings",
        )
    for name, given in (("--format", formats), ("--processes", processes)):
        if given is not None and (dated or out is None):
            raise typer.BadParameter(
                "needs --out DIR, the folder that it writes to", param_hint=name
            )


def _options(
    config: EngineConfig,
    granularity: GranularityName | None,
    preset: str | None,
    frame_hop_ms: int | None,
    speakers: bool,
) -> tuple[AnalysisOptions, bool]:
    """Return the options, and whether the preset wants embeddings."""
    from ser_engine.errors import ConfigError
    from ser_engine.files.options import AnalysisOptions, options_of_preset

    try:
        chosen = AnalysisOptions() if preset is None else options_of_preset(preset, config)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--preset") from None
    if frame_hop_ms not in (None, 10, 20):
        raise typer.BadParameter(
            f"got {frame_hop_ms}, expected 10 or 20", param_hint="--frame-hop-ms"
        )
    options = AnalysisOptions(
        granularity=chosen.granularity if granularity is None else granularity.value,
        frame_hop_ms=chosen.frame_hop_ms if frame_hop_ms is None else frame_hop_ms,
        speakers=speakers,
    )
    return options, chosen.embeddings


def _with_roles(context: typer.Context, options: AnalysisOptions, text: str) -> AnalysisOptions:
    from ser_engine.errors import ConfigError
    from ser_engine.files.options import roles_of

    try:
        roles = roles_of(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--roles") from None
    analysed = settings_of(context).stream_server.streams.analyse_roles
    return replace(options, roles=roles, analyse_roles=analysed)


def _with_embeddings(options: AnalysisOptions, wanted: bool) -> AnalysisOptions:
    return replace(options, embeddings=wanted)


def _formats(text: str | None, has_embeddings: bool) -> tuple[Format, ...]:
    """Return what is to be written, each once, in the order of the table of formats."""
    from emotion_monitor.batch import FORMATS

    names = {name.strip() for name in (text or "json,csv").split(",")}
    unknown = sorted(names - set(FORMATS))
    if unknown:
        raise typer.BadParameter(
            f"got '{unknown[0]}', expected some of {', '.join(FORMATS)}, with commas between them",
            param_hint="--format",
        )
    if has_embeddings:
        names.add("npy")
    if "parquet" in names:
        from ser_engine.files.tables import check_parquet

        check_parquet()
    return tuple(name for name in FORMATS if name in names)
