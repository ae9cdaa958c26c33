"""What routing promises: patterns mean what a slow reader takes them for, and no target without a rule for it."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from aibalance import ManualClock, Pool, RoundRobin
from aibalance.routing import DnsPolicy, DnsRecord, Request, Router, Rule, Sticky, StickyCookie, StickyTable

patterns = st.text("ab/*?", min_size=1, max_size=8)
pieces = st.sampled_from(["/", "a", "b", ".", "..", "%2e", "%2F", "%61", "%25", "//", "%", "?", "c"])
paths = st.lists(pieces, max_size=8).map(lambda parts: "/" + "".join(parts))


@cache
def slowly(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return slowly(pattern[1:], text) or (bool(text) and slowly(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and slowly(pattern[1:], text[1:])


@given(pattern=patterns, path=st.text("abc/", max_size=10))
def test_patterns_mean_what_a_slow_reader_takes_them_for(pattern: str, path: str) -> None:
    router = Router([Rule(path=pattern, to="a")], ambiguous="sent", alb_limits=False)
    assert (router.route(Request("/" + path)) is not None) == slowly(pattern, "/" + path)


def normal(path: str) -> str | None:
    """nginx's reading, the long way: decode once, then go from segment to segment."""
    out, i = "", 0
    while i < len(path):
        if path[i] == "%":
            digits = path[i + 1 : i + 3]
            if len(digits) < 2 or any(d not in "0123456789abcdefABCDEF" for d in digits):
                return None
            out += chr(int(digits, 16))
            i += 3
        else:
            out += path[i]
            i += 1
    kept: list[str] = []
    segments = out.split("/")[1:]
    for n, segment in enumerate(segments):
        last = n == len(segments) - 1
        if segment == "..":
            if not kept:
                return None
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
            continue
        if last:
            kept.append("")
    return "/" + "/".join(kept)


@given(path=paths, prefixes=st.lists(st.sampled_from(["/", "/a", "/a/", "/a/b", "/b/", "/ab"]), unique=True))
def test_locations_are_found_by_the_normal_path(path: str, prefixes: list[str]) -> None:
    router = Router([Rule(location=prefix, to=prefix) for prefix in prefixes], redirect=False)
    decision = router.decide(Request(path))
    read = normal(path.split("?")[0])
    if read is None:
        assert decision.reason == "bad_path"
        return
    fitting = [prefix for prefix in prefixes if read.startswith(prefix)]
    assert (decision.route and decision.route.target) == (max(fitting, key=len) if fitting else None)


@given(
    path=paths,
    host=st.sampled_from(["a.x", "B.X:80", "a.x.", "", "a..x", "a.x/b", "*.x"]),
    rules=st.lists(st.tuples(patterns, st.sampled_from([None, "a.x", "*.x"])), max_size=5),
    absolute=st.sampled_from(["", "http://a.x", "http://b.x:80", "ftp://a.x"]),
)
def test_no_target_that_no_rule_allows(
    path: str, host: str, rules: list[tuple[str, str | None]], absolute: str
) -> None:
    router = Router([Rule(path=p, host=h, to=(p, h)) for p, h in rules], alb_limits=False)
    route = router.route(Request(absolute + path, host=host))
    if route is None:
        return
    pattern, wanted = route.target
    sent = path.split("?")[0]
    read = normal(sent)
    assert read is not None
    # By both readings of the path, and by the one host that the request names.
    assert slowly(pattern, sent)
    assert slowly(pattern, read)
    named = (absolute.removeprefix("http://") or host).lower().removesuffix(":80").removesuffix(".")
    assert wanted is None or slowly(wanted, named)
    assert not absolute or not host or named == host.lower().removesuffix(":80").removesuffix(".")


events = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "ask", "ask", "unhealthy", "healthy", "zero", "one", "drain", "undrain", "wait", "end"]
        ),
        st.integers(0, 3),
    ),
    max_size=40,
)


@given(script=events, table=st.booleans())
def test_sessions_never_go_where_they_may_not(script: list[tuple[str, int]], table: bool) -> None:
    clock = ManualClock(0.0)
    pool = Pool([f"e{i}" for i in range(4)], clock=clock, panic_threshold=0, seed=1)
    via = StickyTable(capacity=2, clock=clock) if table else StickyCookie(b"sixteen bytes!!!", pool="p")
    sticky = Sticky(RoundRobin(pool), via)
    sent: dict[int, str | None] = {i: f"u{i}" if table else None for i in range(4)}
    health, weight, until, held = dict.fromkeys(range(4), True), dict.fromkeys(range(4), 1), {}, []
    for what, i in script:
        name = f"e{i}"
        if what in ("unhealthy", "healthy"):
            health[i] = what == "healthy"
            pool.set_health(name, what)  # type: ignore[arg-type]
        elif what in ("zero", "one"):
            weight[i] = int(what == "one")
            pool.set_weight(name, weight[i])
        elif what == "drain":
            pool.drain(name, deadline=5)
            until[i] = clock.now() + 5
        elif what == "undrain":
            pool.undrain(name)
            until.pop(i, None)
        elif what == "wait":
            clock.advance(i)
        elif what == "end" and held:
            held.pop().lease.release()
        elif what == "ask":
            new = [n for n in range(4) if health[n] and weight[n] and n not in until]
            if not new:
                continue
            got = sticky.acquire(sent[i])
            at = int(got.endpoint.id[1:])
            assert health[at]
            assert at in new or (got.kept and clock.now() < until.get(at, float("inf")))
            sent[i] = got.token or sent[i]
            held.append(got)
        assert sum(s.inflight for s in pool.stats()) == len(held)
        assert not isinstance(via, StickyTable) or len(via) <= 2


@given(
    weights=st.lists(st.integers(0, 255), min_size=1, max_size=12),
    ill=st.sets(st.integers(0, 11)),
    seed=st.integers(0, 2**64 - 1),
)
def test_names_never_lead_to_the_ill_while_somebody_is_well(weights: list[int], ill: set[int], seed: int) -> None:
    records = [DnsRecord(f"r{i}", weight=w) for i, w in enumerate(weights)]
    unhealthy = {r.value for i, r in enumerate(records) if i in ill}
    well = {r.value: r.weight for r in records if r.value not in unhealthy}
    one = DnsPolicy.weighted(records, seed=seed).answer(unhealthy=unhealthy)
    many = DnsPolicy.multivalue(records, seed=seed).answer(unhealthy=unhealthy)
    assert len(one) == 1
    assert len(many) == len(set(many)) == min(8, len(well or records))
    if well:
        assert {*one, *many} <= set(well)
        assert well[one[0]] > 0 or not any(well.values())
