"""Request traces: when each request came, and how many tokens it read and wrote.

- `read`, `read_azure_llm`, `read_mooncake` read public traces, `read_servegen` rates and laws of many clients.
- `read_csv` and `read_access_log` read your own logs.
- `poisson`, `renewal`, `mmpp` make traces up; `merge` mixes them, `scale` stretches them.
- `fit` says which laws of arrival and service a log follows, and how well.

A trace says how long texts are, not how long a server took: that is the scenario's linear model
(`[service] kind = "tokens"`).
"""

from __future__ import annotations

from ._fit import Fit, FittedLaw, Mmpp2, fit
from ._generate import ServeGen, merge, mmpp, poisson, read_servegen, renewal, scale
from ._logs import ENVOY_DEFAULT, NGINX_COMBINED, Log, read_access_log, read_csv
from ._trace import FORMATS, Trace, read, read_azure_llm, read_mooncake

__all__ = [  # noqa: RUF022
    "ENVOY_DEFAULT",
    "FORMATS",
    "Fit",
    "FittedLaw",
    "Log",
    "Mmpp2",
    "NGINX_COMBINED",
    "ServeGen",
    "Trace",
    "fit",
    "merge",
    "mmpp",
    "poisson",
    "read",
    "read_access_log",
    "read_azure_llm",
    "read_csv",
    "read_mooncake",
    "read_servegen",
    "renewal",
    "scale",
]
