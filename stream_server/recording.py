"""Recordings: the audio of streams, a FLAC file a channel. Off unless the settings turn it on.

::

    session ── tap(channel, samples) ──▶ bounded memory ──▶ thread ──▶ <stream id>.<channel>.flac

Audio that cannot be written in time becomes silence and is counted, so that the time of a file is
always the time of its stream. So does audio that comes while the disk is full: the file goes on
when there is room again. File names hold the stream's id and the channel's index only.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import structlog
from soundfile import SoundFileError

from ser_engine.errors import ConfigError
from ser_engine.frames import SAMPLE_RATE_HZ, samples_to_s
from ser_engine.types import FloatArray
from stream_server.at_rest import EncryptedFile, Keys, PlainFile, open_file
from stream_server.config import RecordingConfig

_log = structlog.get_logger(__name__)

# Samples of all streams that wait for the disk: 128 MiB.
_MAX_WAITING_SAMPLES = 64 << 20
_WRITE_INTERVAL_S = 0.5
_EXPIRY_INTERVAL_S = 300.0
_STREAM_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

# Offsets in the file of fields of STREAMINFO (RFC 9639, 8.2), which follows "fLaC" (4 bytes) and
# the header of its block (4 bytes): the smallest block size (16 bits), the largest one (16 bits),
# the frame sizes (48 bits), rate, channels and depth (28 bits), and then, from the middle of byte
# 21 on, 36 bits with the number of samples.
_BLOCK_SIZE_AT, _LENGTH_AT = 10, 21
_SILENCE = np.zeros(65_536, dtype=np.int16)


class _PatientFile:
    """A file to encoders that never fails: what the disk has no room for waits in memory.

    An encoder that fails once writes nothing more; this one does not learn of it. It has the
    methods that ``soundfile`` calls.
    """

    def __init__(self, file: PlainFile) -> None:
        self._file = file
        self._at = 0
        self._length = 0
        self._waiting: list[tuple[int, bytes]] = []  # where, what; in the order it was written
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write at the position."""
        block = bytes(data)
        self._waiting.append((self._at, block))
        self._at += len(block)
        self._length = max(self._length, self._at)
        self.write_waiting()
        return len(block)

    def write_waiting(self) -> bool:
        """Write what waits; return False, with ``error`` set, if there is still no room."""
        while self._waiting:
            at, block = self._waiting[0]
            try:
                num_written = self._file.pwrite(block, at)
            except OSError as error:
                self.error = error
                return False
            # A disk that becomes full takes a part.
            if num_written < len(block):
                self._waiting[0] = at + num_written, block[num_written:]
            else:
                del self._waiting[0]
        self.error = None
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, num_bytes: int) -> bytes:
        """Return what is in the file by now."""
        data = self._file.pread(num_bytes, self._at)
        self._at += len(data)
        return data


