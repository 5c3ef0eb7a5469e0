"""The worked examples of docs/studies.md are the files beside it, and the test that it shows passes."""

from __future__ import annotations

import re
import sys
import textwrap

import pytest

from mm_dagster_tests.conftest import PROJECT

EXAMPLES = PROJECT / "docs" / "studies"
PAGE = (PROJECT / "docs" / "studies.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(one) for one in re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", PAGE)]


def test_the_example_that_is_shown_is_the_file() -> None:
    assert BLOCKS[0] == (EXAMPLES / "buy_the_dip.py").read_text(encoding="utf-8")


def test_the_test_that_is_shown_passes_and_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "buy_the_dip", raising=False)
    names: dict[str, object] = {}
    exec(BLOCKS[1], names)
    shown = names["test_it_is_long_for_a_day_after_a_fall"]
    assert callable(shown)
    shown()
    exec(BLOCKS[1].replace("95.0", "99.0"), names)
    with pytest.raises(AssertionError):
        names["test_it_is_long_for_a_day_after_a_fall"]()  # type: ignore[operator]


def test_an_idea_has_about_twenty_lines() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 20, path
