"""A car's assistant that reads the driver's emotion from the car's databroker, as any other signal.

The server publishes to it (``feeds.vss_url``, docs/how-to/feeds.md); this knows only the signals::

    pip install kuksa-client
    python examples/in_car_vss.py --host databroker.local

It follows ``Lasting``, not ``Label``: a voice that changes with every word does no good.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping

from kuksa_client.grpc.aio import VSSClient

PREFIX = "Vehicle.Driver.Emotion"
STYLES = {
    "ANGRY": "calm and brief; no questions, no advertising, no jokes",
    "FEARFUL": "calm and reassuring; one instruction at a time",
    "SAD": "warm and unhurried",
    "HAPPY": "lively",
}
"""How to speak to a driver who sounds like this; else neutral."""


class Voice:
    """Turns signals into how the assistant speaks. Knows neither network nor clock."""

    def __init__(self) -> None:
        self.style = "neutral"

    def take(self, values: Mapping[str, object]) -> str | None:
        """Take signals that changed, by the last part of their paths; return a new style."""
        style = self.style
        if "Lasting" in values:
            style = STYLES.get(str(values["Lasting"]), "neutral")
        if values.get("IsMonitored") is False:
            style = "neutral"
        if style == self.style:
            return None
        self.style = style
        return style


async def main(host: str, port: int, token: str) -> None:
    """Follow the signals until the databroker ends."""
    voice = Voice()
    async with VSSClient(host, port, token=token or None) as client:
        paths = [f"{PREFIX}.Lasting", f"{PREFIX}.IsMonitored"]
        async for updates in client.subscribe_current_values(paths):
            values = {
                path.rpartition(".")[2]: point.value for path, point in updates.items() if point
            }
            if (style := voice.take(values)) is not None:
                print(f"speak: {style}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An assistant that reads the car's databroker.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=55_555)
    parser.add_argument("--token", default="")
    options = parser.parse_args()
    asyncio.run(main(options.host, options.port, options.token))
