"""`aibalance proxy`: the reference proxy, from a file."""

from __future__ import annotations

import argparse
import ssl
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
    parser.add_argument("--ssl-keyfile-password", metavar="TEXT", help="the key's password")
    parser.add_argument("--ssl-ca-certs", metavar="FILE", help="authorities of clients' certificates")
    parser.add_argument(
        "--ssl-cert-reqs",
        choices=("none", "optional", "required"),
        default="none",
        help="whether clients need a certificate (none)",
    )
    parser.add_argument("--ssl-ciphers", metavar="LIST", default="TLSv1", help="in OpenSSL's words")
    parser.add_argument("--log-level", default="warning", choices=("critical", "error", "warning", "info", "debug"))
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    try:
        import httpx  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ConfigError(f"proxy: needs {error.name}; pip install aibalance[proxy]") from None
    from ..integrations._metrics_page import metrics_page
    from ..integrations._proxy_file import load
    from ..integrations._server import config
    from ..integrations.prometheus import AibalanceCollector

    file = load(given.config)
    if given.check:
        print(f"{given.config}: good; {len(file.proxy._router.rules)} rules, {len(file.proxy.fleets)} fleets")
        return 0
    server = uvicorn.Server(
        config(file, log_level=given.log_level, access_log=given.log_level in ("info", "debug"), **_tls(given))
    )
    try:
        server.config.load()
    except OSError as error:  # ssl's errors are among them
        names = ", ".join(file for file in (given.ssl_certfile, given.ssl_keyfile, given.ssl_ca_certs) if file)
        raise ConfigError(f"--ssl-certfile, --ssl-keyfile, --ssl-ca-certs: {names}: {error}") from None
    pickers = {name: fleet.picker for name, fleet in file.proxy.fleets.items()}
    with metrics_page(file.metrics, [AibalanceCollector(pickers=pickers)]):
        server.run()
    return 0 if server.started else 1


def _tls(given: argparse.Namespace) -> dict[str, Any]:
    """What uvicorn is told of TLS, under its own names."""
    if given.ssl_certfile is None:
        for name in ("ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs"):
            if getattr(given, name) is not None:
                raise ConfigError(f"--{name.replace('_', '-')}: is not allowed without --ssl-certfile")
        if given.ssl_cert_reqs != "none":
            raise ConfigError("--ssl-cert-reqs: is not allowed without --ssl-certfile")
        return {}
    if given.ssl_cert_reqs != "none" and given.ssl_ca_certs is None:
        raise ConfigError("--ssl-cert-reqs: is not allowed without --ssl-ca-certs")
    reqs = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
    return {
        "ssl_certfile": given.ssl_certfile,
        "ssl_keyfile": given.ssl_keyfile,
        "ssl_keyfile_password": given.ssl_keyfile_password,
        "ssl_ca_certs": given.ssl_ca_certs,
        "ssl_cert_reqs": reqs[given.ssl_cert_reqs],
        "ssl_ciphers": given.ssl_ciphers,
    }
