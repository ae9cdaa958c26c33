"""`aibalance compare --baseline`: the configuration that is there, as candidates, and the lines to change."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError
from ..report.model import Comparison
from . import options

if TYPE_CHECKING:
    from ..formats import Imported
    from ..simulation import Scenario

__all__ = ["candidates", "load", "verdict"]


def load(given: argparse.Namespace) -> Imported:
    """The files of --baseline, separated by commas. Raises FormatError for what is refused in them."""
    from .. import formats

    return formats.read(*(name for name in given.baseline.split(",") if name)).check()


def candidates(given: argparse.Namespace, found: Imported, scenario: Scenario) -> dict[str, Any]:
    """What compare is to take: the scenario's candidates, and those of the files."""
    from ..formats._scenario import specs
    from ..simulation import BalancerSpec, PolicySpec

    balancers, policies, notes = specs(found)
    if not (balancers or policies):
        raise ConfigError("--baseline: no pool and no policy of these files can be simulated")
    for line in notes:
        options.note(given, f"baseline: {line}")
    by = [*scenario.balancers, *(BalancerSpec(**one) for one in balancers)]
    scaling = [*scenario.policies, *(PolicySpec(**one) for one in policies)]
    out: dict[str, Any] = {"pickers": by or [BalancerSpec(picker="LeastRequest")]}
    if scaling:
        out["policies"] = scaling
    return out


def verdict(found: Imported, comparison: Comparison) -> str:
    """Where the baseline stands, and which of its lines the first of the ranking has otherwise."""
    from ..formats._scenario import specs
    from ..formats._simulated import parts

    pools = {f"{one.name} as it is": one for one in found.pools}
    by_name = {one.name: one for one in found.policies}
    policies = {one["name"]: [by_name[name] for name in parts(one)] for one in specs(found)[1]}
    of_pools = {one.picker for one in comparison.candidates} & pools.keys()
    of_policies = {one.policy for one in comparison.candidates} & policies.keys()
    mine = [
        one
        for one in comparison.candidates
        if (not of_pools or one.picker in of_pools) and (not of_policies or one.policy in of_policies)
    ]
    best, first = min(mine, key=lambda one: one.place), comparison.candidates[0]
    lines = [f"Baseline: {best.name}, place {best.place} of {len(comparison.candidates)}"]
    if best is first or first.name in best.tied_with:
        return lines[0] + "; nothing here is better, so no line has to change"
    if first.picker != best.picker and best.picker in pools:
        pool = pools[best.picker]
        lines.append(f"  {pool.where}: {pool.name}: {pool.picker.name}; {first.picker} is first")
    if first.policy != best.policy and best.policy in policies:
        for policy in policies[best.policy]:
            lines.append(f"  {policy.where}: {policy.name}: {type(policy.policy).__name__}; {first.policy} is first")
    return "\n".join(lines)
