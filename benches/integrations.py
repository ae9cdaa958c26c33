"""What a pick adds to a request of each client: `python -m benches.integrations`. Small answers, on loopback.

Plain and balanced requests take turns, and the least of each counts, so that other work on the machine counts least.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import grpc.aio
import httpx
import requests
from tests.unit.integrations.backends import always, backends

from aibalance import LeastRequest, Pool, RetryBudget
from aibalance.integrations.aiohttp import middleware
from aibalance.integrations.grpc import BalancedChannel
from aibalance.integrations.httpx import async_transport, transport
from aibalance.integrations.requests import adapter

ROUNDS = 600


def least(*calls: Callable[[], object]) -> list[float]:
    """Microseconds of each."""
    found = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            found[i] = min(found[i], time.perf_counter() - start)
    return [one * 1e6 for one in found]


async def least_async(*calls: Callable[[], Awaitable[object]]) -> list[float]:
    """Microseconds of each."""
    found = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            await call()
            found[i] = min(found[i], time.perf_counter() - start)
    return [one * 1e6 for one in found]


def pick(picker: LeastRequest) -> float:
    """Microseconds of what is ours in a request: budget, pick, lease, release."""
    budget, many, found = RetryBudget(), 400, float("inf")
    for _ in range(50):
        start = time.perf_counter()
        for _ in range(many):
            next(picker.attempts(budget=budget)).release(status=200)
        found = min(found, (time.perf_counter() - start) / many)
    return found * 1e6


async def over_http(url: str, picker: LeastRequest) -> dict[str, list[float]]:
    """httpx and aiohttp, with asyncio."""
    rows = {}
    async with httpx.AsyncClient() as plain, httpx.AsyncClient(transport=async_transport(picker)) as ours:
        rows["httpx, asyncio"] = await least_async(lambda: plain.get(url), lambda: ours.get("http://m/"))

    async def read(session: aiohttp.ClientSession, where: str) -> None:
        async with session.get(where) as response:
            await response.read()

    async with aiohttp.ClientSession() as one, aiohttp.ClientSession(middlewares=(middleware(picker),)) as two:
        rows["aiohttp"] = await least_async(lambda: read(one, url), lambda: read(two, "http://m/"))
    return rows


async def over_grpc() -> list[float]:
    """A unary call that sends back what it got."""

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("t.S", {"E": grpc.unary_unary_rpc_method_handler(echo)})
    server.add_generic_rpc_handlers((handler,))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with grpc.aio.insecure_channel(address) as plain, BalancedChannel(LeastRequest([address])) as ours:
        one, two = plain.unary_unary("/t.S/E"), ours.unary_unary("/t.S/E")
        found = await least_async(lambda: one(b"1"), lambda: two(b"1"))
    await server.stop(None)
    return found


async def over_proxy(address: str) -> list[float]:
    """A request straight to the server, and one through the reference proxy on uvicorn."""
    from tests.integrations.serving import serving

    from aibalance.integrations.asgi import Fleet, Proxy
    from aibalance.routing import Router, Rule

    proxy = Proxy(Router([Rule(location="/", to="f")]), {"f": Fleet(picker=LeastRequest([address]))})
    async with serving(proxy) as port, httpx.AsyncClient(trust_env=False) as http:
        one, two = f"http://{address}/", f"http://127.0.0.1:{port}/"
        return await least_async(lambda: http.get(one), lambda: http.get(two))


async def over_ext_proc() -> list[float]:
    """A stream of ext_proc as Envoy makes one a request: to a servicer that decides nothing, and to the picker."""
    from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
    from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as service

    from aibalance.integrations.envoy import EndpointPicker

    class Nothing(EndpointPicker):
        async def Process(self, requests: Any, context: Any) -> Any:
            async for message in requests:
                kind = message.WhichOneof("request")
                yield messages.ProcessingResponse(**{kind: messages.HeadersResponse()})

    asked = messages.ProcessingRequest(request_headers=messages.HttpHeaders())
    answered = messages.ProcessingRequest(response_headers=messages.HttpHeaders())

    async def stream(stub: Any) -> None:
        call = stub.Process()
        await call.write(asked)
        await call.read()
        await call.write(answered)
        await call.read()
        await call.done_writing()
        await call.read()

    addresses = [f"10.0.0.{i}:80" for i in range(1, 11)]
    async with (
        Nothing(LeastRequest(addresses)).serving("127.0.0.1:0", grace=0.1) as one,
        EndpointPicker(LeastRequest(addresses)).serving("127.0.0.1:0", grace=0.1) as two,
        grpc.aio.insecure_channel(f"127.0.0.1:{one}") as plain,
        grpc.aio.insecure_channel(f"127.0.0.1:{two}") as ours,
    ):
        stubs = service.ExternalProcessorStub(plain), service.ExternalProcessorStub(ours)
        return await least_async(lambda: stream(stubs[0]), lambda: stream(stubs[1]))


def choose() -> float:
    """Microseconds of what the endpoint picker adds to a stream: a lease, who comes next, and the lease's end."""
    from aibalance.integrations.envoy import EndpointPicker

    picker = EndpointPicker(LeastRequest([f"10.0.0.{i}:80" for i in range(1, 11)]))
    many, found = 400, float("inf")
    for _ in range(50):
        start = time.perf_counter()
        for _ in range(many):
            picker._choose({}, None)[0].release(status=200)
        found = min(found, (time.perf_counter() - start) / many)
    return found * 1e6


def main() -> None:
    """Prints a table."""
    with backends(always(body=b"x" * 100)) as (server,):
        picker, url = LeastRequest(Pool([server.address])), f"http://{server.address}/"
        rows = {}
        with httpx.Client() as plain, httpx.Client(transport=transport(picker)) as ours:
            rows["httpx"] = least(lambda: plain.get(url), lambda: ours.get("http://m/"))
        with requests.Session() as one, requests.Session() as two:
            two.mount("http://m", adapter(picker))
            rows["requests"] = least(lambda: one.get(url), lambda: two.get("http://m/"))
        rows |= asyncio.run(over_http(url, picker))
        rows["grpc.aio"] = asyncio.run(over_grpc())
        rows["proxy"] = asyncio.run(over_proxy(server.address))
        rows["Envoy's picker"] = asyncio.run(over_ext_proc())
        own = {"": pick(picker), "Envoy's picker": choose()}
    print(f"{'client':<16}{'plain µs':>10}{'ours µs':>10}{'added':>8}{'pick':>8}")
    for name, (before, after) in rows.items():
        print(
            f"{name:<16}{before:>10.0f}{after:>10.0f}{after / before - 1:>8.0%}{own.get(name, own['']) / after:>8.1%}"
        )


if __name__ == "__main__":
    main()
