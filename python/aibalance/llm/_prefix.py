"""`PrefixAware`, its index, and the parts of its score."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from .._core import PrefixAware, PrefixIndex, PrefixMatch
from .._explain import Explanation
from .._explain import _explain as _explain_any
from .._picker import Names

__all__ = ["PrefixAware", "PrefixExplanation", "PrefixIndex", "PrefixMatch", "Tier"]

Tier: TypeAlias = Literal["gpu", "host", "disk"]
"""Where an endpoint keeps a block: in the memory of the accelerator, in that of the host, or on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixExplanation(Explanation):
    """What `PrefixAware` makes of one candidate: an `Explanation`, and the parts of its score.

    The parts are None for a candidate that is not compared (drained, unhealthy, full...).

    >>> picker = PrefixAware(["a", "b"], score="dynamo", seed=1)
    >>> lease = picker.acquire(list(range(64)), subset=["a"])
    >>> lease.first_token()
    >>> best, other = picker.explain(list(range(64)))
    >>> best.endpoint.id, best.cached.blocks, best.decode_blocks, best.cost, other.cost
    ('a', 4, 4.0, 4.0, 8.0)

    With the default score, what the cost is made of:

    >>> own = PrefixAware(["a", "b"], seed=1)
    >>> lease = own.acquire(list(range(64)), subset=["a"])
    >>> {name: round(value) for name, value in own.explain(list(range(64)))[0].terms}
    {'waiting': 0, 'own': 64, 'others': 32, 'memory': 0, 'crowd': 0}
    """

    cost: float | None
    """The score, the less the better; in the units of the score."""
    cached: PrefixMatch
    """What it has of the prompt."""
    uncached_tokens: float | None
    """Tokens of the prompt that it would have to prefill."""
    requests: float | None
    """Requests in flight, by its report and by what was sent since."""
    prefill_tokens: float | None
    """Tokens that wait for their first answer, likewise."""
    decode_blocks: float | None
    """Blocks in use, likewise; a block that several requests share counts once."""
    stale: bool
    """Whether its last report is too old."""
    spared: bool
    """Whether it is left out unless all are: it has its bound of requests, or its report is too old."""
    terms: tuple[tuple[str, float], ...] = ()
    """Of the score "ttft", in tokens by strength, adding up to the cost: "waiting" ahead, its "own" to compute, the
    same again for the "others" that it delays, "memory", and the "crowd" in flight. Empty for other scores."""

    def __str__(self) -> str:
        text = Explanation.__str__(self)
        if self.cost is None:
            return text
        return (
            f"{text}, cost {self.cost:.4g}: {self.cached.blocks} blocks cached, {self.uncached_tokens:g} tokens to"
            f" prefill beside {self.prefill_tokens:g}, {self.decode_blocks:g} blocks in use"
            + (", stale" if self.stale else "")
            + (", spared" if self.spared else "")
            + (f" ({', '.join(f'{name} {value:.4g}' for name, value in self.terms)})" if self.terms else "")
        )


def _explain(
    picker: Any,
    prompt: Any = None,
    *,
    exclude: Names | None = (),
    subset: Names | None = None,
    now: float | None = None,
) -> list[PrefixExplanation]:
    parts = {one[0]: one[1:] for one in picker._parts(prompt, now)}
    out = []
    for one in _explain_any(picker, prompt, exclude=exclude, subset=subset, now=now):
        values: dict[str, Any] = {field.name: getattr(one, field.name) for field in fields(Explanation)}
        cost, held, fresh, requests, prefill, decode, stale, spared, terms = parts.get(one.endpoint.id) or (
            (None, (0, 0, 0, 0), None, None, None, None, False, False, ())
        )
        gpu, host, disk, active = held
        out.append(
            PrefixExplanation(
                **values,
                cost=cost,
                cached=PrefixMatch(gpu=gpu, host=host, disk=disk, active=active),
                uncached_tokens=fresh,
                requests=requests,
                prefill_tokens=prefill,
                decode_blocks=decode,
                stale=stale,
                spared=spared,
                terms=tuple(terms),
            )
        )
    return out