class FlacFile:
    """A FLAC file that can be read at any time, also after a crash; mono, 16 bits, 16 kHz.

    libFLAC writes the length of a file to its header when the file is closed, and many readers
    refuse a file without it. So the header is kept up to date while the file grows. Only the owner
    may read the file.

    A full disk raises nothing. What was encoded waits in memory, see :attr:`error`; write silence
    meanwhile, of which an hour takes some 150 kB.

    There must be no file at ``path``.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, keys: Keys | None = None) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            self._stored = PlainFile(fd) if keys is None else EncryptedFile(fd, keys)
        except BaseException:
            os.close(fd)
            # Else the next try would find a file that exists.
            path.unlink(missing_ok=True)
            raise
        self._sink = _PatientFile(self._stored)
        try:
            self._file = soundfile.SoundFile(
                self._sink, "w", SAMPLE_RATE_HZ, 1, "PCM_16", format="FLAC"
            )
        except BaseException:
            self._stored.close()
            raise
        self._written = 0
        self._promised = 0  # samples that the header says there are

    @property
    def error(self) -> OSError | None:
        """Why the latest of it waits in memory; None: it is all in the file."""
        return self._sink.error

    def try_again(self) -> bool:
        """Write what waits in memory; return whether all of it is in the file now."""
        return self._sink.write_waiting()

    def write(self, samples: npt.NDArray[np.int16]) -> None:
        """Append samples, int16 ``(samples,)``.

        Raises:
            soundfile.LibsndfileError: they cannot be written.
        """
        self._file.write(samples)
        self._written += len(samples)

    def write_silence(self, num_samples: int) -> None:
        """Append zeros; errors as for :meth:`write`."""
        while num_samples > 0:
            part = _SILENCE[:num_samples]
            self.write(part)
            num_samples -= len(part)

    def update_header(self) -> None:
        """Write the length of what is in the file by now to its header.

        Raises:
            OSError: it cannot be written.
        """
        if self.error is not None:
            return  # The header must not promise what waits in memory.
        # 0 until libFLAC has written its first block: the header is not there yet.
        block_samples = int.from_bytes(self._stored.pread(2, _BLOCK_SIZE_AT), "big")
        if not block_samples or not self._written:
            return
        # The encoder holds a complete block back until the first sample after it comes.
        complete = (self._written - 1) // block_samples * block_samples
        if complete == self._promised:
            return
        # The upper half of the first byte belongs to the depth. pread and pwrite leave the position
        # alone at which libFLAC writes on.
        before = self._stored.pread(1, _LENGTH_AT)[0] & 0xF0
        length = before << 32 | complete
        self._stored.pwrite(length.to_bytes(5, "big"), _LENGTH_AT)
        self._promised = complete

    def finish(self) -> bool:
        """Encode what is left and close the file, unless it waits in memory: then return False.

        To be called until it returns True, or :meth:`close` is.
        """
        self._file.close()
        if not self.try_again():
            return False
        self.close()
        return True

    def close(self) -> None:
        """Close the file as it is; later calls do nothing.

        Raises:
            OSError: the file system says only now that it could not write.
        """
        self._file.close()
        self._stored.close()


@dataclass(slots=True, eq=False)
class _Channel:
    """One file and what waits for it; in ``waiting`` a number stands for that many zeros."""

    stream_id: str
    index: int
    path: Path
    waiting: list[npt.NDArray[np.int16] | int] = field(default_factory=list)
    file: FlacFile | None = None
    owed_samples: int = 0  # of silence, for the time before the file could be made
    written_samples: int = 0
    silent_samples: int = 0  # zeros for audio that could not be written, or not in time
    is_interrupted: bool = False
    is_over: bool = False  # all is written, or given up


class Recording:
    """The recording of one stream; made by :meth:`Recordings.record`."""

    def __init__(self, recordings: Recordings, stream_id: str) -> None:
        self._recordings = recordings
        self.stream_id = stream_id
        self.channels: dict[int, _Channel] = {}
        self.is_closed = False
        self.is_deleted = False

    def tap(self, channel: int, samples: FloatArray) -> None:
        """Record samples of a channel; never blocks, never raises.

        ``samples``: float32 ``(samples,)``, 16 kHz, -1 to 1; gaps as zeros. Not kept.
        """
        self._recordings.put(self, channel, samples)

    @property
    def silent_s(self) -> float:
        """Longest time of a channel that is silence because it could not be written."""
        # A copy: the thread adds channels.
        channels = list(self.channels.values())
        return samples_to_s(max((one.silent_samples for one in channels), default=0))

    def close(self) -> None:
        """The stream has ended; what waits is still written."""
        self._recordings.end(self)


class Recordings:
    """Writes recordings in a thread of its own, and deletes old ones.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(
        self,
        config: RecordingConfig,
        *,
        keys: Keys | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._dir = Path(config.dir).expanduser()
        self._retention_s = config.retention_hours * 3600
        self._now = now
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"recording.dir: the folder '{self._dir}' cannot be made: {error.strerror}; name"
                " one that this user may write to"
            ) from None
        self._changed = threading.Condition()
        # Below: shared with the thread, under the condition's lock.
        self._live: dict[str, Recording] = {}
        self._waiting_samples = 0
        self._dropped_samples = 0
        self._num_failed = 0
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def dropped_samples(self) -> int:
        """Samples of all channels that are silence because the disk was too slow, or full."""
        return self._dropped_samples

    @property
    def num_failed(self) -> int:
        """Times that a file could not be written."""
        return self._num_failed

    def record(self, stream_id: str) -> Recording:
        """Begin the recording of a stream; its files are made with its first samples.

        Raises:
            ValueError: a file cannot be named after the id, or the stream is being recorded.
        """
        with self._changed:
            if not _STREAM_ID.fullmatch(stream_id) or stream_id in self._live:
                raise ValueError(
                    f"stream id {stream_id!r} is being recorded, or has characters other than"
                    " letters, digits, - and _"
                )
            self._live[stream_id] = recording = Recording(self, stream_id)
            self._changed.notify()
            return recording

    def files(self, stream_id: str) -> list[Path]:
        """Return the files of a stream in order of their channels."""
        # The id comes from a URL: it must not reach other folders, nor be a pattern for glob.
        if not _STREAM_ID.fullmatch(stream_id):
            return []
        found = self._dir.glob(f"{stream_id}.*.flac")
        return sorted(found, key=lambda path: int(path.suffixes[-2][1:]))

    def read(self, path: Path) -> bytes:
        """Return the bytes of one of the files, as FLAC.

        Raises:
            OSError: it is gone.
        """
        file = self.open(path)
        try:
            return file.pread(file.size, 0)
        finally:
            file.close()

    def open(self, path: Path) -> PlainFile:
        """Open one of the files, to be read from anywhere; the caller closes it.

        Raises:
            OSError: it is gone, or its key is missing.
        """
        return open_file(path, self._keys)

    def delete(self, stream_id: str) -> int:
        """Delete the files of a stream; return how many there were. Any thread may call it."""
        with self._changed:
            live = self._live.get(stream_id)
            if live is not None:
                # The thread may be writing, and would make the files again; it deletes them when
                # it has closed them.
                live.is_deleted = live.is_closed = True
                self._changed.notify()
        return sum(_unlink(path) for path in self.files(stream_id))

    def expire(self) -> int:
        """Delete what was last written more than ``retention_hours`` ago; return how many files."""
        before = self._now() - self._retention_s
        num_deleted = 0
        with self._changed:
            live = set(self._live)
        for path in self._dir.glob("*.flac"):
            # A stream that is paused for hours is not written to, and goes on later.
            if path.name.partition(".")[0] in live:
                continue
            try:
                if path.stat().st_mtime < before:
                    num_deleted += _unlink(path)
            except OSError as error:
                _log.warning("recording_not_deleted", error=error.strerror)
        return num_deleted

    async def run_expiry(self, interval_s: float = _EXPIRY_INTERVAL_S) -> None:
        """Call :meth:`expire` every ``interval_s``, for ever."""
        while True:
            if num_deleted := await asyncio.to_thread(self.expire):
                _log.info("recordings_expired", files=num_deleted)
            await asyncio.sleep(interval_s)

    async def close(self) -> None:
        """End all recordings, write what waits, and end the thread."""
        with self._changed:
            self._is_closing = True
            for recording in self._live.values():
                recording.is_closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    # What recordings call

    def put(self, recording: Recording, channel: int, samples: FloatArray) -> None:
        """Queue samples for the thread."""
        is_silent = not samples.any()
        with self._changed:
            if recording.is_closed:
                return
            target = recording.channels.get(channel)
            if target is None:
                path = self._dir / f"{recording.stream_id}.{channel}.flac"
                target = recording.channels[channel] = _Channel(recording.stream_id, channel, path)
            # Silence takes no memory: it is a number, added to the number before. So audio that is
            # too much is kept as silence, and the file keeps the stream's time.
            if not is_silent and self._waiting_samples + len(samples) > _MAX_WAITING_SAMPLES:
                self._dropped_samples += len(samples)
                target.silent_samples += len(samples)
                is_silent = True
            if not is_silent:
                target.waiting.append(_as_int16(samples))
                self._waiting_samples += len(samples)
                return
            last = target.waiting[-1] if target.waiting else None
            if isinstance(last, int):
                target.waiting[-1] = last + len(samples)
            else:
                target.waiting.append(len(samples))

    def end(self, recording: Recording) -> None:
        """Have the thread close a recording's files."""
        with self._changed:
            recording.is_closed = True
            self._changed.notify()

    # The thread

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._is_closing:
                    self._changed.wait(_WRITE_INTERVAL_S if self._live else None)
                is_last = self._is_closing
                # Read here, under the lock: a recording that is closed from now on is closed in the
                # next round, when all its samples are in its queues.
                live = [(one, one.is_closed) for one in self._live.values()]
            for recording, is_closed in live:
                for channel in list(recording.channels.values()):
                    self._write(channel, is_closed, is_last or recording.is_deleted)
                # One that waits for room stays, and is tried again.
                if is_closed and all(one.is_over for one in recording.channels.values()):
                    self._leave(recording)
            if is_last:
                return

    def _write(self, channel: _Channel, is_closed: bool, is_last: bool) -> None:
        """Write what waits of a channel.

        ``is_closed``: no more comes. ``is_last``: what cannot be written now never will be.
        """
        with self._changed:
            waiting, channel.waiting = channel.waiting, []
            self._waiting_samples -= sum(len(part) for part in waiting if not isinstance(part, int))
        if channel.is_over:
            return
        try:
            error = self._append(channel, waiting)
            if channel.file is None:
                channel.is_over = is_closed
            elif is_closed:
                channel.is_over = channel.file.finish()
                error = channel.file.error
            else:
                channel.file.update_header()
        except (OSError, SoundFileError) as problem:
            error = problem
        self._note(channel, error)
        if channel.is_over or not is_last:
            return
        # The server stops, or the recording is deleted, while the disk is full.
        channel.is_over = True
        _log.error("recording_cut", stream_id=channel.stream_id, channel=channel.index)
        if channel.file is not None:
            channel.file.close()

    def _append(
        self, channel: _Channel, waiting: list[npt.NDArray[np.int16] | int]
    ) -> OSError | None:
        """Write what waited, or that much silence; return why it is silence.

        Raises:
            soundfile.LibsndfileError: the encoder fails.
        """
        if channel.file is None:
            try:
                channel.file = FlacFile(channel.path, self._keys)
            except OSError as error:
                for part in waiting:
                    channel.owed_samples += self._silence(channel, part)
                return error
            channel.file.write_silence(channel.owed_samples)
        channel.file.try_again()
        for part in waiting:
            if isinstance(part, int):
                channel.file.write_silence(part)
                channel.written_samples += part
            elif channel.file.error is None:
                channel.file.write(part)
                channel.written_samples += len(part)
            else:
                channel.file.write_silence(self._silence(channel, part))
        return channel.file.error

    def _silence(self, channel: _Channel, part: npt.NDArray[np.int16] | int) -> int:
        """Count a part that becomes silence; return its length."""
        if isinstance(part, int):
            num_samples = part
        else:
            num_samples = len(part)
            channel.silent_samples += num_samples
            self._dropped_samples += num_samples
        channel.written_samples += num_samples
        return num_samples

    def _note(self, channel: _Channel, error: OSError | SoundFileError | None) -> None:
        """Log that a file cannot be written, or can be again."""
        if (error is not None) == channel.is_interrupted:
            return
        channel.is_interrupted = error is not None
        about = {
            "stream_id": channel.stream_id,
            "channel": channel.index,
            "at_s": round(samples_to_s(channel.written_samples), 3),
        }
        if error is None:
            silent_s = round(samples_to_s(channel.silent_samples), 3)
            _log.warning("recording_goes_on", silent_s=silent_s, **about)
            return
        self._num_failed += 1
        reason = error.strerror if isinstance(error, OSError) else str(error)
        _log.error("recording_failed", error=reason, **about)

    def _leave(self, recording: Recording) -> None:
        with self._changed:
            del self._live[recording.stream_id]
        if recording.is_deleted:
            for path in self.files(recording.stream_id):
                _unlink(path)


def _as_int16(samples: FloatArray) -> npt.NDArray[np.int16]:
    # The inverse of how audio is decoded, so that a 16-bit stream is recorded bit by bit.
    scaled = np.rint(samples * np.float32(32_768.0))
    as_int16: npt.NDArray[np.int16] = np.clip(scaled, -32_768, 32_767).astype(np.int16)
    return as_int16


def _unlink(path: Path) -> bool:
    """Delete a file; return False if it was gone already."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
