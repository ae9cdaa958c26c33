"""The bundled recordings of the hashes, through each public door."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

import aibalance
from tests.conformance import hashing, kinds, proxies
from tests.conformance.bundled import VECTORS
from tests.conformance.model import Result
from tests.conformance.recording import load
from tests.conformance.test_replay import Spy

# Adapter and number of recorded decisions of each bundled file.
KEYED: dict[str, tuple[Callable[[Any, proxies.Door], Result], int]] = {
    "nginx-1.22.hash": (hashing.nginx_hash, 5898),
    "nginx-1.31.hash": (hashing.nginx_hash, 5898),
    "nginx-1.22.hash_consistent": (hashing.nginx_hash_consistent, 5898),
    "nginx-1.31.hash_consistent": (hashing.nginx_hash_consistent, 5898),
    "nginx-1.22.ip_hash": (hashing.nginx_ip_hash, 2340),
    "nginx-1.31.ip_hash": (hashing.nginx_ip_hash, 2340),
    "haproxy-2.6.hash": (hashing.haproxy_hash, 31060),
    "haproxy-2.8.hash": (hashing.haproxy_hash, 31060),
    "haproxy-2.6.source": (hashing.haproxy_source, 2000),
    "haproxy-2.8.source": (hashing.haproxy_source, 2000),
    "caddy-2.11.hash": (hashing.caddy_hash, 5118),
    "traefik-3.7.hrw": (hashing.traefik_hrw, 1500),
}
BUCKETS = 705 + 11 * 40  # and Memento's timeline
SCRIPTS = {"haproxy-2.6.bounded_load": 357, "haproxy-2.8.bounded_load": 357, "envoy-1.40.bounded_load": 919}


def read(name: str) -> Any:
    return load(VECTORS / f"{name}.json.gz")


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    Spy.made = 0
    for name in (
        "RingHash",
        "Maglev",
        "ModuloHash",
        "IpHash",
        "SourceHash",
        "Rendezvous",
        "JumpHash",
        "JumpBackHash",
        "MementoHash",
    ):
        real = getattr(aibalance, name)
        monkeypatch.setattr(aibalance, name, lambda *a, real=real, **k: Spy(real(*a, **k)))
    return Spy


@pytest.mark.parametrize("door", proxies.DOORS)
@pytest.mark.parametrize("name", KEYED)
def test_aibalance_decides_every_key_as_the_system_did(name: str, door: proxies.Door, spied: type[Spy]) -> None:
    adapter, count = KEYED[name]
    result = adapter(read(name), door)
    assert (result.matched, result.first_mismatch) == (count, None)
    assert result.total == spied.made == count
    assert result.unsupported == 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_aibalance_bounds_loads_as_the_system_did(name: str, spied: type[Spy]) -> None:
    result = kinds.replay(read(name))
    assert (result.matched, result.first_mismatch) == (SCRIPTS[name], None)
    assert result.total == spied.made == SCRIPTS[name]
    assert result.unsupported == 0


@pytest.mark.parametrize("door", proxies.DOORS)
def test_published_buckets(door: proxies.Door, spied: type[Spy]) -> None:
    document = load(VECTORS / "hash_vectors.json.gz")
    document["cases"] = [case for case in document["cases"] if "moved_on_remove" not in case["ref"]]
    result = hashing.hash_vectors(document, door)
    assert result.first_mismatch is None
    assert result.matched == result.total == spied.made == BUCKETS
    assert result.unsupported == 0


@pytest.mark.parametrize("name", KEYED)
def test_kinds_are_told_by_content(name: str) -> None:
    assert kinds.replay(read(name)).matched == KEYED[name][1]


@pytest.mark.parametrize("name", [*KEYED, *SCRIPTS])
def test_a_wrong_record_is_a_mismatch(name: str) -> None:
    document = copy.deepcopy(read(name))
    case = document["cases"][0]
    if "picks" in case:
        case["picks"][3] += 1
    else:
        next(op for op in case["ops"] if op[0] != "end")[1] += 1
    result = kinds.replay(document)
    assert result.matched == result.total - 1
    assert result.first_mismatch is not None


HAPROXY = {"system": "haproxy", "version": "2.8.25", "algorithm": "hash-type map-based / consistent"}


@pytest.mark.parametrize(
    ("lines", "server"),
    [
        (["balance rdp-cookie"], "s0 a weight 1"),
        (["balance hdr(x-key)", "hash-type consistent md5"], "s0 a weight 1"),
        (["balance hdr(x-key)", "hash-type consistent", "hash-preserve-affinity always"], "s0 a weight 1"),
        (["balance hdr(x-key)", "hash-type consistent"], "s0 a weight 1 maxconn 3"),
        (["balance hash req.hdr(x-key),crc32", "hash-type consistent"], "s0 a"),
    ],
)
def test_what_is_not_translated_is_counted_and_never_matched(lines: list[str], server: str) -> None:
    case = {"lines": lines, "servers": [server], "picks": [0, 0]}
    result = kinds.replay({"about": HAPROXY, "keys": ["a", "b"], "cases": [case]})
    assert (result.matched, result.total, result.unsupported) == (0, 0, 2)
