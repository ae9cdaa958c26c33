"""What writers share: the result, weights as whole numbers, and names."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from .._errors import ConfigError
from .model import PickerConfig, PoolConfig, Remark, ServerConfig


@dataclass(frozen=True)
class Exported:
    """A configuration as text, and what it leaves out or says otherwise, each with the reason.

    `where` of a remark is the pool, group or policy that was written.

    >>> Exported("upstream a {}", (Remark("a", "health", "checks are NGINX Plus's"),)).omitted[0].field
    'health'
    """

    text: str
    omitted: tuple[Remark, ...] = ()


@dataclass
class Omitted:
    """Collects what is left out of one thing."""

    name: str
    remarks: list[Remark] = field(default_factory=list)

    def say(self, field: str, reason: str) -> None:
        remark = Remark(self.name, field, reason)
        if remark not in self.remarks:
            self.remarks.append(remark)


def whole_weights(servers: Sequence[ServerConfig], most: int, omitted: Omitted) -> list[int]:
    """Weights as whole numbers up to `most`, in the same proportion as far as that goes."""
    weights = [Fraction(one.weight) if math.isfinite(one.weight) else Fraction(1) for one in servers]
    if all(w.denominator == 1 and w <= most for w in weights):
        return [int(w) for w in weights]
    scale = math.lcm(*(w.limit_denominator(1000).denominator for w in weights))
    if max(weights) * scale > most:
        found = [0 if w == 0 else max(1, round(w * most / max(weights))) for w in weights]
    else:
        found = [round(w * scale) for w in weights]
    omitted.say("weight", f"whole numbers up to {most} only: {[float(w) for w in weights]} became {found}")
    return found


def name_for(text: str, taken: set[str], allowed: str = r"[^\w.-]") -> str:
    """A name that a system takes, and that is not taken."""
    base = re.sub(allowed, "_", text, flags=re.ASCII) or "x"
    name, n = base, 1
    while name in taken:
        n += 1
        name = f"{base}_{n}"
    taken.add(name)
    return name


def cannot(system: str, picker: PickerConfig, pool: PoolConfig) -> ConfigError:
    return ConfigError(f"{pool.name}: {system} has nothing like {picker.name}; another picker is needed")


def host_and_port(server: ServerConfig, pool: PoolConfig) -> tuple[str, int]:
    """The parts of an address. Raises ConfigError."""
    host, _, port = server.address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535 or "/" in host:
        if pool.port is not None and "/" not in server.address:
            return server.address.strip("[]"), pool.port
        raise ConfigError(f"{pool.name}: {server.address!r} is not allowed here; host:port")
    return host.strip("[]"), int(port)


def is_ip(host: str) -> bool:
    """Whether a host is an address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
