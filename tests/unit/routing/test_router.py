"""The router: rules of both kinds, every option, and requests that try to get where they may not."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import pytest

from aibalance import ConfigError
from aibalance.routing import Request, Route, Router, Rule, Timeouts


def target(router: Router, request: Any, **options: Any) -> Any:
    route = router.route(request, **options)
    return None if route is None else route.target


@pytest.mark.parametrize(
    ("condition", "fits", "does_not"),
    [
        ({"path": ["/a", "/b*"]}, Request("/bc"), Request("/B")),
        ({"path": "/a?c"}, Request("/abc?x"), Request("/ac")),
        ({"host": "*.Example.com"}, Request("/", host="A.example.COM:8443"), Request("/", host="example.com")),
        ({"method": "POST"}, Request("/", method="POST"), Request("/", method="post")),
        ({"headers": {"X-Tier": ["gold", "p*"]}}, Request("/", headers={"x-tier": "PLATIN"}), Request("/")),
        ({"query": {"v": "2", "q": "*"}}, Request("/?q=&V=2"), Request("/?v=2")),
        ({"query": ["canary", ("v", "2")]}, Request("/?v=2"), Request("/?v=3&w=2")),
        ({"query": {"q": "what\\?"}}, Request("/?q=what?"), Request("/?q=whats")),
    ],
)
def test_each_condition_alone_decides(condition: dict[str, Any], fits: Request, does_not: Request) -> None:
    router = Router([Rule(**condition, to="here"), Rule(to="else", priority="default")])
    assert (target(router, fits), target(router, does_not)) == ("here", "else")


def test_priority_alone_changes_who_answers() -> None:
    for first, second, expected in ((1, 2, "a"), (2, 1, "b"), (None, 9, "b"), (None, None, "a")):
        rules = [Rule(path="/x", to="a", priority=first), Rule(path="/*", to="b", priority=second)]
        assert target(Router(rules), "/x") == expected


def test_a_route_carries_how_to_send() -> None:
    rule = Rule(path="*", to=object, connect_timeout=5, read_timeout=0.5, streaming=True)
    assert Router([rule]).route(Request("/")) == Route(object, Timeouts(5, 0.5), True, 0)
    assert Router([Rule(path="*", to="a")]).route("/") == Route("a", Timeouts(), False, 0)


def test_weights_are_drawn_by_seed_and_keys_stay() -> None:
    rule = Rule(path="*", to=[("a", 30), ("b", 10), ("c", 0)])

    def drawn(seed: int | None) -> list[Any]:
        router = Router([rule], seed=seed)
        return [target(router, "/") for _ in range(4000)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(None) != drawn(None)
    counts = Counter(drawn(3))
    assert set(counts) == {"a", "b"}
    assert 2850 < counts["a"] < 3150
    router = Router([rule], seed=1)
    keyed = {key: target(router, "/", key=key) for key in map(str, range(400))}
    assert all(target(router, "/", key=key) == there for key, there in keyed.items())
    assert set(keyed.values()) == {"a", "b"}
    with pytest.raises(ConfigError, match="key"):
        router.route("/", key=1.5)  # type: ignore[arg-type]


def test_no_weight_is_no_target() -> None:
    decision = Router([Rule(path="*", to={"a": 0})]).decide("/")
    assert (decision.route, decision.reason, decision.status) == (None, "no_weight", 503)


def test_locations_as_nginx_chooses_them() -> None:
    router = Router(
        [
            Rule(location="= /", to="A"),
            Rule(location="/", to="B"),
            Rule(location="/documents/", to="C"),
            Rule(location="^~ /images/", to="D"),
            Rule(location=r"~* \.(gif|jpg|jpeg)$", to="E"),
        ]
    )
    for path, expected in {
        "/": "A",
        "/index.html": "B",
        "/documents/document.html": "C",
        "/images/1.gif": "D",
        "/documents/1.JPG": "E",
        "/%69mages/1.gif": "D",
        "/documents/../images//1.gif": "D",
        "//": "A",
    }.items():
        assert target(router, path) == expected, path


def test_each_option_alone_changes_the_answer() -> None:
    located = [Rule(location="/a/", to="a"), Rule(location="= /a//b", to="b")]
    assert target(Router(located), "/a//b") == "a"
    assert target(Router(located, merge_slashes=False), "/a//b") == "b"
    assert Router(located).decide("/a?x=1").location == "/a/?x=1"
    assert Router(located, redirect=False).decide("/a?x=1").reason == "no_rule"
    rules = [Rule(path="/open/*", to="open"), Rule(path="/closed/*", to="closed")]
    assert Router(rules).decide("/open/../closed/x").reason == "ambiguous_path"
    assert target(Router(rules, ambiguous="sent"), "/open/../closed/x") == "open"
    many = [Rule(path=[f"/{i}" for i in range(6)], to="a")]
    with pytest.raises(ConfigError, match=r"rules\[0\].path.*3 values a condition"):
        Router(many)
    assert target(Router(many, alb_limits=False), "/5") == "a"


def test_servers_are_chosen_before_locations() -> None:
    router = Router(
        [Rule(location="/", host="*.x.com", to="wild"), Rule(location="/a", host=["x.com", "y.*"], to="named")]
    )
    for host, path, expected in (
        ("w.x.com", "/a", "wild"),
        ("x.com", "/a", "named"),
        ("x.com", "/b", None),
        ("y.org", "/ab", "named"),
        ("z.org", "/a", None),
        (None, "/a", None),
    ):
        assert target(router, Request(path, host=host)) == expected


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request("http://evil.example/admin", host="good.example"), "bad_host"),
        (Request("http://good.example@evil.example/", host="good.example"), "bad_host"),
        (Request("/", headers=[("host", "good.example"), ("Host", "evil.example")]), "bad_host"),
        (Request("/", host="good.example", headers={"host": "evil.example"}), "bad_host"),
        (Request("/", host="good.example\0.evil"), "bad_host"),
        (Request("/", host="good..example"), "bad_host"),
        (Request("/", host="good.example, evil.example"), "bad_host"),
        (Request("*", host="good.example"), "bad_target"),
        (Request("good.example:443", host="good.example"), "bad_target"),
        (Request("", host="good.example"), "bad_target"),
        (Request("/a b", host="good.example"), "bad_target"),
        (Request("/a\r\nHost: evil", host="good.example"), "bad_target"),
        (Request("/\ud800", host="good.example"), "bad_target"),
        (Request("/a/../../b", host="good.example"), "bad_path"),
        (Request("/a%00b", host="good.example"), "bad_path"),
        (Request("/a%zz", host="good.example"), "bad_path"),
    ],
)
@pytest.mark.parametrize("kind", ["path", "location"])
def test_tricks_lead_nowhere(request_: Request, reason: str, kind: str) -> None:
    rules = {"path": Rule(path="*", to="a"), "location": Rule(location="/", to="a")}
    decision = Router([rules[kind]]).decide(request_)
    assert (decision.route, decision.reason, decision.status) == (None, reason, 400)


def test_bytes_that_are_no_utf8_are_only_bytes() -> None:
    router = Router([Rule(location="/ok/", to="a")])
    assert target(router, Request(b"/ok/\xff\xfe%80")) == "a"
    assert target(router, Request(b"/\xc0\xafok/")) is None


def test_an_absolute_target_counts_with_its_own_host() -> None:
    router = Router([Rule(host="a.example", to="a")])
    assert target(router, "http://A.example:80/x") == "a"
    assert target(router, Request("HTTPS://a.example?q", host="a.example")) == "a"


def test_asgi_scopes_are_requests() -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"v=2",
        "headers": [(b"host", b"a.example"), (b"x-tier", b"gold")],
    }
    rule = Rule(host="a.example", method="POST", headers={"x-tier": "gold"}, query={"v": "2"}, to="a")
    router = Router([rule], alb_limits=False)
    assert target(router, scope) == "a"
    assert target(router, {**scope, "method": "GET"}) is None
    with pytest.raises(ConfigError, match="lifespan"):
        router.route({"type": "lifespan"})
    with pytest.raises(ConfigError, match="request"):
        router.route(17)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"path": []}, "path: .*at least one value"),
        ({"path": 3}, "path: 3"),
        ({"path": "\ud800"}, "path: "),
        ({"path": "/a", "location": "/a"}, "location: '/a'"),
        ({"host": b"a"}, "host: b'a'"),
        ({"headers": ["a"]}, "headers"),
        ({"headers": {"a": 1}}, r"headers\['a'\]: 1"),
        ({"query": "a"}, "query: 'a'"),
        ({"query": [1]}, "query: 1"),
        ({"priority": 0}, "priority: 0"),
        ({"priority": "last"}, "priority: 'last'"),
        ({"priority": True}, "priority: True"),
        ({"to": {}}, "to: {}"),
        ({"to": {"a": -1}}, "weight -1"),
        ({"to": {"a": 0.5}}, "weight 0.5"),
        ({"to": ["a"]}, "to: 'a'"),
        ({"read_timeout": 0}, "read_timeout: 0"),
        ({"connect_timeout": float("nan")}, "connect_timeout: nan"),
        ({"streaming": 1}, "streaming: 1"),
    ],
)
def test_a_rule_refuses(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rule(**{"to": "a", **wrong})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"path": "/a", "priority": 1}, {"path": "/b", "priority": 1}], r"rules\[1\].priority: 1 .*rules\[0\]"),
        ([{"path": "/a", "priority": 50001}], r"rules\[0\].priority: 50001"),
        ([{"path": "/a", "priority": "default"}], r"rules\[0\].priority: \"default\""),
        ([{"priority": "default"}, {"priority": "default"}], "one default rule"),
        ([{"path": "/a", "to": {"a": 1000}}], r"rules\[0\].to.*999"),
        ([{"path": "/*/*/*/*/*/*"}], "6 wildcards"),
        ([{"path": "a" * 129}], "128 characters"),
        ([{"headers": {"Host": "a"}}], r"rules\[0\].headers: \"Host\""),
        ([{"method": "get"}], r"rules\[0\].method"),
        ([{"location": "/a"}, {"path": "/b"}], r"rules\[1\].location: None"),
        ([{"location": "/a", "method": "GET"}], r"rules\[0\].method"),
        ([{"location": "/a", "priority": 1}], r"rules\[0\].priority"),
        ([{"location": "/a"}, {"location": "^~ /a"}], r"rules\[1\].location.*rules\[0\]"),
        ([{"location": "~ (?=a)"}], "look-around"),
        ([{"location": "~ a++"}], "possessive"),
        ([{"location": "@name"}], "location"),
        ([{"location": "/", "host": "a:80"}], r"rules\[0\].host"),
    ],
)
def test_a_router_refuses_and_names_the_rule(rules: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Router([Rule(**{"to": "a", **rule}) for rule in rules])


def test_wrong_options_are_told() -> None:
    for options, message in (
        ({"ambiguous": "no"}, "ambiguous"),
        ({"seed": -1}, "seed"),
        ({"redirect": 1}, "redirect"),
        ({"alb_limits": None}, "alb_limits"),
    ):
        with pytest.raises(ConfigError, match=message):
            Router([], **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"rules\[0\]"):
        Router(["a"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="rule: 1"):
        Router([Rule(to="a")]).shares(1)
    for wrong in ({"target": 3}, {"target": "/", "headers": 3}, {"target": "/", "host": 3}):
        with pytest.raises(ConfigError):
            Request(**wrong)  # type: ignore[arg-type]


def test_copies_decide_alike() -> None:
    router = Router([Rule(path="/a//b", to={"a": 1, "b": 1})], ambiguous="sent", seed=5)
    copy = pickle.loads(pickle.dumps(router))
    assert (copy.rules, repr(copy)) == (router.rules, "<Router of 1 rules>")
    assert [target(copy, "/a//b") for _ in range(50)] == [target(router, "/a//b") for _ in range(50)]
    rule = router.rules[0]
    assert eval(repr(rule), {"Rule": Rule}) == rule
