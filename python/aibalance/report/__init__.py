"""The report: one HTML file with a verdict, tables and charts, readable offline, in light and dark, and on paper.

Charts are drawn by matplotlib and the page is filled by Jinja2; both come with `pip install aibalance[report]`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from .._errors import ConfigError
from .model import Comparison, parse

__all__ = ["parse", "plan_to_html", "ready", "shown", "to_html", "write_html", "write_plan"]


def to_html(comparison: Mapping[str, Any], /) -> str:
    """The whole page as text. `comparison` is what `Comparison.to_dict()` returns.

    Raises ConfigError when a part of it is missing or wrong, or when matplotlib or Jinja2 is not installed.
    """
    parsed = parse(comparison)
    return _renderer()(parsed)


def ready(path: str | os.PathLike[str], /) -> None:
    """Find out before a long comparison whether its report could be written to `path`.

    Raises ConfigError when matplotlib or Jinja2 is not installed, or when there is no such folder.
    """
    _renderer()
    target = os.fspath(path)
    folder = os.path.dirname(target) or "."
    if os.path.isdir(target):
        raise ConfigError(f"report: {target}: is a folder; allowed: the name of a file")
    if not os.path.isdir(folder):
        raise ConfigError(f"report: {target}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"report: {target}: cannot be written: no permission in {folder}")


def _renderer() -> Callable[[Comparison], str]:
    try:
        from .page import render
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("matplotlib", "jinja2", "markupsafe"):
            raise
        raise ConfigError(f"report: needs {missing}; run: pip install aibalance[report]") from None
    return render


def write_html(comparison: Mapping[str, Any], path: str | os.PathLike[str], /) -> None:
    """Write the page to `path`, which is replaced whole or not at all.

    Raises ConfigError as `to_html` does, and when the file cannot be written.
    """
    _write(to_html(comparison), path)


def plan_to_html(plan: Mapping[str, Any], /) -> str:
    """The page of a plan as text. `plan` is what `Plan.to_dict()` returns.

    Raises ConfigError when matplotlib or Jinja2 is not installed.
    """
    _renderer()
    from .plan import render

    return render(plan)


def write_plan(plan: Mapping[str, Any], path: str | os.PathLike[str], /) -> None:
    """Write the page of a plan to `path`, which is replaced whole or not at all. Raises ConfigError as `write_html`."""
    _write(plan_to_html(plan), path)


def shown(page: Callable[[], str], text: str) -> str:
    """What a notebook shows: the page in a frame of its own, or the text where the extra is not installed.

    >>> shown(lambda: "<p>a page", "text")[:30]
    '<iframe srcdoc="&lt;p&gt;a pag'
    """
    try:
        html = page()
    except ConfigError:
        return f"<pre>{escape(text)}</pre>"
    # The page's style stays within; it runs no script.
    return (
        f'<iframe srcdoc="{escape(html, quote=True)}" sandbox="allow-same-origin" '
        'style="width: 100%; height: 720px; border: 0"></iframe>'
    )


def _write(text: str, path: str | os.PathLike[str]) -> None:
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
