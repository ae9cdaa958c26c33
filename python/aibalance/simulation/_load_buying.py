"""The tables of a scenario file that say how a fleet is bought: [[groups]], [[failovers]], [plan]."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from functools import partial
from typing import Any

from .._errors import ConfigError
from . import _checks as check
from ._buying import GROUP_OPTIONS, FailoverSpec, GroupSpec
from ._group import SpotEpisode, TimedRefresh
from ._plan_terms import SpotTerms, WarmPoolTerms

_PARTS = ("offers", "mixed", "warm_pool", "episodes", "refreshes")
_PLAIN = ("name", "look_s", "interruptions_per_hour", "notice_s")
GROUP = (*_PLAIN, *GROUP_OPTIONS, *_PARTS)
FAILOVER = tuple(one.name for one in fields(FailoverSpec))
PLAN = {"spot": SpotTerms, "warm_pool": WarmPoolTerms}


__all__ = ["FAILOVER", "GROUP", "PLAN", "FailoverSpec", "failover", "group", "keys", "needed", "parts", "plan"]


def parts() -> dict[str, type[Any]]:
    """The classes of the tables within a group."""
    from ..capacity import InstanceRefresh, MixedInstancesPolicy, Offer, WarmPool

    return {
        "offers": Offer,
        "mixed": MixedInstancesPolicy,
        "warm_pool": WarmPool,
        "episodes": SpotEpisode,
        "refreshes": InstanceRefresh,
    }


def keys(name: str) -> tuple[str, ...]:
    """The keys of a table within a group."""
    own = tuple(one.name for one in fields(parts()[name]))
    if name == "refreshes":
        return ("at_s", "template", *(key for key in own if key != "warmup"))
    return own


def needed(of: type[Any]) -> tuple[str, ...]:
    """The keys without a default."""
    return tuple(one.name for one in fields(of) if one.default is MISSING and one.default_factory is MISSING)


def _by_keys(of: type[Any], given: dict[str, Any]) -> Any:
    return of(**given)


def _made(where: str, table: Any, known: Collection[str], need: Collection[str], make: Callable[[Any], Any]) -> Any:
    """What `make` gives for a table; what it says about a field is about `where.field`."""
    if not isinstance(table, Mapping):
        raise check.wrong(where, table, f"a table [{where}]")
    for key in table:
        if key not in known:
            hint = check.hint(key, known)
            raise ConfigError(f"{where}.{key}: unknown key; allowed: {', '.join(known)}{hint}")
    for key in need:
        if key not in table:
            raise ConfigError(f"{where}.{key}: missing")
    try:
        return make(dict(table))
    except ConfigError as error:
        # Some classes say "episode.start_s", others "start_s".
        said = str(error)
        for own in ("episode.", "refresh.", "spot.", "warm_pool."):
            said = said.removeprefix(own)
        raise ConfigError(f"{where}.{said}") from error


def _several(where: str, name: str, tables: Any, need: Collection[str], make: Callable[[Any], Any]) -> list[Any]:
    if not isinstance(tables, list):
        raise check.wrong(where, tables, f"tables [[{where}]]")
    return [_made(f"{where}[{i}]", one, keys(name), need, make) for i, one in enumerate(tables)]


def group(table: dict[str, Any]) -> GroupSpec:
    """A table of [[groups]]; errors are about `groups.field`."""
    of = parts()

    def refresh(given: dict[str, Any]) -> TimedRefresh:
        timed = {key: given.pop(key) for key in ("at_s", "template") if key in given}
        return TimedRefresh(refresh=of["refreshes"](**given), **timed)

    if "offers" not in table:
        raise ConfigError("groups.offers: missing; at least one [[groups.offers]]")
    several: dict[str, Any] = {
        "offers": (needed(of["offers"]), partial(_by_keys, of["offers"])),
        "episodes": (needed(SpotEpisode), partial(_by_keys, SpotEpisode)),
        "refreshes": (("at_s",), refresh),
    }
    found: dict[str, Any] = {
        name: _several(f"groups.{name}", name, table[name], need, make)
        for name, (need, make) in several.items()
        if name in table
    }
    for name in ("mixed", "warm_pool"):
        if name in table:
            found[name] = _made(f"groups.{name}", table[name], keys(name), (), partial(_by_keys, of[name]))
    plain = {key: table[key] for key in _PLAIN if key in table}
    return GroupSpec(**plain, **found, options={key: table[key] for key in GROUP_OPTIONS if key in table})


def failover(table: dict[str, Any]) -> FailoverSpec:
    """A table of [[failovers]]; errors are about `failovers.field`."""
    for key in needed(FailoverSpec):
        if key not in table:
            raise ConfigError(f"failovers.{key}: missing")
    return FailoverSpec(**table)


def plan(table: dict[str, Any]) -> dict[str, Any]:
    """[plan]: what `aibalance plan` assumes."""
    for key in table:
        if key not in PLAN:
            raise ConfigError(f"plan.{key}: unknown key; allowed: {', '.join(PLAN)}{check.hint(key, PLAN)}")
    return {
        name: _made(f"plan.{name}", given, [one.name for one in fields(PLAN[name])], (), partial(_by_keys, PLAN[name]))
        for name, given in table.items()
    }
