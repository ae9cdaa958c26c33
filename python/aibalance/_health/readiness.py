"""The server's side: an ASGI app that answers health checks, and the end of a server that has to go."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

from .._core import ManualClock, Pool, SystemClock, expected_left
from .._errors import ConfigError
from .checker import _number
from .checks import DEFAULT_RULES, CheckRule
from .probes import call

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Clock = SystemClock | ManualClock

# How long before the end a spot server is told, in seconds.
SPOT_NOTICE: dict[str, float] = {"aws": 120.0, "gcp": 30.0, "azure": 30.0}


@dataclass(frozen=True)
class DrainEstimate:
    """What a server that has to go still holds: requests in flight, seconds left, and how many it will not finish.

    >>> DrainEstimate(inflight=4, remaining=30.0, expected_left=0.5).inflight
    4
    """

    inflight: int
    remaining: float
    expected_left: float


def drain_estimate(pool: Pool, id: str, /, *, deadline: float) -> DrainEstimate:
    """What an endpoint will not have finished in `deadline` seconds, from its work in flight and its mean latency.

    Requests are taken as memoryless. Without a latency (`Pool(latency=...)`) nothing is expected to end. Raises
    ConfigError for an id that is not in the pool.

    >>> pool = Pool(["a"])
    >>> drain_estimate(pool, "a", deadline=120.0)
    DrainEstimate(inflight=0, remaining=120.0, expected_left=0.0)
    """
    for stats in pool.stats():
        if stats.id == id:
            known = [] if stats.latency is None else [stats.latency]
            # Older than the only latency that is known, hence memoryless with it as the mean.
            ages = [stats.latency or 0.0] * stats.inflight
            return DrainEstimate(stats.inflight, deadline, expected_left(ages, latencies=known, remaining=deadline))
    raise ConfigError(f"id: {id!r} is not allowed; the id of an endpoint of this pool")


class GracefulShutdown:
    """Lets a server finish what it holds when it is told to go: by SIGTERM, or by the notice of a spot market.

    `notice` is how many seconds are left when it begins: a number, or "aws" (120 s), "gcp" or "azure" (30 s). Requests
    are counted by `track()`, or by `wrap(app)` for an ASGI app. Once it has begun, `readiness_app(shutdown=...)` says
    503, so that balancers stop sending; requests that still come are served. `latencies` is how many of the latest
    latencies the estimate is made from. `clock` answers for time.

    Raises ConfigError, naming the field.

    >>> clock = ManualClock(0.0)
    >>> shutdown = GracefulShutdown(notice="aws", clock=clock)
    >>> with shutdown.track():
    ...     shutdown.begin()
    ...     clock.advance(20.0)
    ...     shutdown.estimate()
    DrainEstimate(inflight=1, remaining=100.0, expected_left=1.0)
    """

    def __init__(
        self,
        *,
        notice: float | Literal["aws", "gcp", "azure"] = 30.0,
        latencies: int = 1000,
        clock: Clock | None = None,
    ) -> None:
        self._notice = self._seconds(notice)
        self._clock: Clock = SystemClock() if clock is None else clock
        self._started: dict[int, float] = {}
        self._latencies: deque[float] = deque(maxlen=int(_number("latencies", latencies, above=0)))
        self._serial = 0
        self._end: float | None = None
        self._begun: asyncio.Event | None = None

    @staticmethod
    def _seconds(notice: object) -> float:
        if isinstance(notice, str):
            if notice not in SPOT_NOTICE:
                raise ConfigError(f"notice: {notice!r} is not allowed; seconds, or one of {', '.join(SPOT_NOTICE)}")
            return SPOT_NOTICE[notice]
        return _number("notice", notice)

    @property
    def draining(self) -> bool:
        """Whether it has begun."""
        return self._end is not None

    @property
    def inflight(self) -> int:
        """How many requests are being served."""
        return len(self._started)

    def begin(self, *, notice: float | Literal["aws", "gcp", "azure"] | None = None) -> None:
        """Begins. Once begun, a later call only brings the end nearer, never further away."""
        end = self._clock.now() + (self._notice if notice is None else self._seconds(notice))
        self._end = end if self._end is None else min(end, self._end)
        if self._begun is not None:
            self._begun.set()

    def install(self, signals: Iterable[int] | None = None) -> None:
        """Begins at these signals (default: SIGTERM), in the running loop. A server with handlers of its own, such as
        uvicorn, calls `begin()` from them instead."""
        import signal

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM,) if signals is None else signals:
            loop.add_signal_handler(number, self.begin)

    @contextlib.contextmanager
    def track(self) -> Iterator[None]:
        """Counts a request for as long as the block lasts."""
        self._serial += 1
        key, began = self._serial, self._clock.now()
        self._started[key] = began
        try:
            yield
        finally:
            del self._started[key]
            self._latencies.append(max(0.0, self._clock.now() - began))

    def wrap(self, app: App, /) -> App:
        """An ASGI app whose HTTP requests and WebSockets are counted until they end."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
            else:
                with self.track():
                    await app(scope, receive, send)

        return counted

    def estimate(self) -> DrainEstimate:
        """What is in flight, how many seconds are left, and how many requests will not be finished by then."""
        now = self._clock.now()
        remaining = self._notice if self._end is None else max(0.0, self._end - now)
        ages = [max(0.0, now - began) for began in self._started.values()]
        left = expected_left(ages, latencies=[*self._latencies], remaining=remaining)
        return DrainEstimate(len(ages), remaining, left)

    async def begun(self) -> None:
        """Waits until it has begun."""
        if self._begun is None:
            self._begun = asyncio.Event()
        if self._end is None:
            await self._begun.wait()

    async def finished(self, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> DrainEstimate:
        """Waits until it has begun and nothing is in flight, or no time is left; says what is left."""
        await self.begun()
        while (seen := self.estimate()).inflight and seen.remaining > 0:
            await sleep(min(0.05, seen.remaining))
        return seen

    def __repr__(self) -> str:
        return f"<GracefulShutdown, {'draining' if self.draining else 'serving'}, {self.inflight} in flight>"


def readiness_app(
    checks: Mapping[str, Callable[[], object]],
    /,
    *,
    rules: Iterable[CheckRule] = DEFAULT_RULES,
    timeout: float = 5.0,
    cache: float = 1.0,
    shutdown: GracefulShutdown | None = None,
    clock: Clock | None = None,
) -> App:
    """An ASGI app for `/health` (the process is there: 200) and `/health/ready` (200 or 503, with named checks).

    `checks` are functions by name, plain (run in a thread) or async, that give True or False, or a number for a check
    whose rule has a limit. All run at once, each within `timeout` seconds; an exception or a timeout is a failure, and
    of an exception only the class is shown. Answers are kept for `cache` seconds, and who asks meanwhile waits for the
    same run. 503 when a check fails whose rule is not of effect "degraded" (a check without a rule: always), or when
    `shutdown` has begun. HealthChecker reads the body: {"status": ..., "checks": {name: {"ok": ..., "value": ...}}}.

    Raises ConfigError, naming the field.

    >>> app = readiness_app({"model_loaded": lambda: True, "queue": lambda: 12})
    """
    _number("timeout", timeout, above=0.0)
    _number("cache", cache)
    by_name = {rule.name: rule for rule in rules}
    for name, function in checks.items():
        if not callable(function):
            raise ConfigError(f"checks[{name!r}]: {function!r} is not allowed; a function without arguments")
    functions = dict(checks)
    time: Clock = SystemClock() if clock is None else clock
    lock: asyncio.Lock | None = None
    hanging: set[int] = set()
    kept: tuple[float, int, dict[str, Any]] | None = None

    async def run(name: str) -> tuple[bool, dict[str, Any]]:
        began = time.now()
        shown: dict[str, Any] = {}
        try:
            async with asyncio.timeout(timeout):
                value = await call(functions[name], hanging=hanging)
            holds = by_name[name].holds(value) if name in by_name else value if isinstance(value, bool) else None
            if holds is None:
                shown["error"] = f"gave {type(value).__name__}"
            elif not isinstance(value, bool):
                # NaN and infinity are not JSON.
                shown["value"] = value if abs(value) < float("inf") else None
        except TimeoutError:
            holds, shown["error"] = False, f"no answer within {timeout:g} s"
        except Exception as error:
            holds, shown["error"] = False, type(error).__name__
        return bool(holds), {"ok": bool(holds), **shown, "seconds": round(max(0.0, time.now() - began), 6)}

    async def ready() -> tuple[int, dict[str, Any]]:
        nonlocal lock, kept
        if lock is None:
            lock = asyncio.Lock()
        async with lock:
            if kept is None or not 0 <= time.now() - kept[0] < cache:
                seen = dict(zip(functions, await asyncio.gather(*map(run, functions)), strict=True))
                bad = [name for name, (holds, _) in seen.items() if not holds]
                hard = [name for name in bad if name not in by_name or by_name[name].effect != "degraded"]
                body = {"status": "not ready" if hard else "degraded" if bad else "ready"}
                kept = (time.now(), 503 if hard else 200, {**body, "checks": {n: row for n, (_, row) in seen.items()}})
            _, status, answer = kept
        if shutdown is not None and shutdown.draining:
            return 503, {**answer, "status": "draining", "inflight": shutdown.inflight}
        return status, answer

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                event = (await receive())["type"].removeprefix("lifespan.")
                await send({"type": f"lifespan.{event}.complete"})
                if event == "shutdown":
                    return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        extra: list[tuple[bytes, bytes]] = []
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        if path not in ("/health", "/health/ready"):
            status, answer = 404, {"status": "not found"}
        elif scope["method"] not in ("GET", "HEAD"):
            status, answer = 405, {"status": "method not allowed"}
            extra.append((b"allow", b"GET, HEAD"))
        else:
            status, answer = await ready() if path == "/health/ready" else (200, {"status": "ok"})
        body = json.dumps(answer).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *extra,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app
