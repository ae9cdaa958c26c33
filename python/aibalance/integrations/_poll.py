"""Asks every endpoint of a pool for its metrics, again and again, and tells the pool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from .. import AibalanceError, ConfigError, Endpoint, Pool
from .._extras import need
from .._picker import wrong
from ._client import target
from ._signals import SOURCES, SignalReader, Signals, Source, observation
from ._task import stop

__all__ = ["SignalPoller"]

_MOST = 16 << 20  # bytes of one answer: vLLM shows some hundred KiB


class SignalPoller:
    """Reads `/metrics` of every endpoint and tells the pool what load the servers themselves see.

    `path` ("/metrics"): added to the endpoint's address; `url` (None): a function of the endpoint that gives the whole
    URL instead. `interval` (2.0), `timeout` (1.0): seconds; a report counts for 10 s, so poll at least twice in them.
    `sources` (SOURCES): the table. `where` (None): labels, or a function of the endpoint that gives them, see
    `SignalReader.read`. `transport` (None): an httpx.AsyncBaseTransport instead of httpx's own.

    `async with SignalPoller(pool): ...` polls in the background; `await poll_once()` does it once. An endpoint that
    does not answer is told of in `errors`, and its last report expires; whether it may get work is the health checker's
    question. Raises ConfigError; needs `pip install aibalance[prometheus]`.

    >>> import asyncio, httpx
    >>> said = "vllm:num_requests_running 3\\nvllm:num_requests_waiting 9\\n"
    >>> server = httpx.MockTransport(lambda request: httpx.Response(200, text=said))
    >>> pool = Pool(["10.0.0.1:8000"])
    >>> poller = SignalPoller(pool, transport=server)
    >>> asyncio.run(poller.poll_once())
    {'10.0.0.1:8000': Signals(inflight=3.0, queue=9.0, systems=('vllm',))}
    >>> pool.stats()[0].load, poller.observation()["metrics"]["queue"]
    (12.0, 9.0)
    """

    def __init__(
        self,
        pool: Pool,
        /,
        path: str = "/metrics",
        *,
        url: Callable[[Endpoint], str] | None = None,
        interval: float = 2.0,
        timeout: float = 1.0,
        sources: Iterable[Source] = SOURCES,
        where: Mapping[str, str] | Callable[[Endpoint], Mapping[str, str]] | None = None,
        transport: Any = None,
    ) -> None:
        if not isinstance(pool, Pool):
            raise wrong("pool", pool, "a Pool")
        if not str(path).startswith("/"):
            raise wrong("path", path, "a path that starts with /")
        seconds: tuple[tuple[str, Any], ...] = (("interval", interval), ("timeout", timeout))
        for name, value in seconds:
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 3600:
                raise wrong(name, value, "seconds above 0, up to an hour")
        self._pool = pool
        self._path = path
        self._url = url
        self._interval = float(interval)
        self._timeout = float(timeout)
        self._where = where
        self._transport = transport
        self._reader = SignalReader(sources)
        self._signals: dict[str, Signals] = {}
        self._errors: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def signals(self) -> dict[str, Signals]:
        """What each endpoint said when it was asked last; those that did not answer are not in it."""
        return dict(self._signals)

    @property
    def errors(self) -> dict[str, str]:
        """Why endpoints are not in `signals`."""
        return dict(self._errors)

    def observation(self, *, current: int | None = None, **metrics: float | None) -> dict[str, Any]:
        """What a scaling policy is told: see `observation`. `current` (None): None is the endpoints of the pool."""
        servers = len(self._pool) if current is None else current
        return observation(self._signals.values(), current=servers, **metrics)

    def _address(self, endpoint: Endpoint) -> str:
        if self._url is not None:
            return self._url(endpoint)
        to = target(endpoint.address)
        return f"{to.scheme or 'http'}://{to.authority}{to.base}{self._path}"

    async def poll_once(self) -> dict[str, Signals]:
        """Asks all, and returns what those said that answered."""
        httpx = need("httpx", "prometheus")
        need("prometheus_client.parser", "prometheus")
        async with httpx.AsyncClient(timeout=self._timeout, trust_env=False, transport=self._transport) as client:
            return await self._poll(client)

    async def _poll(self, client: Any) -> dict[str, Signals]:
        endpoints = self._pool.endpoints
        answers = await asyncio.gather(*(self._ask(client, one) for one in endpoints))
        signals: dict[str, Signals] = {}
        errors: dict[str, str] = {}
        for endpoint, answer in zip(endpoints, answers, strict=True):
            if isinstance(answer, str):
                errors[endpoint.id] = answer
            else:
                signals[endpoint.id] = answer
        for gone in (self._signals.keys() | self._errors.keys()) - {one.id for one in endpoints}:
            self._reader.forget(gone)
        self._signals, self._errors = signals, errors
        self._pool.advance()
        return dict(signals)

    async def _ask(self, client: Any, endpoint: Endpoint) -> Signals | str:
        """Its signals, or why there are none."""
        try:
            async with (
                asyncio.timeout(self._timeout),
                client.stream("GET", self._address(endpoint)) as response,
            ):
                if response.status_code != 200:
                    return f"status {response.status_code}"
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MOST:
                        return f"an answer of more than {_MOST} bytes"
            where = self._where(endpoint) if callable(self._where) else self._where
            text = body.decode("utf-8", "replace")
            signals = self._reader.read(endpoint.id, text, now=self._pool.clock.now(), where=where)
            signals.observe(self._pool, endpoint.id)
            return signals
        except ConfigError:
            # Only our own configuration, or an endpoint that has left the pool meanwhile.
            if endpoint in self._pool.endpoints:
                raise
            return "left the pool"
        except AibalanceError as error:
            return str(error)
        except TimeoutError:
            return f"no answer in {self._timeout:g} s"
        except Exception as error:  # httpx's, or of the caller's functions
            return f"{type(error).__name__}: {error}"

    async def _run(self) -> None:
        httpx = need("httpx", "prometheus")
        async with httpx.AsyncClient(timeout=self._timeout, trust_env=False, transport=self._transport) as client:
            while True:
                with contextlib.suppress(ConfigError):  # told by the first, awaited reading
                    await self._poll(client)
                await asyncio.sleep(self._interval)

    async def __aenter__(self) -> Self:
        await self.poll_once()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        await stop(task)
