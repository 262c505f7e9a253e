"""All ways in beside the native one."""

from __future__ import annotations

from collections.abc import Callable

from stream_server.access import Access
from stream_server.config import ServerConfig
from stream_server.ingest.entrances.asterisk import AsteriskEntrance
from stream_server.ingest.entrances.audiohook import AudioHookEntrance
from stream_server.ingest.entrances.deepgram import DeepgramEntrance
from stream_server.ingest.entrances.entrance import Entrance
from stream_server.ingest.entrances.freeswitch import FreeSwitchEntrance
from stream_server.ingest.entrances.platforms import make_platform_entrances

__all__ = ["make_entrances"]


def make_entrances(
    config: ServerConfig, access: Access, check_capacity: Callable[[str], None]
) -> dict[str, Entrance]:
    """Return the ways in of other people's clients, by the first part of their paths.

    Args:
        config: the server's settings.
        access: who may connect.
        check_capacity: takes a token's name, "" for nobody in particular; raises ProtocolError
            where there is no room for another stream.
    """
    roles = config.telephony.roles
    return {
        **make_platform_entrances(config.telephony, access, check_capacity),
        "/audiohook": AudioHookEntrance(config.telephony, access),
        "/asterisk": AsteriskEntrance(roles[0], access, check_capacity),
        "/freeswitch": FreeSwitchEntrance(roles, access, check_capacity),
        "/v1": DeepgramEntrance(access, check_capacity, roles),
    }
