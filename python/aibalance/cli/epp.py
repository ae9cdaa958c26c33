"""`aibalance epp`: an endpoint picker for Envoy, from a file."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..integrations._epp_file import EppFile

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "epp",
        help="pick endpoints for Envoy (ext_proc), and tell it of them (EDS)",
        description="An endpoint picker for Envoy and the Gateway API Inference Extension, from a TOML file.",
        epilog="Exit codes: 0 ended by a signal; 2 wrong usage or input. Needs aibalance[envoy].",
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG.toml", help="the configuration (docs/integrations/envoy.md)")
    parser.add_argument("--check", action="store_true", help="read the configuration, say what is wrong, and end")
    parser.add_argument("--bootstrap", action="store_true", help="print a configuration for Envoy, and end")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    from ..integrations._epp_file import load

    file = load(given.config)
    if given.bootstrap:
        print(json.dumps(file.bootstrap(), indent=2))
    elif given.check:
        print(f"{given.config}: good; {len(file.picker.pool)} endpoints")
    else:
        asyncio.run(_serve(file))
    return 0


async def _serve(file: EppFile) -> None:
    from ..integrations._metrics_page import EppCollector, metrics_page
    from ..integrations.prometheus import AibalanceCollector

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, ended.set)
    async with contextlib.AsyncExitStack() as stack:
        if file.checker is not None:
            await stack.enter_async_context(file.checker)
        shown = (AibalanceCollector(pickers={"epp": file.picker.picker}), EppCollector(file.picker, file.eds))
        page = stack.enter_context(metrics_page(file.metrics, shown))
        if page is not None:
            print(f"aibalance epp: metrics at port {page}", flush=True)
        port = await stack.enter_async_context(file.picker.serving(file.listen, eds=file.eds, grace=file.grace))
        print(f"aibalance epp: listening at port {port}", flush=True)
        await ended.wait()
