"""What was imported, planned or put together, written for a system; and what that system cannot express."""

from __future__ import annotations

from collections.abc import Callable

from .._errors import ConfigError
from ._fields import suggestion
from ._written import Exported
from .model import Imported, Remark

__all__ = ["TARGETS", "Exported", "export"]


def _nginx(found: Imported, plus: bool) -> tuple[str, list[Remark]]:
    from . import _to_nginx

    return _to_nginx.write(found, plus=plus)


def _haproxy(found: Imported, plus: bool) -> tuple[str, list[Remark]]:
    from . import _to_haproxy

    return _to_haproxy.write(found)


def _envoy(discovery: bool) -> Callable[[Imported, bool], tuple[str, list[Remark]]]:
    def write(found: Imported, plus: bool) -> tuple[str, list[Remark]]:
        from . import _to_envoy

        return _to_envoy.write(found, discovery=discovery)

    return write


def _kubernetes(to: str) -> Callable[[Imported, bool], tuple[str, list[Remark]]]:
    def write(found: Imported, plus: bool) -> tuple[str, list[Remark]]:
        from . import _to_kubernetes

        text, remarks = _to_kubernetes.write(found, to)
        return text, remarks + _others(found, to)

    return write


def _others(found: Imported, to: str) -> list[Remark]:
    names = [*(p.name for p in found.pools), *(r.name for r in found.routers), *(g.name for g in found.groups)]
    return [Remark(name, "", f"{to} holds policies only") for name in names]


def _aws(found: Imported, plus: bool) -> tuple[str, list[Remark]]:
    from . import _to_terraform

    return _to_terraform.write(found)


def _cloud(cloud: str) -> Callable[[Imported, bool], tuple[str, list[Remark]]]:
    def write(found: Imported, plus: bool) -> tuple[str, list[Remark]]:
        from . import _to_clouds

        return _to_clouds.write(found, cloud)

    return write


def _boto3(found: Imported, plus: bool) -> tuple[str, list[Remark]]:
    from . import _to_aws

    return _to_aws.write_calls(found)


def _cloudwatch(found: Imported, plus: bool) -> tuple[str, list[Remark]]:
    from . import _to_aws

    return _to_aws.write_alarms(found)


def _prometheus(found: Imported, plus: bool) -> tuple[str, list[Remark]]:
    from . import _to_prometheus

    return _to_prometheus.write(found)


_WRITERS: dict[str, Callable[[Imported, bool], tuple[str, list[Remark]]]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "envoy": _envoy(False),
    "envoy-eds": _envoy(True),
    "hpa": _kubernetes("hpa"),
    "keda": _kubernetes("keda"),
    "knative": _kubernetes("knative"),
    "ray-serve": _kubernetes("ray-serve"),
    "terraform-aws": _aws,
    "terraform-gcp": _cloud("gcp"),
    "terraform-azure": _cloud("azure"),
    "boto3": _boto3,
    "prometheus": _prometheus,
    "cloudwatch": _cloudwatch,
}

TARGETS = tuple(_WRITERS)
"""Names for `to`."""


def export(found: Imported, to: str, /, *, plus: bool = False) -> Exported:
    """Writes what is there for a system.

    `to`: one of TARGETS. `plus` (False): nginx's directives that only NGINX Plus has. What the system cannot express
    is in `omitted`; what it would have to express to mean the same at all raises ConfigError: a picker that it does not
    have, a rule that it cannot follow. What was refused at import raises as well.

    >>> from aibalance.formats import read_text
    >>> found = read_text("upstream api { least_conn; server a:80; server b:80 weight=2; }", "nginx.conf")
    >>> print(export(found, "haproxy").text)
    backend api
        mode http
        balance leastconn
        option allbackups
        server a:80 a:80 init-addr last,libc,none
        server b:80 b:80 weight 2 init-addr last,libc,none
    <BLANKLINE>
    """
    found.check()
    if to not in _WRITERS:
        raise ConfigError(f"to: {to!r} is not allowed; {suggestion(to, TARGETS)}")
    text, remarks = _WRITERS[to](found, plus)
    return Exported(text, tuple(remarks))
