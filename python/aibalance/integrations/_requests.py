"""An adapter for requests."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from .. import ActiveRetryBudget, Key, Picker, PickError, RetryBudget
from .._extras import need
from ._client import RETRY_ON, Balancer, Exchange, Held, Trouble, retry_after, target

if TYPE_CHECKING:
    from requests import PreparedRequest
    from requests.adapters import HTTPAdapter

__all__ = ["adapter"]


def adapter(
    picker: Picker,
    /,
    *,
    key: Callable[[PreparedRequest], Key | None] | None = None,
    cost: Callable[[PreparedRequest], float] | None = None,
    retries: int | RetryBudget | ActiveRetryBudget | None = None,
    retry_on: Iterable[int] = RETRY_ON,
    non_idempotent: bool = False,
    latency: Literal["first_byte", "last_byte"] = "last_byte",
    host: Literal["keep", "endpoint"] = "keep",
    **options: Any,
) -> HTTPAdapter:
    """An adapter for `session.mount("http://models", adapter(picker))`: what is sent there goes where `picker` says.

    The arguments and the rules of retries are those of `aibalance.integrations.httpx.transport`; `options` go to
    requests' HTTPAdapter (`pool_connections`, `pool_maxsize`). A body can be sent again when it is bytes or text. The
    lease lasts to the last byte, until the response is closed or its iterator dropped. The endpoint is in
    `response.aibalance_endpoint`.

    Raises ConfigError (`pip install aibalance[requests]`). Requests raise what requests raises; ConnectionError, with
    the PickError as its cause, when nobody can be picked.

    >>> import requests
    >>> with requests.Session() as session:
    ...     session.mount("http://models", adapter(RoundRobin(["10.0.0.1:8000"])))
    """
    balancer = Balancer.of(picker, key, cost, retries, retry_on, non_idempotent, latency, host)
    requests = need("requests", "requests")
    made: HTTPAdapter = _classes(requests)(balancer, options)
    return made


def _trouble(requests: Any, error: BaseException) -> Trouble:
    """What requests and urllib3 raise, in our words."""
    urllib3 = need("urllib3", "requests").exceptions
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "unsent_timeout"
    if isinstance(error, requests.exceptions.Timeout | urllib3.TimeoutError):
        return "timeout"
    if isinstance(error, requests.exceptions.ProxyError):
        return "ours"
    if isinstance(error, requests.exceptions.ConnectionError):
        cause = error.args[0] if error.args else None
        # Only these say for certain that nothing was sent.
        unsent = isinstance(getattr(cause, "reason", cause), urllib3.NewConnectionError)
        return "unsent" if unsent else "failure"
    if isinstance(error, urllib3.ProtocolError | urllib3.SSLError | requests.exceptions.ChunkedEncodingError):
        return "failure"
    return "ours"


def _watch(requests: Any, raw: Any, held: Held) -> None:
    """Tells `held` how the body ended, whichever way it is read."""
    stream, release, close = raw.stream, raw.release_conn, raw.close
    streaming = [False]

    def watched_stream(*args: Any, **options: Any) -> Iterator[bytes]:
        streaming[0] = True
        try:
            for chunk in stream(*args, **options):
                held.chunk()
                yield chunk
        except Exception as error:
            held.broken(_trouble(requests, error))
            raise
        except BaseException:
            held.left()
            raise
        finally:
            streaming[0] = False
        held.done()

    def watched_release() -> None:
        if not streaming[0]:
            # urllib3 gives the connection back at the end, and also while an error is on its way.
            error = sys.exc_info()[1]
            if error is None:
                held.done()
            else:
                held.broken(_trouble(requests, error))
        release()

    def watched_close() -> None:
        try:
            close()
        finally:
            if not streaming[0]:  # else the error that follows says how it ended
                held.left()

    raw.stream, raw.release_conn, raw.close = watched_stream, watched_release, watched_close


@functools.cache
def _classes(requests: Any) -> Any:
    class BalancedAdapter(requests.adapters.HTTPAdapter):  # type: ignore[misc]
        def __init__(self, balancer: Balancer, options: dict[str, Any]) -> None:
            self._balancer = balancer
            super().__init__(**options)

        def __repr__(self) -> str:
            return f"<requests adapter by {self._balancer.picker!r}>"

        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            replayable = request.body is None or isinstance(request.body, bytes | str)
            try:
                exchange = self._balancer.exchange(request, request.method, request.headers, replayable)
            except PickError as error:
                raise requests.exceptions.ConnectionError(f"no endpoint: {error}", request=request) from error
            try:
                return self._send(exchange, request, args, options)
            except BaseException:
                exchange.cancel()
                raise

        def _send(self, exchange: Exchange, request: Any, args: Any, options: Any) -> Any:
            asked = urlsplit(request.url)
            while True:
                to = target(exchange.endpoint.address)
                aimed = request.copy()
                aimed.body = request.body
                name = f"[{to.host}]" if ":" in to.host else to.host
                netloc = name if to.port is None else f"{name}:{to.port}"
                parts = (to.scheme or asked.scheme, netloc, to.base + (asked.path or "/"), asked.query, "")
                aimed.url = urlunsplit(parts)
                if self._balancer.host == "endpoint":
                    aimed.headers["Host"] = to.authority
                else:
                    aimed.headers.setdefault("Host", asked.netloc.rpartition("@")[2])
                try:
                    response = super().send(aimed, *args, **options)
                except Exception as error:
                    if exchange.failed(_trouble(requests, error)):
                        continue
                    raise
                status, after = response.status_code, retry_after(response.headers)
                if exchange.refused(status, after):
                    response.close()
                    continue
                response.url, response.request = request.url, request
                response.aibalance_endpoint = exchange.endpoint
                held = exchange.held(status, after)
                if response.raw.closed or response.raw.length_remaining == 0:
                    held.done()  # there is no body
                else:
                    _watch(requests, response.raw, held)
                return response

    return BalancedAdapter
