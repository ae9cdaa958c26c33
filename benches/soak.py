"""The reference proxy under `wrk`, with endpoints that come and go: `python -m benches.soak [--seconds 180]`.

Two servers and the proxy, each a process of its own. The proxy's fleet loses and gets back an endpoint twenty times a
second. It ends with 1 when a request failed, or the proxy's memory grew by more than 5 MiB after the first sixth of
the time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

SERVER = """
import asyncio, sys
class P(asyncio.Protocol):
    def connection_made(self, t): self.t, self.b = t, b""
    def data_received(self, d):
        self.b += d
        while b"\\r\\n\\r\\n" in self.b:
            self.b = self.b.partition(b"\\r\\n\\r\\n")[2]
            self.t.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 6\\r\\n\\r\\nhello\\n")
async def main():
    s = await asyncio.get_running_loop().create_server(P, "127.0.0.1", 0, backlog=1024)
    print(s.sockets[0].getsockname()[1], flush=True)
    await s.serve_forever()
asyncio.run(main())
"""


async def proxy(addresses: list[str]) -> None:
    """The proxy's process: prints its port, then changes its fleet until it is killed."""
    import uvicorn

    from aibalance import LeastConnections, Pool
    from aibalance.integrations._proxy_file import ProxyFile
    from aibalance.integrations._server import config
    from aibalance.integrations.asgi import Fleet, Proxy
    from aibalance.routing import Router, Rule

    pool = Pool(addresses)
    app = Proxy(Router([Rule(location="/", to="f")]), {"f": Fleet(picker=LeastConnections(pool))})
    file = ProxyFile(proxy=app, host="127.0.0.1", port=0, grace=5, keep_alive=30, max_connections=None)
    server = uvicorn.Server(config(file, log_level="error"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    changes = 0
    while not task.done():
        pool.update(addresses if changes % 2 else addresses[changes // 2 % 2 :][:1])
        changes += 1
        await asyncio.sleep(0.05)


def memory(pid: int) -> float:
    """MiB that are resident."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def cpu_us(pid: int) -> float:
    """Microseconds of a core that the process has had."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") * 1e6


def pick_us() -> float:
    """Microseconds of a lease and its release."""
    import timeit

    from aibalance import LeastConnections

    picker = LeastConnections(["a:1", "b:1"])
    return min(timeit.repeat(lambda: picker.acquire().release(status=200), number=2000, repeat=20)) / 2000 * 1e6


def soak(seconds: int, connections: int) -> dict[str, Any]:
    """What wrk said, and the proxy's memory."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> tuple[subprocess.Popen[str], int]:
            process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            return process, int(process.stdout.readline())

        servers = [f"127.0.0.1:{start('-c', SERVER)[1]}" for _ in range(2)]
        running, port = start("-m", "benches.soak", "--proxy", *servers)
        wrk = subprocess.Popen(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds}s",
                "--timeout",
                "30s",
                "--latency",
                f"http://127.0.0.1:{port}/",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(wrk.kill)
        seen, before = [], cpu_us(running.pid)
        while wrk.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                wrk.wait(seconds / 60)
            seen.append(memory(running.pid))
        assert wrk.stdout is not None
        said, spent = wrk.stdout.read(), cpu_us(running.pid) - before
    requests = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    broken = re.search(r"Socket errors: (.*)", said)
    share = pick_us() / (spent / requests)
    return {
        "seconds": seconds,
        "connections": connections,
        "requests": requests,
        "not 2xx": int(bad[1]) if bad else 0,
        "socket errors": broken[1] if broken else "none",
        "memory MiB": {"early": round(seen[len(seen) // 6], 1), "most": round(max(seen), 1), "end": round(seen[-2], 1)},
        "CPU µs of a request": round(spent / requests),
        "pick, share of it": f"{share:.2%}",
        "median": re.search(r"50%\s+(\S+)", said)[1],  # type: ignore[index]
    }


def main() -> int:
    """Prints what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--proxy", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.proxy:
        asyncio.run(proxy(given.proxy))
        return 0
    if shutil.which("wrk") is None:
        print("wrk is not installed", file=sys.stderr)
        return 2
    found = soak(given.seconds, given.connections)
    print(json.dumps(found, indent=1))
    grown = found["memory MiB"]["end"] - found["memory MiB"]["early"]
    return int(found["not 2xx"] > 0 or found["socket errors"] != "none" or grown > 5)


if __name__ == "__main__":
    raise SystemExit(main())
