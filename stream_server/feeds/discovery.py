"""Live streams as Home Assistant finds them by itself over MQTT.

::

    PREFIX/sensor/SERVER_STREAM_CHANNEL/config    a sensor, retained; removed when the stream ends

A sensor shows the label of a channel, out of the state that the feed retains anyway; how the
channel has been and the rules that hold are its attributes. A stream is a device, and available
while the server is. Names and metadata of streams stay out: no more is told than the state tells.

Source: "MQTT Discovery" and "MQTT Sensor" in the documentation of Home Assistant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from stream_server.wire.audio_format import MAX_CHANNELS
from stream_server.wire.results import StreamOpened

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Discovery:
    """What makes the announcements of a server.

    Attributes:
        prefix: levels of the topics, see ``feeds.mqtt_discovery_prefix``.
        server: name of the server, part of each id, so that servers can share a broker.
        max_streams: announced at a time.
    """

    prefix: Sequence[str]
    server: str
    max_streams: int

    def configs(
        self, opened: StreamOpened, *, prefix: str, state_topic: str, status_topic: str
    ) -> dict[str, bytes]:
        """Return what to retain for a stream, by topic: a sensor for each analysed channel.

        ``prefix``: of the topics, with the stream's team. On ``status_topic`` the server says that
        it is "online".
        """
        device = {
            "identifiers": [f"{_plain(self.server)}_{_plain(opened.stream_id)}"],
            "name": f"Emotion Monitor {opened.stream_id}",
        }
        configs = {}
        for channel in opened.channels:
            if not channel.analysed:
                continue
            unique_id = self._id(opened.stream_id, channel.index)
            # "first" of nothing is undefined: the channel has no point so far. Home Assistant takes
            # "None" for a state that is not known.
            found = (
                "{% set found = value_json.channels"
                f" | selectattr('channel', 'eq', {channel.index}) | first %}}"
            )
            configs[f"{prefix}/sensor/{unique_id}/config"] = _encode(
                {
                    "name": channel.role,
                    "unique_id": unique_id,
                    "icon": "mdi:emoticon-outline",
                    "state_topic": state_topic,
                    "value_template": found
                    + "{{ (found.label or 'unclear') if found is defined else none }}",
                    "json_attributes_topic": state_topic,
                    "json_attributes_template": found
                    + "{{ dict(found | default({}), alerts=value_json.alerts) | tojson }}",
                    "availability_topic": status_topic,
                    "device": device,
                    "origin": {"name": "Emotion Monitor"},
                }
            )
        return configs

    def topics(self, stream_id: str, *, prefix: str) -> list[str]:
        """Return all topics that a stream may have, however many channels it had."""
        return [
            f"{prefix}/sensor/{self._id(stream_id, index)}/config" for index in range(MAX_CHANNELS)
        ]

    def is_own(self, topic: str) -> bool:
        """Return whether a topic is of an announcement of this server, now or before a restart."""
        levels = topic.split("/")
        object_id = levels[-2] if len(levels) > 1 else ""
        # No part has an underscore, so "emotions" is not taken for "emotions-2".
        return object_id.count("_") == 2 and object_id.partition("_")[0] == _plain(self.server)

    def _id(self, stream_id: str, channel: int) -> str:
        return f"{_plain(self.server)}_{_plain(stream_id)}_{channel}"


def _plain(text: str) -> str:
    """Return a text of the characters that an id may have, without the one that joins its parts."""
    return re.sub(r"[^A-Za-z0-9-]", "-", text)
