"""A LiveKit agent that hears how its user sounds.

:class:`EmotionAudioInput` goes around a session's audio input, whatever the pipeline behind it: it
lets every frame through and streams it to an Emotion Monitor. When the user's tone changes for a
while, one message in the agent's chat context is replaced::

    session = AgentSession(...)
    await session.start(agent=agent, room=ctx.room)
    listener = listen_to_tone(session, "ws://localhost:8765")
    ctx.add_shutdown_callback(listener.aclose)

To see it work without any account, with a server running (``emotion-monitor serve``)::

    pip install livekit-agents
    python -m examples.livekit_emotion --file speech.wav

plays a recording to a session without a room, and prints what an LLM would be told.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

try:
    from livekit import rtc
    from livekit.agents import Agent, AgentSession
    from livekit.agents.llm import ChatMessage
    from livekit.agents.voice.io import AudioInput
except ImportError as error:
    raise SystemExit(
        f"livekit_emotion: {error}; it needs LiveKit Agents 1.8 or later, in an environment of its"
        " own: pip install livekit-agents emotion-monitor"
    ) from None

from examples.voice_agent import NOTE_MARK, Listener, Note, recording
from mic_client import ArraySource
from mic_client.stream_client import DEFAULT_URL


class EmotionAudioInput(AudioInput):
    """An audio input that is listened to on its way.

    Args:
        source: the input that is there.
        listener: takes a copy of every frame.
    """

    def __init__(self, source: AudioInput, listener: Listener) -> None:
        super().__init__(label="emotion", source=source)
        self._listener = listener

    async def __anext__(self) -> rtc.AudioFrame:
        frame = await super().__anext__()
        self._listener.push(bytes(frame.data), frame.sample_rate, frame.num_channels)
        return frame


def listen_to_tone(
    session: AgentSession,
    url: str = DEFAULT_URL,
    *,
    role: str = "customer",
    name: str = "",
    token: str = "",
) -> Listener:
    """Tell the session's agent how its user sounds, from now on; close what is returned.

    Args:
        session: has an audio input; with a room that is so once it has been started.
        url: of the server's ingest port.
        role: of the user on the server.
        name: of the stream on the server.
        token: access token, where the server wants one.

    Raises:
        RuntimeError: the session has no audio input.
    """

    async def tell(note: Note) -> None:
        agent = session.current_agent
        context = agent.chat_ctx.copy()
        context.items = [one for one in context.items if not _is_note(one)]
        context.add_message(role="developer", content=note.text())
        await agent.update_chat_ctx(context)

    if session.input.audio is None:
        raise RuntimeError("the session has no audio input; start it first")
    listener = Listener(on_note=tell, url=url, role=role, name=name, token=token)
    session.input.audio = EmotionAudioInput(session.input.audio, listener)
    return listener


def _is_note(item: object) -> bool:
    return isinstance(item, ChatMessage) and (item.text_content or "").startswith(NOTE_MARK)


class _Recording(AudioInput):
    """Stands for a room's participant."""

    def __init__(self, source: ArraySource) -> None:
        super().__init__(label="recording")
        self._rate_hz = source.format.sample_rate_hz
        self._chunks = aiter(source)
        self.ended = asyncio.Event()

    async def __anext__(self) -> rtc.AudioFrame:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self.ended.set()
            raise
        return rtc.AudioFrame(chunk.data, self._rate_hz, 1, len(chunk.data) // 2)


async def play(path: Path, url: str, token: str) -> Agent:
    """Play a recording to a session; return its agent with the context an LLM would have."""
    session: AgentSession = AgentSession()
    heard = _Recording(recording(path))
    session.input.audio = heard
    agent = Agent(instructions="You are a helpful assistant.")
    listener = listen_to_tone(session, url, name=path.name, token=token)
    await session.start(agent)
    await heard.ended.wait()
    await listener.aclose()
    await session.aclose()
    return agent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A LiveKit session that hears how people sound.")
    parser.add_argument("--file", type=Path, required=True, help="a recording of somebody speaking")
    parser.add_argument("--url", default=DEFAULT_URL)
    parser.add_argument("--token", default="")
    options = parser.parse_args()
    for item in asyncio.run(play(options.file, options.url, options.token)).chat_ctx.items:
        if isinstance(item, ChatMessage):
            print(f"{item.role}: {item.text_content}")
