"""Results of recordings on the disk, in files and folders that appear whole or not at all.

:func:`write_result_folder` makes a dated folder for one recording, with the audio that was scored::

    outputs_20261122_101500/
      processed_audio.wav   16 kHz, 16 bit, every channel
      result.json           as the emotion2vec+ web demo has it; of a stream, what details.json is
      details.json          everything: model, segments, pieces, warnings, every class
      embedding.npy         (dim,) of a whole, (frames, dim) of frames; several channels add an axis
                            in front
      log.txt               each step, with its paths

A folder that exists is never written to again: of two made in one second the later one gets ``_2``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import soundfile

from ser_engine.errors import AudioError
from ser_engine.files.analysis import FileAnalysis, demo_of
from ser_engine.files.audio import AudioFile
from ser_engine.files.whole_files import new_folder, whole_file, write_json
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.raw_audio import RawFormat
from ser_engine.types import FloatArray

# Larger files are RF64, which is WAV with longer lengths (EBU Tech 3306).
_MOST_WAV_BYTES = 0xFFFF_F000


def write_result_folder(
    parent: Path, source: Path, analysis: FileAnalysis, *, now: Callable[[], datetime]
) -> Path:
    """Write the results of a recording into a new folder in ``parent``; return the folder.

    Args:
        parent: made if it does not exist.
        source: the recording, which is read again for its audio.
        now: the local time, for the folder's name and the log.

    Raises:
        AudioError: the recording cannot be read any more.
        OSError: something cannot be written; no folder is left then.
    """
    name = f"outputs_{now():%Y%m%d_%H%M%S}"
    return new_folder(parent, name, lambda folder: _fill(folder, source, analysis, now))


def _fill(folder: Path, source: Path, analysis: FileAnalysis, now: Callable[[], datetime]) -> None:
    log = _Log(folder / "log.txt", now)
    audio = folder / "processed_audio.wav"
    log.add(
        f"read {source.absolute()}: {analysis.duration_s:.3f} s, {analysis.rate_hz} Hz,"
        f" {len(analysis.channels)} channels"
    )
    num_samples = _write_audio(audio, source, analysis.options.raw)
    log.add(f"resampled to {SAMPLE_RATE_HZ} Hz: {audio.name}, {num_samples} samples a channel")
    model, options = analysis.model, analysis.options
    log.add(f"model {model.name} ({model.licence}), sha256 {model.sha256}, from {model.source}")
    if model.notice:
        log.add(model.notice)
    log.add(f"granularity {options.granularity}, frames of {options.frame_hop_ms} ms")
    for index, channel in analysis.numbered:
        log.add(f"channel {index}: {len(channel.pieces)} pieces scored")
        for warning in channel.warnings:
            log.add(f"channel {index}: {warning.code} at {warning.at_s:.1f} s: {warning.message}")
    document = analysis.to_json()
    write_json(folder / "details.json", document)
    log.add("wrote details.json")
    is_stream = options.granularity == "stream"
    write_json(folder / "result.json", document if is_stream else demo_of(analysis))
    log.add("wrote result.json")
    for path in save_embedding(folder / "embedding.npy", analysis):
        log.add(f"wrote {path.name}")
    log.add("done")


class _Log:
    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self._path = path
        self._now = now

    def add(self, message: str) -> None:
        # A file name may hold line ends, which would forge lines, and bytes that are no UTF-8.
        line = "".join(each if each.isprintable() else "�" for each in message)
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{self._now():%Y-%m-%d %H:%M:%S} {line}\n")


def _write_audio(target: Path, source: Path, raw: RawFormat | None) -> int:
    """Write a recording as 16 kHz WAV, block by block; return the samples per channel."""
    num_samples = 0
    with AudioFile(source, raw=raw) as file, target.open("w+b") as out:
        # The header's length may be an estimate, hence the margin; an RF64 file may be short.
        expected_bytes = file.header_s * SAMPLE_RATE_HZ * file.channels * 2
        is_large = expected_bytes * 1.1 > _MOST_WAV_BYTES
        with soundfile.SoundFile(
            out.fileno(),  # soundfile cannot write every name there is
            "w",
            SAMPLE_RATE_HZ,
            file.channels,
            "PCM_16",
            format="RF64" if is_large else "WAV",
            closefd=False,
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
        # libsndfile does not pass on the system's error.
        raise OSError(errno.EIO, "the audio could not be written; is the disk full?") from None


def save_embedding(target: Path, analysis: FileAnalysis) -> list[Path]:
    """Write the embedding of a file as one array, if it has one; return the paths written.

    The shape is ``(dim,)`` or ``(frames, dim)``; several channels add an axis in front.

    Raises:
        OSError: the file cannot be written.
    """
    array = analysis.embedding
    if array is None:
        return []
    with whole_file(target) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    return [target]
