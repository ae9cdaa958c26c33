"""The active checker: asks every endpoint of a pool, again and again, and tells the pool."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeAlias

from .._core import Endpoint, FlapDamping, HealthState, Pool
from .._errors import ConfigError
from .checks import DEFAULT_RULES, WARM_UP, Action, CheckRule, ProbeResult, Verdict, judge
from .probes import HttpProbe, Probe, call, understood

if TYPE_CHECKING:
    import httpx

State = Literal["initial", "warming", "healthy", "degraded", "unhealthy", "draining", "unused", "unavailable"]
Question: TypeAlias = "Probe | Callable[[Endpoint], object]"
KEPT_EVENTS = 10_000
# What the pool is told. Who is not known to be well gets work only when the pool panics, as in an ALB.
POOL_HEALTH: dict[str, Literal["healthy", "degraded", "unhealthy"]] = {
    "healthy": "healthy",
    "unavailable": "healthy",
    "degraded": "degraded",
    "initial": "unhealthy",
    "warming": "unhealthy",
    "unhealthy": "unhealthy",
}


@dataclass(frozen=True)
class HealthEvent:
    """A check that has failed often enough for something to be done.

    `endpoint` is the id, `check` the name of the check ("shallow" for one that did not answer), `value` what it said,
    `at` the instant of the pool's clock in seconds, `over` whether it holds again.

    >>> HealthEvent("a", "queue", "scale_up", 130, 5.0).action
    'scale_up'
    """

    endpoint: str
    check: str
    action: Action
    value: object
    at: float
    over: bool = False


@dataclass(frozen=True)
class EndpointHealth:
    """What the checker knows of one endpoint.

    `reason` says why the last check did not pass, `checks` are the rules that did not hold, `checked_at` is the instant
    of the last check (None for never), `latency` its seconds.

    >>> EndpointHealth("a", "healthy").state
    'healthy'
    """

    id: str
    state: State
    reason: str = ""
    checks: Mapping[str, object] | None = None
    checked_at: float | None = None
    latency: float | None = None


class _Watched:
    """One endpoint under watch."""

    def __init__(self, endpoint: Endpoint, state: HealthState, seed: str, now: float) -> None:
        self.endpoint = endpoint
        self.state = state
        self.since = now
        self.random = random.Random(seed)
        self.due = now
        self.busy = False
        self.counters: dict[str, HealthState] = {}
        self.open: dict[str, HealthEvent] = {}
        self.drained = False
        self.hanging: set[int] = set()
        self.last = EndpointHealth(endpoint.id, "initial")
        self.told: str | None = None


class HealthChecker:
    """Checks the endpoints of a pool and tells it what they are.

    `shallow` asks whether the process is there, `deep` what it says of itself; the deep one is asked when the shallow
    one has passed. Each is a path (HTTP by httpx; a deep one reads named checks, see HttpProbe), a probe (HttpProbe,
    TcpProbe, GrpcProbe), or a function of the endpoint, plain or async, that gives True or False, a mapping of named
    checks, or a ProbeResult. A plain function runs in a thread. An exception is a failure, a `timeout` (seconds, each)
    too.

    Every endpoint is checked each `interval` seconds, more or less by the share `jitter`; the first checks are spread
    over `start_spread` seconds; at most `concurrency` run at a time, and never two of one endpoint. The pool is looked
    at every `follow` seconds: who is new gets checked, who has left does not. `healthy_threshold`,
    `unhealthy_threshold`, `start`, `warming_timeout` and `damping` are those of HealthState. `warm_up=None` asks for a
    loaded model and a test inference when there is a deep check with rules for both.

    `rules` say what follows when a named check fails: see CheckRule. The state goes to `pool.set_health` (initial and
    warming as unhealthy); a rule of effect "drain" drains after `unhealthy_threshold` failures, and takes that drain
    back after `healthy_threshold` passes. `shallow_action` is asked for an endpoint that became unhealthy because it
    did not pass its shallow check. No action is asked for in the first `grace_period` seconds of an endpoint.

    Time is that of the pool's clock. `sleep` is what waits, for tests. The same `seed` gives the same jitter.

    Raises ConfigError, naming the field.

    >>> import asyncio
    >>> pool = Pool(["a", "b"], seed=1)
    >>> checker = HealthChecker(pool, lambda endpoint: endpoint.id != "b", unhealthy_threshold=1)
    >>> asyncio.run(checker.check_once())
    {'a': 'healthy', 'b': 'unhealthy'}
    >>> RoundRobin(pool).pick().id
    'a'
    """

    def __init__(
        self,
        pool: Pool,
        /,
        shallow: str | Question | None = "/health",
        *,
        deep: str | Question | None = None,
        rules: Iterable[CheckRule] = DEFAULT_RULES,
        interval: float = 15.0,
        jitter: float = 0.1,
        timeout: float = 10.0,
        healthy_threshold: int = 2,
        unhealthy_threshold: int = 3,
        start: Literal["initial", "up", "fully-up", "down", "fully-down"] = "initial",
        warm_up: bool | None = None,
        warming_timeout: float | None = None,
        damping: FlapDamping | None = None,
        shallow_action: Action | None = "restart",
        grace_period: float = 0.0,
        concurrency: int = 64,
        start_spread: float = 1.0,
        follow: float = 1.0,
        seed: int | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        on_event: Callable[[HealthEvent], object] | None = None,
    ) -> None:
        if shallow is None and deep is None:
            raise ConfigError("shallow: None is not allowed without a deep check; a path, a probe or a function")
        for field, value in (("interval", interval), ("timeout", timeout), ("follow", follow)):
            _number(field, value, above=0.0)
        for field, value in (("grace_period", grace_period), ("start_spread", start_spread)):
            _number(field, value)
        if _number("jitter", jitter) >= 1:
            raise ConfigError(f"jitter: {jitter} is not allowed; a share from 0 up to 1")
        slots: object = concurrency
        if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:
            raise ConfigError(f"concurrency: {slots!r} is not allowed; a whole number from 1 on")
        self._pool = pool
        self._shallow = HttpProbe(shallow) if isinstance(shallow, str) else shallow
        self._deep = HttpProbe(deep, checks=True) if isinstance(deep, str) else deep
        self._rules = tuple(rules)
        names = [rule.name for rule in self._rules]
        if len(set(names)) < len(names):
            raise ConfigError(f"rules: {names} is not allowed; each name once")
        both = self._deep is not None and set(WARM_UP) <= set(names)
        self._state = {
            "healthy_threshold": healthy_threshold,
            "unhealthy_threshold": unhealthy_threshold,
            "start": start,
            "warm_up": both if warm_up is None else warm_up,
            "warming_timeout": warming_timeout,
            "damping": damping,
        }
        HealthState(**self._state)  # type: ignore[arg-type]  # says what cannot be, before anything starts
        self._interval, self._jitter, self._timeout = interval, jitter, timeout
        self._shallow_action, self._grace = shallow_action, grace_period
        self._spread, self._follow = start_spread, follow
        self._seed = random.SystemRandom().getrandbits(64) if seed is None else seed
        self._sleep, self._on_event = sleep, on_event
        self._concurrency = concurrency
        self._slots: asyncio.Semaphore | None = None
        self._watched: dict[str, _Watched] = {}
        self._clients: dict[int, httpx.AsyncClient] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._events: deque[HealthEvent] = deque(maxlen=KEPT_EVENTS)

    @property
    def pool(self) -> Pool:
        """The pool."""
        return self._pool

    # What is known

    def states(self) -> dict[str, State]:
        """The state of every endpoint that is watched, by id."""
        return {id: self._shown(w) for id, w in self._watched.items()}

    def status(self, id: str, /) -> EndpointHealth:
        """What is known of one endpoint. Raises ConfigError for an id that is not watched."""
        try:
            watched = self._watched[id]
        except KeyError:
            raise ConfigError(f"id: {id!r} is not allowed; the id of an endpoint that is watched") from None
        last = watched.last
        return EndpointHealth(id, self._shown(watched), last.reason, last.checks, last.checked_at, last.latency)

    def actions(self) -> tuple[HealthEvent, ...]:
        """What is asked for now: one event for each check that has failed often enough and does not hold again yet."""
        return tuple(event for watched in self._watched.values() for event in watched.open.values())

    def take_events(self) -> list[HealthEvent]:
        """What has begun and ended since the last call, in order; the oldest of more than 10,000 are gone."""
        events = [*self._events]
        self._events.clear()
        return events

    def metrics(self) -> dict[str, float]:
        """Counts of endpoints by state and of actions asked for, ready to be an observation's metrics.

        A StepScaling policy on `scale_up` adds servers when so many endpoints ask for it.
        """
        counts = dict.fromkeys((*POOL_HEALTH, "draining", "restart", "replace", "reload_model", "scale_up"), 0.0)
        counts["stop_sending"] = 0.0
        for state in self.states().values():
            counts[state] = counts.get(state, 0.0) + 1
        for action in {(event.endpoint, event.action) for event in self.actions()}:
            counts[action[1]] += 1
        return counts

    # Running

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def start(self) -> None:
        """Starts checking, in the running loop. Does nothing when it runs already."""
        if self._loop is None or self._loop.done():
            self._loop = asyncio.get_running_loop().create_task(self._run(), name="aibalance-health")

    async def aclose(self) -> None:
        """Stops checking; the pool stays as it is."""
        tasks = [*self._running, *([self._loop] if self._loop is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loop = self._slots = None
        clients = [*self._clients.values()]
        self._clients.clear()
        for client in clients:
            await client.aclose()

    async def check_once(self) -> dict[str, State]:
        """Checks every endpoint of the pool once, now, and gives their states."""
        self._look()
        await asyncio.gather(*(self._check(w) for w in [*self._watched.values()] if not w.busy))
        if self._loop is None:
            await self.aclose()
        return self.states()

    async def _run(self) -> None:
        while True:
            self._look()
            now = self._now()
            for watched in self._watched.values():
                if watched.due <= now and not watched.busy:
                    watched.busy = True
                    task = asyncio.get_running_loop().create_task(self._check(watched))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
            dues = [w.due for w in self._watched.values() if not w.busy]
            wait = min([self._follow, self._interval, *(max(0.0, due - now) for due in dues)])
            # A clock that a test moves stands still while we wait for nothing.
            await self._sleep(max(wait, 1e-4))

    def _now(self) -> float:
        return self._pool.clock.now()

    def _look(self) -> None:
        """Follows the pool: who is there now, and whether anybody is thought better of than checks say."""
        now = self._now()
        self._pool.advance()
        endpoints = self._pool.endpoints
        for id in self._watched.keys() - {e.id for e in endpoints}:
            del self._watched[id]
        for endpoint in endpoints:
            known = self._watched.get(endpoint.id)
            if known is not None and known.endpoint.address == endpoint.address:
                known.endpoint = endpoint
                continue
            if known is not None:
                self._drain(known, False)  # another server under the same id
            state = HealthState(**self._state, clock=self._pool.clock)  # type: ignore[arg-type]
            watched = _Watched(endpoint, state, f"{self._seed}:{endpoint.id}", now)
            watched.due = now + watched.random.random() * self._spread
            self._watched[endpoint.id] = watched
        for stats in self._pool.stats():
            watched = self._watched[stats.id]
            # One that was taken out and put back between two looks is healthy again to the pool.
            if watched.told is None or (stats.health == "healthy" and watched.told != "healthy"):
                watched.told = None
                self._tell(watched)

    # One check

    async def _check(self, watched: _Watched) -> None:
        watched.busy = True
        began = self._now()
        try:
            if self._slots is None:
                self._slots = asyncio.Semaphore(self._concurrency)
            async with self._slots:
                began = self._now()
                shallow_failed = False
                verdict = Verdict("pass", "")
                if self._shallow is not None:
                    verdict = await self._ask(self._shallow, watched)
                    shallow_failed = verdict.outcome == "fail"
                if self._deep is not None and verdict.outcome != "fail":
                    verdict = await self._ask(self._deep, watched)
            if self._watched.get(watched.endpoint.id) is watched:
                self._take(watched, verdict, shallow_failed, self._now() - began)
        finally:
            share = 1 + self._jitter * (2 * watched.random.random() - 1)
            watched.due = max(began + self._interval * share, self._now())
            watched.busy = False

    async def _ask(self, question: Question, watched: _Watched) -> Verdict:
        try:
            async with asyncio.timeout(self._timeout):
                if isinstance(question, HttpProbe):
                    client = self._clients.get(id(question))
                    if client is None:
                        client = self._clients[id(question)] = question.client()
                    result = await question.ask(client, watched.endpoint)
                else:
                    result = understood(await call(question, watched.endpoint, hanging=watched.hanging))
        except TimeoutError:
            result = ProbeResult(False, f"no answer within {self._timeout:g} s")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            result = ProbeResult(False, "the probe was cancelled")
        except Exception as error:
            result = ProbeResult(False, f"{type(error).__name__}: {error}"[:500])
        return judge(result, self._rules, warm=watched.state.warm)

    def _take(self, watched: _Watched, verdict: Verdict, shallow_failed: bool, latency: float) -> None:
        now = self._now()
        watched.state.report(verdict.outcome, model_loaded=verdict.loaded, inference_test=verdict.inferred, now=now)
        state = watched.state.state(now)
        watched.last = EndpointHealth(
            watched.endpoint.id, state, verdict.reason, verdict.failed or None, now, max(0.0, latency)
        )
        self._tell(watched)
        # Warming for too long: what is still missing has failed.
        failed = {**verdict.failed, **(verdict.waiting if state == "unhealthy" else {})}
        for rule in self._rules:
            if verdict.known is None or (rule.name in verdict.waiting and rule.name not in failed):
                continue
            # One that is not named any more must not stay failed for ever.
            if rule.name not in verdict.known and rule.name not in watched.counters:
                continue
            down = self._count(watched, rule.name, rule.name not in failed)
            if rule.effect == "drain":
                self._drain(watched, down)
            self._raise_event(watched, rule.name, rule.action, failed.get(rule.name), down, now)
        if self._shallow is not None and self._shallow_action is not None:
            down = self._count(watched, "", not shallow_failed)
            self._raise_event(watched, "shallow", self._shallow_action, verdict.reason, down, now)

    def _count(self, watched: _Watched, name: str, holds: bool) -> bool:
        """Whether a check counts as failed, by the same thresholds."""
        counter = watched.counters.get(name)
        if counter is None:
            counter = watched.counters[name] = HealthState(
                healthy_threshold=self._state["healthy_threshold"],  # type: ignore[arg-type]
                unhealthy_threshold=self._state["unhealthy_threshold"],  # type: ignore[arg-type]
                start="fully-up",
                clock=self._pool.clock,
            )
        return counter.report("pass" if holds else "fail") == "unhealthy"

    def _raise_event(
        self, watched: _Watched, check: str, action: Action, value: object, down: bool, now: float
    ) -> None:
        known = watched.open.get(check)
        if down and known is None and now - watched.since >= self._grace:
            event = watched.open[check] = HealthEvent(watched.endpoint.id, check, action, value, now)
        elif not down and known is not None:
            del watched.open[check]
            event = HealthEvent(watched.endpoint.id, check, action, value, now, over=True)
        else:
            return
        self._events.append(event)
        if self._on_event is not None:
            # Somebody else's code: what it raises must not end the checks.
            with contextlib.suppress(Exception):
                self._on_event(event)

    # What the pool is told

    def _shown(self, watched: _Watched) -> State:
        return "draining" if watched.drained else watched.state.state()

    def _tell(self, watched: _Watched) -> None:
        health = POOL_HEALTH[watched.state.state()]
        if health != watched.told:
            # Gone in the meantime: the next look takes it off the list.
            with contextlib.suppress(ConfigError):
                self._pool.set_health(watched.endpoint.id, health)
                watched.told = health

    def _drain(self, watched: _Watched, down: bool) -> None:
        id = watched.endpoint.id
        with contextlib.suppress(ConfigError):
            if down and not watched.drained:
                # Somebody else's drain stays theirs, and is not taken back here.
                if not any(s.draining for s in self._pool.stats() if s.id == id):
                    self._pool.drain(id)
                    watched.drained = True
            elif watched.drained and not down:
                self._pool.undrain(id)
                watched.drained = False

    def __repr__(self) -> str:
        running = "running" if self._loop is not None and not self._loop.done() else "stopped"
        return f"<HealthChecker of {len(self._watched)}, {running}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a HealthChecker does not pickle: it has probes in flight; pickle its pool")


def _number(field: str, value: Any, *, above: float | None = None) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < 0 or (above is not None and value <= above):
        allowed = "0 or more" if above is None else f"more than {above:g}"
        raise ConfigError(f"{field}: {value!r} is not allowed; a finite number of {allowed}")
    return float(value)
