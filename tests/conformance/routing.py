"""Replays the cloud cases that the router decides: listener rules of an Application Load Balancer."""

from __future__ import annotations

from typing import Any

from aibalance.routing import Request, Router, Rule

from . import cloud

Case = dict[str, Any]

# Shares are recorded as floats of a division; one rounding may be between theirs and ours.
SHARE = 1e-6


class Shares(list[float]):
    """Shares that equal others within one rounding."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list) or len(other) != len(self):
            return False
        return all(abs(a - b) <= SHARE for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def _router(rules: list[Rule]) -> Router:
    # By what was sent alone, as the recorded balancer decides.
    return Router(rules, ambiguous="sent", seed=0)


def alb_path_match(i: Case) -> Case:
    if i["case_sensitive"] is not True:
        raise cloud.UnsupportedCase("paths are case-sensitive")
    return {"match": _router([Rule(path=i["pattern"], to="a")]).route(Request(i["path"])) is not None}


def alb_host_match(i: Case) -> Case:
    if i["case_sensitive"] is not False:
        raise cloud.UnsupportedCase("hosts are not case-sensitive")
    return {"match": _router([Rule(host=i["pattern"], to="a")]).route(Request("/", host=i["host"])) is not None}


def alb_rule_priority(i: Case) -> Case:
    rules = [
        Rule(priority=r["priority"], path=r.get("pattern"), host=r.get("host"), to=r["priority"]) for r in i["rules"]
    ]
    route = _router(rules).route(Request(i["path"], host=i.get("host")))
    return {"matched_priority": None if route is None else route.target}


def alb_weighted_target_groups(i: Case) -> Case:
    rule = Rule(path="*", to=[(f"group-{n}", weight) for n, weight in enumerate(i["weights"])])
    return {"share": Shares(_router([rule]).shares(0))}


ADAPTERS: dict[str, cloud.Adapter] = {
    f.__name__: f for f in (alb_path_match, alb_host_match, alb_rule_priority, alb_weighted_target_groups)
}
