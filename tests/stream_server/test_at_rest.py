"""Encrypted files are read and written as plain ones are, by those who have the key."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ser_engine.errors import ConfigError
from stream_server.at_rest import (
    EncryptedFile,
    Keys,
    load_keys,
    open_file,
    readable,
    seal,
)
from stream_server.config import EncryptionConfig

OLD, NEW = Keys([b"o" * 32]), Keys([b"n" * 32, b"o" * 32])


def write(path: Path, keys: Keys = OLD) -> EncryptedFile:
    return EncryptedFile(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), keys)


def test_it_reads_as_what_was_written_in_any_order(tmp_path: Path, rng: np.random.Generator):
    plain = bytearray()
    file = write(tmp_path / "x")
    for _ in range(60):
        at = int(rng.integers(0, len(plain) + 1))
        data = rng.bytes(int(rng.integers(1, 20_000)))
        assert file.pwrite(data, at) == len(data)
        plain[at : at + len(data)] = data
        assert file.size == len(plain)
    for _ in range(60):
        at, length = (int(each) for each in rng.integers(0, len(plain), 2))
        assert file.pread(length, at) == plain[at : at + length]
    file.close()
    stored = (tmp_path / "x").read_bytes()
    assert bytes(plain[:64]) not in stored
    again = open_file(tmp_path / "x", NEW)
    assert again.pread(len(plain) + 9, 0) == plain, "an older key still decrypts"
    again.close()


@pytest.mark.parametrize("place", [30, 50, 16_500, -1])
def test_an_altered_file_is_refused(tmp_path: Path, place: int):
    path = tmp_path / "x"
    path.write_bytes(b"speech " * 5000)
    seal(path, OLD)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"altered|lacks"):
        file = open_file(path, OLD)
        file.pread(1 << 20, 0)


def test_without_its_key_it_is_not_read(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"speech")
    seal(path, NEW)
    for keys in (OLD, None):
        with pytest.raises(OSError, match="key"):
            open_file(path, keys)
    with readable(path, NEW) as clear:
        assert clear.read_bytes() == b"speech"


def test_what_was_written_before_there_was_a_key_is_read(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"speech")
    with readable(path, OLD) as clear:
        assert clear.read_bytes() == b"speech"


def test_keys_of_the_settings(tmp_path: Path):
    assert load_keys(EncryptionConfig()) is None
    path = tmp_path / "keys"
    path.write_text("bm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm4=\n")
    keys = load_keys(EncryptionConfig(key_file=str(path)))
    assert keys is not None and keys.current == NEW.current
    path.write_text("c2hvcnQ=\n")
    for config in (EncryptionConfig(key_file=str(path)), EncryptionConfig(keys=("?",))):
        with pytest.raises(ConfigError, match="openssl rand -base64 32"):
            load_keys(config)
