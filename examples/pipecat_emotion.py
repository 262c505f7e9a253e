"""A Pipecat bot that hears how its user sounds.

:class:`EmotionProcessor` goes between the transport and the speech recognition. It lets every frame
through, streams the user's audio to an Emotion Monitor, and when the user's tone changes for a
while it puts one message into the LLM's context, in place of the one before::

    emotion = EmotionProcessor("ws://localhost:8765")
    pipeline = Pipeline([
        transport.input(), emotion, stt, aggregators.user(), llm, tts, transport.output(),
        aggregators.assistant(),
    ])

It also pushes an :class:`EmotionFrame`, for processors that choose a voice or a style by it.

To see it work without any account, with a server running (``emotion-monitor serve``)::

    pip install pipecat-ai
    python -m examples.pipecat_emotion --file speech.wav

plays a recording to a pipeline that ends in a context, and prints what an LLM would be told.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    from pipecat.frames.frames import (
        CancelFrame,
        DataFrame,
        EndFrame,
        Frame,
        InputAudioRawFrame,
        LLMMessagesTransformFrame,
    )
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineWorker
    from pipecat.processors.aggregators.llm_context import LLMContext
    from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
    from pipecat.workers.runner import WorkerRunner
except ImportError as error:
    raise SystemExit(
        f"pipecat_emotion: {error}; it needs Pipecat 1.14 or later, in an environment of its own:"
        " pip install pipecat-ai emotion-monitor"
    ) from None

from examples.voice_agent import NOTE_MARK, Listener, Note, recording
from mic_client.stream_client import DEFAULT_URL


@dataclass
class EmotionFrame(DataFrame):
    """The user's tone has changed."""

    note: Note


class EmotionProcessor(FrameProcessor):
    """Lets everything through, and tells the LLM how the user sounds.

    Args:
        url: of the server's ingest port.
        role: of the user on the server.
        name: of the stream on the server.
        token: access token, where the server wants one.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, role: str = "customer", name: str = "", token: str = ""
    ) -> None:
        super().__init__()
        self._listener = Listener(on_note=self._tell, url=url, role=role, name=name, token=token)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take a frame and push it on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame) and direction is FrameDirection.DOWNSTREAM:
            self._listener.push(frame.audio, frame.sample_rate, frame.num_channels)
        elif isinstance(frame, EndFrame):
            # The last notes go in front of the end.
            await self._listener.aclose()
        elif isinstance(frame, CancelFrame):
            await self._listener.aclose(timeout_s=0)
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """End the stream, should neither frame have come."""
        await super().cleanup()
        await self._listener.aclose()

    async def _tell(self, note: Note) -> None:
        # By default an interruption, which is when people speak up, drops what is on its way.
        for frame in (EmotionFrame(note), LLMMessagesTransformFrame(_with_note(note))):
            frame.interruptible = False
            await self.push_frame(frame)


def _with_note(note: Note) -> Any:
    """Return what replaces the former note in a list of messages."""

    def transform(messages: list[Any]) -> list[Any]:
        kept = [one for one in messages if not _is_note(one)]
        return [*kept, {"role": "developer", "content": note.text()}]

    return transform


def _is_note(message: Any) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, str) and content.startswith(NOTE_MARK)


class _Printer(FrameProcessor):
    """Stands for the rest of a bot."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, EmotionFrame):
            print(f"{frame.note.at_s:6.1f} s  {frame.note.emotion}", flush=True)
        await self.push_frame(frame, direction)


async def play(path: Path, url: str, token: str) -> LLMContext:
    """Play a recording to a pipeline; return the context an LLM would have at the end."""
    source = recording(path)
    context = LLMContext([{"role": "system", "content": "You are a helpful assistant."}])
    aggregators = LLMContextAggregatorPair(context)
    emotion = EmotionProcessor(url, name=path.name, token=token)
    worker = PipelineWorker(Pipeline([emotion, _Printer(), aggregators.user()]))
    is_started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_started(worker: PipelineWorker, frame: Frame) -> None:
        is_started.set()

    async def speak() -> None:
        await is_started.wait()
        async for item in source:
            audio = InputAudioRawFrame(
                audio=item.data, sample_rate=source.format.sample_rate_hz, num_channels=1
            )
            await worker.queue_frame(audio)
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), speak())
    await source.aclose()
    return context


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A Pipecat pipeline that hears how people sound.")
    parser.add_argument("--file", type=Path, required=True, help="a recording of somebody speaking")
    parser.add_argument("--url", default=DEFAULT_URL)
    parser.add_argument("--token", default="")
    options = parser.parse_args()
    for message in asyncio.run(play(options.file, options.url, options.token)).messages:
        print(f"{message['role']}: {message['content']}")
