"""What people copy from our documents works: commands parse, queries run, YAML is configuration, variables are read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel, ValidationError
from typer.core import TyperGroup

from mm_dagster.cli import app
from mm_dagster.config.grid import GridConfig
from mm_dagster.config.load import FILES
from mm_dagster.config.yaml_files import parse
from mm_dagster.history.lake import Lake
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.documents import PAGES, blocks, spans, text_of

_ROOT = typer.main.get_command(app)
_OPERATORS = set("|&;<>")
_FILLED_IN = {"...": "x"}


# commands -------------------------------------------------------------------------------------------------------------


def words_of(line: str) -> list[list[str]]:
    """The words of each call of `mm` in a line of a shell, without what a document adds: `[optional]` and comments."""
    if line.startswith("helm "):
        return []  # it has a release called mm
    line = re.sub(r"\$\([^)]*\)", "x", re.sub(r"\[(?=[-A-Z])([^]]*)\]", r"\1", line))
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters, lexer.wordchars = "", lexer.wordchars + "$%:@#,[]{}"
    lexer.whitespace_split = True
    calls: list[list[str]] = []
    inside = False
    for word in lexer:
        if word.startswith("#") or set(word) <= _OPERATORS:
            inside = False
            if word.startswith("#"):
                break
        elif not inside and (word == "mm" or word.endswith("/mm")):
            calls.append([])
            inside = True
        elif inside:
            calls[-1].append(word)
    return calls


def wrong_with(words: list[str], *, whole: bool) -> str | None:
    """Why `mm` would refuse these words before it does anything; None: it would not.

    Args:
        words: what follows `mm`.
        whole: whether what must be given must be there; a sentence names a command without.
    """
    command, left = _ROOT, list(words)
    while isinstance(command, TyperGroup):
        if not left or left[0].startswith("-"):
            return None if set(left) <= {"--help", "--debug"} else f"{command.name} knows no {left}"
        name = left.pop(0)
        if name not in command.commands:
            return f"there is no command {name}"
        command = command.commands[name]
    try:
        command.make_context(command.name, [_FILLED_IN.get(word, word) for word in left])
    except typer.Exit:
        return None
    except typer.BadParameter.__mro__[1] as error:  # UsageError, which typer has under a private name
        is_missing = type(error).__name__ == "MissingParameter"
        return None if is_missing and not whole else error.format_message()
    return None


def lines_of_commands(page: str) -> Iterator[str]:
    """Of blocks for a shell each line, of what was typed and what came the former."""
    for language, text in blocks(page):
        joined = text.replace("\\\n", " ")
        if language in ("sh", "bash"):
            yield from joined.splitlines()
        elif language in ("text", "console"):
            yield from (line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ "))
        elif not language:
            yield from (line.removeprefix("$ ") for line in joined.splitlines() if re.search(r"(^|\s)mm [a-z]", line))


@cache
def calls(page: str) -> tuple[tuple[tuple[str, ...], bool], ...]:
    """The words of every call on a page, and whether it stands in a block, where it must be whole."""
    found = [(tuple(words), True) for line in lines_of_commands(page) for words in words_of(line)]
    named = [span for span in spans(page) if re.search(r"(^|[ /])mm( |$)", span)]
    return (*found, *((tuple(words), False) for span in named for words in words_of(span)))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_would_be_taken(page: str) -> None:
    wrong = [
        f"`mm {shlex.join(words)}`: {why}" for words, whole in calls(page) if (why := wrong_with([*words], whole=whole))
    ]
    assert not wrong, f"{page}: {'; '.join(wrong)}"


def test_commands_are_found() -> None:
    assert sum(len(calls(page)) for page in PAGES) > 200
    assert {words[:2] for words, _ in calls("docs/grid.md")} >= {("grid", "add"), ("grid", "stop")}


def test_the_page_of_commands_names_each() -> None:
    assert isinstance(_ROOT, TyperGroup)
    unnamed = set(_ROOT.commands) - {word for words, _ in calls("docs/commands.md") for word in words[:1]}
    assert not unnamed, f"docs/commands.md does not name {', '.join(sorted(unnamed))}"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("mm stauts", "no command"),
        ("mm grid ad", "no command"),
        ("mm status --wacth 30", "No such option"),
        ("$ mm tick --as_of 2026-07-01T00:00Z", "No such option"),
        ("make up && mm up --port abc", "valid integer"),
        ("MM_HOME=/x .venv/bin/mm backup", "Missing option"),
        ("mm respond eth-v3", "Missing argument"),
        ("mm report [--out report.htm] [--opne]   # a page", "No such option"),
        ("mm doctor twice", "unexpected extra argument"),
        ("mm sql --format xls", "is not one of"),
    ],
)
def test_a_command_that_would_not_be_taken_is_found(line: str, why: str) -> None:
    (words,) = words_of(line)
    assert why in (wrong_with(words, whole=True) or "")


# queries --------------------------------------------------------------------------------------------------------------


def queries(page: str) -> Iterator[str]:
    """What is asked by `mm sql` on a page, and each statement of its blocks of SQL that `mm sql` could ask."""
    for words, _ in calls(page):
        if words[:1] == ("sql",):
            yield from (word for word in words[1:] if re.match(r"(?i)(from|select|with|show|describe)\b", word))
    for language, text in blocks(page):
        if language == "sql":
            plain = re.sub(r"--.*", "", text)
            for statement in plain.split(";"):
                if re.match(r"\s*(FROM|SELECT|WITH)\b", statement) and " AT (" not in statement:
                    yield statement.strip().replace("history.", "")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Without a row: every table and view is there from the beginning."""
    return Lake(tmp_path_factory.mktemp("lake"))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/first-steps.md"])
