"""What nginx and Envoy decided, asked again of aibalance through its public API.

The adapters translate a recorded configuration into endpoints and a picker and the answer into an index; they decide
nothing. Each recording can be replayed through three doors, which must agree: `pick`, `pick_many` and `acquire`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import aibalance

from .model import Result
from .recording import Record, UnreadableError, cases

Door = Literal["pick", "pick_many", "acquire"]
DOORS: tuple[Door, ...] = ("pick", "pick_many", "acquire")

NO_SERVER = "no server"

# Envoy's defaults where a recorded configuration leaves them out (config.cluster.v3.Cluster, 1.40).
ENVOY_MINIMUM_RING_SIZE = 1024
ENVOY_MAXIMUM_RING_SIZE = 8 * 1024 * 1024
ENVOY_TABLE_SIZE = 65537
ENVOY_HASHES = {"XX_HASH": "xxh64", "MURMUR_HASH_2": "murmur2"}


class Decider:
    """Asks one picker through one door and answers with indices into the recording's servers."""

    def __init__(self, picker: Any, door: Door) -> None:
        self.picker = picker
        self.door = door
        self.index = {e: i for i, e in enumerate(picker.pool.endpoints)}

    def _one(self, *key: Any) -> int | str:
        try:
            if self.door == "acquire":
                with self.picker.acquire(*key) as lease:
                    return self.index[lease.endpoint]
            return self.index[self.picker.pick(*key)]
        except aibalance.NoHealthyEndpointError:
            return NO_SERVER

    def sequence(self, n: int) -> list[int | str]:
        """The next `n` decisions without a key."""
        if self.door == "pick_many":
            try:
                return [int(i) for i in self.picker.pick_many(n).indices]
            except aibalance.NoHealthyEndpointError:
                return [NO_SERVER] * n
        return [self._one() for _ in range(n)]

    def keyed(self, keys: Sequence[Any]) -> list[int | str]:
        """One decision a key: `str`, or ready hashes."""
        if self.door == "pick_many":
            return [int(i) for i in self.picker.pick_many(list(keys)).indices]
        return [self._one(key) for key in keys]


def _decide(result: Result, where: str, expected: Sequence[Any], ask: Callable[[], Sequence[Any]]) -> None:
    """Compare what aibalance answers with the recording; a refusal differs in every pick of the case."""
    try:
        got = ask()
    except aibalance.AibalanceError as error:
        got = [f"{type(error).__name__}: {error}"] * len(expected)
    for i, (theirs, ours) in enumerate(zip(expected, got, strict=True)):
        result.check(f"{where}, pick {i}", theirs, ours)


def _endpoints(case: Record) -> list[aibalance.Endpoint]:
    addresses = case.items("endpoints", str)
    weights = case.items("weights", int, float) if case.has("weights") else [1] * len(addresses)
    names = case.items("hostnames", str) if case.has("hostnames") else addresses
    if not len(addresses) == len(weights) == len(names):
        raise UnreadableError(f"{case.where}: endpoints, weights and hostnames differ in length")
    return [
        # An address may be listed twice: the place in the list tells them apart.
        aibalance.Endpoint(address, id=f"{i} {address}", weight=weight, hash_key=name)
        for i, (address, weight, name) in enumerate(zip(addresses, weights, names, strict=True))
    ]


def _nginx_endpoints(case: Record, directive: str | None = None) -> list[aibalance.Endpoint] | None:
    """The servers of an upstream block, or None where a parameter or directive is not translated yet."""
    # A zone and kept connections change no choice; any other directive is another algorithm.
    directive = case.text("directive", "") if directive is None else directive
    if not re.fullmatch(r"((zone|keepalive) [^;]*;\s*)*", directive.strip()):
        return None
    endpoints = []
    for i, line in enumerate(case.items("servers", str)):
        address, *words = line.split() or [""]
        if not address:
            raise UnreadableError(f"{case.where}: servers[{i}]: expected an address, got {line!r}")
        options = dict(word.partition("=")[::2] for word in words)
        if options.keys() - {"weight", "down", "backup", "max_conns", "max_fails", "fail_timeout"}:
            return None
        weight, limit = options.get("weight", "1"), options.get("max_conns", "0")
        for name, value in (("weight", weight), ("max_conns", limit)):
            if not value.isdecimal():
                raise UnreadableError(f"{case.where}: servers[{i}]: {name}: expected a whole number, got {value!r}")
        endpoints.append(
            aibalance.Endpoint(
                address,
                id=f"{i} {address}",
                weight=0 if "down" in options else int(weight),  # `down` means no work at all
                backup="backup" in options,
                max_inflight=int(limit) or None,  # 0 means any number
            )
        )
    return endpoints


