"""An engine as a replica of Ray Serve; :mod:`.ray_pool` is the other side.

A replica takes windows of all gateways into one engine, whose batcher makes batches of them. Ray
Serve asks it whether it is well and how long windows wait, and starts and ends replicas by that.
``emotion-monitor engine --listen ray:///NAME`` makes an application of replicas, and so does a
configuration file of Ray Serve with the ``import_path``
``stream_server.engines.ray_replica:application``.

It belongs to the event loop Ray Serve calls it in. Ray is imported only where an application is
made: a gateway's code and tests need none of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic import TypeAdapter

from ser_engine.config import EngineConfig
from ser_engine.errors import ConfigError, EngineDeadError
from stream_server.config import TracingConfig
from stream_server.engines import Engine
from stream_server.engines.host import scored
from stream_server.engines.remote import (
    VERSION,
    Answers,
    Forget,
    FromHost,
    FromPeer,
    Hello,
    Ping,
    Pong,
    Refused,
    Score,
    Welcome,
    engine_key,
)
from stream_server.engines.window_audio import KeptAudio
from stream_server.tracing import configure_tracing

if TYPE_CHECKING:
    from ray.serve import Application
    from ray.serve.config import AutoscalingContext


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FromPeer).decode

TARGET_WAIT_MS = 50.0
"""Mean time a window waits for the engine above which replicas are added."""
# Below this part of the target one replica less will do.
_IDLE_PART = 0.2
_ROUTER = "stream_server.engines.ray_router.PartRouter"
# Calls of a replica at once: its batcher queues windows and refuses them when they are too many.
_MAX_CALLS = 1000
# Three in a row that are not answered end a replica.
_HEALTH_PERIOD_S, _HEALTH_TIMEOUT_S = 1.0, 5.0


class EngineReplica:
    """One engine, asked by Ray Serve.

    Args:
        config: an :class:`~ser_engine.config.EngineConfig` as plain data. ``model.name`` is that of
            one model, or a folder that every machine of the cluster has.
        tracing: a :class:`~stream_server.config.TracingConfig` as plain data; None: nothing is
            traced.
    """

    # Ray Serve awaits it.
    async def __init__(  # type: ignore[misc]
        self, config: Mapping[str, Any], tracing: Mapping[str, Any] | None = None
    ) -> None:
        from stream_server.engines.pool import EnginePool

        if tracing is not None:
            configure_tracing(TypeAdapter(TracingConfig).validate_python(tracing), "replica")

        self._pool = EnginePool(config=TypeAdapter(EngineConfig).validate_python(config))
        await self._pool.start()
        self._take(self._pool.acquire().engine)

    def _take(self, engine: Engine) -> None:
        self._engine = engine
        self._key = engine_key(engine.info, engine.runtime_name)
        self._audio = KeptAudio()
        self._asked_s = time.monotonic()
        self._waited = (0, 0.0)  # windows taken into batches, and the seconds they waited for that

    @classmethod
    def of(cls, engine: Engine) -> EngineReplica:
        replica = cls.__new__(cls)
        replica._take(engine)
        return replica

    async def exchange(self, engine: str, frames: Sequence[Any]) -> list[bytes]:
        """Return the answer to a message of a gateway; none: there is nothing to be said.

        Args:
            engine: key of the engine that is asked; "": whichever there is.
            frames: the envelope, and arrays with the bytes of the samples.
        """
        self._asked_s = time.monotonic()
        if engine not in ("", self._key):
            return [_encode(Refused(f"this replica has {self._key}, not {engine}", is_final=False))]
        match _decode(bytes(frames[0])):
            case Hello(version=version) if version != VERSION:
                reason = f"got version {version} of the engine's messages, expected {VERSION}"
                return [_encode(Refused(reason, is_final=True))]
            case Hello():
                mine = self._engine
                timeline = mine.config.timeline
                return [_encode(Welcome(self._key, mine.info, mine.runtime_name, timeline))]
            case Score() as score:
                return await self._score(score, frames[1:])
            case Forget(stream_keys=keys):
                for key in keys:
                    self._engine.forget(key)
                    self._audio.forget(key)
            case Ping():
                return [_encode(Pong(self._key))]
        return []

    async def _score(self, score: Score, arrays: Sequence[Any]) -> list[bytes]:
        unpack = self._audio.unpack
        answers = await asyncio.gather(
            *(
                scored(
                    self._engine,
                    asked,
                    unpack(asked.number, asked.stream_key, asked.layout, memoryview(array)),
                )
                for asked, array in zip(score.windows, arrays, strict=True)
            )
        )
        envelope: FromHost = Answers(tuple(answered for answered, _ in answers))
        return [_encode(envelope), *(bytes(frame) for _, frames in answers for frame in frames)]

    def idle_s(self) -> float:
        """Return the time since any gateway asked; one that is there asks each second."""
        return time.monotonic() - self._asked_s

    def check_health(self) -> None:
        """See Ray Serve. Raises EngineDeadError: the replica is to be replaced."""
        if not self._engine.is_alive:
            raise EngineDeadError("the engine is dead; see the replica's log")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the mean time windows waited since the last call, for :func:`replicas_for`."""
        stats = self._engine.stats
        taken = sum(size * count for size, count in stats.batch_sizes.items())
        windows, waited_s = taken - self._waited[0], stats.queue_wait_s - self._waited[1]
        self._waited = (taken, stats.queue_wait_s)
        return {"queue_wait_ms": 1000 * waited_s / windows if windows else 0.0}


