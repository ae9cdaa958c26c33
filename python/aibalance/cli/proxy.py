"""`aibalance proxy`: the reference proxy, from a file."""

from __future__ import annotations

import argparse
from typing import Any

from .._errors import ConfigError

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "proxy",
        help="send HTTP requests to fleets, by rules",
        description="A streaming reverse proxy from a TOML file: rules, fleets, health, sessions, limits.",
        epilog="Exit codes: 0 ended by a signal; 2 wrong usage or input. Needs aibalance[proxy].",
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG.toml", help="the configuration (docs/integrations/proxy.md)")
    parser.add_argument("--check", action="store_true", help="read the configuration, say what is wrong, and end")
    parser.add_argument("--ssl-certfile", metavar="FILE", help="serve TLS with this certificate")
    parser.add_argument("--ssl-keyfile", metavar="FILE", help="and this key")
    parser.add_argument("--log-level", default="warning", choices=("critical", "error", "warning", "info", "debug"))
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    try:
        import httpx  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ConfigError(f"proxy: needs {error.name}; pip install aibalance[proxy]") from None
    from ..integrations._proxy_file import load
    from ..integrations._server import config

    file = load(given.config)
    if given.check:
        print(f"{given.config}: good; {len(file.proxy._router.rules)} rules, {len(file.proxy.fleets)} fleets")
        return 0
    server = uvicorn.Server(
        config(
            file,
            log_level=given.log_level,
            access_log=given.log_level in ("info", "debug"),
            ssl_certfile=given.ssl_certfile,
            ssl_keyfile=given.ssl_keyfile,
        )
    )
    server.run()
    return 0 if server.started else 1
