"""DNS routing policies by Route 53's rules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .._core import DnsDraws
from .._errors import ConfigError
from ._rules import _seed


@dataclass(frozen=True)
class Place:
    """Where a client is, or which clients a record is for: codes such as "NA", "US" and "CA"; None is not known.

    A record's place is as wide as its last code: a continent, a country, or a subdivision of a country. Case is
    ignored.

    >>> Place(continent="NA", country="US", subdivision="CA")
    Place(continent='NA', country='US', subdivision='CA')
    """

    continent: str | None = None
    country: str | None = None
    subdivision: str | None = None

    def __post_init__(self) -> None:
        for name in ("continent", "country", "subdivision"):
            value = getattr(self, name)
            if value is None:
                continue
            if not (isinstance(value, str) and value.isascii() and value.isalnum() and len(value) <= 3):
                raise ConfigError(f"{name}: {value!r} is not allowed; up to three letters or digits, or None")
            object.__setattr__(self, name, value.upper())
        if self.subdivision is not None and self.country is None:
            raise ConfigError("country: None is not allowed; a country beside a subdivision")

    def _level(self, client: Place) -> int:
        """How closely a client fits this record: 4 for the subdivision, 3 country, 2 continent, 1 default, 0 not."""
        if self.subdivision is not None:
            return 4 if (self.country, self.subdivision) == (client.country, client.subdivision) else 0
        if self.country is not None:
            return 3 if self.country == client.country else 0
        if self.continent is not None:
            return 2 if self.continent == client.continent else 0
        return 1

    def _code(self) -> tuple[str | None, ...]:
        if self.country is not None:
            return (self.country, self.subdivision)
        return (self.continent,)


@dataclass(frozen=True)
class DnsRecord:
    """One record of a name: `value` is the answer, `id` what health is told by (default: the value).

    `weight` is 0 to 255 (weighted). `region` names a row of the latency table. `role` is "primary" or "secondary"
    (failover). `place` is who it is for (geolocation); None is the default record.

    >>> DnsRecord("192.0.2.1", weight=10).id
    '192.0.2.1'
    """

    value: str
    weight: int = 1
    region: str | None = None
    role: str | None = None
    place: Place | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        for name in ("value", "region", "id"):
            text = getattr(self, name)
            if not (isinstance(text, str) and text) and not (text is None and name != "value"):
                raise ConfigError(f"{name}: {text!r:.80} is not allowed; a str that is not empty")
        weight: Any = self.weight
        if not (isinstance(weight, int) and not isinstance(weight, bool) and 0 <= weight <= 255):
            raise ConfigError(f"weight: {self.weight!r} is not allowed; a whole number from 0 to 255")
        if self.role not in (None, "primary", "secondary"):
            raise ConfigError(f"role: {self.role!r} is not allowed; 'primary', 'secondary' or None")
        if self.place is not None and not isinstance(self.place, Place):
            raise ConfigError(f"place: {self.place!r:.80} is not allowed; a Place or None")
        if self.id is None:
            object.__setattr__(self, "id", self.value)


class DnsPolicy:
    """Which records a name server answers with: one of five policies, made by the method of its name.

    A record counts as healthy unless it is among the `unhealthy` of `answer`; when none is healthy, all count as
    healthy. `answer` gives the values of the chosen records: one, up to eight with multivalue, none where no record
    fits. Draws follow `seed`; None draws anew in each process.

    Raises ConfigError for records that the policy cannot use. Source: Amazon Route 53 developer guide, routing policies
    and how health checks choose records (2023).

    >>> records = [DnsRecord("192.0.2.1", role="primary"), DnsRecord("192.0.2.2", role="secondary")]
    >>> policy = DnsPolicy.failover(records)
    >>> policy.answer(), policy.answer(unhealthy={"192.0.2.1"})
    (('192.0.2.1',), ('192.0.2.2',))
    """

    __slots__ = ("_draws", "_kind", "_records", "_seed", "_table")

    def __init__(
        self,
        kind: str,
        records: Iterable[DnsRecord],
        /,
        *,
        table: Mapping[str, Mapping[str, float]] | None = None,
        seed: int | None = None,
    ) -> None:
        kinds = ("weighted", "latency", "failover", "geolocation", "multivalue")
        if kind not in kinds:
            raise ConfigError(f"kind: {kind!r:.80} is not allowed; one of {', '.join(kinds)}")
        self._kind = kind
        self._records = tuple(records)
        if not self._records:
            raise ConfigError("records: () is not allowed; at least one DnsRecord")
        seen: dict[str | None, int] = {}
        for i, record in enumerate(self._records):
            if not isinstance(record, DnsRecord):
                raise ConfigError(f"records[{i}]: {record!r:.80} is not allowed; a DnsRecord")
            if record.id in seen:
                raise ConfigError(f"records[{i}].id: {record.id!r} is not allowed; records[{seen[record.id]}] has it")
            seen[record.id] = i
        self._seed = seed
        self._draws = DnsDraws(_seed(seed))
        if (table is not None) != (kind == "latency"):
            raise ConfigError(f"table: {table!r:.80} is not allowed; a table for latency, and only there")
        self._table = {client: dict(row) for client, row in (table or {}).items()}
        self._check()

    def _check(self) -> None:
        if self._kind == "failover":
            roles = [record.role for record in self._records]
            if sorted(map(str, roles)) != ["primary", "secondary"]:
                raise ConfigError(f"records: roles {roles} are not allowed; one 'primary' and one 'secondary'")
            self._records = tuple(sorted(self._records, key=lambda r: str(r.role)))
        if self._kind == "geolocation":
            places: dict[tuple[str | None, ...], int] = {}
            for i, record in enumerate(self._records):
                code = (record.place or Place())._code()
                if code in places:
                    raise ConfigError(
                        f"records[{i}].place: {record.place!r} is not allowed; records[{places[code]}] has it"
                    )
                places[code] = i
        if self._kind == "latency":
            for i, record in enumerate(self._records):
                if record.region is None:
                    raise ConfigError(f"records[{i}].region: None is not allowed; a region of the table")
            for client, row in self._table.items():
                seconds: Any
                for region, seconds in row.items():
                    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
                    if not (number and math.isfinite(seconds) and seconds >= 0):
                        raise ConfigError(
                            f"table[{client!r}][{region!r}]: {seconds!r} is not allowed; finite seconds of 0 or more"
                        )

    @classmethod
    def weighted(cls, records: Iterable[DnsRecord], /, *, seed: int | None = None) -> DnsPolicy:
        """One record, in proportion to the weights.

        Weight 0 is only drawn when no healthy record has more; among records of weight 0 each is as likely.

        >>> policy = DnsPolicy.weighted([DnsRecord("192.0.2.1", weight=0), DnsRecord("192.0.2.2", weight=5)], seed=1)
        >>> policy.answer()
        ('192.0.2.2',)
        """
        return cls("weighted", records, seed=seed)

    @classmethod
    def latency(cls, records: Iterable[DnsRecord], /, *, table: Mapping[str, Mapping[str, float]]) -> DnsPolicy:
        """The healthy record whose region is nearest by a measured table: client's network to region to seconds.

        What was not measured is infinitely far; of equals the first in the list.

        >>> records = [DnsRecord("192.0.2.1", region="us-east-1"), DnsRecord("192.0.2.2", region="eu-west-1")]
        >>> policy = DnsPolicy.latency(records, table={"berlin": {"us-east-1": 0.09, "eu-west-1": 0.02}})
        >>> policy.answer(client="berlin")
        ('192.0.2.2',)
        """
        return cls("latency", records, table=table)

    @classmethod
    def failover(cls, records: Iterable[DnsRecord], /) -> DnsPolicy:
        """The primary while it is healthy, else the secondary while that is, else the primary."""
        return cls("failover", records)

    @classmethod
    def geolocation(cls, records: Iterable[DnsRecord], /) -> DnsPolicy:
        """The record for the narrowest place that the client is in and that is healthy; else the default; else none.

        >>> records = [DnsRecord("192.0.2.1"), DnsRecord("192.0.2.2", place=Place(country="DE"))]
        >>> policy = DnsPolicy.geolocation(records)
        >>> policy.answer(client=Place(continent="EU", country="DE")), policy.answer()
        (('192.0.2.2',), ('192.0.2.1',))
        """
        return cls("geolocation", records)

    @classmethod
    def multivalue(cls, records: Iterable[DnsRecord], /, *, seed: int | None = None) -> DnsPolicy:
        """Up to eight healthy records in random order.

        >>> policy = DnsPolicy.multivalue([DnsRecord(f"192.0.2.{i}") for i in range(12)], seed=1)
        >>> len(policy.answer())
        8
        """
        return cls("multivalue", records, seed=seed)

    @property
    def records(self) -> tuple[DnsRecord, ...]:
        """The records."""
        return self._records

    def answer(self, *, client: Place | str | None = None, unhealthy: Iterable[str] = ()) -> tuple[str, ...]:
        """The values to answer with.

        `client` is a Place with geolocation, a network of the table with latency, and None otherwise (or where it is
        not known). `unhealthy` are ids of records.
        """
        if isinstance(unhealthy, str):
            raise ConfigError(f"unhealthy: {unhealthy!r} is not allowed; ids, not one text")
        ill = set(unhealthy)
        if unknown := ill - {record.id for record in self._records}:
            raise ConfigError(f"unhealthy: {sorted(map(str, unknown))} is not allowed; ids of records of this policy")
        wanted: type = {"geolocation": Place, "latency": str}.get(self._kind, type(None))
        if client is not None and not isinstance(client, wanted):
            raise ConfigError(f"client: {client!r:.80} is not allowed; {wanted.__name__} or None")
        healthy = [record.id not in ill for record in self._records]
        return tuple(self._records[i].value for i in self._chosen(client, healthy))

    def _chosen(self, client: Any, healthy: list[bool]) -> list[int]:
        if self._kind == "multivalue":
            return self._draws.multivalue(healthy)
        if self._kind == "failover":
            return [DnsDraws.failover(healthy[0], healthy[1])]
        if self._kind == "weighted":
            one = self._draws.weighted([record.weight for record in self._records], healthy)
        elif self._kind == "latency":
            row = self._table.get(client, {})
            costs = [float(row.get(record.region or "", math.inf)) for record in self._records]
            one = DnsDraws.least(costs, healthy)
        else:
            seen = client or Place()
            one = DnsDraws.geolocation([(r.place or Place())._level(seen) for r in self._records], healthy)
        return [] if one is None else [one]

    def __repr__(self) -> str:
        return f"<DnsPolicy: {self._kind}, {len(self._records)} records>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _policy, (self._kind, self._records, self._table if self._kind == "latency" else None, self._seed)


def _policy(kind: str, records: tuple[DnsRecord, ...], table: Any, seed: int | None) -> DnsPolicy:
    return DnsPolicy(kind, records, table=table, seed=seed)
