"""The results of one recording in a folder of their own, dated, with the audio that was heard.

::

    outputs_20261122_101500/
      processed_audio.wav   what the model heard: 16 kHz, 16 bit, every channel
      result.json           the bare result: emotion, confidence, granularity; or frames, or a
                            stream's points
      details.json          everything: model, options, segments, warnings, every class
      embedding.npy         (dim,) of an utterance, (frames, dim) of frames; embedding.1.npy,
                            embedding.2.npy, … of the channels where there are several
      log.txt               each step, with its paths

A folder appears when it is complete. One that is there is never written to again: where two are
made in one second the later one gets ``_2``.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ser_engine.audio_files import AudioFile
from ser_engine.errors import AudioError
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.offline.analysis import FileAnalysis
from ser_engine.offline.results import FrameResult
from ser_engine.offline.whole_files import new_folder, whole_file
from ser_engine.types import FloatArray

__all__ = ["embeddings_of", "save_embeddings", "write_json", "write_result_folder"]

_READ_BY_PEOPLE = 20_000
_MOST_WAV_BYTES = 0xFFFF_F000
"""Larger files are RF64, which is WAV with longer lengths."""


def write_result_folder(
    parent: Path, source: Path, analysis: FileAnalysis, *, now: Callable[[], datetime]
) -> Path:
    """Write the results of a recording; return their folder.

    Args:
        parent: where the folder comes, made if need be.
        source: the recording, which is read again for its audio.
        analysis: of it.
        now: the local time.

    Raises:
        AudioError: the recording cannot be read any more.
        OSError: something cannot be written; nothing is left then.
    """
    name = f"outputs_{now():%Y%m%d_%H%M%S}"
    return new_folder(parent, name, lambda folder: _fill(folder, source, analysis, now))


def embeddings_of(analysis: FileAnalysis) -> Iterator[tuple[int, FloatArray]]:
    """Yield the number of each channel, from 1, and its embeddings.

    They are ``(frames, dim)`` where those of frames were kept, else ``(dim,)``; a channel that
    could not be scored has none.
    """
    for number, channel in enumerate(analysis.channels, start=1):
        match channel.result:
            case FrameResult(embeddings=array) if array is not None:
                yield number, array
            case _ if channel.overall is not None and channel.overall.embedding.size:
                yield number, channel.overall.embedding


def save_embeddings(target: Path, analysis: FileAnalysis) -> list[Path]:
    """Write ``target`` (``NAME.npy``), or ``NAME.1.npy`` and so on where there are several.

    Returns:
        what was written.

    Raises:
        OSError: a file cannot be written.
    """
    written: list[Path] = []
    for number, array in embeddings_of(analysis):
        path = target if len(analysis.channels) == 1 else target.with_suffix(f".{number}.npy")
        with whole_file(path) as partial, partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        written.append(path)
    return written


def write_json(path: Path, document: Any) -> None:
    """Write JSON: small documents for people, an entry a line; large ones compact."""
    text = json.dumps(document, ensure_ascii=False)
    if len(text) < _READ_BY_PEOPLE:
        text = json.dumps(document, ensure_ascii=False, indent=2)
    # Half surrogates of a file's name are written as JSON's own escapes.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text + "\n")


def _fill(folder: Path, source: Path, analysis: FileAnalysis, now: Callable[[], datetime]) -> None:
    log = _Log(folder / "log.txt", now)
    audio = folder / "processed_audio.wav"
    log.add(
        f"read {source.absolute()}: {analysis.duration_s:.3f} s, {analysis.rate_hz} Hz,"
        f" {len(analysis.channels)} channels"
    )
    num_samples = _write_audio(audio, source)
    log.add(f"resampled to {SAMPLE_RATE_HZ} Hz: {audio.name}, {num_samples} samples a channel")
    model, options = analysis.model, analysis.options
    log.add(f"model {model.name} ({model.licence}), sha256 {model.sha256}, from {model.source}")
    if model.notice:
        log.add(model.notice)
    log.add(f"granularity {options.granularity}, frames of {options.frame_hop_ms} ms")
    for number, channel in enumerate(analysis.channels, start=1):
        log.add(f"channel {number}: {len(channel.segments)} segments scored")
        for warning in channel.warnings:
            log.add(f"channel {number}: {warning.code} at {warning.at_s:.1f} s: {warning.message}")
    write_json(folder / "result.json", analysis.to_json())
    log.add("wrote result.json")
    write_json(folder / "details.json", analysis.to_json(scores=True, details=True))
    log.add("wrote details.json")
    for path in save_embeddings(folder / "embedding.npy", analysis):
        log.add(f"wrote {path.name}")
    log.add("done")


class _Log:
    """Lines with their time."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now

    def add(self, message: str) -> None:
        # A file's name may hold line ends, and what is no UTF-8.
        line = "".join(each if each.isprintable() else "�" for each in message)
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{self._now():%Y-%m-%d %H:%M:%S} {line}\n")


def _write_audio(target: Path, source: Path) -> int:
    """Write a recording as 16 kHz WAV, block by block; return its samples a channel."""
    num_samples = 0
    with AudioFile(source) as file:
        # The header's length may be an estimate, hence the margin; an RF64 file may be short.
        expected_bytes = file.header_s * SAMPLE_RATE_HZ * file.channels * 2
        is_large = expected_bytes * 1.1 > _MOST_WAV_BYTES
        with soundfile.SoundFile(
            str(target),
            "w",
            SAMPLE_RATE_HZ,
            file.channels,
            "PCM_16",
            format="RF64" if is_large else "WAV",
        ) as wav:
            for block in file.blocks():
                num_samples += block.shape[1]
                if not is_large and num_samples * file.channels * 2 > _MOST_WAV_BYTES:
                    raise AudioError(f"{source}: it is longer than its header says")
                _write_block(wav, block)
    return num_samples


def _write_block(wav: soundfile.SoundFile, block: FloatArray) -> None:
    try:
        wav.write(block.T)
    except soundfile.LibsndfileError:
        # What the system said libsndfile does not tell.
        raise OSError(errno.EIO, "the audio could not be written; is the disk full?") from None
