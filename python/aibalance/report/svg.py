"""From a matplotlib figure to SVG that lives inside a page: its colours and fonts are the page's, light or dark."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["SERIES", "color", "inline", "panel", "sheet", "style"]

# Each role is drawn in a colour that stands for it, and becomes a CSS variable of the page afterwards, so one drawing
# serves both themes. The stand-ins are near black and near each other: nothing else on a chart has these values.
_ROLES = (
    "ink",
    "muted",
    "grid",
    "paper",
    "good",
    "bad",
    "same",
    "band",
    "s1",
    "s2",
    "s3",
    "s4",
    "s5",
    "s6",
    "s7",
    "s8",
)
_STAND_INS = {role: f"#0a0b{i + 1:02x}" for i, role in enumerate(_ROLES)}
_ROLE_OF = {value: role for role, value in _STAND_INS.items()}

SERIES = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")
"""Roles for categories. The page gives them the palette of Okabe and Ito, which colour-blind people can tell apart."""

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_LONG = re.compile(r"-?\d+\.\d{3,}")


def color(role: str) -> str:
    """The colour to draw a role with."""
    return _STAND_INS[role]


@contextmanager
def style() -> Generator[None, None, None]:
    """matplotlib's settings for our charts, for as long as one is drawn."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
        "svg.hashsalt": "aibalance",  # the same comparison gives the same bytes
        "text.parse_math": False,  # a dollar is a dollar
        "font.family": [
            "DejaVu Sans"
        ],  # ships with matplotlib; wider than the page's fonts, so what fits here fits there
        "font.size": 12.5,
        "text.color": color("ink"),
        "axes.edgecolor": color("grid"),
        "axes.labelcolor": color("muted"),
        "axes.linewidth": 1.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.facecolor": "none",
        "axes.unicode_minus": True,
        "axes.axisbelow": True,
        "figure.facecolor": "none",
        "grid.color": color("grid"),
        "grid.linewidth": 1.0,
        "xtick.color": color("grid"),
        "ytick.color": color("grid"),
        "xtick.labelcolor": color("muted"),
        "ytick.labelcolor": color("muted"),
        "xtick.minor.visible": False,
        "ytick.minor.visible": False,
        "xtick.major.size": 4.0,
        "ytick.major.size": 0.0,
        "lines.solid_capstyle": "round",
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # Names may hold letters that the measuring font lacks; the browser has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def sheet(width: float, height: float) -> Figure:
    """A figure measured in CSS pixels."""
    # 72 dots an inch: a point, and so a font size, is one pixel.
    return Figure(figsize=(width / 72, height / 72), dpi=72)


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes in CSS pixels, from the top left corner of the sheet."""
    full_width, full_height = figure.get_size_inches() * 72
    return figure.add_axes(
        (left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height)
    )


def inline(figure: Figure, *, name: str, title: str, description: str, tips: Mapping[str, str] | None = None) -> str:
    """The figure as an `<svg>` element. `name` makes its ids its own; title and description are for screen readers.

    `tips` are texts that show when the pointer rests on the artist with that gid.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(buffer.getvalue())
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in list(root.iter()):
        if tips and element.attrib.get("id") in tips:
            tip = ET.Element(f"{{{_SVG}}}title")
            tip.text = tips[element.attrib["id"]]
            element.insert(0, tip)
    ids: dict[str, str] = {}
    for element in root.iter():
        if "id" in element.attrib:
            ids[element.attrib["id"]] = f"{name}-{len(ids)}"
    used = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            if key in (f"{{{_XLINK}}}href", "href"):
                used.add(value.removeprefix("#"))
            used.update(re.findall(r"url\(#([^)]+)\)", value))
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                if value in used:
                    element.attrib["id"] = ids[value]
                else:
                    del element.attrib["id"]
            elif key == f"{{{_XLINK}}}href":
                del element.attrib[key]
                # A picture brings its bytes along.
                inside = value.startswith("data:")
                element.attrib["href"] = value if inside else "#" + ids.get(value.removeprefix("#"), "")
            elif key == "style":
                element.attrib["style"] = _themed(value)
            elif key in ("d", "x", "y", "transform"):
                element.attrib[key] = _LONG.sub(lambda m: f"{float(m[0]):.1f}", value)
            elif "url(#" in value:
                element.attrib[key] = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{ids[m[1]]})", value)
    # Its style sheet would reach the whole page; the page says the same for charts only.
    for element in list(root.iter()):
        if element.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
            parents[element].remove(element)
    ET.register_namespace("", _SVG)
    body = "".join(ET.tostring(child, encoding="unicode") for child in root)
    body = (
        body.replace(f' xmlns="{_SVG}"', "")
        .replace(f' xmlns:ns0="{_XLINK}"', "")
        .replace(f' xmlns:xlink="{_XLINK}"', "")
    )
    body = re.sub(r"\s*\n\s*", "\n", body)
    return (
        f'<svg role="img" aria-labelledby="{name}-title {name}-desc" viewBox="{root.attrib["viewBox"]}">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
        f"{body}</svg>"
    )


def _themed(value: str) -> str:
    value = re.sub(r"font-family: [^;]*", "font-family: var(--sans)", value)
    return re.sub(r"#0a0b[0-9a-f]{2}", lambda m: f"var(--{_ROLE_OF[m[0]]})", value)
