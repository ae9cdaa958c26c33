"""The grpc.aio channel, against real servers: unary calls, streams, errors."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from aibalance import ConfigError, First, Maglev, NoHealthyEndpointError, Pool, RetryBudget, RoundRobin
from aibalance.integrations.grpc import BalancedChannel

from .backends import closed_port, inflight, record

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc.aio")

PATIENCE = 30


class Service:
    """A server of bytes: what it does stands in the request."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.got: list[bytes] = []
        self.server = grpc.aio.server()
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    async def unary(self, request: bytes, context: Any) -> bytes:
        self.got.append(request)
        if request.startswith(b"code "):
            if request == b"code RESOURCE_EXHAUSTED":
                context.set_trailing_metadata((("grpc-retry-pushback-ms", "30000"),))
            await context.abort(grpc.StatusCode[request[5:].decode()], "as you wish")
        if request == b"slow":
            await asyncio.sleep(PATIENCE)
        return self.name + b" " + request

    async def down(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for i in range(3 if request == b"3" else 1000):
            yield b"%d" % i
            await asyncio.sleep(0.01)

    async def up(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([part async for part in requests])

    async def both(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for part in requests:
            yield self.name + part


def run(work: Callable[..., Awaitable[None]], services: int = 2) -> None:
    async def main() -> None:
        async with asyncio.timeout(2 * PATIENCE):
            started = [Service(f"s{i}") for i in range(services)]
            for one in started:
                await one.server.start()
            try:
                await work(*started)
            finally:
                await asyncio.gather(*(one.server.stop(None) for one in started))

    asyncio.run(main())


async def zero(pool: Pool) -> None:
    while inflight(pool):
        await asyncio.sleep(0.002)


def test_calls_of_all_kinds_take_turns_and_give_their_leases_back() -> None:
    async def work(a: Service, b: Service) -> None:
        pool = Pool([a.address, b.address])

        async def parts() -> AsyncIterator[bytes]:
            for part in (b"x", b"y"):
                assert inflight(pool) == 1
                yield part

        async with BalancedChannel(RoundRobin(pool)) as channel:
            unary = channel.unary_unary("/test.Service/Unary")
            assert [await unary(b"1") for _ in range(4)] == [b"s0 1", b"s1 1"] * 2
            down = channel.unary_stream("/test.Service/Down")
            seen = []
            async for part in down(b"3"):
                seen.append((part, inflight(pool)))
            assert seen == [(b"0", 1), (b"1", 1), (b"2", 1)]
            await zero(pool)
            assert await channel.stream_unary("/test.Service/Up")(parts()) == b"xy"
            await zero(pool)
            both = channel.stream_stream("/test.Service/Both")
            assert [part async for part in both(parts())] == [b"s0x", b"s0y"]
            await zero(pool)
            call = both()
            assert inflight(pool) == 1
            await call.write(b"z")
            assert await call.read() == b"s1z"
            await call.done_writing()
            assert await call.read() == grpc.aio.EOF
            await zero(pool)
        assert [(r.picks, r.successes, r.cancelled) for r in pool.stats()] == [(4, 4, 0), (4, 4, 0)]

    run(work)


def test_generated_stubs_take_it_for_a_channel() -> None:
    stubs = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    health = pytest.importorskip("grpc_health.v1.health")

    async def work(a: Service) -> None:
        server = grpc.aio.server()
        servicer = health.aio.HealthServicer()
        stubs.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with BalancedChannel(RoundRobin([f"127.0.0.1:{port}"])) as channel:
            answer = await stubs.HealthStub(channel).Check(pb2.HealthCheckRequest(), timeout=PATIENCE)
            assert answer.status == pb2.HealthCheckResponse.SERVING
        await server.stop(None)

    run(work, 1)


@pytest.mark.parametrize(
    ("code", "counted"),
    [
        ("UNAVAILABLE", "failures"),
        ("INTERNAL", "failures"),
        ("UNKNOWN", "failures"),
        ("DATA_LOSS", "failures"),
        ("RESOURCE_EXHAUSTED", "rejected"),
        ("DEADLINE_EXCEEDED", "timeouts"),
        ("CANCELLED", "cancelled"),
        ("NOT_FOUND", "successes"),
        ("UNAUTHENTICATED", "successes"),
    ],
)
def test_codes(code: str, counted: str) -> None:
    async def work(a: Service, b: Service) -> None:
        from aibalance import OutlierDetection

        pool = Pool([a.address, b.address], passive=OutlierDetection())
        async with BalancedChannel(First(pool)) as channel:
            call = channel.unary_unary("/test.Service/Unary")(b"code " + code.encode())
            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
                await call
            await zero(pool)
            assert getattr(record(pool, a.address), counted) == 1
            assert sum(getattr(r, counted) for r in pool.stats()) == 1
            assert b.got == [], "none of these may be repeated"
            # Who pushes back rests.
            assert First(pool).pick().id == (b.address if code == "RESOURCE_EXHAUSTED" else a.address)

    run(work)


def test_idempotent_calls_and_calls_that_never_left_are_made_elsewhere() -> None:
    async def work(a: Service, b: Service) -> None:
        pool = Pool([closed_port(), a.address, b.address])
        method = "/test.Service/Unary"
        async with BalancedChannel(First(pool)) as channel:
            call = channel.unary_unary(method)(b"1", timeout=PATIENCE)
            assert await call == b"s0 1"
            assert await call.code() == grpc.StatusCode.OK
            await zero(pool)
            assert (pool.stats()[0].failures, record(pool, a.address).successes) == (1, 1)
        async with BalancedChannel(First([a.address, b.address]), idempotent={method}) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(method)(b"code UNAVAILABLE")
            assert [s.got.count(b"code UNAVAILABLE") for s in (a, b)] == [1, 1]
        budget = RetryBudget(ratio=0.0, min_per_second=0.0)
        async with BalancedChannel(First([a.address, b.address]), idempotent={method}, retries=budget) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(method)(b"code UNAVAILABLE")
            assert [s.got.count(b"code UNAVAILABLE") for s in (a, b)] == [2, 1]

    run(work)


def test_cancelled_calls_give_their_leases_up() -> None:
    async def work(a: Service) -> None:
        pool = Pool([a.address])
        async with BalancedChannel(First(pool)) as channel:
            unary, down = channel.unary_unary("/test.Service/Unary"), channel.unary_stream("/test.Service/Down")
            call = unary(b"slow")
            while not a.got:
                await asyncio.sleep(0.002)
            assert (inflight(pool), call.done()) == (1, False)
            assert call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert call.cancelled()
            await zero(pool)

            async def waits() -> None:
                await unary(b"slow")

            task = asyncio.create_task(waits())
            while len(a.got) != 2:
                await asyncio.sleep(0.002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await zero(pool)
            stream = down(b"many")
            assert await stream.read() == b"0"
            stream.cancel()
            await zero(pool)
            with pytest.raises(grpc.aio.AioRpcError):
                await unary(b"slow", timeout=0.1)
            await zero(pool)
        one = record(pool, a.address)
        assert (one.cancelled, one.timeouts, one.failures, one.successes) == (3, 1, 0, 0)

    run(work, 1)


def test_a_stream_that_is_dropped_is_cancelled() -> None:
    async def work(a: Service) -> None:
        pool = Pool([a.address])
        async with BalancedChannel(First(pool)) as channel:
            stream = channel.unary_stream("/test.Service/Down")(b"many")
            assert await stream.read() == b"0"
            del stream
            gc.collect()
            await zero(pool)

    run(work, 1)


def test_keys_costs_and_endpoints_that_leave() -> None:
    async def work(a: Service, b: Service) -> None:
        pool = Pool([a.address, b.address])
        picker = Maglev(pool)
        seen = []

        def cost(method: str, request: Any) -> float:
            seen.append(method)
            return float(len(request))

        async with BalancedChannel(picker, key=lambda method, request: request, cost=cost) as channel:
            unary = channel.unary_unary("/test.Service/Unary")
            for i in range(8):
                await unary(b"user-%d" % i)
            assert a.got == [b"user-%d" % i for i in range(8) if picker.pick(b"user-%d" % i).id == a.address]
            call = unary(b"slow")
            await asyncio.sleep(0)
            assert sum(r.load for r in pool.stats()) == 4
            call.cancel()
            assert set(seen) == {"/test.Service/Unary"}
            pool.update([b.address])
            assert {await unary(b"user-%d" % i) for i in range(8)} == {b"s1 user-%d" % i for i in range(8)}

    run(work)


def test_nobody_to_pick_and_arguments_that_cannot_be() -> None:
    async def work(a: Service) -> None:
        pool = Pool([a.address], on_panic="fail")
        pool.set_health(a.address, "unhealthy")
        async with BalancedChannel(First(pool)) as channel:
            with pytest.raises(NoHealthyEndpointError):
                channel.unary_unary("/test.Service/Unary")(b"1")

    run(work, 1)
    picker = First(["a:1"])
    for options, said in (
        ({"key": 1}, "key: 1"),
        ({"cost": 1}, "cost: 1"),
        ({"retries": 0}, "retries: 0"),
        ({"idempotent": "/a/b"}, "idempotent: '/a/b'"),
        ({"idempotent": ["a"]}, "idempotent: "),
    ):
        with pytest.raises(ConfigError, match=said):
            BalancedChannel(picker, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="picker: 1"):
        BalancedChannel(1)  # type: ignore[arg-type]