def nginx_wrr(document: dict[str, Any], door: Door = "pick") -> Result:
    """nginx's default balancing, smooth weighted round robin. A pick given as text means that there was no server."""
    result = Result()
    for case in cases(document):
        picks = case.items("picks", int, str)
        endpoints = _nginx_endpoints(case)
        if endpoints is None:
            result.unsupported += len(picks)
        else:
            expected = [NO_SERVER if isinstance(pick, str) else pick for pick in picks]
            _decide(result, case.where, expected, partial(_ask_smooth, endpoints, len(picks), door))
    return result


def _ask_smooth(endpoints: list[aibalance.Endpoint], n: int, door: Door) -> Sequence[Any]:
    return Decider(aibalance.RoundRobin(aibalance.Pool(endpoints), schedule="smooth"), door).sequence(n)


def _envoy_picker(case: Record) -> Any:
    """The picker that a case's lb_config describes."""
    pool = aibalance.Pool(_endpoints(case))
    picker: Any
    # Beside the policy's own configuration; whole percent, 0 or nothing for no bound.
    factor = case.integer("hash_balance_factor", 0) if case.has("hash_balance_factor") else 0
    bounded_load = factor / 100 if factor else None
    if "maglev_lb_config" in case:
        config = case.record("maglev_lb_config")
        picker = aibalance.Maglev(
            pool, table_size=config.integer("table_size", ENVOY_TABLE_SIZE), bounded_load=bounded_load
        )
    else:
        config = case.record("ring_hash_lb_config")
        function = config.text("hash_function", "XX_HASH")
        if function not in ENVOY_HASHES:
            raise UnreadableError(f"{case.where}: hash_function: {function!r} is not one of {', '.join(ENVOY_HASHES)}")
        picker = aibalance.RingHash(
            pool,
            ring="envoy",
            min_size=config.integer("minimum_ring_size", ENVOY_MINIMUM_RING_SIZE),
            max_size=config.integer("maximum_ring_size", ENVOY_MAXIMUM_RING_SIZE),
            hash=ENVOY_HASHES[function],
            bounded_load=bounded_load,
        )
    for i in case.items("unhealthy", int) if case.has("unhealthy") else []:
        if not 0 <= i < len(pool.endpoints):
            raise UnreadableError(f"{case.where}: unhealthy: {i} is the index of no endpoint")
        pool.set_health(pool.endpoints[i].id, "unhealthy")
    return picker


def envoy_keyed(document: dict[str, Any], door: Door = "pick") -> Result:
    """Envoy's RING_HASH and MAGLEV: the hash of one header."""
    result = Result()
    keys = Record("file", document).items("keys", str)
    for case in cases(document):
        expected = _picks(case, "picks", keys)
        _decide(result, case.where, expected, partial(_ask_keys, case, keys[: len(expected)], door))
    return result


def envoy_hash_policies(document: dict[str, Any], door: Door = "pick") -> Result:
    """Envoy with two hash policies, and with one header that is given twice: key i goes with key -1-i."""
    result = Result()
    keys = Record("file", document).items("keys", str)
    pairs = list(zip(keys, reversed(keys), strict=True))
    for case in cases(document):
        for name, values in (
            ("picks_two_policies", [(a, b) for a, b in pairs]),
            ("picks_header_twice", [([a, b],) for a, b in pairs]),
        ):
            expected = _picks(case, name, keys)
            ask = partial(_ask_policies, case, values[: len(expected)], door)
            _decide(result, f"{case.where}: {name}", expected, ask)
    return result


def _picks(case: Record, name: str, keys: Sequence[str]) -> list[int]:
    picks = case.items(name, int)
    if len(picks) > len(keys):
        raise UnreadableError(f"{case.where}: {name}: {len(picks)} picks for {len(keys)} keys")
    return picks


def _ask_keys(case: Record, keys: Sequence[str], door: Door) -> Sequence[Any]:
    return Decider(_envoy_picker(case), door).keyed(keys)


def _ask_policies(case: Record, values: Sequence[tuple[Any, ...]], door: Door) -> Sequence[Any]:
    return Decider(_envoy_picker(case), door).keyed([aibalance.envoy_hash(*v) for v in values])
