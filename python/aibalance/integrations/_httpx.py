"""Transports for httpx and httpx2: each request goes where a picker says (`pip install aibalance[httpx]`)."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from .. import ActiveRetryBudget, Key, PickError, RetryBudget
from .._extras import need
from .._picker import wrong
from ._client import RETRY_ON, Balancer, Exchange, Held, Trouble, retry_after, target

if TYPE_CHECKING:
    import httpx

    from .. import Picker

__all__ = ["async_transport", "transport"]


def transport(
    picker: Picker,
    /,
    *,
    key: Callable[[httpx.Request], Key | None] | None = None,
    cost: Callable[[httpx.Request], float] | None = None,
    retries: int | RetryBudget | ActiveRetryBudget | None = None,
    retry_on: Iterable[int] = RETRY_ON,
    non_idempotent: bool = False,
    latency: Literal["first_byte", "last_byte"] = "last_byte",
    host: Literal["keep", "endpoint"] = "keep",
    inner: httpx.BaseTransport | None = None,
    module: Any = None,
) -> httpx.BaseTransport:
    """A transport for `httpx.Client(transport=...)`: every request that it gets goes to an endpoint of `picker`.

    `key`, `cost` (None): functions of the request, for `picker.acquire`.
    `retries` (None): a RetryBudget, an ActiveRetryBudget, or the most attempts of a request; None is `RetryBudget()` of
    its own. Each attempt goes to another endpoint.
    `retry_on` (429, 502, 503, 504): statuses after which a request may be tried elsewhere.
    `non_idempotent` (False): whether POST and PATCH may be repeated although the first endpoint may have done the work.
    `latency` ("last_byte"): what counts as the latency of a request; "first_byte" for streams.
    `host` ("keep"): the Host header; "endpoint" writes the endpoint's address into it.
    `inner` (None): what sends; None is an `HTTPTransport` without a limit of connections, for limits are the pool's.
    `module` (None): httpx or httpx2, the module or its name; None is the one that is there, httpx first.

    An address is `host:port`, for which the URL says the scheme, or a URL whose path goes in front of the request's.
    The lease lasts until the body has been read to its end, the response is closed, or an exception. A request is tried
    elsewhere when no connection could be made; when it failed or was answered by one of `retry_on`, only if its body
    is at hand and its method is idempotent (or it has an Idempotency-Key, or it was refused: 429, or 503 with
    Retry-After). When nobody else may be tried, the caller gets what the last attempt brought. The endpoint is in
    `response.extensions["aibalance.endpoint"]`.

    Raises ConfigError for an argument that cannot be. Requests raise what httpx raises; ConnectError, with the
    PickError as its cause, when nobody can be picked.

    >>> import httpx
    >>> def answer(request):
    ...     return httpx.Response(200, text=f"{request.url.host} for {request.headers['host']}")
    >>> picker = RoundRobin(["10.0.0.1:8000", "10.0.0.2:8000"])
    >>> by = transport(picker, inner=httpx.MockTransport(answer))
    >>> with httpx.Client(transport=by, base_url="http://gpu") as client:
    ...     client.get("/").text, client.get("/").text
    ('10.0.0.1 for gpu', '10.0.0.2 for gpu')
    """
    balancer = Balancer.of(picker, key, cost, retries, retry_on, non_idempotent, latency, host)
    client = _module(module)
    if inner is None:
        inner = client.HTTPTransport(limits=client.Limits(max_connections=None, max_keepalive_connections=100))
    elif not isinstance(inner, client.BaseTransport):
        raise wrong("inner", inner, f"a {client.__name__}.BaseTransport, or None")
    made: httpx.BaseTransport = _sync(client)(balancer, inner)
    return made


def async_transport(
    picker: Picker,
    /,
    *,
    key: Callable[[httpx.Request], Key | None] | None = None,
    cost: Callable[[httpx.Request], float] | None = None,
    retries: int | RetryBudget | ActiveRetryBudget | None = None,
    retry_on: Iterable[int] = RETRY_ON,
    non_idempotent: bool = False,
    latency: Literal["first_byte", "last_byte"] = "last_byte",
    host: Literal["keep", "endpoint"] = "keep",
    inner: httpx.AsyncBaseTransport | None = None,
    module: Any = None,
) -> httpx.AsyncBaseTransport:
    """As `transport`, for `httpx.AsyncClient(transport=...)`. A task that is cancelled gives its lease up.

    >>> import asyncio, httpx
    >>> async def main():
    ...     inner = httpx.MockTransport(lambda request: httpx.Response(200, text=request.url.host))
    ...     async with httpx.AsyncClient(transport=async_transport(RoundRobin(["a:80"]), inner=inner)) as client:
    ...         return (await client.get("http://models/")).text
    >>> asyncio.run(main())
    'a'
    """
    balancer = Balancer.of(picker, key, cost, retries, retry_on, non_idempotent, latency, host)
    client = _module(module)
    if inner is None:
        inner = client.AsyncHTTPTransport(limits=client.Limits(max_connections=None, max_keepalive_connections=100))
    elif not isinstance(inner, client.AsyncBaseTransport):
        raise wrong("inner", inner, f"a {client.__name__}.AsyncBaseTransport, or None")
    made: httpx.AsyncBaseTransport = _async(client)(balancer, inner)
    return made


def _module(module: Any) -> Any:
    if module is None:
        for name in ("httpx", "httpx2"):
            try:
                return importlib.import_module(name)
            except ImportError:
                continue
        return need("httpx", "httpx")
    if isinstance(module, str):
        if module not in ("httpx", "httpx2"):
            raise wrong("module", module, "httpx or httpx2, the module or its name")
        return need(module, module)
    if getattr(module, "__name__", None) not in ("httpx", "httpx2") or sys.modules.get(module.__name__) is not module:
        raise wrong("module", module, "httpx or httpx2, the module or its name")
    return module


def _trouble(client: Any, error: Exception) -> Trouble:
    """Whose fault it is, and whether anything was sent."""
    if isinstance(error, client.ConnectTimeout):
        return "unsent_timeout"
    if isinstance(error, client.ConnectError):
        return "unsent"
    # Waiting for a place in the client's own connection pool says nothing of the endpoint.
    if isinstance(error, client.PoolTimeout):
        return "ours"
    if isinstance(error, client.TimeoutException):
        return "timeout"
    if isinstance(error, client.NetworkError | client.RemoteProtocolError):
        return "failure"
    return "ours"


def _aimed(client: Any, balancer: Balancer, exchange: Exchange, request: Any) -> Any:
    """The request, for the endpoint of the exchange."""
    to = target(exchange.endpoint.address)
    url = request.url.copy_with(
        scheme=to.scheme or request.url.scheme,
        host=to.host,
        port=to.port,
        raw_path=to.base.encode("ascii", "strict") + request.url.raw_path,
    )
    headers = request.headers
    if balancer.host == "endpoint":
        headers = headers.copy()
        headers["host"] = to.authority
    return client.Request(request.method, url, headers=headers, stream=request.stream, extensions=request.extensions)


def _begin(client: Any, balancer: Balancer, request: Any) -> Exchange:
    try:
        # Bytes can be sent again; a generator, or files, may be read once.
        replayable = isinstance(request.stream, client.ByteStream)
        return balancer.exchange(request, request.method, request.headers, replayable)
    except PickError as error:
        raise client.ConnectError(f"no endpoint: {error}", request=request) from error


@functools.cache
def _sync(client: Any) -> Any:
    """The classes for one of the modules, which is there only once somebody asks."""

    class BalancedStream(client.SyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, held: Held) -> None:
            self._stream = stream
            self._held = held

        def __iter__(self) -> Iterator[bytes]:
            try:
                for chunk in self._stream:
                    self._held.chunk()
                    yield chunk
            except Exception as error:
                self._held.broken(_trouble(client, error))
                raise
            except BaseException:
                self._held.left()
                raise
            self._held.done()

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._held.left()

    class BalancedTransport(client.BaseTransport):  # type: ignore[misc]
        def __init__(self, balancer: Balancer, inner: Any) -> None:
            self._balancer = balancer
            self._inner = inner

        def __repr__(self) -> str:
            return f"<{client.__name__} transport by {self._balancer.picker!r}>"

        def handle_request(self, request: Any) -> Any:
            exchange = _begin(client, self._balancer, request)
            try:
                while True:
                    try:
                        response = self._inner.handle_request(_aimed(client, self._balancer, exchange, request))
                    except Exception as error:
                        if exchange.failed(_trouble(client, error)):
                            continue
                        raise
                    status, after = response.status_code, retry_after(response.headers)
                    endpoint = exchange.endpoint
                    if exchange.refused(status, after):
                        response.close()
                        continue
                    response.extensions = {**response.extensions, "aibalance.endpoint": endpoint}
                    held = exchange.held(status, after)
                    if response.is_closed:  # it was made with its body
                        held.done()
                    else:
                        response.stream = BalancedStream(response.stream, held)
                    return response
            except BaseException:
                exchange.cancel()
                raise

        def __enter__(self) -> BalancedTransport:
            self._inner.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self._inner.__exit__(*error)

        def close(self) -> None:
            self._inner.close()

    return BalancedTransport


@functools.cache
def _async(client: Any) -> Any:
    class AsyncBalancedStream(client.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, held: Held) -> None:
            self._stream = stream
            self._held = held

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._stream:
                    self._held.chunk()
                    yield chunk
            except Exception as error:
                self._held.broken(_trouble(client, error))
                raise
            except BaseException:
                self._held.left()
                raise
            self._held.done()

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._held.left()

    class AsyncBalancedTransport(client.AsyncBaseTransport):  # type: ignore[misc]
        def __init__(self, balancer: Balancer, inner: Any) -> None:
            self._balancer = balancer
            self._inner = inner

        def __repr__(self) -> str:
            return f"<{client.__name__} async transport by {self._balancer.picker!r}>"

        async def handle_async_request(self, request: Any) -> Any:
            exchange = _begin(client, self._balancer, request)
            try:
                while True:
                    try:
                        aimed = _aimed(client, self._balancer, exchange, request)
                        response = await self._inner.handle_async_request(aimed)
                    except Exception as error:
                        if exchange.failed(_trouble(client, error)):
                            continue
                        raise
                    status, after = response.status_code, retry_after(response.headers)
                    endpoint = exchange.endpoint
                    if exchange.refused(status, after):
                        await response.aclose()
                        continue
                    response.extensions = {**response.extensions, "aibalance.endpoint": endpoint}
                    held = exchange.held(status, after)
                    if response.is_closed:  # it was made with its body
                        held.done()
                    else:
                        response.stream = AsyncBalancedStream(response.stream, held)
                    return response
            except BaseException:
                exchange.cancel()
                raise

        async def __aenter__(self) -> AsyncBalancedTransport:
            await self._inner.__aenter__()
            return self

        async def __aexit__(self, *error: Any) -> None:
            await self._inner.__aexit__(*error)

        async def aclose(self) -> None:
            await self._inner.aclose()

    return AsyncBalancedTransport
