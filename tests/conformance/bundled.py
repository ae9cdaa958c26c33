"""The recordings that come with the source, and the first of their decisions for the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import kinds
from .model import Result
from .recording import load

VECTORS = Path(__file__).with_name("vectors")
PROXY_FILES = (
    "nginx-1.31.wrr.json.gz",
    "envoy-1.40.ring_hash.json.gz",
    "envoy-1.40.maglev.json.gz",
    "envoy-1.40.hash_policies.json.gz",
)


def replay_bundled(limit: int = 1000) -> Result:
    """Replay `limit` bundled decisions of real nginx and Envoy, as many of each recording, and print the outcome."""
    total = Result()
    for i, name in enumerate(PROXY_FILES):
        share = (limit - total.total) // (len(PROXY_FILES) - i)
        document = load(VECTORS / name)
        result = kinds.replay({**document, "cases": _first(document["cases"], share)})
        total.total += result.total
        total.matched += result.matched
        total.first_mismatch = total.first_mismatch or result.first_mismatch
        print(
            f"  {document['about']['system']} {document['about']['version'].split('/')[-1]}, {_title(document)}: ",
            end="",
        )
        print(f"{result.matched:,} of {result.total:,}")
    print(f"{total.matched:,} of {total.total:,} identical")
    return total


def _title(document: dict[str, Any]) -> str:
    return str(document["about"]["algorithm"]).split(" (")[0].split(" on a route")[0]


def _first(cases: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The cases, cut so that they hold `count` decisions between them, as evenly as their lengths allow."""
    out = [dict(case) for case in cases]
    lists = [(case, name) for case in out for name in case if name.startswith("picks")]
    lists.sort(key=lambda item: len(item[0][item[1]]))  # the short ones first: what they lack falls to the others
    for i, (case, name) in enumerate(lists):
        case[name] = case[name][: count // (len(lists) - i)]
        count -= len(case[name])
    return out
