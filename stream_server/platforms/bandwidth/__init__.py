"""Bandwidth's ``<StartStream>``.

https://dev.bandwidth.com/docs/voice/programmable-voice/bxml/startStream

Twilio's messages in other words: ``eventType`` instead of ``event``, ``metadata`` instead of
``start``, and what belongs to ``media`` in the message itself. A packet has no time. Newer
releases number the packets, but whether both tracks are counted together is not documented, so they
are taken in the order in which they come.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from stream_server.platforms.media_stream import MediaPlatform, WireEncoding, media_route
from stream_server.platforms.platform import Platform, TelephonySettings
from stream_server.wire.dialect import bad_message, json_field


def translated(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message in Twilio's shape; what else than start, media and stop it is is ignored.

    Raises:
        ProtocolError: BAD_MESSAGE: a field is missing, or the tracks have not one format.
    """
    event = json_field(message, "eventType", str)
    if event == "media":
        return {"event": event, "media": message}
    if event != "start":
        return {"event": event if event == "stop" else ""}
    metadata = json_field(message, "metadata", dict)
    listed = metadata.get("tracks")
    tracks = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    formats = [track["mediaFormat"] for track in tracks if track.get("mediaFormat") is not None]
    if any(each != formats[0] for each in formats):
        raise bad_message("got tracks of several formats, expected one for all")
    start = {**metadata, "tracks": [track.get("name") for track in tracks]}
    if formats:
        start["mediaFormat"] = formats[0]
    return {"event": event, "start": start, "streamParams": message.get("streamParams")}


BANDWIDTH = MediaPlatform(
    name="bandwidth",
    stream_id="streamId",
    call_id="callId",
    # The only one that is documented.
    encodings={"audio/pcmu": WireEncoding("mulaw")},
    default_encoding="audio/pcmu",
    parameters=lambda message: message.get("streamParams"),
    details=("streamId", "accountId"),
    translated=translated,
)

PLATFORM = Platform({"/bandwidth": partial(media_route, BANDWIDTH)}, TelephonySettings)
