"""Every Python block of the README and of the documentation runs, in order, page by page."""

from __future__ import annotations

import doctest
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the line it starts at, and what it holds."""

    language: str
    line: int
    text: str


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    fence, language, start, lines = "", "", 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        mark = re.match(r"^(`{3,})(.*)$", line.strip())
        if not fence and mark:
            fence, language, start, lines = mark.group(1), mark.group(2).strip(), number, []
        elif fence and line.strip() == fence:
            found.append(Block(language, start, "\n".join(lines) + "\n"))
            fence = ""
        elif fence:
            lines.append(line)
    assert not fence, f"{page.name}: the fence of line {start} is never closed"
    return found


def test_the_pages_have_blocks() -> None:
    assert len(PAGES) >= 5
    assert sum(len([b for b in blocks(page) if b.language == "python"]) for page in PAGES) >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks may read examples/, and write what they like.
    (tmp_path / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language != "python":
            continue
        if ">>>" in block.text:
            test = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line)
            out: list[str] = []
            failed = (
                doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=out.append, clear_globs=False).failed
            )
            assert not failed, "".join(out)
            names.update(test.globs)
        else:
            # Blank lines in front, so that a traceback names the page's own line.
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_links_lead_somewhere(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))
    assert {"test", "demo", "build"} <= targets
    for block in blocks(page):
        if block.language in {"console", "sh", "bash"}:
            for target in re.findall(r"^(?:\$ )?make (\w+)", block.text, flags=re.MULTILINE):
                assert target in targets, f"{page.name}:{block.line}: make {target}"
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", link):
            assert (page.parent / link).exists(), f"{page.name}: {link} is not there"
