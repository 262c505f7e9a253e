"""Writes what a microphone records to standard output, raw, until standard input is closed.

A process of its own, because PortAudio looks for devices once, when it is loaded.
"""

from __future__ import annotations

import asyncio
import sys

from mic_client import MicrophoneSource
from mic_client.sources import Chunk


async def main() -> None:
    source = MicrophoneSource(device="pulse")
    print(source.format, source.device, file=sys.stderr)

    async def stop() -> None:
        await asyncio.to_thread(sys.stdin.read)
        await source.aclose()

    stopping = asyncio.create_task(stop())
    async for item in source:
        if isinstance(item, Chunk):
            sys.stdout.buffer.write(item.data)
            sys.stdout.buffer.flush()
        else:
            print(f"lost {item.samples}", file=sys.stderr)
    await stopping


if __name__ == "__main__":
    asyncio.run(main())
