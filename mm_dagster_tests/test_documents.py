"""What people read is true: each path, function, link and target that it names exists; so are floors and figures."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from mm_dagster.config.load import FILES
from mm_dagster.exit.measured import measured
from mm_dagster_tests.conftest import PROJECT
from mm_dagster_tests.documents import EVERY_PAGE, PAGES, anchors, blocks, links, prose_of, spans, text_of

TABLES = [page for page in EVERY_PAGE if page not in PAGES]
OF_RUNS = (
    "data/README.md",
    *(f"docs/{name}.md" for name in ("candles", "deployment", "first-steps", "logs", "operations", "tuning")),
)
"""Pages that name what a run, a user or another project makes; what of ours they name are links."""
ROOTS = (PROJECT, PROJECT / "mm_dagster", PROJECT / "mm_dagster_tests")
"""What a path on a page may begin below."""
ELSEWHERE = ("data/", ".venv/", "../")
"""What a run or a set-up makes, and what lies beside the project."""
SUFFIXES = (".py", ".md", ".yaml", ".toml", ".txt", ".jinja")


def found(path: str) -> Path | None:
    return next((root / path for root in ROOTS if (root / path).exists()), None)


@cache
def names_in(path: Path) -> frozenset[str]:
    """Functions, classes with their methods, and variables at the top of a module."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.ClassDef():
                methods = [one.name for one in node.body if isinstance(one, ast.FunctionDef)]
                names |= {node.name, *(f"{node.name}.{method}" for method in methods)}
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return frozenset(names)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in OF_RUNS])
def test_every_path_that_is_named_exists(page: str) -> None:
    paths = {
        span
        for span in spans(page)
        if re.fullmatch(r"[\w./-]+", span)
        and ("/" in span or span.endswith(SUFFIXES))
        and not span.startswith(ELSEWHERE)
    }
    # A file of the user's configuration is named without a folder, and so is a module that is known by its name.
    known = {f"{name}.yaml" for name in FILES} | {path.name for root in ROOTS[1:] for path in root.rglob("*.py")}
    # What `mm serve` answers is no file: test_api.py asks for each.
    routes = re.findall(r'"(/[a-z/-]*)', (PROJECT / "mm_dagster" / "api" / "app.py").read_text())
    served = {re.sub(r"/ID.*", "/", path) for path in paths} & {*routes}
    absent = sorted(
        path
        for path in paths
        if found(path) is None and path not in known and re.sub(r"/ID.*", "/", path) not in served
    )
    assert not absent, f"{page} names {', '.join(absent)}"


@pytest.mark.parametrize("page", PAGES)
def test_every_function_and_test_that_is_named_is_there(page: str) -> None:
    missing = []
    for span in spans(page):
        named = re.fullmatch(r"([\w/.]+\.py)::?(\S+)", span)
        if named is None:
            continue
        path, name = named.groups()
        module = found(path)
        if module is None:
            missing.append(f"{path} is no file")
        elif name not in names_in(module):
            missing.append(f"{path} has no {name}")
    assert not missing, f"{page}: {'; '.join(missing)}"


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_link_leads_somewhere(page: str) -> None:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (PROJECT / page).parent / path if path else PROJECT / page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken, f"{page} links to {', '.join(broken)}"


@pytest.mark.parametrize("page", PAGES)
def test_every_target_and_module_that_is_called_is_there(page: str) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", text_of("Makefile")))
    written = "\n".join([*spans(page), *(block.text for block in blocks(page))])
    asked = set(re.findall(r"(?m)(?:^|&& )(?:\$ )?(?:sudo )?make ([a-z-]+)", written))
    assert asked <= targets, f"{page} asks for make {', '.join(sorted(asked - targets))}"
    modules = set(re.findall(r"python -m ([\w.]+)", written))
    absent = sorted(name for name in modules if importlib.util.find_spec(name) is None)
    assert not absent, f"{page} calls {', '.join(absent)}"


def drawn() -> list[tuple[str, ...]]:
    """The rooms of each floor as docs/architecture.md draws them, top first."""
    drawing = next(block.text for block in blocks("docs/architecture.md") if block.text.startswith("cluster "))
    return [tuple(re.split(r"  +", line)[0].split(" | ")) for line in drawing.splitlines()]


def test_the_floors_that_are_drawn_are_those_that_are_held() -> None:
    linter = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]
    (layers,) = [one["layers"] for one in linter["contracts"] if one["type"] == "layers"]
    assert drawn() == [tuple(line.split(" | ")) for line in layers]


def test_every_room_is_said_what_belongs_in_it() -> None:
    section = text_of("docs/architecture.md").split("| room |")[1].split("\n\n")[0]
    assert re.findall(r"(?m)^\| `(\w+)` \|", section) == [room for floor in drawn() for room in floor]


def test_the_readme_leads_everybody_to_their_pages() -> None:
    assert {f"docs/{page}.md" for page in ("contributing", "architecture", "index", "faq")} <= set(links("README.md"))
    assert len(text_of("README.md").splitlines()) <= 130, "a stranger reads it to the end; depth belongs into docs/"


def test_the_map_names_every_document_once() -> None:
    there = {path.name for path in (PROJECT / "docs").glob("*.md")} - {"index.md"}
    named = [target for target in links("docs/index.md") if "/" not in target]
    assert sorted(named) == sorted(there)


