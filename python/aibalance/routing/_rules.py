"""Rules and the router: configuration is Python's, deciding is native."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .._core import Hashed, RouteEngine
from .._errors import ConfigError
from ._request import Request

Values = str | Sequence[str]
Query = Mapping[str, Values] | Sequence[str | tuple[str | None, str]]


@dataclass(frozen=True)
class Timeouts:
    """How long a request may take, in seconds; None leaves it to you.

    `connect` is for the connection, `read` for the time between two pieces of the answer, as in nginx.

    >>> Timeouts(connect=5, read=60)
    Timeouts(connect=5, read=60)
    """

    connect: float | None = None
    read: float | None = None

    def __post_init__(self) -> None:
        for name in ("connect", "read"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value) and value > 0):
                raise ConfigError(f"{name}: {value!r} is not allowed; seconds, more than 0, or None")


@dataclass(frozen=True)
class Route:
    """Where a request goes, and how it is to be sent there.

    `target` is what the rule has for `to`, `rule` the place of the rule in the router. `streaming` says that the
    answer is passed on piece by piece, unbuffered.

    >>> Router([Rule(path="/stream*", to="inference", read_timeout=300, streaming=True)]).route(Request("/stream"))
    Route(target='inference', timeouts=Timeouts(connect=None, read=300), streaming=True, rule=0)
    """

    target: Any
    timeouts: Timeouts
    streaming: bool
    rule: int


@dataclass(frozen=True)
class Decision:
    """What a router decided, and why.

    `reason` is "matched", "redirect" (nginx sends the client to `location`, with the slash that its path lacks),
    "no_rule", "no_weight" (a rule fits, all its targets have weight 0), or what is wrong with the request:
    "bad_target", "bad_host", "bad_path" or "ambiguous_path". `status` is the HTTP status to answer with where there is
    no route.

    >>> decision = Router([Rule(path="/api/*", to="api")]).decide(Request("/api/../etc"))
    >>> decision.reason, decision.status, decision.route
    ('ambiguous_path', 400, None)
    """

    route: Route | None
    reason: str
    status: int
    location: str | None
    rule: int | None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which requests go to which target.

    The conditions must all hold, and of each one value. `path` and `host` are patterns, one or several, in which `*`
    is any text and `?` one character; `host` ignores case, `path` does not. `method` is taken exactly. `headers` maps
    names to patterns, which ignore case. `query` maps keys to patterns of values (all must hold), or lists patterns
    of values
    and pairs of key and value (one must hold); a backslash makes a wildcard plain, and case is ignored. All are
    compared as they were sent, nothing decoded.

    `location` takes the place of `path`: nginx's `"/prefix"`, `"= /path"`, `"^~ /prefix"`, `"~ expression"` or
    `"~* expression"`, compared with the path as nginx makes it normal. Then `host` names servers (`"name"`, `"*.name"`,
    `"name.*"`), and there are no other conditions. Expressions are those of Rust's regex crate, whose time is linear;
    what PCRE has beyond it, or reads differently, is refused, and `$` fits at the very end alone.

    `to` is the target, anything; or several with their weights, as a mapping or a list of pairs. Weights are whole
    numbers, 0 to 999 as at AWS; 0 gets nothing. `priority` orders rules, 1 to 50000, the lowest first; None comes
    after those, in the order of the list; "default" is asked last and has no conditions. `connect_timeout` and
    `read_timeout` are seconds, `streaming` is passed on in the route.

    Raises ConfigError here for a value of a wrong type, and in `Router` for what the rules do not allow.

    Source: Elastic Load Balancing user guide, listener rules (2023); nginx 1.31, ngx_http_core_module.

    >>> Rule(path="/img/*", host="*.example.com", to={"blue": 90, "green": 10}, priority=10)
    Rule(path='/img/*', host='*.example.com', to={'blue': 90, 'green': 10}, priority=10)
    """

    path: Values | None = None
    host: Values | None = None
    headers: Mapping[str, Values] | None = None
    method: Values | None = None
    query: Query | None = None
    location: str | None = None
    to: Any
    priority: int | Literal["default"] | None = None
    connect_timeout: float | None = None
    read_timeout: float | None = None
    streaming: bool = False

    def __post_init__(self) -> None:
        for name in ("path", "host", "method"):
            _texts(name, getattr(self, name))
        if self.path is not None and self.location is not None:
            raise ConfigError(f"location: {self.location!r} is not allowed; None beside a path")
        if self.location is not None:
            _text("location", self.location)
        number = isinstance(self.priority, int) and not isinstance(self.priority, bool) and self.priority >= 1
        if not (self.priority is None or self.priority == "default" or number):
            raise ConfigError(
                f"priority: {self.priority!r} is not allowed; a whole number from 1 to 50000, 'default' or None"
            )
        if not isinstance(self.streaming, bool):
            raise ConfigError(f"streaming: {self.streaming!r} is not allowed; True or False")
        self._headers()
        self._query()
        self._targets()
        for name in ("connect", "read"):
            try:
                Timeouts(**{name: getattr(self, f"{name}_timeout")})
            except ConfigError:
                value = getattr(self, f"{name}_timeout")
                raise ConfigError(f"{name}_timeout: {value!r} is not allowed; seconds, more than 0, or None") from None

    def _headers(self) -> list[tuple[str, list[str]]]:
        if self.headers is None:
            return []
        if not isinstance(self.headers, Mapping):
            raise ConfigError(f"headers: {self.headers!r:.80} is not allowed; a mapping of names to values")
        return [(_text("headers", name), _texts(f"headers[{name!r}]", v)) for name, v in self.headers.items()]

    def _query(self) -> list[list[tuple[str | None, str]]]:
        if self.query is None:
            return []
        if isinstance(self.query, Mapping):
            conditions = self.query.items()
            return [[(_text("query", k), value) for value in _texts(f"query[{k!r}]", v)] for k, v in conditions]
        if isinstance(self.query, str | bytes) or not isinstance(self.query, Sequence):
            raise ConfigError(f"query: {self.query!r:.80} is not allowed; a mapping, or a list of values and pairs")
        pairs: list[tuple[str | None, str]] = []
        for item in self.query:
            if isinstance(item, tuple) and len(item) == 2:
                key, value = item
                pairs.append((None if key is None else _text("query", key), _text("query", value)))
            elif isinstance(item, str):
                pairs.append((None, _text("query", item)))
            else:
                raise ConfigError(f"query: {item!r:.80} is not allowed; a value, or a pair of key and value")
        return [pairs]

    def _targets(self) -> list[tuple[Any, int]]:
        if not isinstance(self.to, Mapping | list):
            return [(self.to, 1)]
        found = list(self.to.items()) if isinstance(self.to, Mapping) else list(self.to)
        for pair in found:
            if not (isinstance(pair, tuple) and len(pair) == 2):
                raise ConfigError(f"to: {pair!r:.80} is not allowed; pairs of target and weight")
            if not isinstance(pair[1], int) or isinstance(pair[1], bool) or not 0 <= pair[1] < 2**32:
                raise ConfigError(f"to: weight {pair[1]!r:.80} is not allowed; a whole number from 0 to 999")
        if not found:
            raise ConfigError(f"to: {self.to!r} is not allowed; at least one target")
        return found

    def __repr__(self) -> str:
        defaults = {"streaming": False}
        given = [(name, getattr(self, name)) for name in self.__dataclass_fields__]
        shown = [f"{name}={value!r}" for name, value in given if value is not None and value != defaults.get(name)]
        return f"Rule({', '.join(shown)})"