def test_every_query_can_be_asked(page: str, lake: Lake) -> None:
    """But for what wrong inputs say, the table that contributing.md makes up, and what only another client has."""
    for query in queries(page):
        if not re.search(r"market_calm|snapshots\(\)", query):
            lake.sql(query)


def test_queries_are_found() -> None:
    assert sum(1 for page in PAGES for _ in queries(page)) > 30


# configuration --------------------------------------------------------------------------------------------------------

_MODELS: Mapping[str, type[BaseModel]] = {f"{name}.yaml": model for name, model in FILES.items()}


def wrong_keys(values: Any, model: type[BaseModel]) -> list[str]:
    """What a model refuses of a part of a file; what else the file must say may be missing."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        return [f"{one['loc']}: {one['msg']}" for one in error.errors() if one["type"] != "missing"]
    return []


def models_for(text: str, values: Mapping[str, Any]) -> list[type[BaseModel]]:
    """The files that a block may be of: the one that its first line names, else each that has its first key."""
    named = re.match(r"# (\w+\.yaml)", text)
    if named:
        return [_MODELS[named[1]]]
    return [one for one in (*_MODELS.values(), GridConfig) if next(iter(values)) in one.model_fields]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_yaml_is_configuration(page: str) -> None:
    for language, text in blocks(page):
        if language == "yaml":
            values = parse(Path(page), text.encode())
            tried = {one.__name__: wrong_keys(values, one) for one in models_for(text, values)}
            assert [] in tried.values(), f"{page}: {text}\n{tried}"


def names_below(schema: Any) -> Iterator[str]:
    """The names of all keys in a model's JSON schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for below in schema.values():
            yield from names_below(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from names_below(below)


KEYS = {name for model in (*_MODELS.values(), GridConfig) for name in names_below(model.model_json_schema())}
OTHER_KEYS = {"until", "storage", "WARNING"}
"""Of what is materialized by hand, of a table of measurements, of a state."""


def keys_in(values: Any) -> Iterator[str]:
    """Each key of a piece of YAML, dots taken apart."""
    if isinstance(values, dict):
        for key, below in values.items():
            yield from str(key).split(".")
            yield from keys_in(below)


@pytest.mark.parametrize("page", PAGES)
def test_every_key_of_the_configuration_that_is_named_is_one(page: str) -> None:
    named = set()
    for span in spans(page):
        file, dot, key = span.partition(".")
        if (
            dot
            and file in FILES
            and re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", key)
            and not span.endswith((".yaml", ".py", ".md", ".diff"))
        ):
            named |= set(key.split("."))
        elif re.match(r"\{\w|[a-z_.]+: \S+$|[a-z_]+: \{", span):
            named |= set(keys_in(parse(Path(page), span.encode())))
    unknown = named - KEYS - OTHER_KEYS
    assert not unknown, f"{page} names the keys {', '.join(sorted(unknown))}"


# variables ------------------------------------------------------------------------------------------------------------

_READ_BY = (
    "mm_dagster/**/*.py", "deploy/**/*", "Makefile", "dagster.yaml", "benchmarks/*.py",
    "mm_dagster_tests/conftest.py", "mm_dagster_tests/defs/test_soak.py",
)  # fmt: skip


@cache
def variables() -> frozenset[str]:
    """The names that begin with MM_ in all that runs; tests have wrong ones, too."""
    files = {path for pattern in _READ_BY for path in PROJECT.glob(pattern) if path.is_file()}
    names = {name for path in files for name in re.findall(rb"\bMM_[A-Z_]+\b", path.read_bytes())}
    return frozenset(name.decode() for name in names)


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_that_is_named_is_read(page: str) -> None:
    """What is all but the name of one is a slip, too."""
    words = set(re.findall(r"\b[A-Z]+_?[A-Z_]+\b", text_of(page))) - variables()
    wrong = {word for word in words if word.startswith("MM_") or get_close_matches(word, variables(), 1, 0.85)}
    assert not wrong, f"{page} names {', '.join(sorted(wrong))}"
