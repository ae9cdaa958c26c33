"""The configuration files that the pages show are good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "integrations"


def toml(page: str, folder: Path) -> Path:
    (shown,) = re.findall(r"^```toml\n(.*?)^```", (PAGES / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    file = folder / "shown.toml"
    file.write_text(shown, encoding="utf-8")
    return file


def test_the_proxy_file(tmp_path: Path) -> None:
    pytest.importorskip("httpx")
    from aibalance.integrations._proxy_file import load

    file = load(toml("proxy.md", tmp_path))
    assert set(file.proxy.fleets) == {"api", "inference"}
    assert file.proxy.fleets["inference"].key == "header:x-session"
    assert file.proxy._router.route("/stream/x").streaming  # type: ignore[union-attr]


def test_the_picker_file(tmp_path: Path) -> None:
    from aibalance.integrations._epp_file import load

    file = load(toml("envoy.md", tmp_path))
    assert file.picker._key == "x-session"
    assert file.bootstrap()["admin"]["address"]["socket_address"]["port_value"] == 9901
