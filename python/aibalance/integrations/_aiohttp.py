"""A client middleware for aiohttp."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .. import ActiveRetryBudget, Key, Picker, PickError, RetryBudget
from .._extras import need
from ._client import RETRY_ON, Balancer, Held, Trouble, retry_after, target

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientResponse

    Handler: TypeAlias = Callable[[ClientRequest], Awaitable[ClientResponse]]

__all__ = ["middleware"]


def middleware(
    picker: Picker,
    /,
    *,
    key: Callable[[ClientRequest], Key | None] | None = None,
    cost: Callable[[ClientRequest], float] | None = None,
    retries: int | RetryBudget | ActiveRetryBudget | None = None,
    retry_on: Iterable[int] = RETRY_ON,
    non_idempotent: bool = False,
    latency: Literal["first_byte", "last_byte"] = "last_byte",
    host: Literal["keep", "endpoint"] = "keep",
) -> Callable[[ClientRequest, Handler], Awaitable[ClientResponse]]:
    """A middleware for `aiohttp.ClientSession(middlewares=(...,))`, or for one request: it goes where `picker` says.

    The arguments and the rules of retries are those of `aibalance.integrations.httpx.transport`; `latency="first_byte"`
    is the time until the head of the answer. A body can be sent again when it is bytes, text or JSON. The lease lasts
    until the connection is given back: at the last byte, when the response is closed, or at an error.

    Raises ConfigError (`pip install aibalance[aiohttp]`). Requests raise what aiohttp raises; ClientConnectionError,
    with the PickError as its cause, when nobody can be picked.

    >>> balanced = middleware(RoundRobin(["10.0.0.1:8000", "10.0.0.2:8000"]), retries=2)
    >>> # async with aiohttp.ClientSession("http://models", middlewares=(balanced,)) as session: ...
    """
    balancer = Balancer.of(picker, key, cost, retries, retry_on, non_idempotent, latency, host)
    aiohttp = need("aiohttp", "aiohttp")
    need("aiohttp.client_middlewares", "aiohttp")

    async def balance(request: ClientRequest, handler: Handler) -> ClientResponse:
        asked, headers = request.url, request.headers
        try:
            exchange = balancer.exchange(request, request.method, headers, _replayable(aiohttp, request.body))
        except PickError as error:
            raise aiohttp.ClientConnectionError(f"no endpoint: {error}") from error
        try:
            while True:
                to = target(exchange.endpoint.address)
                url = asked.with_scheme(to.scheme or asked.scheme).with_host(to.host).with_port(to.port)
                if to.base:
                    url = url.with_path(to.base + asked.raw_path, encoded=True, keep_query=True)
                request.url = url
                if balancer.host == "endpoint":
                    headers["Host"] = to.authority
                try:
                    response = await handler(request)
                except Exception as error:
                    # The time of the whole request is over: there is none for another attempt.
                    final = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ServerTimeoutError)
                    if exchange.failed(_trouble(aiohttp, error), final=final):
                        continue
                    raise
                status, after = response.status, retry_after(response.headers)
                if exchange.refused(status, after):
                    response.close()
                    continue
                held = exchange.held(status, after)
                held.chunk()
                connection = response.connection
                if connection is None:  # the body came with the head
                    held.done()
                else:
                    # Not the response: one that is dropped must be able to go.
                    connection.add_callback(functools.partial(_over, aiohttp, response.content, held))
                return response
        except BaseException:
            exchange.cancel()
            raise
        finally:
            request.url = asked

    return balance


def _replayable(aiohttp: Any, body: Any) -> bool:
    return isinstance(body, bytes | aiohttp.payload.BytesPayload) or body is None


def _over(aiohttp: Any, content: Any, held: Held) -> None:
    """The connection was given back, or closed."""
    error = content.exception()
    if error is not None:
        held.broken(_trouble(aiohttp, error))
    elif content.is_eof():
        held.done()
    else:
        held.left()


def _trouble(aiohttp: Any, error: BaseException) -> Trouble:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "unsent_timeout"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "unsent"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(
        error,
        aiohttp.ClientOSError
        | aiohttp.ServerDisconnectedError
        | aiohttp.ClientPayloadError
        | aiohttp.ClientResponseError,
    ):
        return "failure"
    # The session was closed under the response.
    return "ours"
