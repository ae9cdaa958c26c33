"""Foreign configuration: its words stop here. One module a system; `read` knows which one a file is of.

>>> found = read_text("upstream api { server a:80 weight=3; server b:80; keepalive 8; }", "nginx.conf")
>>> found.pool("api").build().pick().address
'a:80'
>>> print(found.ignored[0])
nginx.conf:1: keepalive: connections that are kept open are the caller's
"""

from __future__ import annotations

from ._read import read, read_text
from ._scenario import scenario
from ._written import Exported
from .exports import export
from .model import (
    GroupConfig,
    HealthCheckConfig,
    Imported,
    PickerConfig,
    PolicyConfig,
    PoolConfig,
    Remark,
    RouterConfig,
    ServerConfig,
    StickinessConfig,
)

__all__ = [
    "Exported",
    "GroupConfig",
    "HealthCheckConfig",
    "Imported",
    "PickerConfig",
    "PolicyConfig",
    "PoolConfig",
    "Remark",
    "RouterConfig",
    "ServerConfig",
    "StickinessConfig",
    "export",
    "read",
    "read_text",
    "scenario",
]
