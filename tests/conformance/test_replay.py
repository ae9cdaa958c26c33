"""The bundled recordings of real systems, replayed through each public door, and the harness itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import aibalance
from tests.conformance import kinds, proxies, sched, theory
from tests.conformance.__main__ import main
from tests.conformance.bundled import VECTORS, replay_bundled
from tests.conformance.recording import UnreadableError, load

# Adapter and number of recorded decisions of each bundled file.
BUNDLED = {
    "nginx-1.22.wrr.json.gz": (proxies.nginx_wrr, 5813),
    "nginx-1.31.wrr.json.gz": (proxies.nginx_wrr, 5813),
    "envoy-1.40.ring_hash.json.gz": (proxies.envoy_keyed, 14 * 2059),
    "envoy-1.40.maglev.json.gz": (proxies.envoy_keyed, 12 * 2059),
    "envoy-1.40.hash_policies.json.gz": (proxies.envoy_hash_policies, 2 * 2 * 600),
    "envoy-1.40.round_robin.json.gz": (sched.envoy_round_robin, 28_128),
    "haproxy-2.6.roundrobin.json.gz": (sched.haproxy, 6145),
    "haproxy-2.8.roundrobin.json.gz": (sched.haproxy, 6145),
    "haproxy-2.6.static-rr.json.gz": (sched.haproxy, 5588),
    "haproxy-2.8.static-rr.json.gz": (sched.haproxy, 5588),
    "haproxy-2.6.maxconn.json.gz": (sched.haproxy, 172),
    "haproxy-2.8.maxconn.json.gz": (sched.haproxy, 172),
    "traefik-3.7.wrr.json.gz": (sched.traefik_wrr, 7284),
    "caddy-2.11.sequences.json.gz": (sched.caddy_sequences, 5128),
    "wrr_sequences.json.gz": (theory.wrr_sequences, 1714),
}

# Scripts of open requests: only `try_acquire` fits them.
SCRIPTS = {
    "nginx-1.22.least_conn.json.gz": 1030,
    "nginx-1.31.least_conn.json.gz": 1030,
    "envoy-1.40.least_request_weighted.json.gz": 458,
    "haproxy-2.6.leastconn.json.gz": 794,
    "haproxy-2.8.leastconn.json.gz": 794,
    "haproxy-2.6.first.json.gz": 87,
    "haproxy-2.8.first.json.gz": 87,
}


class Spy:
    """A picker that counts the decisions which its real picker is asked for."""

    made = 0

    def __init__(self, picker: Any) -> None:
        self.picker = picker
        self.pool = picker.pool

    def pick(self, *key: Any) -> Any:
        Spy.made += 1
        return self.picker.pick(*key)

    def acquire(self, *key: Any) -> Any:
        Spy.made += 1
        return self.picker.acquire(*key)

    def try_acquire(self, *key: Any) -> Any:
        Spy.made += 1
        return self.picker.try_acquire(*key)

    def pick_many(self, n_or_keys: Any) -> Any:
        Spy.made += n_or_keys if isinstance(n_or_keys, int) else len(n_or_keys)
        return self.picker.pick_many(n_or_keys)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    Spy.made = 0
    for name in ("RoundRobin", "LeastConnections", "LeastRequest", "First", "RingHash", "Maglev"):
        real = getattr(aibalance, name)
        monkeypatch.setattr(aibalance, name, lambda *a, real=real, **k: Spy(real(*a, **k)))
    return Spy


@pytest.mark.parametrize("door", proxies.DOORS)
@pytest.mark.parametrize("name", BUNDLED)
def test_aibalance_decides_every_record_as_the_system_did(name: str, door: proxies.Door, spied: type[Spy]) -> None:
    adapter, count = BUNDLED[name]
    result = adapter(load(VECTORS / name), door)
    assert (result.matched, result.first_mismatch) == (count, None)
    assert result.total == count
    assert spied.made == result.total


@pytest.mark.parametrize("name", BUNDLED)
def test_kinds_are_told_by_content_and_replayed_through_pick(name: str, spied: type[Spy], tmp_path: Path) -> None:
    plain = tmp_path / "anything"
    plain.write_bytes(gzip.decompress((VECTORS / name).read_bytes()))
    result = kinds.replay(load(plain))
    assert result.matched == result.total == spied.made == BUNDLED[name][1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_of_open_requests(name: str, spied: type[Spy]) -> None:
    result = kinds.replay(load(VECTORS / name))
    assert (result.matched, result.unsupported, result.first_mismatch) == (SCRIPTS[name], 0, None)
    assert result.total == spied.made == result.matched


def test_what_chance_decides_is_compared_within_a_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = VECTORS / "envoy-1.40.least_request.json.gz"
    assert main([str(name)]) == 0
    assert capsys.readouterr().out == f"{name}: matched 258 of 258 (5 seeds, 4 standard errors)\n"
    document = load(name)
    # Turned around, the busier one is taken: neither rule would.
    for case in document["cases"]:
        case["ops"] = [1 - op if isinstance(op, int) and len(case["endpoints"]) == 2 else op for op in case["ops"]]
        case["ops"] = [0 if isinstance(op, int) and len(case["endpoints"]) > 2 else op for op in case["ops"]]
    result = kinds.replay(document)
    assert result.matched < result.total == 258


def test_the_demonstration_replays_exactly_as_many_as_it_says(
    spied: type[Spy], capsys: pytest.CaptureFixture[str]
) -> None:
    result = replay_bundled(1000)
    assert result.total == result.matched == spied.made == 1000
    assert capsys.readouterr().out.endswith("1,000 of 1,000 identical\n")


def nginx(picks: list[Any], servers: list[str], directive: str = "") -> dict[str, Any]:
    return {
        "about": {"system": "nginx", "version": "nginx/1.31.3", "algorithm": "weighted round robin (default)"},
        "cases": [{"kind": "made up", "directive": directive, "servers": servers, "picks": picks}],
    }


def written(tmp_path: Path, document: Any, name: str = "recording") -> str:
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def test_exit_code_0_when_everything_matches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, nginx([0, 0, 1, 0, 2, 0, 0], ["a weight=5", "b", "c"], "zone z 64k; keepalive 16;"))
    assert main([file]) == 0
    assert capsys.readouterr().out == f"{file}: matched 7 of 7\n"


def test_exit_code_1_and_the_first_mismatch_when_a_decision_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, nginx([0, 1, 1, 0, 0, 0, 0], ["a weight=5", "b", "c"]))
    assert main([file]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{file}: matched 5 of 7"
    assert second == f"{file}: case 0 (made up), pick 1: expected 1, got 0"


def test_a_down_server_gets_nothing_and_no_server_is_an_answer(tmp_path: Path) -> None:
    assert main([written(tmp_path, nginx([1, 1, 1], ["a weight=9 down", "b"]))]) == 0
    assert main([written(tmp_path, nginx(["502:none", "502:none"], ["a down", "b down"]))]) == 0
    assert main([written(tmp_path, nginx(["502:none"], ["a", "b"]))]) == 1


@pytest.mark.parametrize(("servers", "directive"), [(["a resolve", "b"], ""), (["a", "b"], "least_conn;")])
def test_what_is_not_translated_is_counted_and_never_matched(
    servers: list[str], directive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, nginx([0, 1], servers, directive))
    assert main([file]) == 1
    assert capsys.readouterr().out == f"{file}: matched 0 of 0, 2 not yet supported\n"


HAPROXY = {
    "about": {"system": "haproxy", "version": "2.8.25", "algorithm": "balance url_param"},
    "cases": [{"servers": ["s0", "s1"], "weights": [1, 1], "ops": [0, 1, ["end", 0], 0]}],
}


def test_recordings_of_algorithms_that_wait_are_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theory_file = written(
        tmp_path, {"meta": {"what": "M/M/1"}, "cases": [{"id": "a", "ref": {}}, {"id": "b", "ref": {}}]}, "theory"
    )
    haproxy = written(tmp_path, HAPROXY, "haproxy")
    assert main([theory_file, haproxy]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{theory_file}: matched 0 of 0, 2 not yet supported",
        f"{haproxy}: matched 0 of 0, 3 not yet supported",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (" \n", "the file is empty"),
        ("hello", "line 1: not JSON"),
        ('{"s": "1k"}\n{"s": \n', "line 2: not JSON"),
        ("[]", "not a recording"),
        ("3", "not a recording"),
        ('[{"color": "red"}]', "not a recording"),
        ('{"about": {"system": "iis", "algorithm": "x"}, "cases": [{}]}', "about: system: 'iis' is not one of"),
        ('{"about": {"system": "nginx", "algorithm": "ip_hash"}, "cases": []}', "cases: expected a list"),
        (
            '{"about": {"system": "nginx", "algorithm": "weighted round robin (default)"}, "cases": [{"picks": [0]}]}',
            "servers",
        ),
        (json.dumps(nginx([0], ["a weight=x"])), "weight: expected a whole number, got 'x'"),
        (json.dumps(nginx([0.5], ["a"])), "picks[0]: expected int or str"),
        (json.dumps(nginx([0], [""])), "servers[0]: expected an address"),
    ],
)
def test_exit_code_2_when_a_file_cannot_be_read(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = written(tmp_path, content, "bad")
    good = written(tmp_path, nginx([0, 0], ["a"]), "good")
    assert main([bad, good]) == 2
    out = capsys.readouterr()
    assert out.err.startswith(f"{bad}: cannot be read: ")
    assert said in out.err
    assert out.err.count("\n") == 1
    assert out.out == f"{good}: matched 2 of 2\n", "the other files are replayed all the same"


def test_a_missing_or_broken_file_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = tmp_path / "torn.gz"
    torn.write_bytes((VECTORS / "nginx-1.31.wrr.json.gz").read_bytes()[:200])
    assert main([str(tmp_path / "none"), str(torn)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'none'}: cannot be read: No such file or directory",
        f"{torn}: cannot be read: not a whole gzip file: "
        "Compressed file ended before the end-of-stream marker was reached",
    ]


def test_records_of_a_recording_say_what_they_lack() -> None:
    document = load(VECTORS / "envoy-1.40.ring_hash.json.gz")
    document["cases"][0]["ring_hash_lb_config"] = {"hash_function": "MD5"}
    with pytest.raises(UnreadableError, match=r"case 0 \(3 equal\): hash_function: 'MD5' is not one of XX_HASH"):
        kinds.replay(document)
