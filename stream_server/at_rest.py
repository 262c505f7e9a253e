"""Encryption of audio at rest: files that are written piece by piece and read from anywhere.

AES-256-GCM (NIST SP 800-38D) by chunks::

    header: b"EMATREST" | version, 4 bytes | id of the key, 8 | salt, 16
    chunk:  nonce, 12   | ciphertext of 16384 bytes, of the last chunk fewer | tag, 16

Each file has a key of its own, derived (HKDF-SHA256, RFC 5869) from a master key and the salt; each
time a chunk is written it gets a new random nonce. The index of a chunk is authenticated with it,
so chunks cannot change places. That chunks were cut off at the end is not noticed; FLAC is.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ser_engine.errors import ConfigError
from stream_server.config import EncryptionConfig

_MAGIC = b"EMATREST\0\0\0\1"
_KEY_BYTES, _ID_BYTES, _SALT_BYTES = 32, 8, 16
_HEADER_BYTES = len(_MAGIC) + _ID_BYTES + _SALT_BYTES
_CHUNK_BYTES = 16_384
_NONCE_BYTES, _TAG_BYTES = 12, 16
_STORED_BYTES = _NONCE_BYTES + _CHUNK_BYTES + _TAG_BYTES
_READS = 3


class Keys:
    """Master keys by their ids.

    Args:
        keys: 32 bytes each; the first one encrypts.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {hashlib.sha256(key).digest()[:_ID_BYTES]: key for key in keys}
        self.current = next(iter(self._keys))

    def file_key(self, key_id: bytes, salt: bytes) -> AESGCM:
        """Return the key of a file.

        Raises:
            OSError: its master key is not among these.
        """
        master = self._keys.get(key_id)
        if master is None:
            raise OSError(
                "the file was encrypted with a key that is not in encryption.key_file; add it there"
            )
        derived = HKDF(SHA256(), _KEY_BYTES, salt, b"emotion-monitor file").derive(master)
        return AESGCM(derived)


def load_keys(config: EncryptionConfig) -> Keys | None:
    """Return the keys of the settings; None: nothing is encrypted.

    Raises:
        ConfigError: the file cannot be read, or holds other than keys.
    """
    lines = list(config.keys)
    if config.key_file:
        try:
            lines = Path(config.key_file).expanduser().read_text(encoding="ascii").split()
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"got encryption.key_file '{config.key_file}', which cannot be read: {error}"
            ) from None
        if not lines:
            raise ConfigError("got an empty encryption.key_file, expected a key a line")
    keys = [_key(line) for line in lines]
    return Keys(keys) if keys else None


def _key(line: str) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        # Not the line itself: it may be most of a key.
        raise ConfigError(
            f"got an encryption key of {len(key)} bytes, expected {_KEY_BYTES} in base64;"
            " `openssl rand -base64 32` makes one"
        )
    return key


