"""Sources of endpoints: DNS from a server on loopback, EndpointSlices, files; and what becomes of them in a pool."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aibalance import ConfigError, Endpoint, FormatError, Pool, RoundRobin
from aibalance.integrations.discovery import Discovery, DnsSource, FileSource, Found, from_endpoint_slices


@asynccontextmanager
async def nameserver(zone: dict[tuple[str, str], list[str]], ttl: int = 60) -> AsyncIterator[int]:
    """A DNS server that knows `zone`: (name, type) to records. A name that is in no entry does not exist."""
    import dns.flags
    import dns.message
    import dns.rcode
    import dns.rdatatype
    import dns.rrset

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, peer: Any) -> None:
            query = dns.message.from_wire(data)
            (question,) = query.question
            answer = dns.message.make_response(query)
            answer.flags |= dns.flags.AA | dns.flags.RA
            name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
            if (name, kind) in zone:
                answer.answer.append(dns.rrset.from_text(question.name, ttl, "IN", kind, *zone[name, kind]))
            elif not any(known == name for known, _ in zone):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            self.transport.sendto(answer.to_wire(), peer)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def asked(zone: dict[tuple[str, str], list[str]], *args: Any, **options: Any) -> Found:
    pytest.importorskip("dns.asyncresolver", reason="dnspython is not installed")

    async def main() -> Found:
        async with nameserver(zone) as port:
            return await DnsSource(*args, nameservers=["127.0.0.1"], nameserver_port=port, timeout=10, **options)()

    return asyncio.run(main())


def test_addresses_of_a_name() -> None:
    found = asked({("gpu.test.", "A"): ["10.0.0.9", "10.0.0.2"]}, "gpu.test.", 8000)
    assert [e.id for e in found.endpoints] == ["10.0.0.2:8000", "10.0.0.9:8000"]
    assert found.ttl == 60
    found = asked({("gpu.test.", "AAAA"): ["2001:db8::1"]}, "gpu.test.", 80, record="AAAA")
    assert [e.address for e in found.endpoints] == ["[2001:db8::1]:80"]
    assert asked({("gpu.test.", "TXT"): ["x"]}, "gpu.test.", 80).endpoints == ()


def test_a_name_that_is_not_there_is_an_error() -> None:
    resolver = pytest.importorskip("dns.resolver", reason="dnspython is not installed")
    with pytest.raises(resolver.NXDOMAIN):
        asked({}, "gpu.test.", 80)


def test_services() -> None:
    zone = {
        ("_llm._tcp.test.", "SRV"): ["10 3 8000 a.test.", "10 0 8000 b.test.", "20 1 9000 c.test.", "20 1 1 v6.test."],
        ("a.test.", "A"): ["10.0.0.1"],
        ("b.test.", "A"): ["10.0.0.2"],
        ("c.test.", "A"): ["10.0.0.3", "10.0.0.4"],
        ("v6.test.", "AAAA"): ["2001:db8::1"],
    }
    found = asked(zone, "_llm._tcp.test.", record="SRV")
    told = {e.id: (e.address, e.weight, e.priority) for e in found.endpoints}
    assert told == {
        "a.test:8000": ("10.0.0.1:8000", 3, 0),
        "b.test:8000": ("10.0.0.2:8000", 0.01, 0),
        "10.0.0.3:9000": ("10.0.0.3:9000", 1, 1),
        "10.0.0.4:9000": ("10.0.0.4:9000", 1, 1),
        "v6.test:1": ("[2001:db8::1]:1", 1, 1),
    }
    zone = {("s.test.", "SRV"): ["0 0 80 a.test."], ("a.test.", "A"): ["10.0.0.1"]}
    assert [e.weight for e in asked(zone, "s.test.", record="SRV").endpoints] == [1]
    assert asked({("s.test.", "SRV"): ["0 0 0 ."]}, "s.test.", record="SRV").endpoints == ()


@pytest.mark.parametrize(
    ("args", "options", "said"),
    [
        (("", 80), {}, "name: ''"),
        (("a",), {}, "port: None"),
        (("a", 80), {"record": "SRV"}, "port: 80"),
        (("a", 70000), {}, "port: 70000"),
        (("a", 80), {"record": "MX"}, "record: 'MX'"),
        (("a", 80), {"timeout": 0}, "timeout: 0"),
    ],
)
def test_questions_that_cannot_be(args: Any, options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DnsSource(*args, **options)


def slice_of(*endpoints: Any, ports: Any = ({"name": "http", "port": 8000},), kind: str = "IPv4") -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "addressType": kind,
        "ports": list(ports),
        "endpoints": [{"addresses": [address], **rest} for address, rest in endpoints],
    }


def test_endpoint_slices() -> None:
    pod = {"targetRef": {"kind": "Pod", "name": "llm-0"}, "nodeName": "n1", "zone": "eu-1a"}
    leaving = {"conditions": {"ready": False, "serving": True, "terminating": True}}
    found = from_endpoint_slices(
        [
            slice_of(
                ("10.1.0.1", {"conditions": {"ready": True}, **pod}),
                ("10.1.0.2", {"conditions": {"ready": False, "serving": False, "terminating": False}}),
                ("10.1.0.3", leaving),
                ("10.1.0.4", {"conditions": {"ready": False, "serving": False, "terminating": True}}),
                ("10.1.0.5", {}),
            ),
            slice_of(("10.1.0.5", {"conditions": {}})),
            slice_of(ports=()),
            {"addressType": "IPv4", "endpoints": None, "ports": None},
        ]
    )
    assert [e.address for e in found.endpoints] == ["10.1.0.1:8000", "10.1.0.3:8000", "10.1.0.5:8000"]
    first = found.endpoints[0]
    assert (first.id, first.zone, first.tags) == ("llm-0", "eu-1a", {"node": "n1", "pod": "llm-0"})
    assert found.draining == {"10.1.0.3:8000"}
    v6 = from_endpoint_slices([slice_of(("2001:db8::1", {}), kind="IPv6")])
    assert v6.endpoints[0].address == "[2001:db8::1]:8000"


def test_ports_of_endpoint_slices() -> None:
    two = [slice_of(("10.1.0.1", {}), ports=({"name": "http", "port": 8000}, {"name": "metrics", "port": 9000}))]
    assert from_endpoint_slices(two, port="metrics").endpoints[0].id == "10.1.0.1:9000"
    assert from_endpoint_slices(two, port=8000).endpoints[0].id == "10.1.0.1:8000"
    for port in (None, "grpc"):
        with pytest.raises(FormatError, match=r"slices\[0\].ports"):
            from_endpoint_slices(two, port=port)


@pytest.mark.parametrize(
    ("piece", "said"),
    [
        (7, r"slices\[0\]: 7"),
        (slice_of(("not-an-ip", {})), "'not-an-ip' is not allowed; an IP"),
        ({"ports": [{"port": 1}], "endpoints": [{"addresses": []}]}, r"slices\[0\].endpoints\[0\]"),
        ({"ports": [{"port": 1}], "endpoints": [3]}, r"endpoints\[0\]: 3"),
        (slice_of(("10.0.0.1", {}), ports=({"name": "x", "port": None},)), "ports"),
    ],
)
def test_slices_that_cannot_be(piece: Any, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        from_endpoint_slices([piece])


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    item = {"address": "b:80", "id": "b", "weight": 3, "zone": "z", "draining": True}
    path.write_text(json.dumps(["a:80", item, {"targets": ["c:80", "d:80"], "labels": {"env": "x"}}]))
    found = FileSource(path)()
    assert [e.id for e in found.endpoints] == ["a:80", "b", "c:80", "d:80"]
    assert (found.endpoints[1].weight, found.endpoints[1].zone, found.draining) == (3, "z", {"b"})
    assert found.endpoints[3].tags == {"env": "x"}
    path.write_text('{"endpoints": ["a:80"]}')
    assert [e.id for e in FileSource(str(path))().endpoints] == ["a:80"]


def test_yaml_files(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints:\n- a:80\n- {address: b:80, weight: 2}\n")
    assert [(e.id, e.weight) for e in FileSource(path)().endpoints] == [("a:80", 1), ("b:80", 2)]
    path.write_text("endpoints:\n- a:80\n- {address: b:80\n")
    with pytest.raises(FormatError, match=r"endpoints.yaml:\d: no YAML"):
        FileSource(path)()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["a:80",\n', "endpoints.json:2: no JSON"),
        ("3", "a list of endpoints"),
        ("{}", "a list of endpoints"),
        ('[{"address": "a", "weight": -1}]', r"endpoints\[0\].*weight"),
        ('[{"address": "a", "wait": 1}]', r"endpoints\[0\].*wait"),
        ('[{"weight": 1}]', r"endpoints\[0\].*address"),
        ("[3]", r"endpoints\[0\]: 3"),
        ('["a", "b", "a"]', "'a' is there twice"),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "endpoints.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=said):
        FileSource(path)()


def ids(pool: Pool) -> list[str]:
    return [one.id for one in pool.endpoints]


def test_a_pool_follows_and_keeps_what_it_knows() -> None:
    answers: list[Any] = [["a", "b"], ["a", "b"], ["a", Endpoint("b", weight=5)], ["b", "c"]]
    pool = Pool(["x"])
    found = Discovery(pool, lambda: answers.pop(0))
    picker = RoundRobin(pool)

    async def main() -> None:
        assert await found.once()
        picker.acquire(subset=["b"]).release()
        assert not await found.once(), "nothing new"
        assert await found.once()
        assert [e.weight for e in pool.endpoints] == [1, 5]
        assert await found.once()

    asyncio.run(main())
    assert ids(pool) == ["b", "c"]
    assert {r.id: r.picks for r in pool.stats()} == {"b": 1, "c": 0}


def test_draining_comes_and_goes_but_yours_stays() -> None:
    def answer(*draining: str) -> Found:
        return Found((Endpoint("a"), Endpoint("b"), Endpoint("c")), frozenset(draining))

    answers = [answer("a"), answer("a", "b"), answer(), answer("b"), answer()]
    pool = Pool(["a", "b", "c"])
    pool.drain("b")
    seen = []

    async def main() -> None:
        found = Discovery(pool, lambda: answers.pop(0))
        while answers:
            await found.once()
            seen.append({r.id for r in pool.stats() if r.draining})

    asyncio.run(main())
    assert seen == [{"a", "b"}, {"a", "b"}, {"b"}, {"b"}, {"b"}]


def test_what_fails_or_is_empty_leaves_the_pool_as_it_was() -> None:
    pool = Pool(["x"])

    async def broken() -> list[str]:
        raise OSError("no route")

    async def main() -> None:
        for source, error in ((broken, OSError), (list, ConfigError), (lambda: ["a", "a"], ConfigError)):
            found = Discovery(pool, source)
            with pytest.raises(error):
                await found.once()
            assert isinstance(found.error, error)
            assert ids(pool) == ["x"]
        for nonsense in (3, "abc"):
            with pytest.raises(ConfigError, match="source: "):
                await Discovery(pool, lambda nonsense=nonsense: nonsense).once()  # type: ignore[misc]
        await Discovery(pool, list, allow_empty=True).once()
        assert ids(pool) == []

    asyncio.run(main())


def test_a_watched_file_in_the_background(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    path.write_text('["a:80"]')
    pool = Pool(["x"])
    errors: list[Exception] = []

    async def until(condition: Any) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    async def main() -> None:
        async with Discovery(pool, FileSource(path), interval=0.01, on_error=errors.append) as found:
            assert ids(pool) == ["a:80"]
            path.write_text('["a:')
            await until(lambda: errors)
            assert ids(pool) == ["a:80"]
            other = tmp_path / "next.json"
            other.write_text('["a:80", "b:80"]')
            os.replace(other, path)
            await until(lambda: len(pool) == 2)
            await until(lambda: found.error is None)
            path.unlink()
            await until(lambda: isinstance(found.error, OSError))
            assert ids(pool) == ["a:80", "b:80"]

    asyncio.run(main())
    assert isinstance(errors[0], FormatError)


def test_the_first_reading_may_raise() -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="nothing"):
            async with Discovery(Pool(["x"]), FileSource("nothing.json")):
                raise AssertionError

    asyncio.run(main())


def test_how_long_an_answer_is_good_for() -> None:
    pauses = []
    for ttl in (None, 0.5, 30.0, 9000.0):

        def source(ttl: float | None = ttl) -> Found:
            return Found((Endpoint("a"),), ttl=ttl)

        found = Discovery(Pool(["a"]), source)
        asyncio.run(found.once())
        pauses.append(found._pause())
    assert pauses == [5.0, 5.0, 30.0, 300.0]
    for options in ({"interval": 0}, {"interval": "x"}):
        with pytest.raises(ConfigError, match="interval"):
            Discovery(Pool(["a"]), list, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pool"):
        Discovery(["a"], list)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="source"):
        Discovery(Pool(["a"]), ["a"])  # type: ignore[arg-type]


def test_a_pool_behind_dns() -> None:
    pytest.importorskip("dns.asyncresolver", reason="dnspython is not installed")
    zone = {("gpu.test.", "A"): ["10.0.0.1"]}
    pool = Pool(["x"])

    async def main() -> None:
        async with nameserver(zone) as port:
            source = DnsSource("gpu.test.", 80, nameservers=["127.0.0.1"], nameserver_port=port, timeout=10)
            found = Discovery(pool, source)
            await found.once()
            assert ids(pool) == ["10.0.0.1:80"]
            zone["gpu.test.", "A"].append("10.0.0.2")
            assert await found.once()
            assert ids(pool) == ["10.0.0.1:80", "10.0.0.2:80"]
            zone.clear()
            with pytest.raises(Exception, match="does not exist"):
                await found.once()
            assert len(pool) == 2

    asyncio.run(main())
