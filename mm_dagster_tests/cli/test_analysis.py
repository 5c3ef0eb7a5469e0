"""docs/analysis.md says what the code does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mm_dagster.cli.analysis import asked
from mm_dagster.history.questions import QUESTIONS
from mm_dagster.history.views import VIEWS
from mm_dagster.tables import registry
from mm_dagster_tests.conftest import PROJECT

WRITTEN = PROJECT / "docs" / "analysis.md"


def test_the_document_has_every_table_view_and_question_as_the_code_has_it() -> None:
    text = WRITTEN.read_text()
    for name in (*registry.TABLES, *VIEWS):
        assert f"| `{name}` |" in text
    assert len(QUESTIONS) == 10
    for number, question in enumerate(QUESTIONS, start=1):
        assert "\n".join(asked(number, question)) in text, f"{question.asked}: run `make docs`"
    # The last section begins where the last answer ends.
    assert text.count("```text") == 10


@pytest.mark.long
def test_the_answers_are_those_of_the_demo(tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    environment = {**own, "MM_CONFIG_DIR": str(PROJECT / "configs" / "demo"), "MM_DATA_DIR": str(tmp_path)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=PROJECT, check=True, capture_output=True, text=True
        )
        return done.stdout

    # With its clock, by which the newest candles are not late.
    run("-c", "from mm_dagster.cli import main; main()", "demo")
    assert run("-m", "mm_dagster.cli.analysis") == WRITTEN.read_text()
