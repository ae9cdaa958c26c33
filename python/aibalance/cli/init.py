"""`aibalance init`: a commented scenario from a few questions, from flags, or from a log."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._errors import ConfigError
from . import options
from .plan import save

__all__ = ["add", "run", "scenario_text"]

_FORMATS = ("csv", "nginx", "envoy")
_BUSY = 0.65
"""How busy the servers of an ordinary day should be: what the scenario's policy keeps, too."""


@dataclass(frozen=True)
class _Question:
    """A flag that is asked for when nobody gave it."""

    flag: str
    asks: str
    default: Any
    low: float
    high: float
    whole: bool = False
    grows: bool = False
    """Whether the default is only the least: busy traffic needs more."""

    @property
    def name(self) -> str:
        return self.flag.replace("-", "_")

    def read(self, text: str) -> Any:
        try:
            value: float = int(text) if self.whole else float(text)
        except ValueError:
            value = float("nan")
        if not self.low <= value <= self.high:
            kind = "a whole number" if self.whole else "a number"
            low = "above 0" if 0 < self.low < 1e-3 else f"from {self.low:g}"
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: {kind} {low} to {self.high:,.15g}")
        return value

    def suggested(self, found: dict[str, Any], fitted: _Fitted | None) -> Any:
        """The default, or as many servers as the answers so far (and the log) need."""
        if not self.grows:
            return self.default
        work = (found["work_low"] + found["work_high"]) / 2 if "work_low" in found else 0.0
        rate = found.get("rps", 0.0)
        if fitted is not None:
            rate, work = fitted.rps, fitted.work_s or work
        calm = rate * work / found["concurrency"]
        if self.name == "min":
            return min(max(self.default, math.ceil(calm / _BUSY)), int(self.high))
        return min(max(self.default, found["min"], math.ceil(2 * calm * found.get("spike", 1.0))), int(self.high))

    def against(self, value: Any, found: dict[str, Any]) -> None:
        """Refuses what contradicts an earlier answer."""
        if self.name == "max" and value < max(found["min"], 1):
            raise ConfigError(f"--max: {value} is not allowed; expected at least --min, {found['min']}")
        if self.name == "work_high" and value <= found["work_low"]:
            raise ConfigError(f"--work-high: {value:g} is not allowed; expected more than --work-low")


