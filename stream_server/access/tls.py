"""TLS of the server's own: a certificate that may be replaced while calls go on.

What is open keeps the certificate it was opened with; what connects later gets the new one.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import structlog

from ser_engine.errors import ConfigError
from stream_server.access.config import ListenConfig

_log = structlog.get_logger(__name__)

HANDSHAKE_S = 5.0
"""Longest time of a TLS handshake; until it is done a connection costs a descriptor and is counted
nowhere."""
_INTERVAL_S = 10.0


class Tls:
    """The certificate and key of both ports.

    Args:
        certificate, key: PEM files; the certificate's own first, then those it was signed with.
        settings: where the two are named: a prefix of ``tls_certificate`` and ``tls_key``.
        clients: PEM file of those who sign the certificates that clients must have; "": they need
            none.
        protocol: that is negotiated (ALPN).

    Raises:
        ConfigError: they cannot be used.

    Attributes:
        context: for ``asyncio``'s servers; the same for as long as the server runs.
    """

    def __init__(
        self,
        certificate: str,
        key: str,
        *,
        settings: str = "listen",
        clients: str = "",
        protocol: str = "http/1.1",
    ) -> None:
        self._settings, self._protocol = settings, protocol
        self._clients = str(Path(clients).expanduser()) if clients else ""
        self.certificate = Path(certificate).expanduser()
        self._key = Path(key).expanduser()
        self._seen = self._state()
        self.context = self._newest = self._load()

        # A context whose certificate is replaced in place has, for a moment or after an error, the
        # certificate of one pair and the key of another. So each pair gets a context of its own;
        # OpenSSL asks here in every handshake, with or without a server name.
        def choose(connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
            connection.context = self._newest

        # The standard library's types allow SSLSocket only.
        answer: Any = choose
        self.context.sni_callback = answer

    def refresh(self) -> None:
        """Read the files again if they have changed; keep what there is if they are wrong."""
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._newest = self._load()
        except ConfigError as error:
            _log.error("certificate_not_reloaded", reason=str(error))
        else:
            _log.info("certificate_reloaded")

    async def follow(self) -> None:
        """Look for changes, for ever."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            self.refresh()

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return what tells one version of the files from another."""
        found: list[tuple[int, int, int] | None] = []
        for path in (self.certificate, self._key):
            try:
                status = os.stat(path)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    def _load(self) -> ssl.SSLContext:
        # TLS 1.2 and later with forward secrecy: what Python takes for a server (PEP 644 and its
        # documentation of create_default_context).
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols([self._protocol])
        files = (
            f"{self._settings}.tls_certificate '{self.certificate}' and"
            f" {self._settings}.tls_key '{self._key}'"
        )
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(self.certificate, self._key, password=_no_password)
            if self._clients:
                files = f"{self._settings}.tls_clients '{self._clients}'"
                context.load_verify_locations(self._clients)
                context.verify_mode = ssl.CERT_REQUIRED
        except ssl.SSLError as error:
            raise ConfigError(
                f"got {files}: {error.reason or error}; expected a certificate and its key, as PEM"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"got {files}: {(error.strerror or str(error)).lower()}; expected two files that"
                " the server may read"
            ) from None
        return context


def tls_of(listen: ListenConfig) -> Tls | None:
    """Return the TLS of the settings; None: they name no certificate.

    Raises:
        ConfigError: the files cannot be used.
    """
    return Tls(listen.tls_certificate, listen.tls_key) if listen.has_tls else None


def _no_password() -> str:
    raise ConfigError(
        "got a listen.tls_key with a password, expected one without: `openssl pkey -in KEY -out"
        " PLAIN` removes it; keep the file readable for the server alone"
    )
