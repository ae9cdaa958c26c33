"""A server of WebSockets for the tests of the proxy, and what asks it through one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from aibalance import Pool, RoundRobin
from aibalance.integrations.asgi import Fleet, Limits, Proxy
from aibalance.routing import Router, Rule


class Room:
    """A server of WebSockets: it echoes, and does what a few words ask of it."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.closes: list[tuple[int | None, str | None]] = []
        self.open: set[ServerConnection] = set()
        self.server: Server | None = None

    @property
    def address(self) -> str:
        assert self.server is not None
        return f"127.0.0.1:{next(iter(self.server.sockets)).getsockname()[1]}"

    def check(self, connection: ServerConnection, request: Any) -> Any:
        self.requests.append(request)
        if "refuse" in request.path:
            answer = connection.respond(401, "who are you?\n")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        return None

    async def serve(self, connection: ServerConnection) -> None:
        self.open.add(connection)
        try:
            async for message in connection:
                if message == "die":
                    connection.transport.abort()
                elif message == "flood":
                    for i in range(3_000):
                        await connection.send(f"{i}")
                elif isinstance(message, str) and message.startswith("close "):
                    await connection.close(int(message[6:]), "as you wish")
                elif isinstance(message, str) and message.startswith("big "):
                    await connection.send("x" * int(message[4:]))
                else:
                    await connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            self.open.discard(connection)
            self.closes.append((connection.close_code, connection.close_reason))


def chosen(_: ServerConnection, offered: Any) -> Any:
    return next((one for one in offered if one in ("chat", "log")), None)


@contextlib.asynccontextmanager
async def rooms(count: int = 1) -> AsyncIterator[list[Room]]:
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            room = Room()
            room.server = await stack.enter_async_context(
                serve(
                    room.serve,
                    "127.0.0.1",
                    0,
                    process_request=room.check,
                    select_subprotocol=chosen,
                    compression=None,
                )  # type: ignore[arg-type]
            )
            made.append(room)
        yield made


def proxy_of(addresses: list[str], *, limits: Limits | None = None, **options: Any) -> tuple[Proxy, Pool]:
    pool = Pool(addresses)
    fleet = Fleet(picker=RoundRobin(pool), **options)
    return Proxy(Router([Rule(location="/ws", to="rooms")]), {"rooms": fleet}, limits=limits), pool


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


def client(port: int, target: str = "/ws", **options: Any) -> connect:
    return connect(f"ws://127.0.0.1:{port}{target}", proxy=None, **options)


async def refused(port: int, target: str = "/ws", **options: Any) -> Any:
    with pytest.raises(InvalidStatus) as caught:
        async with client(port, target, **options):
            pass
    return caught.value.response