class Router:
    """Rules that are asked in order: an Application Load Balancer's, or nginx's locations; never both in one router.

    A path that fits one rule as it was sent and another (or none) as a server may read it (decoded once, `..`
    followed, slashes merged or not) is refused: it could reach a fleet that the rules close to it.
    `ambiguous="sent"` goes by what was sent alone, as AWS does. Malformed targets and hosts, several Host headers, and
    an absolute target that contradicts the Host header are refused by every router.

    `alb_limits=False` lifts AWS's limits: 3 values a condition, 5 values and 5 wildcards a rule, 128 characters a
    value, weights up to 999. `merge_slashes` and `redirect` are nginx's merge_slashes and its redirect of `/api` to a
    location `/api/`. Draws among weighted targets follow `seed`; None draws anew in each process. Unlike nginx, a host
    that no rule names has no server unless rules without a host make one.

    Raises ConfigError naming the rule and the field. Source: as for `Rule`.

    >>> router = Router([
    ...     Rule(path="/api/*", to="api", priority=1, read_timeout=30),
    ...     Rule(to="web", priority="default"),
    ... ])
    >>> [router.route(Request(path)).target for path in ("/api/users", "/")]
    ['api', 'web']
    >>> Router([Rule(location="/api/", to="api")]).decide(Request("/api")).location
    '/api/'
    """

    __slots__ = ("_ambiguous", "_engine", "_options", "_rules", "_seed")

    def __init__(
        self,
        rules: Iterable[Rule],
        /,
        *,
        ambiguous: Literal["refuse", "sent"] = "refuse",
        alb_limits: bool = True,
        merge_slashes: bool = True,
        redirect: bool = True,
        seed: int | None = None,
    ) -> None:
        self._rules = tuple(rules)
        for i, rule in enumerate(self._rules):
            if not isinstance(rule, Rule):
                raise ConfigError(f"rules[{i}]: {rule!r:.80} is not allowed; a Rule")
        if ambiguous not in ("refuse", "sent"):
            raise ConfigError(f"ambiguous: {ambiguous!r} is not allowed; 'refuse' or 'sent'")
        options = {"alb_limits": alb_limits, "merge_slashes": merge_slashes, "redirect": redirect}
        for name, value in options.items():
            if not isinstance(value, bool):
                raise ConfigError(f"{name}: {value!r} is not allowed; True or False")
        self._ambiguous: Literal["refuse", "sent"] = ambiguous
        self._options = options
        self._seed = seed
        start = _seed(seed)
        flat, routes = [], []
        for i, rule in enumerate(self._rules):
            targets = rule._targets()
            names = [(t if isinstance(t, str) else str(getattr(t, "id", n)), w) for n, (t, w) in enumerate(targets)]
            priority = -2 if rule.priority == "default" else -1 if rule.priority is None else rule.priority
            flat.append(
                (
                    min(priority, 2**32),
                    _texts("path", rule.path),
                    rule.location,
                    _texts("host", rule.host),
                    _texts("method", rule.method),
                    rule._headers(),
                    rule._query(),
                    names,
                )
            )
            timeouts = Timeouts(rule.connect_timeout, rule.read_timeout)
            routes.append([Route(target, timeouts, rule.streaming, i) for target, _ in targets])
        self._engine = RouteEngine(flat, routes, refuse_ambiguous=ambiguous == "refuse", seed=start, **options)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in the order in which they were given."""
        return self._rules

    def route(
        self, request: Request | str | Mapping[str, Any], /, *, key: str | bytes | int | Hashed | None = None
    ) -> Route | None:
        """Where a request goes; None when no rule sends it anywhere.

        `request` is a Request, a target alone, or an ASGI scope. `key` (a user, a session) always gets the same target
        of several, by weighted rendezvous hashing; None draws.
        """
        r = request if type(request) is Request else _request(request)
        found: Route | None = self._engine.route(r.target, r.method, r.host, r.headers, key)
        return found

    def decide(
        self, request: Request | str | Mapping[str, Any], /, *, key: str | bytes | int | Hashed | None = None
    ) -> Decision:
        """The same with the reason, the HTTP status to answer with, and nginx's redirect."""
        r = request if type(request) is Request else _request(request)
        return Decision(*self._engine.explain(r.target, r.method, r.host, r.headers, key))

    def shares(self, rule: int, /) -> tuple[float, ...]:
        """The share of requests that each target of a rule gets; zeros where no target has any weight.

        >>> Router([Rule(path="*", to={"blue": 10, "green": 30})]).shares(0)
        (0.25, 0.75)
        """
        place: Any = rule
        if not isinstance(place, int) or not 0 <= place < len(self._rules):
            raise ConfigError(f"rule: {rule!r} is not allowed; a place in the {len(self._rules)} rules")
        return tuple(self._engine.shares(rule))

    def __repr__(self) -> str:
        return f"<Router of {len(self._rules)} rules>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _router, (self._rules, {"ambiguous": self._ambiguous, "seed": self._seed, **self._options})


