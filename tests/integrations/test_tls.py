"""TLS on both sides of the proxy, with certificates of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytest.importorskip("trustme", reason="trustme is not installed")

import httpx
import trustme

from aibalance import ConfigError, Pool, RoundRobin
from aibalance.cli import main as command
from aibalance.health import HttpProbe
from aibalance.integrations._proxy_file import load
from aibalance.integrations.asgi import Fleet, Proxy
from aibalance.routing import Router, Rule

from .backend import Backend, backends
from .serving import inflight, raw, serving, until

pytestmark = pytest.mark.timeout(60)


class Files:
    """An authority and what it has signed, as files."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.folder = folder
        self.ca = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)

    def server(self, *names: str) -> tuple[str, str]:
        """Certificate chain and key."""
        made = self.authority.issue_cert(*names)
        chain, key = self.folder / f"{names[0]}.pem", self.folder / f"{names[0]}.key"
        chain.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(key))
        return str(chain), str(key)

    def context(self, *names: str) -> ssl.SSLContext:
        """For a server with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(context)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@contextlib.asynccontextmanager
async def secure(context: ssl.SSLContext) -> AsyncIterator[Backend]:
    server = await Backend("tls").start(ssl=context)
    try:
        yield server
    finally:
        await server.stop()


def proxy_of(address: str, **options: Any) -> tuple[Proxy, Pool]:
    pool = Pool([address])
    fleet = Fleet(picker=RoundRobin(pool), scheme="https", **options)
    return Proxy(Router([Rule(location="/", to="f")]), {"f": fleet}), pool


async def asked(proxy: Proxy) -> httpx.Response:
    async with serving(proxy) as port, httpx.AsyncClient(timeout=30, trust_env=False) as http:
        return await http.get(f"http://127.0.0.1:{port}/x")


def test_servers_must_show_a_certificate_that_is_trusted(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with secure(files.context("127.0.0.1")) as a:
            # Verified by default: nobody has heard of this authority.
            proxy, pool = proxy_of(a.address)
            with caplog.at_level(logging.WARNING, "aibalance.proxy"):
                answer = await asked(proxy)
            assert (answer.status_code, answer.text) == (502, "502 bad gateway: TLS\n")
            (record,) = [record for record in caplog.records if record.name == "aibalance.proxy"]
            assert a.address in record.getMessage()
            assert "unable to get local issuer certificate" in record.getMessage()
            assert (pool.stats()[0].failures, inflight(pool), a.seen) == (1, 0, [])
            proxy, pool = proxy_of(a.address, ca=files.ca)
            answer = await asked(proxy)
            assert (answer.status_code, answer.json()["name"]) == (200, "tls")
            assert dict(answer.json()["headers"])["x-forwarded-proto"] == "http"
            assert pool.stats()[0].successes == 1

    asyncio.run(main())


def test_the_name_is_verified_too(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with secure(files.context("gpu.example.com")) as a:
            proxy, _ = proxy_of(a.address, ca=files.ca)
            answer = await asked(proxy)
            assert answer.status_code == 502
            assert "IP address mismatch" in caplog.text
            proxy, _ = proxy_of(a.address, ca=files.ca, server_name="gpu.example.com")
            assert (await asked(proxy)).status_code == 200
            proxy, _ = proxy_of(a.address, ca=files.ca, server_name="cpu.example.com")
            assert (await asked(proxy)).status_code == 502

    asyncio.run(main())


def test_the_checker_of_a_file_asks_as_the_proxy_does(files: Files, tmp_path: Path) -> None:
    async def main() -> None:
        async with secure(files.context("gpu.example.com")) as a:
            file = tmp_path / "proxy.toml"
            # One question, and none under way at the end: anyio leaves a socket open whose connecting is cancelled.
            for name, health in (("gpu", "healthy"), ("cpu", "unhealthy")):
                file.write_text(
                    f'[[rules]]\nlocation = "/"\nto = "f"\n[fleets.f]\nendpoints = ["{a.address}"]\nscheme = "https"\n'
                    f'ca = "{files.ca}"\nserver_name = "{name}.example.com"\nhealth = {{ path = "/ok", interval = 60.0,'
                    " start_spread = 0.0, healthy_threshold = 1, unhealthy_threshold = 1 }\n",
                    encoding="utf-8",
                )
                proxy = load(file).proxy
                async with serving(proxy):
                    await until(lambda p=proxy, h=health: p.fleets["f"].pool.stats()[0].health == h, within=20)
            probe = HttpProbe("/ok", scheme="https", verify=ssl.create_default_context(cafile=files.ca))
            with pytest.raises(httpx.ConnectError, match="IP address mismatch"):
                await probe(Pool([a.address]).endpoints[0])

    asyncio.run(main())


def test_websockets_over_tls_on_both_sides(files: Files) -> None:
    pytest.importorskip("websockets", reason="websockets is not installed")
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve
    from websockets.exceptions import InvalidStatus

    chain, key = files.server("127.0.0.1")

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(f"{connection.request.headers['x-forwarded-proto']} {message}")

    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0, ssl=files.context("gpu.example.com")) as server:
            address = f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            trusted = ssl.create_default_context(cafile=files.ca)
            proxy, pool = proxy_of(address, ca=files.ca, server_name="gpu.example.com")
            async with (
                serving(proxy, ssl_certfile=chain, ssl_keyfile=key) as port,
                connect(f"wss://127.0.0.1:{port}/x", ssl=trusted, proxy=None) as ws,
            ):
                await ws.send("hello")
                assert await ws.recv() == "https hello"
            assert (pool.stats()[0].successes, inflight(pool)) == (1, 0)
            proxy, pool = proxy_of(address, ca=files.ca)
            async with serving(proxy) as port:
                with pytest.raises(InvalidStatus) as caught:
                    async with connect(f"ws://127.0.0.1:{port}/x", proxy=None):
                        pass
                assert caught.value.response.status_code == 502
                assert caught.value.response.body == b"502 bad gateway: TLS\n"

    asyncio.run(main())


def test_what_cannot_be_is_said(tmp_path: Path, files: Files) -> None:
    picker = RoundRobin(["127.0.0.1:1"])
    for options, said in (
        ({"ca": str(tmp_path / "absent")}, "ca: .*absent.*No such file"),
        ({"ca": __file__}, "ca: .* is not allowed; a file of certificates"),
        ({"server_name": "a b"}, "server_name: 'a b' is not allowed"),
        ({"server_name": ""}, "server_name"),
        ({"scheme": "http", "ca": files.ca}, "ca: .* is not allowed without scheme 'https'"),
        ({"scheme": "http", "server_name": "x"}, "server_name: 'x' is not allowed without scheme"),
        ({"websockets": 1}, "websockets: 1 is not allowed"),
    ):
        with pytest.raises(ConfigError, match=said):
            Fleet(picker=picker, **{"scheme": "https", **options})


BARE = '[[rules]]\nlocation = "/"\nto = "f"\n[fleets.f]\nendpoints = ["{address}"]\n'


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--ssl-keyfile", "KEY"], "--ssl-keyfile: is not allowed without --ssl-certfile"),
        (["--ssl-certfile", "absent.pem", "--ssl-keyfile", "KEY"], "absent.pem, .*No such file"),
        (["--ssl-certfile", "KEY", "--ssl-keyfile", "KEY"], "--ssl-certfile, .*: "),
        (["--ssl-certfile", "CERT", "--ssl-keyfile", "KEY", "--ssl-cert-reqs", "required"], "without --ssl-ca-certs"),
        (["--ssl-cert-reqs", "optional"], "--ssl-cert-reqs: is not allowed without --ssl-certfile"),
    ],
)
def test_flags_that_cannot_be(
    flags: list[str], said: str, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    chain, key = files.server("127.0.0.1")
    file = tmp_path / "proxy.toml"
    file.write_text(BARE.format(address="127.0.0.1:1"), encoding="utf-8")
    told = [{"CERT": chain, "KEY": key}.get(flag, flag) for flag in flags]
    assert command(["proxy", str(file), *told]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_the_program_serves_tls(files: Files, tmp_path: Path) -> None:
    """With clients that must show a certificate: flags are the server's own, and reach it."""
    from .envoys import free_ports

    chain, key = files.server("127.0.0.1")

    async def main() -> None:
        (port,) = free_ports(1)
        async with backends(1) as (a,):
            file = tmp_path / "proxy.toml"
            file.write_text(f'listen = "127.0.0.1:{port}"\n' + BARE.format(address=a.address), encoding="utf-8")
            flags = ("--ssl-certfile", chain, "--ssl-keyfile", key, "--ssl-ca-certs", files.ca)
            command = (sys.executable, "-m", "aibalance", "proxy", str(file), *flags, "--ssl-cert-reqs", "required")
            process = await asyncio.create_subprocess_exec(*command, env=dict(os.environ))
            known = ssl.create_default_context(cafile=files.ca)
            files.authority.issue_cert("client@example.com").configure_cert(known)
            try:
                async with httpx.AsyncClient(
                    base_url=f"https://127.0.0.1:{port}", verify=known, timeout=30, trust_env=False
                ) as http:
                    async with asyncio.timeout(30):
                        while True:
                            with contextlib.suppress(httpx.ConnectError):
                                answer = await http.get("/x", headers={"x-forwarded-proto": "http"})
                                break
                            assert process.returncode is None
                            await asyncio.sleep(0.05)
                    assert dict(answer.json()["headers"])["x-forwarded-proto"] == "https"
                stranger = ssl.create_default_context(cafile=files.ca)
                async with httpx.AsyncClient(verify=stranger, timeout=30, trust_env=False) as http:
                    with pytest.raises(httpx.TransportError):
                        await http.get(f"https://127.0.0.1:{port}/x")
                # Plain text at a port of TLS gets nothing.
                assert not (await raw(port, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/")
                assert len(a.seen) == 1
            finally:
                process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(process.wait(), 20)

    asyncio.run(main())
