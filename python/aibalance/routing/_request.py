"""A request as a router reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .._errors import ConfigError

Text = str | bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A request: target, method, host and headers as they were sent.

    `target` is the request target, `/path?query` or `http://host/path?query`, neither decoded nor made normal. `host`
    is the Host header (HTTP/2's `:authority`) where it is not among `headers`, which are a mapping or pairs of name and
    value. Texts are `str` or `bytes`. What was sent is not judged here: a router refuses what it cannot read.

    Raises ConfigError for a value of another type.

    >>> Request("/predict?model=a", host="api.example.com", headers={"x-tier": "gold"})
    Request(target='/predict?model=a', method='GET', host='api.example.com', headers=(('x-tier', 'gold'),))
    """

    target: Text
    method: Text = "GET"
    host: Text | None = None
    headers: Mapping[str, str] | Iterable[tuple[Text, Text]] = ()

    def __post_init__(self) -> None:
        for name in ("target", "method"):
            _text(name, getattr(self, name))
        if self.host is not None:
            _text("host", self.host)
        given = self.headers.items() if isinstance(self.headers, Mapping) else self.headers
        try:
            pairs = tuple((name, value) for name, value in given)
        except (TypeError, ValueError):
            raise ConfigError(f"headers: {self.headers!r:.80} is not allowed; a mapping, or pairs") from None
        for pair in pairs:
            for part in pair:
                _text("headers", part)
        object.__setattr__(self, "headers", pairs)

    @classmethod
    def from_asgi(cls, scope: Mapping[str, Any]) -> Request:
        """The request of an ASGI scope of type "http" or "websocket".

        The path is `raw_path`, as it was sent; a server that gives none has decoded it, and it is encoded again.

        >>> Request.from_asgi({"type": "http", "method": "GET", "path": "/a b", "headers": [(b"host", b"x")]}).target
        b'/a%20b'
        """
        kind = scope.get("type")
        if kind not in ("http", "websocket"):
            raise ConfigError(f"type: {kind!r} is not allowed; an ASGI scope of type 'http' or 'websocket'")
        raw = scope.get("raw_path")
        path = raw if raw is not None else quote(str(scope.get("path", "/")), safe="/:@!$&'()*+,;=~").encode()
        query = scope.get("query_string", b"")
        target = path + b"?" + query if query else path
        return cls(target, scope.get("method", "GET"), None, tuple(scope.get("headers", ())))


def _text(name: str, value: object) -> None:
    if not isinstance(value, str | bytes):
        raise ConfigError(f"{name}: {value!r:.80} is not allowed; str or bytes")