def _router(rules: tuple[Rule, ...], options: dict[str, Any]) -> Router:
    return Router(rules, **options)


def _request(request: Any) -> Request:
    if isinstance(request, Request):
        return request
    if isinstance(request, str | bytes):
        return Request(request)
    if isinstance(request, Mapping):
        return Request.from_asgi(request)
    raise ConfigError(f"request: {request!r:.80} is not allowed; a Request, a target, or an ASGI scope")


def _seed(seed: Any) -> int:
    if seed is None:
        return int.from_bytes(os.urandom(8), "little")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ConfigError(f"seed: {seed!r} is not allowed; a whole number from 0 to 2**64-1, or None")
    return seed


def _text(name: str, value: object) -> str:
    try:
        if isinstance(value, str):
            value.encode()
            return value
    except UnicodeEncodeError:
        pass
    raise ConfigError(f"{name}: {value!r:.80} is not allowed; a str without lone surrogates")


def _texts(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [_text(name, value)]
    if isinstance(value, bytes | Mapping) or not isinstance(value, Sequence):
        raise ConfigError(f"{name}: {value!r:.80} is not allowed; a str, or several in a list")
    if not value:
        raise ConfigError(f"{name}: {value!r} is not allowed; at least one value, or None")
    return [_text(name, item) for item in value]
