"""The report: one HTML file with a verdict, tables and charts, readable offline, in light and dark, and on paper.

Charts are drawn by matplotlib and the page is filled by Jinja2; both come with `pip install aibalance[report]`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._errors import ConfigError
from .model import parse

__all__ = ["to_html", "write_html"]


def to_html(comparison: Mapping[str, Any], /) -> str:
    """The whole page as text. `comparison` is what `Comparison.to_dict()` returns.

    Raises ConfigError when a part of it is missing or wrong, or when matplotlib or Jinja2 is not installed.
    """
    parsed = parse(comparison)
    try:
        from .page import render
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("matplotlib", "jinja2"):
            raise
        raise ConfigError(f"report: needs {error.name}; run: pip install aibalance[report]") from None
    return render(parsed)


def write_html(comparison: Mapping[str, Any], path: str | os.PathLike[str], /) -> None:
    """Write the page to `path`, which is replaced whole or not at all.

    Raises ConfigError as `to_html` does, and when the file cannot be written.
    """
    text = to_html(comparison)
    target = os.fspath(path)
    draft = f"{target}.part{os.getpid()}"
    try:
        try:
            with open(draft, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(draft, target)
        except BaseException:
            if os.path.exists(draft):
                os.unlink(draft)
            raise
    except OSError as error:
        raise ConfigError(f"report: {target}: cannot be written: {error.strerror or error}") from None
