"""Deployments that say in annotations which policy scales them, and a kopf operator that does it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
import json
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .. import AibalanceError, ConfigError, Recommendation
from .._extras import need
from .._picker import wrong
from ..autoscaling import Policy
from ._task import stop

__all__ = ["DeploymentScaler", "Scaled", "Target"]

LOG = logging.getLogger("aibalance.kubernetes")
# All annotations of an object may be 256 KiB together.
_MOST_STATE = 128 << 10


@dataclass(frozen=True, kw_only=True)
class Target:
    """A Deployment that is to be scaled.

    `replicas`: what its `spec` asks for; `ready`: pods that are ready. `minimum` and `maximum`: its bounds.
    `annotations`: all that it has.

    >>> Target(namespace="prod", name="llm", replicas=4, ready=3, maximum=9).observation({"queue": 8.0})
    {'current': 3, 'desired': 4, 'warming': 1, 'metrics': {'queue': 8.0}}
    """

    namespace: str
    name: str
    replicas: int
    ready: int
    maximum: int
    minimum: int = 1
    annotations: Mapping[str, str] = field(default_factory=dict)

    def observation(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """What the policy is told."""
        warming = max(0, self.replicas - self.ready)
        return {"current": self.ready, "desired": self.replicas, "warming": warming, "metrics": dict(metrics)}


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """What became of one look at a Deployment.

    `replicas`: what its `spec` asks for now; `asked`: what the policy wanted, None where it was not asked. `reason` is
    that of the event in Kubernetes: "Scaled"; "Unchanged"; "Paused"; "SwitchedOff" (0 replicas, and 0 is below its
    minimum: somebody's decision); "InsufficientData"; "NoneReady" (no pod is ready: not scaled in); "Conflict"
    (somebody changed it meanwhile); "Invalid" (its annotations, or what the policy says of the metrics); "Gone".

    >>> Scaled(replicas=9, asked=20, reason="Scaled", message="bounded by max-replicas").replicas
    9
    """

    replicas: int
    reason: str
    message: str = ""
    asked: int | None = None


Metrics: TypeAlias = "Mapping[str, Any] | None"
Read: TypeAlias = "Callable[[Target], Metrics | Awaitable[Metrics]]"
Make: TypeAlias = "Callable[[Target], Policy]"


class _Watched:
    """A Deployment that is looked at: its policy, and what was said of it last."""

    def __init__(self) -> None:
        self.body: Any = None
        self.task: asyncio.Task[None] | None = None
        self.policy: Policy | None = None
        self.made_of: tuple[Any, ...] = ()
        self.said: tuple[str, str] | None = None
        self.notes: list[tuple[str, str]] = []
        self.asking: concurrent.futures.Future[Any] | None = None


class DeploymentScaler:
    """Scales the Deployments whose annotations ask for it, by policies of yours: the working part of a kopf operator.

    `policies`: functions by name that make a policy for a Target; each Deployment has its own. `metrics`: a function
    of a Target, plain (called in a thread) or async, that gives metrics by name; None, or an exception, when it does
    not know. `interval` (15.0): seconds between two looks. `timeout` (10.0): seconds for the metrics, and for each call
    of the API server. `prefix` ("aibalance"): what stands before the slash in annotations. `api` (None): a
    kubernetes.client.AppsV1Api; None makes one of the configuration that kopf's login has loaded.

    A Deployment asks with `aibalance/policy` (a name of `policies`), `aibalance/max-replicas` and, 1 if not given,
    `aibalance/min-replicas`; `aibalance/paused: "true"` leaves it as it is. `aibalance/state` holds the policy's memory
    and `aibalance/status` the last decision: both are written here. What changes is told in events, too.

    Replicas are patched in the scale subresource only, with the resourceVersion that was read. No other autoscaler may
    have the same target. Raises ConfigError (`pip install aibalance[kubernetes]`).

    >>> from aibalance.autoscaling import ProportionalScaling
    >>> scaler = DeploymentScaler(
    ...     {"queue": lambda to: ProportionalScaling(metric="queue", target=5, max_capacity=to.maximum)},
    ...     lambda to: {"queue": 12.0},
    ... )
    >>> scaler
    <DeploymentScaler of queue>
    >>> # scaler.register(), and: kopf run --all-namespaces operator.py
    """

    def __init__(
        self,
        policies: Mapping[str, Make],
        metrics: Read,
        /,
        *,
        interval: float = 15.0,
        timeout: float = 10.0,
        prefix: str = "aibalance",
        api: Any = None,
    ) -> None:
        given: Any = policies
        if not isinstance(given, Mapping) or not given:
            raise wrong("policies", policies, "functions that make policies, by name")
        for name, make in given.items():
            if not isinstance(name, str) or not name or not callable(make):
                raise wrong(f"policies[{name!r}]", make, "a function of a Target that makes a policy")
        if not callable(metrics):
            raise wrong("metrics", metrics, "a function of a Target")
        seconds: tuple[tuple[str, Any], ...] = (("interval", interval), ("timeout", timeout))
        for field_, value in seconds:
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 86400:
                raise wrong(field_, value, "seconds above 0, up to a day")
        label = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
        named: Any = prefix
        if not isinstance(named, str) or not re.fullmatch(rf"{label}(\.{label})*", prefix) or len(prefix) > 253:
            raise wrong("prefix", prefix, "a DNS name, as in scaling.example.com")
        self._policies = dict(policies)
        self._metrics = metrics
        self._interval, self._timeout, self._prefix = float(interval), float(timeout), prefix
        self._api = api
        self._watched: dict[tuple[str, str], _Watched] = {}

    def __repr__(self) -> str:
        return f"<DeploymentScaler of {', '.join(self._policies)}>"

    def register(self, registry: Any = None) -> None:
        """Adds its handlers to kopf: to `registry`, a kopf.OperatorRegistry, or to the one that `kopf run` uses.

        They are handlers of events, not timers of kopf: those would put a finalizer on each Deployment, which then
        could not be deleted while the operator is away.
        """
        kopf = need("kopf", "kubernetes")
        to = {} if registry is None else {"registry": registry}
        kopf.on.event("apps", "v1", "deployments", id="aibalance-deployments", **to)(self._seen)
        kopf.on.cleanup(id="aibalance-end", **to)(self._end)

    async def _seen(self, event: Mapping[str, Any], body: Any, namespace: str, name: str, **_: Any) -> None:
        at = namespace, name
        wanted = event.get("type") != "DELETED" and f"{self._prefix}/policy" in body.metadata.annotations
        if not wanted:
            await self._forget(at)
            return
        watched = self._watched.setdefault(at, _Watched())
        watched.body = body
        if watched.task is None or watched.task.done():
            # In the context of this handler, where kopf knows how to post events.
            watched.task = asyncio.get_running_loop().create_task(self._run(namespace, name))

    async def _forget(self, at: tuple[str, str]) -> None:
        watched = self._watched.pop(at, None)
        if watched is not None:
            await stop(watched.task)

    async def _end(self, **_: Any) -> None:
        for at in list(self._watched):
            await self._forget(at)

    async def _run(self, namespace: str, name: str) -> None:
        while True:
            try:
                done = await self.look(namespace, name)
            except Exception as error:  # the API server's, or of a policy of theirs: the next look may do better
                LOG.warning("%s/%s: %s: %s", namespace, name, type(error).__name__, error)
            else:
                watched = self._watched.get((namespace, name))
                if watched is not None:
                    self._tell(watched, done)
                if done.reason == "Gone":
                    # The watch may have missed it; a new one of this name begins anew.
                    if watched is not None and watched.task is asyncio.current_task():
                        del self._watched[namespace, name]
                    return
            await asyncio.sleep(self._interval)

    def _tell(self, watched: _Watched, done: Scaled) -> None:
        """Posts what is new as events of the Deployment."""
        kopf = need("kopf", "kubernetes")
        notes, watched.notes = watched.notes, []
        new = (done.reason, done.message)
        if new != watched.said and done.reason not in ("Unchanged", "Conflict", "Gone"):
            notes.append(new)
        watched.said = new
        for reason, message in notes:
            kind = "Normal" if reason in ("Scaled", "Paused", "SwitchedOff") else "Warning"
            kopf.event(watched.body, type=kind, reason=reason, message=message)

    async def look(self, namespace: str, name: str, /, *, now: float | None = None) -> Scaled:
        """Looks at a Deployment once, and scales it where the policy says so.

        `now` (None: the time): seconds since 1970, since the policy's memory must outlive this process. Raises what the
        kubernetes client raises when the API server cannot be asked.
        """
        time_ = time.time() if now is None else now
        read = await self._call("read_namespaced_deployment", name, namespace)
        if read is None:
            return Scaled(replicas=0, reason="Gone")
        watched = self._watched.setdefault((namespace, name), _Watched())
        replicas = _count(read.get("spec", {}).get("replicas"), 1)
        annotations = read["metadata"].get("annotations") or {}
        try:
            target = self._target(namespace, name, replicas, read, annotations)
        except ConfigError as error:
            return await self._noted(read, Scaled(replicas=replicas, reason="Invalid", message=str(error)), time_)
        if annotations.get(f"{self._prefix}/paused", "false") != "false":
            done = Scaled(replicas=replicas, reason="Paused", message=f"by {self._prefix}/paused")
            return await self._noted(read, done, time_)
        if replicas == 0 and target.minimum > 0:
            done = Scaled(replicas=0, reason="SwitchedOff", message="it has 0 replicas, below its minimum")
            return await self._noted(read, done, time_)
        metrics, why = await self._read_metrics(watched, target)
        if metrics is None:
            return await self._noted(read, Scaled(replicas=replicas, reason="InsufficientData", message=why), time_)
        try:
            policy = self._policy(watched, target)
            made = policy.recommend(target.observation(metrics), now=time_)
        except AibalanceError as error:
            return await self._noted(read, Scaled(replicas=replicas, reason="Invalid", message=str(error)), time_)
        done = await self._apply(read, target, made, policy)
        if done.reason == "Gone":
            return done
        return await self._noted(read, done, time_, policy.state())

    async def _apply(self, read: Any, target: Target, made: Recommendation, policy: Policy) -> Scaled:
        asked, replicas = made.desired, target.replicas
        if made.action == "insufficient_data":
            return Scaled(replicas=replicas, reason="InsufficientData", message=made.reason)
        bounded = min(max(asked, target.minimum), target.maximum)
        if target.ready == 0 and bounded < replicas:
            # Nothing of it is alive to be measured: less of it would be a guess.
            policy.rejected(made)
            return Scaled(replicas=replicas, asked=asked, reason="NoneReady", message="no pod is ready: not scaled in")
        if bounded != asked:
            policy.rejected(made)
        bound = "" if bounded == asked else f", bounded by {'max' if bounded < asked else 'min'}-replicas"
        if bounded == replicas:
            return Scaled(replicas=replicas, asked=asked, reason="Unchanged", message=f"{made.reason}{bound}")
        patch = {"metadata": {"resourceVersion": read["metadata"]["resourceVersion"]}, "spec": {"replicas": bounded}}
        try:
            if await self._call("patch_namespaced_deployment_scale", target.name, target.namespace, patch) is None:
                return Scaled(replicas=replicas, asked=asked, reason="Gone")
        except Exception as error:
            if bounded == asked:
                policy.rejected(made)
            if getattr(error, "status", None) != 409:
                raise
            return Scaled(replicas=replicas, asked=asked, reason="Conflict", message="somebody changed it meanwhile")
        said = f"{replicas} to {bounded}: {made.reason}{bound}"
        return Scaled(replicas=bounded, asked=asked, reason="Scaled", message=said)

    def _target(self, namespace: str, name: str, replicas: int, read: Any, annotations: Mapping[str, str]) -> Target:
        def bound(field_: str, default: int | None) -> int:
            text = annotations.get(f"{self._prefix}/{field_}")
            if text is None and default is not None:
                return default
            if text is None or not re.fullmatch(r"[0-9]{1,7}", text):
                raise ConfigError(f"{self._prefix}/{field_}: {text!r:.80} is not allowed; a whole number")
            return int(text)

        named = annotations.get(f"{self._prefix}/policy")
        if named not in self._policies:
            allowed = ", ".join(self._policies)
            raise ConfigError(f"{self._prefix}/policy: {named!r:.80} is not allowed; one of {allowed}")
        paused = annotations.get(f"{self._prefix}/paused", "false")
        if paused not in ("true", "false"):
            raise ConfigError(f"{self._prefix}/paused: {paused!r:.80} is not allowed; true or false")
        most, least = bound("max-replicas", None), bound("min-replicas", 1)
        if most < max(least, 1):
            raise ConfigError(f"{self._prefix}/max-replicas: {most} is not allowed; at least {max(least, 1)}")
        ready = _count((read.get("status") or {}).get("readyReplicas"), 0)
        return Target(
            namespace=namespace,
            name=name,
            replicas=replicas,
            ready=ready,
            minimum=least,
            maximum=most,
            annotations=dict(annotations),
        )

    def _policy(self, watched: _Watched, target: Target) -> Policy:
        """The Deployment's own; a new one takes over the memory that the annotation holds. Raises ConfigError."""
        named = target.annotations[f"{self._prefix}/policy"]
        made_of = (named, target.minimum, target.maximum)
        if watched.policy is not None and watched.made_of == made_of:
            return watched.policy
        policy: Any = self._policies[named](target)
        if isinstance(policy, type) or not isinstance(policy, Policy):
            raise wrong(f"policies[{named!r}]", policy, "a function that makes a scaling policy")
        kept = target.annotations.get(f"{self._prefix}/state")
        if kept is not None:
            try:
                told = json.loads(kept)
                if not isinstance(told, dict):
                    raise ValueError("not an object")
                policy.restore(told)
            except (ValueError, RecursionError, AibalanceError) as error:
                watched.notes.append(("StateLost", f"{self._prefix}/state: {error}; the policy begins anew"))
        watched.policy, watched.made_of = policy, made_of
        return policy

    async def _read_metrics(self, watched: _Watched, target: Target) -> tuple[Mapping[str, Any] | None, str]:
        """The metrics, or why there are none."""
        try:
            async with asyncio.timeout(self._timeout):
                if inspect.iscoroutinefunction(self._metrics):
                    answer: Any = await self._metrics(target)
                else:
                    if watched.asking is not None and not watched.asking.done():
                        return None, "no metrics: the call before has not returned"
                    watched.asking = _in_thread(self._metrics, target)
                    answer = await asyncio.wrap_future(watched.asking)
                    if inspect.isawaitable(answer):
                        answer = await answer
        except TimeoutError:
            return None, f"no metrics in {self._timeout:g} s"
        except Exception as error:
            return None, f"no metrics: {type(error).__name__}: {error}"
        if answer is None:
            return None, "no metrics"
        if not isinstance(answer, Mapping):
            return None, f"metrics: {answer!r:.80} is not allowed; a mapping of names, or None"
        return answer, ""

    async def _noted(self, read: Any, done: Scaled, now: float, state: dict[str, Any] | None = None) -> Scaled:
        """Writes the policy's memory and the decision into the annotations, where they have changed."""
        metadata = read["metadata"]
        had: Mapping[str, str] = metadata.get("annotations") or {}
        new: dict[str, str] = {}
        if state is not None:
            text = json.dumps(state, separators=(",", ":"))
            if len(text) > _MOST_STATE:
                done = _with(done, f"{len(text)} bytes of state are too many to keep")
            elif text != had.get(f"{self._prefix}/state"):
                new[f"{self._prefix}/state"] = text
        status = {"replicas": done.replicas, "asked": done.asked, "reason": done.reason, "message": done.message}
        if new or status != _without_time(had.get(f"{self._prefix}/status")):
            new[f"{self._prefix}/status"] = json.dumps({**status, "at": round(now, 3)})
            patch = {"metadata": {"annotations": new}}
            try:
                await self._call("patch_namespaced_deployment", metadata["name"], metadata["namespace"], patch)
            except Exception as error:
                # It may have been scaled already, and that is not to be left unsaid.
                why = getattr(error, "status", None) or type(error).__name__
                LOG.warning("%s/%s: the annotations are not written: %s", metadata["namespace"], metadata["name"], why)
                done = _with(done, f"the annotations are not written: {why}")
        return done

    async def _call(self, method: str, *arguments: Any) -> Any:
        """A call of the API server, in a thread; None where the object is not there."""
        if self._api is None:
            self._api = need("kubernetes.client", "kubernetes").AppsV1Api()
        call = getattr(self._api, method)
        try:
            # Not as the client's models: they refuse what a newer or older server says.
            answer = await asyncio.to_thread(call, *arguments, _preload_content=False, _request_timeout=self._timeout)
        except Exception as error:
            if getattr(error, "status", None) == 404:
                return None
            raise
        return json.loads(answer.data)


def _in_thread(call: Read, target: Target) -> concurrent.futures.Future[Any]:
    """A thread for one call. One that never returns takes no thread from calls of the API server, nor holds an exit."""
    asked: concurrent.futures.Future[Any] = concurrent.futures.Future()
    asked.set_running_or_notify_cancel()  # who waits for it may stop to, and it goes on
    context = contextvars.copy_context()

    def run() -> None:
        try:
            asked.set_result(context.run(call, target))
        except BaseException as error:
            asked.set_exception(error)

    threading.Thread(target=run, name=f"aibalance metrics {target.name}", daemon=True).start()
    return asked


def _with(done: Scaled, said: str) -> Scaled:
    return replace(done, message=f"{done.message}; {said}" if done.message else said)


def _count(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _without_time(text: str | None) -> Any:
    try:
        told = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    if isinstance(told, dict):
        told.pop("at", None)
    return told
