"""Amazon Connect: calls whose audio lies in a Kinesis video stream, from where it is read.

Nothing connects to this server with audio. A function of the contact flow announces a contact by
HTTP, and the server asks Kinesis Video Streams for it, with boto3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from ser_engine.config import Range, check_fields
from stream_server.platforms.platform import (
    Platform,
    TelephonySettings,
)


@dataclass(frozen=True, slots=True)
class AmazonConnectConfig:
    """Contacts of Amazon Connect, read from Kinesis Video Streams."""

    port: Annotated[int, Range(-1, 65_535)] = -1
    """TCP port for HTTP, where a Lambda function announces contacts. -1: none; 0: any free one."""
    end_after_s: Annotated[float, Range(1, 300)] = 15.0
    """Time without audio of a contact after which its stream ends."""

    def __post_init__(self) -> None:
        check_fields(self, "telephony.amazon_connect")


@dataclass(frozen=True)
class AmazonConnectSettings(TelephonySettings):
    """Settings of Amazon Connect."""

    amazon_connect: AmazonConnectConfig = field(default_factory=AmazonConnectConfig)


PLATFORM = Platform({}, AmazonConnectSettings, has_ports=True)
