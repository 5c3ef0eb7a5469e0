"""Reads our documents: which there are, and what stands in a page's blocks, between its backticks and in its links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mm_dagster_tests.conftest import PROJECT

EVERY_PAGE = sorted(
    path.relative_to(PROJECT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "data/*.md", "mm_dagster_tests/**/*.md")
    for path in PROJECT.glob(pattern)
)
PAGES = [page for page in EVERY_PAGE if not page.startswith("docs/evidence/")]
"""Those that were written by hand or that a person reads as a whole; what is left are tables of figures."""

_FENCED = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")
_INDENTED = re.compile(r"(?m)(?<=\n\n)((?: {4}\S.*\n)(?: {4}.*\n|\n(?= {4}))*)")


class Block(NamedTuple):
    """What is set apart in a page, with the language that its fence names."""

    language: str
    text: str


def text_of(page: str) -> str:
    return (PROJECT / page).read_text(encoding="utf-8")


def prose_of(page: str) -> str:
    """A page without its fenced blocks."""
    return _FENCED.sub("", text_of(page))


def blocks(page: str) -> Iterator[Block]:
    """Fenced blocks; those that are indented have no language."""
    for language, text in _FENCED.findall(text_of(page)):
        yield Block(language, text)
    for text in _INDENTED.findall(prose_of(page)):
        yield Block("", re.sub(r"(?m)^ {4}", "", text))


def spans(page: str) -> Iterator[str]:
    """What stands between backticks in a line, outside of blocks and in what blocks say."""
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text_of(page))


def links(page: str) -> Iterator[str]:
    """The targets of links and pictures, but for those on the web."""
    for target in re.findall(r"(?<=\]\()[^)\s]+(?=\))|(?<=src=\")[^\"]+", prose_of(page)):
        if not target.startswith(("http://", "https://", "mailto:")):
            yield target


def anchors(path: Path) -> set[str]:
    """The anchors that a host makes of a page's headings, numbered where a heading comes again, and its own."""
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    found: set[str] = set(re.findall(r'<a id="([^"]+)"></a>', text))
    seen: dict[str, int] = {}
    for heading in re.findall(r"(?m)^#+ (.+)$", text):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w -]", "", shown.lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if name in seen else name)
        seen[name] = seen.get(name, 0) + 1
    return found