def test_every_picture_is_shown_somewhere() -> None:
    shown = {((PROJECT / page).parent / target).resolve() for page in EVERY_PAGE for target in links(page)}
    pictures = {path.resolve() for path in (PROJECT / "docs").rglob("*.png")}
    assert len(pictures) > 5
    assert pictures <= shown


def test_what_the_readme_does_not_claim_is_said_in_full() -> None:
    readme = text_of("README.md")
    assert (
        "It buys nothing, uses no leverage, and trades no maker live. It has no FIX, Redis, TimescaleDB, event bus or "
        "log archive: Dagster and the lake do that work. Claims of return, uptime or lead in the requirements were not "
        "reproduced and are not made."
    ) in readme
    assert "Every policy on these sets loses against cash" in readme
    # Before a stranger types anything of their own.
    assert "**KuCoin's bots cannot be read by any program**" in section("README.md", "Your grid").strip()[:60]


def section(page: str, heading: str) -> str:
    return prose_of(page).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def figures(text: str) -> set[str]:
    return set(re.findall(r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)", re.sub(r"\]\([^)]*\)", "]", text)))


def test_every_figure_of_what_it_is_worth_is_one_of_the_evidence() -> None:
    measured_ones = figures(text_of("docs/evidence.md"))
    readme = section("README.md", "Does it help?")
    assert len(figures(readme)) > 20
    assert figures(readme) <= measured_ones
    answers = [one for one in text_of("docs/faq.md").split("\n\n") if "(evidence.md)" in one]
    assert len(answers) == 3
    assert {one for answer in answers for one in figures(answer)} <= measured_ones


def test_a_word_that_the_readme_explains_is_explained_where_it_stands_first() -> None:
    prose = re.sub(r"`[^`]*`", "", prose_of("README.md"))
    explained = re.findall(r"\[([^]]+)\]\(docs/glossary\.md#([\w-]+)\)", prose)
    assert len(explained) >= 10
    for word, anchor in explained:
        before = re.sub(r"\]\([^)]*\)", "]", prose.split(f"](docs/glossary.md#{anchor})")[0].removesuffix(word))
        if anchor != "requirements":  # the sentence before it is given word for word
            assert not re.search(rf"(?i)\b{anchor.replace('-', ' ')}s?\b", before.replace(f"[{word}]", "")), word


def test_twenty_questions_are_answered() -> None:
    assert len(re.findall(r"(?m)^\*\*[^*]+\?\*\* \S", text_of("docs/faq.md"))) >= 20


def test_the_hooks_are_the_tools_of_the_project_and_download_nothing() -> None:
    hooks = yaml.safe_load(text_of(".pre-commit-config.yaml"))
    assert [one["repo"] for one in hooks["repos"]] == ["local"]
    (local,) = hooks["repos"]
    assert {one["language"] for one in local["hooks"]} == {"system"}
    lint = re.search(r"(?m)^lint:.*\n((?:\t.*\n)+)", text_of("Makefile"))
    assert lint is not None
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in lint[1].splitlines()]
    entries = {one["entry"] for one in local["hooks"]}
    assert entries <= set(commands), f"`make lint` does not call {entries - set(commands)}"


def test_the_workflow_runs_what_the_readme_says_and_knows_no_secret() -> None:
    text = text_of(".github/workflows/test.yaml")
    jobs = yaml.safe_load(text)["jobs"]
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert ".ci/run" in commands
    assert "secrets." not in text
    newest = max(jobs["newer"]["strategy"]["matrix"]["python"], key=lambda version: int(version.partition(".")[2]))
    floor = tomllib.loads(text_of("pyproject.toml"))["project"]["requires-python"].removeprefix(">=")
    assert jobs["house"]["steps"][1]["with"]["python-version"] == floor
    assert int(newest.partition(".")[2]) > int(floor.partition(".")[2])


def test_the_evidence_is_two_pages_and_names_every_table() -> None:
    page = text_of("docs/evidence.md")
    assert len(page.split()) < 1200, "a person reads two pages; what is longer belongs into docs/evidence/"
    assert len(TABLES) > 10
    unnamed = [table for table in TABLES if f"](evidence/{Path(table).name})" not in page]
    assert not unnamed, f"docs/evidence.md does not name {', '.join(unnamed)}"


def test_the_advice_quotes_the_evidence() -> None:
    """What a WARNING says leaving is worth is what the page and the table of all sets say."""
    found = measured()
    page, table = text_of("docs/evidence.md"), text_of("docs/evidence/sets.md")
    assert f"{found.grids:,} grids" in page
    rows = [line for line in table.splitlines() if line.startswith("| confirmed WARNING |")]
    for value, low, high in (found.mean, found.worst):
        said = [_as_the_page_writes(one) for one in (value, low, high)]
        assert f"{said[0]} ({said[1]} to {said[2]})" in page
        assert any(f"| {value:.2f} ({low:.2f} … {high:.2f}) " in line for line in rows)


def _as_the_page_writes(value: float) -> str:
    return re.sub(r"(?<=[+-])0(?=\.)", "", f"{value:+.2f}")


@pytest.mark.parametrize("page", PAGES)
def test_no_page_sells_a_shorter_tail_as_skill(page: str) -> None:
    """Whoever leaves before the stop has a shorter tail, where nothing can be known, too."""
    for paragraph in text_of(page).split("\n\n"):
        if "better" in paragraph and re.search(r"worst (5 %|twentieth)", paragraph):
            assert re.search(r"no skill|random signs|placebo|LATEST_ACCEPTABLE_EXIT", paragraph), paragraph