class PlainFile:
    """A file as it is; owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def size(self) -> int:
        """Length in bytes."""
        return os.fstat(self._fd).st_size

    def pread(self, num_bytes: int, at: int) -> bytes:
        """Return bytes from a position on; fewer at the end."""
        return os.pread(self._fd, num_bytes, at)

    def pwrite(self, data: bytes, at: int) -> int:
        """Write at a position; return how many bytes were written."""
        return os.pwrite(self._fd, data, at)

    def close(self) -> None:
        """Close it; later calls do nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class EncryptedFile(PlainFile):
    """An encrypted file that reads and writes as if it were plain, anywhere within or at its end.

    ``fd``, for reading and, if it is written, writing, is owned.

    Raises:
        OSError: it is no such file, or its key is missing. The descriptor stays open.
    """

    def __init__(self, fd: int, keys: Keys) -> None:
        header = os.pread(fd, _HEADER_BYTES, 0)
        if not header:
            header = _MAGIC + keys.current + secrets.token_bytes(_SALT_BYTES)
            if os.pwrite(fd, header, 0) != len(header):
                raise OSError("no room for the header of an encrypted file")
        if len(header) != _HEADER_BYTES or not header.startswith(_MAGIC):
            raise OSError("got a file in an encryption format that this version does not know")
        key_id = header[len(_MAGIC) : len(_MAGIC) + _ID_BYTES]
        self._key = keys.file_key(key_id, header[-_SALT_BYTES:])
        super().__init__(fd)

    @property
    def size(self) -> int:
        """Length of what it says, in bytes."""
        whole, rest = divmod(max(super().size - _HEADER_BYTES, 0), _STORED_BYTES)
        return whole * _CHUNK_BYTES + max(rest - _NONCE_BYTES - _TAG_BYTES, 0)

    def pread(self, num_bytes: int, at: int) -> bytes:
        """Return bytes from a position on; fewer at the end.

        Raises:
            OSError: the file was altered.
        """
        data = bytearray()
        while len(data) < num_bytes:
            index, offset = divmod(at + len(data), _CHUNK_BYTES)
            part = self._chunk(index)[offset : offset + num_bytes - len(data)]
            if not part:
                break
            data += part
        return bytes(data)

    def pwrite(self, data: bytes, at: int) -> int:
        """Write at a position, which is not beyond the end; all of it, or OSError is raised."""
        done = 0
        while done < len(data):
            index, offset = divmod(at + done, _CHUNK_BYTES)
            part = data[done : done + _CHUNK_BYTES - offset]
            chunk = bytearray(b"" if len(part) == _CHUNK_BYTES else self._chunk(index))
            if offset > len(chunk):
                raise OSError("got a position beyond the end of an encrypted file")
            chunk[offset : offset + len(part)] = part
            self._store(index, bytes(chunk))
            done += len(part)
        return done

    def _chunk(self, index: int) -> bytes:
        for attempt in range(_READS):
            stored = os.pread(self._fd, _STORED_BYTES, _HEADER_BYTES + index * _STORED_BYTES)
            if not stored:
                return b""
            nonce, sealed = stored[:_NONCE_BYTES], stored[_NONCE_BYTES:]
            try:
                return self._key.decrypt(nonce, sealed, index.to_bytes(8, "big"))
            except (InvalidTag, ValueError):
                # It may have been written between the two halves of this read.
                if attempt + 1 == _READS:
                    raise OSError("got an encrypted file that was altered or cut off") from None
        raise AssertionError("the last attempt returns or raises")

    def _store(self, index: int, chunk: bytes) -> None:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        stored = nonce + self._key.encrypt(nonce, chunk, index.to_bytes(8, "big"))
        at = _HEADER_BYTES + index * _STORED_BYTES
        before = os.pread(self._fd, _STORED_BYTES, at)
        if os.pwrite(self._fd, stored, at) != len(stored):
            # A disk that becomes full takes a part, which would make the whole chunk unreadable.
            os.pwrite(self._fd, before, at)
            os.ftruncate(self._fd, max(at + len(before), _HEADER_BYTES))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def open_file(path: Path, keys: Keys | None) -> PlainFile:
    """Open a file for reading, encrypted or not: what was written before there was a key is plain.

    Raises:
        OSError: it cannot be read, or its key is missing.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        if os.pread(fd, len(_MAGIC), 0) != _MAGIC:
            return PlainFile(fd)
        if keys is None:
            raise OSError(
                "the file is encrypted; name the file with its key in encryption.key_file"
            )
        return EncryptedFile(fd, keys)
    except BaseException:
        os.close(fd)
        raise


class Sealer:
    """Takes a file piece by piece, in order, and writes it encrypted, or as it is without keys."""

    def __init__(self, file: IO[bytes], keys: Keys | None) -> None:
        self._file = file
        self._at = 0
        self._sealed = None if keys is None else EncryptedFile(os.dup(file.fileno()), keys)

    def write(self, data: bytes) -> None:
        """Write what comes next."""
        if self._sealed is None:
            self._file.write(data)
        else:
            self._at += self._sealed.pwrite(data, self._at)

    def close(self) -> None:
        """Close what this one opened; the file stays open."""
        if self._sealed is not None:
            self._sealed.close()


@contextmanager
def readable(path: Path, keys: Keys | None) -> Iterator[Path]:
    """Give a path at which a file can be read as it was, for libraries that take paths only.

    What is encrypted is decrypted into memory, never onto a disk (``memfd_create``, Linux).

    Raises:
        OSError: it cannot be read.
    """
    file = open_file(path, keys)
    try:
        if not isinstance(file, EncryptedFile):
            yield path
            return
        memory = os.memfd_create("emotion-monitor")
        try:
            at = 0
            while data := file.pread(1 << 20, at):
                os.write(memory, data)
                at += len(data)
            yield Path(f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)
    finally:
        file.close()


def seal(path: Path, keys: Keys | None) -> None:
    """Encrypt a file that is there; it is replaced when the encrypted one is whole."""
    if keys is None:
        return
    partial = path.with_name(f".{path.name}.new")
    with path.open("rb") as source, partial.open("w+b") as target:
        sealer = Sealer(target, keys)
        try:
            shutil.copyfileobj(source, sealer, 1 << 20)
        finally:
            sealer.close()
    os.replace(partial, path)
