"""Signals of a car: against a server of the databroker's published protocol, over a real socket."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import pytest
import yaml

from ser_engine.errors import ConfigError
from stream_server.bus import Bus
from stream_server.config import FeedsConfig
from stream_server.feeds import vss
from stream_server.feeds.vss import DriverSignals, VssPublisher, publish_request
from stream_server.metrics import Metrics
from tests.requirements import REPOSITORY
from tests.support.results import make_closed, make_opened, make_points

PREFIX = "Vehicle.Driver.Emotion"
OVERLAY = REPOSITORY / "deploy" / "vss"


def overlay() -> dict[str, Any]:
    """Return the signals of the overlay by their paths."""
    children: dict[str, Any] = json.loads((OVERLAY / "emotion.json").read_text())
    for name in PREFIX.split("."):
        children = children[name]["children"]
    return {f"{PREFIX}.{name}": each for name, each in children.items()}


def decoded(request: bytes) -> tuple[str, Any]:
    """Decode a request by the published messages."""
    parsed: Any = request_class().FromString(request)
    value = parsed.data_point.value
    return parsed.signal_id.path, getattr(value, value.WhichOneof("typed_value"))


@cache
def request_class() -> Any:
    """Return the class of a request, of names, numbers and types that kuksa.val.v2 has."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="val", package="v2", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, str]) -> None:
        made = file.message_type.add(name=name)
        if name == "Value":
            made.oneof_decl.add(name="typed_value")
        for field, number, kind, of in fields:
            added = made.field.add(name=field, number=number, type=kind, label=1)
            if of:
                added.type_name = of
            if name == "Value":
                added.oneof_index = 0

    message("SignalID", ("id", 1, kinds.TYPE_INT32, ""), ("path", 2, kinds.TYPE_STRING, ""))
    message(
        "Value",
        ("string", 11, kinds.TYPE_STRING, ""),
        ("bool", 12, kinds.TYPE_BOOL, ""),
        ("float", 17, kinds.TYPE_FLOAT, ""),
    )
    message("Datapoint", ("value", 2, kinds.TYPE_MESSAGE, ".v2.Value"))
    message(
        "PublishValueRequest",
        ("signal_id", 1, kinds.TYPE_MESSAGE, ".v2.SignalID"),
        ("data_point", 2, kinds.TYPE_MESSAGE, ".v2.Datapoint"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("v2.PublishValueRequest"))


class Databroker:
    """Takes values as the databroker does: those of signals it knows, of their types.

    Attributes:
        values: by path.
        tokens: that came with the calls.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.tokens: set[str] = set()
        self.signals = overlay()
        self.port = 0
        self._changed = asyncio.Condition()

    async def publish(self, request: bytes, context: Any) -> bytes:
        import grpc

        path, value = decoded(request)
        metadata: Any = context.invocation_metadata()
        self.tokens |= {value for key, value in metadata if key == "authorization"}
        signal: Any = self.signals.get(path)
        if signal is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such signal")
        kinds = {"boolean": bool, "float": float, "string": str}
        if type(value) is not kinds[signal["datatype"]]:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "wrong type")
        if "allowed" in signal and value not in signal["allowed"]:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not allowed")
        async with self._changed:
            self.values[path.rpartition(".")[2]] = value
            self._changed.notify_all()
        return b""

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: holds(self.values))

    async def start(self) -> Any:
        import grpc

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(self.publish)
        methods = grpc.method_handlers_generic_handler(
            "kuksa.val.v2.VAL", {"PublishValue": handler}
        )
        server.add_generic_rpc_handlers((methods,))
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        return server


@asynccontextmanager
async def publishing(port: int) -> AsyncIterator[Bus]:
    bus = Bus()
    feeds = FeedsConfig(
        vss_url=f"grpc://127.0.0.1:{port}", vss_token="ey.jwt", vss_prefix=PREFIX, mailbox_size=64
    )
    publisher = VssPublisher(feeds, bus=bus, metrics=Metrics(), rng=random.Random(0))
    async with publisher:
        yield bus


@pytest.mark.needs("grpc")
async def test_a_drive_is_signals_and_a_databroker_that_comes_back_is_told_again(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(vss, "_FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(vss, "_LONGEST_DELAY_S", 0.1)
    broker = Databroker()
    server = await broker.start()
    opened = make_opened(roles=("driver",))
    points = list(make_points([0.9] * 8))
    async with publishing(broker.port) as bus:
        await broker.until(lambda values: values.get("IsMonitored") is False)
        bus.publish(opened)
        for result in points:
            bus.publish(result)
        await broker.until(lambda values: values.get("Confidence") == 90.0)
        assert (broker.values["IsMonitored"], broker.values["Label"]) == (True, "ANGRY")
        assert broker.tokens == {"Bearer ey.jwt"}
        await server.stop(None)
        broker.values.clear()
        for result in make_points([0.1] * 2):
            bus.publish(result)
        server = await broker.start()
        await broker.until(lambda values: values.get("Label") == "NEUTRAL")
        names = {path.rpartition(".")[2] for path in broker.signals}
        await broker.until(lambda values: set(values) == names)
        bus.publish(make_closed())
        await broker.until(
            lambda values: (values["IsMonitored"], values["Label"]) == (False, "UNCLEAR")
        )
        bus.publish(opened)
        await broker.until(lambda values: values["IsMonitored"] is True)
    # The server stops, and nobody is listened to.
    assert broker.values["IsMonitored"] is False
    await server.stop(None)


@pytest.mark.needs("grpc")
@pytest.mark.parametrize("value", [True, False, 0.0, 63.5, "ANGRY", "x" * 300])
def test_requests_are_what_the_protocol_has(value: Any):
    assert decoded(publish_request(f"{PREFIX}.Label", value)) == (f"{PREFIX}.Label", value)


def test_requests_are_those_of_kuksa_client():
    """As the generated classes of kuksa-client 0.6.0 serialise them."""
    assert publish_request("A.B", "HAPPY").hex() == "0a051203412e42120912075a054841505059"
    assert publish_request("A.B", True).hex() == "0a051203412e42120412026001"
    assert publish_request("A.B", 63.5).hex() == "0a051203412e42120812068d0100007e42"


def test_of_the_role_alone_and_of_the_latest_stream():
    signals = DriverSignals("driver")
    before = dict(signals.values)
    signals.take(make_opened(roles=("customer",)))
    for point in make_points([0.9] * 3):
        signals.take(point)
    assert signals.values == before
    signals.take(make_opened(roles=("driver",)))
    for point in make_points([0.9] * 3):
        signals.take(point)
    assert (signals.values["IsMonitored"], signals.values["Label"]) == (True, "ANGRY")
    signals.take(make_opened("s2", roles=("driver",)))
    assert signals.values["Label"] == "UNCLEAR"
    signals.take(make_closed())
    assert signals.values["IsMonitored"] is True
    signals.take(make_closed("s2"))
    assert signals.values == before


def test_the_overlay_has_what_is_published_in_both_its_forms():
    vspec = yaml.safe_load((OVERLAY / "emotion.vspec").read_text())
    assert {path: vspec[path] for path in vspec if path != PREFIX} == overlay()
    assert {f"{PREFIX}.{name}" for name in DriverSignals("driver").values} == set(overlay())


@pytest.mark.needs("grpc")
def test_a_url_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="grpc://HOST:PORT"):
        VssPublisher(FeedsConfig(vss_url="grpc://"), bus=Bus(), metrics=Metrics())