def replicas_for(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Return how many replicas there should be by how long windows wait; see Ray Serve.

    Bounds and delays are Ray Serve's, from its ``autoscaling_config``.
    """
    waits = (context.aggregated_metrics or {}).get("queue_wait_ms", {}).values()
    now = context.target_num_replicas
    if not waits:
        return now, {}
    wait_ms = sum(waits) / len(waits)
    if wait_ms > TARGET_WAIT_MS:
        # Twice as many at most: how long a queue is says little of how much there is to do.
        return min(2 * now, round(now * wait_ms / TARGET_WAIT_MS + 0.5)), {}
    return (now - 1 if wait_ms < _IDLE_PART * TARGET_WAIT_MS else now), {}


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """What an application is made of.

    Attributes:
        engine: settings of model and batches, of every replica.
        upscale_delay_s: windows wait for so long before replicas are added.
        downscale_delay_s: they do not wait for so long before one is taken away.
        cpus: of a replica; also the threads it calculates with.
        gpus: of a replica, as 0.5 for two on one.
        tracing: where their part of a window's trace goes.
    """

    engine: EngineConfig
    min_replicas: int = 1
    max_replicas: int = 1
    upscale_delay_s: float = 10.0
    downscale_delay_s: float = 300.0
    cpus: float = 1.0
    gpus: float = 0.0
    tracing: TracingConfig = field(default_factory=TracingConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ConfigError(
                f"got {self.min_replicas} to {self.max_replicas} replicas, expected 1 or"
                " more, and a"
                " maximum that is not below the minimum"
            )
        if self.engine.model.name == "auto" or "://" in self.engine.model.name:
            raise ConfigError(
                f"got ser_engine.model.name {self.engine.model.name!r} for replicas, expected the"
                " name or folder of one model: all replicas must have the same"
            )

    def application_name(self, pool: str) -> str:
        """Return the name of the application in a pool, another one for other settings."""
        said = repr((VERSION, asdict(self)))
        return f"{pool}-{sha256(said.encode()).hexdigest()[:8]}"


def application(args: Mapping[str, Any]) -> Application:
    """Return an application of Ray Serve; ``import_path`` of its configuration files.

    Args:
        args: :class:`ReplicaSettings` as plain data, as in
            ``{"engine": {"model": {"name": "standard"}}, "max_replicas": 8}``.

    Raises:
        ConfigError: a setting is wrong.
        pydantic.ValidationError: there is no such setting.
    """
    return application_of(EngineReplica, TypeAdapter(ReplicaSettings).validate_python(args))


def application_of(kind: type[EngineReplica], settings: ReplicaSettings) -> Application:
    from ray import serve
    from ray.serve.config import RequestRouterConfig

    scaling: dict[str, Any] = {"num_replicas": settings.min_replicas}
    if settings.max_replicas > settings.min_replicas:
        policy = {"policy_function": f"{__name__}:{replicas_for.__name__}"}
        scaling = {
            "autoscaling_config": {
                "min_replicas": settings.min_replicas,
                "max_replicas": settings.max_replicas,
                "upscale_delay_s": settings.upscale_delay_s,
                "downscale_delay_s": settings.downscale_delay_s,
                "policy": policy,
            }
        }
    deployment = serve.deployment(kind).options(
        name=EngineReplica.__name__,
        max_ongoing_requests=_MAX_CALLS,
        request_router_config=RequestRouterConfig(request_router_class=_ROUTER),
        health_check_period_s=_HEALTH_PERIOD_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
        graceful_shutdown_wait_loop_s=0.1,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
        **scaling,
    )
    bound: Application = deployment.bind(asdict(settings.engine), asdict(settings.tracing))
    return bound