_TRAFFIC = (
    _Question("rps", "requests a second on an ordinary day", 2.0, 1e-6, 1e7),
    _Question("spike", "how many times that in a spike (1: no spike)", 10.0, 1, 1e5),
)
_WORK = (
    _Question("work-low", "the shortest request takes, in seconds", 0.5, 0, 1e6),
    _Question("work-high", "the longest request takes, in seconds", 2.0, 1e-6, 1e6),
)
_FLEET = (
    _Question("slo", "an answer is late after, in seconds", 10.0, 1e-6, 1e6),
    _Question("price", "a server costs, USD an hour", 0.526, 0, 1e6),
    _Question("concurrency", "requests that a server serves at once", 1, 1, 1_000_000, True),
    _Question("cold-start", "from launch to ready, in seconds", 90.0, 0, 1e6),
    _Question("min", "servers at least", 2, 0, 100_000, True, True),
    _Question("max", "servers at most", 50, 1, 100_000, True, True),
)
_QUESTIONS = (*_TRAFFIC, *_WORK, *_FLEET)


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "init",
        help="write a commented scenario, by a few questions or from a log",
        description="Write a commented scenario file. On a terminal, asks for what no option says; elsewhere takes the "
        "defaults. From a log, the laws of arrivals and of service are fitted.",
        epilog="Exit codes: 0 written; 2 wrong usage or input.",
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE.toml", nargs="?", help="what to write (scenario.toml)")
    parser.add_argument("--name", metavar="TEXT", help="as reports show it (the file's name)")
    for one in _QUESTIONS:
        parser.add_argument(
            f"--{one.flag}",
            metavar="N",
            type=one.read,
            help=f"{one.asks.replace('%', '%%')} ({one.default:g}{', or what the traffic needs' if one.grows else ''})",
        )
    parser.add_argument("--trace", metavar="LOG", help="fit arrivals and service to this log")
    parser.add_argument(
        "--trace-format", metavar="FORMAT", choices=_FORMATS, help=f"{', '.join(_FORMATS)}; a trace when left out"
    )
    parser.add_argument("--time", metavar="COLUMN", help="csv: when a request came")
    parser.add_argument("--duration", metavar="COLUMN", help="csv: how long it took; nginx, envoy: the variable")
    parser.add_argument("--log-format", metavar="FORMAT", help="nginx, envoy: the format of a line")
    parser.add_argument("--yes", action="store_true", help="ask nothing: the defaults for what no option says")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--schema", action="store_true", help="write the JSON schema of scenarios instead (stdout)")
    parser.add_argument("--quiet", action="store_true", help="no notes on stderr")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Ask, write, and say what is next."""
    if given.schema:
        return _schema(given)
    path = given.file or "scenario.toml"
    if os.path.exists(path) and not given.force:
        raise ConfigError(f"{path}: is there already; allowed: another name, or --force")
    for name in ("time", "duration", "log_format", "trace_format"):
        if getattr(given, name) is not None and given.trace is None:
            raise ConfigError(f"--{name.replace('_', '-')}: needs --trace")
    fitted = None if given.trace is None else _fitted(given)
    asks: tuple[_Question, ...] = _FLEET if fitted is not None else _QUESTIONS
    if fitted is not None:
        for one in (*_TRAFFIC, *_WORK):
            if getattr(given, one.name) is not None and not (one in _WORK and not fitted.has_service):
                raise ConfigError(f"--{one.flag}: has no meaning with --trace, which says it")
        if not fitted.has_service:
            asks = (*_WORK, *_FLEET)
    try:
        ask = None if given.yes or not sys.stdin.isatty() else input
        answers = _answers(given, asks, ask, fitted)
    except KeyboardInterrupt:
        # The prompt's line is not over.
        options.note(given, "\ninterrupted; nothing was written")
        raise
    name = given.name or os.path.basename(path).removesuffix(".toml")
    save(path, scenario_text(name, answers, fitted, file=path))
    _check(path, given)
    return 0


def _schema(given: argparse.Namespace) -> int:
    from ..simulation._schema import schema

    text = json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
    if given.file is None:
        print(text, end="")
    else:
        save(given.file, text)
        options.note(given, f"schema: {given.file}; the first line of a scenario names it: #:schema {given.file}")
    return 0


def _check(path: str, given: argparse.Namespace) -> None:
    from ..simulation import Scenario

    found = Scenario.load(path)
    options.note(
        given,
        f"{path}: {found.traffic.describe()}; {found.service.describe()}\n"
        f'next: aibalance compare {path}, or aibalance plan {path} --slo "p95 < {found.slo_s:g}s"',
    )


def _answers(
    given: argparse.Namespace,
    asks: tuple[_Question, ...],
    ask: Callable[[str], str] | None,
    fitted: _Fitted | None = None,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if ask is not None and any(getattr(given, one.name) is None for one in asks):
        options.note(given, "Enter takes what stands in brackets; Ctrl-C ends, and nothing is written.")
    for one in asks:
        value = getattr(given, one.name)
        default = one.suggested(found, fitted)
        while value is None and ask is not None:
            try:
                said = ask(f"{one.asks} [{default:g}]: ").strip()
            except EOFError:
                raise ConfigError(f"--{one.flag}: no answer; allowed: an answer, the option, or --yes") from None
            try:
                value = one.read(said) if said else default
                one.against(value, found)
            except (argparse.ArgumentTypeError, ConfigError) as error:
                print(error, file=sys.stderr)
                value = None
        found[one.name] = default if value is None else value
        one.against(found[one.name], found)
    return found


@dataclass(frozen=True)
class _Fitted:
    """What a log says: lines for `[traffic]` and `[service]`."""

    source: str
    span_s: float
    traffic: tuple[str, ...]
    service: tuple[str, ...]
    table: str
    rps: float
    work_s: float
    """The mean of its durations; 0 without any."""

    @property
    def has_service(self) -> bool:
        return bool(self.service)


def _fitted(given: argparse.Namespace) -> _Fitted:
    from .. import traces

    form = given.trace_format
    if form != "csv" and given.time is not None:
        raise ConfigError("--time: needs --trace-format csv")
    if form not in ("nginx", "envoy") and given.log_format is not None:
        raise ConfigError("--log-format: needs --trace-format nginx or envoy")
    log: Any
    if form == "csv":
        if given.time is None:
            raise ConfigError("--time: missing; --trace-format csv needs the column that says when a request came")
        log = traces.read_csv(given.trace, time=given.time, duration=given.duration)
    elif form is not None:
        line = given.log_format or (traces.NGINX_COMBINED if form == "nginx" else traces.ENVOY_DEFAULT)
        log = traces.read_access_log(given.trace, log_format=line, duration=given.duration)
    else:
        if given.duration is not None:
            raise ConfigError("--duration: needs --trace-format")
        log = traces.read(given.trace)
    found = traces.fit(log)
    times = log.arrival_s
    return _Fitted(
        source=os.path.basename(given.trace),
        span_s=float(times.max() - times.min()),
        traffic=_arrivals(found.arrivals[0]),
        service=_service(found.service[0]) if found.service else (),
        table=found.describe(),
        rps=found.mean_rps,
        work_s=float(getattr(found.service[0].law, "mean", 0.0)) if found.service else 0.0,
    )


def _n(value: float) -> str:
    """A number that TOML reads back, to five figures."""
    return f"{float(f'{value:.5g}')!r}"


def _short(line: str) -> str:
    """The line with five figures of each number, which is more than a log knows."""
    return re.sub(r"\d+\.\d{5,}", lambda found: f"{float(found[0]):.5g}", line)


def _arrivals(best: Any) -> tuple[str, ...]:
    law = best.law
    match best.name:
        case "mmpp2":
            rates, means = (", ".join(_n(one) for one in of) for of in (law.rates_rps, law.mean_durations_s))
            return ('kind = "mmpp"', f"rates_rps = [{rates}]", f"mean_durations_s = [{means}]")
        case "gamma" | "weibull":
            rate = f"rate_rps = {_n(1 / law.mean)}"
            return ('kind = "renewal"', f'law = "{best.name}"', rate, f"shape = {_n(law.shape)}")
        case _:
            return ('kind = "poisson"', f"rate_rps = {_n(1 / law.mean)}")


def _service(best: Any) -> tuple[str, ...]:
    law = best.law
    match best.name:
        case "lognormal":
            return ('kind = "lognormal"', f"mean_s = {_n(law.mean)}", f"sigma = {_n(law.sigma)}")
        case "gamma":
            return ('kind = "gamma"', f"mean_s = {_n(law.mean)}", f"shape = {_n(law.shape)}")
        case "exponential":
            return ('kind = "exponential"', f"mean_s = {_n(law.mean)}")
        case _:
            low, high = f"low_s = {_n(law.low)}", f"high_s = {_n(law.high)}"
            return ('kind = "bounded_pareto"', f"alpha = {_n(law.alpha)}", low, high)


def scenario_text(name: str, answers: dict[str, Any], fitted: Any = None, *, file: str = "THIS.toml") -> str:
    """A scenario file. `answers` are by the names of the options; `file` is what its first lines call it."""
    of = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in answers.items()}
    spike = fitted is None and answers["spike"] > 1
    if fitted is None:
        duration = 3600.0
        traffic = [f"{'base' if spike else 'rate'}_rps = {of['rps']}       # requests a second on an ordinary day"]
        traffic.insert(0, f'kind = "{"spike" if spike else "poisson"}"')
        if spike:
            traffic += [
                f"factor = {of['spike']}           # so many times that in the spike",
                "start_s = 900         # late enough for the calm to be measured",
                "ramp_s = 60           # it rises within a minute",
                "hold_s = 600          # and stays for ten",
            ]
    else:
        duration = min(max(fitted.span_s, 60.0), 86_400.0)
        traffic = [f"# Fitted to {fitted.source}:", *(f"# {_short(line)}" for line in fitted.table.splitlines())]
        traffic += fitted.traffic
    if fitted is not None and fitted.service:
        service = ["# The log's durations: they hold the waiting of its day too.", *fitted.service]
    else:
        service = ['kind = "uniform"      # or lognormal, exponential, llm, …: see docs/simulation.md']
        service += [f"low_s = {of['work_low']}", f"high_s = {of['work_high']}"]
        if fitted is not None:
            service.insert(0, "# The log has no durations: this is what you said, or a guess.")
    slo = f'"p95 < {of["slo"]}s"'
    lines = [
        "# Written by `aibalance init`. Every key is explained in docs/simulation.md; all times are seconds.",
        f"# Run it: aibalance simulate {file}, aibalance compare {file}, aibalance plan {file} --slo {slo}",
        "",
        f"name = {json.dumps(name, ensure_ascii=False)}",
        f"duration_s = {_n(duration)}   # how long traffic lasts",
        f"slo_s = {of['slo']}             # an answer that comes later came too late",
        f"# timeout_s = {6 * answers['slo']:g}   # a client gives up; without it all wait for their answer",
        "seed = 1",
        "replications = 20     # of each candidate in a comparison",
        "",
        "[traffic]",
        *traffic,
        "",
        "[service]             # the work of a request, on a server of speed 1",
        *service,
        "",
        "[fleet]",
        f"min = {of['min']}",
        f"max = {of['max']}",
        f"concurrency = {of['concurrency']}       # requests that a server serves at once",
        f"load_s = {of['cold_start']}           # from launch to ready; add warmup_s for what a warm pool cannot save",
        "decision_interval_s = 60",
        "metric_delay_s = 30   # how old the metrics are that a decision sees",
        "",
        "[[fleet.types]]",
        'name = "server"',
        "speed = 1",
        f"price_per_hour = {of['price']}   # USD, on demand",
        "",
        "[[balancers]]",
        'picker = "RoundRobin"',
        "",
        "[[balancers]]",
        'picker = "LeastRequest"',
        "",
        "[[balancers]]",
        'picker = "SharedQueue"   # servers pull from one queue',
        "",
        "[[policies]]",
        'policy = "TargetTracking"',
        'metric = "utilization_percent"',
        "target = 65",
    ]
    return "\n".join(_aligned(lines)) + "\n"


def _aligned(lines: list[str]) -> list[str]:
    """Comments behind values, one below the other."""
    found = []
    for line in lines:
        value, mark, said = line.partition("   # ")
        value, said = value.rstrip(), said.strip()
        found.append(f"{value:21} # {said}" if mark and not line.startswith("#") else line)
    return found
