"""How it is installed: the pins that travel along, what the workflows may publish, what takes it away again."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm_dagster import cli, environment
from mm_dagster.cli import installation
from mm_dagster_tests.conftest import PROJECT

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yaml"))
PINNED = re.compile(r"uses: (?:\./\.github/workflows/[a-z]+\.yaml|[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)")


def workflow(name: str) -> dict[Any, Any]:
    return dict(yaml.safe_load((PROJECT / ".github" / "workflows" / name).read_text()))


# pins -----------------------------------------------------------------------------------------------------------------


def test_the_constraints_are_what_the_image_installs_without_the_hashes() -> None:
    """pip takes a file of constraints with hashes for a demand that everything has one."""
    with_hashes = (PROJECT / "deploy" / "requirements.txt").read_text()
    kept = re.findall(r"(?m)^([a-z0-9._-]+==[^\\\n]*[^\\\s])", with_hashes)
    assert (PROJECT / installation.PINS).read_text().splitlines() == kept
    assert len(kept) > 100


class Installed:
    """What importlib.metadata gives of a package."""

    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version


def test_packages_that_the_tests_did_not_run_with_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(*found: Installed) -> str:
        monkeypatch.setattr("importlib.metadata.distributions", lambda: iter(found))
        return installation.packages()

    pins = dict(re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)$", (PROJECT / installation.PINS).read_text()))
    right = [Installed(name.replace("-", "_").title(), version) for name, version in pins.items()]
    assert say(*right) == f"{len(pins)} packages, each of the version that the tests ran with"
    # Nobody pinned it, so nothing is said of it.
    assert say(Installed("mine", "1"), *right) == say(*right)
    other = say(*right[1:], Installed(next(iter(pins)), "0"))
    assert other.startswith(f"1 of {len(pins)} packages are not of the version that the tests ran with: ")
    assert f": {next(iter(pins))} 0; as constraints {PROJECT / installation.PINS}" in other
    assert " and 2 more; " in say(*right[7:], *(Installed(name, "0") for name in list(pins)[:7]))
    # numpy is pinned once for each of two versions of Python.
    versions = re.findall(r"(?m)^numpy==(\S+)", (PROJECT / installation.PINS).read_text())
    assert [say(Installed("numpy", one)) for one in versions] == [
        "1 package, each of the version that the tests ran with"
    ] * len(versions)
    assert len(versions) > 1


# how it was installed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "files", "removed_by", "kept_by"),
    [
        ("pipx/venvs/mm-dagster", {"pipx_metadata.json": "{}"}, "pipx uninstall mm-dagster", None),
        ("cache/pipx/1f", {"pipx_metadata.json": "{}"}, "rm -r {prefix}", "pipx install mm-dagster"),
        ("tools/mm-dagster", {"uv-receipt.toml": ""}, "uv tool uninstall mm-dagster", None),
        ("uv/archive-v0/x", {"pyvenv.cfg": "uv = 0.9\n"}, "uv cache prune", "uv tool install mm-dagster"),
        ("venv", {"pyvenv.cfg": "uv = 0.9\n"}, f"uv pip uninstall --python {sys.executable} mm-dagster", None),
        ("pipx lookalike", {"pyvenv.cfg": ""}, f"{sys.executable} -m pip uninstall mm-dagster", None),
        ("none", {}, f"{sys.executable} -m pip uninstall mm-dagster", None),
    ],
)
def test_what_installed_it_takes_it_away(
    place: str, files: dict[str, str], removed_by: str, kept_by: str | None,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    prefix = tmp_path / place
    prefix.mkdir(parents=True)
    for name, text in files.items():
        (prefix / name).write_text(text)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(environment, "is_installed", lambda: True)
    found = installation.installation()
    assert (found.path, found.removed_by) == (prefix, removed_by.format(prefix=prefix))
    assert found.cache_cleared_by == ("uv cache clean" if "uv =" in files.get("pyvenv.cfg", "") else "pip cache purge")
    installation.say_how_to_keep_it()
    said = capsys.readouterr().err
    assert said == (f"note: this call leaves no command mm behind; `{kept_by}` does\n" if kept_by else "")


def test_a_checkout_needs_no_installer() -> None:
    found = installation.installation()
    assert (found.path, found.cache_cleared_by, found.kept_by) == (PROJECT, None, None)


def test_windows_itself_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match=r"^error: mm_dagster does not run on Windows itself; run it in WSL 2"):
        cli.main()


# workflows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_and_every_target_of_make_exists(path: Path) -> None:
    text = path.read_text()
    used = re.findall(r"uses: .*", text)
    assert used
    assert [line for line in used if not PINNED.fullmatch(line)] == []
    targets = set(re.findall(r"(?m)^([a-z-]+):", (PROJECT / "Makefile").read_text()))
    assert set(re.findall(r"run: make ([a-z-]+)", text)) <= targets
    commands = {
        command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback
    }
    assert set(re.findall(r"\bmm (?:\w+ )?(demo|doctor|init|health)\b", text)) <= commands
    # What somebody writes into a branch's or a tag's name is never a part of a script.
    scripts = [
        step["run"] for job in workflow(path.name)["jobs"].values() for step in job.get("steps", []) if "run" in step
    ]
    assert [script for script in scripts if "${{" in script] == []


def test_nothing_is_published_but_by_a_tag_and_by_consent() -> None:
    release = workflow("release.yaml")
    jobs = release["jobs"]
    assert release["permissions"] == {"contents": "read"}
    writers = {name for name, job in jobs.items() if "write" in job.get("permissions", {}).values()}
    assert writers == {"pypi", "registry", "page"}
    assert jobs["agreed"]["if"] == "github.ref_type == 'tag' && vars.PUBLISH == 'yes'"
    assert jobs["agreed"]["steps"][-1]["run"] == 'test -f "dist/mm_dagster-${GITHUB_REF_NAME#v}-py3-none-any.whl"'
    assert set(jobs["agreed"]["needs"]) == {"test", "wheel", "try", "image"}
    for name in writers:
        assert jobs[name]["environment"] == "release"
        # A condition of its own could let it run although what it needs did not.
        assert "if" not in jobs[name]
        needs = jobs[name]["needs"]
        assert needs == "agreed" or set(needs) <= writers
    assert "secrets." not in str({name: job for name, job in jobs.items() if name not in writers})
    for path in WORKFLOWS:
        if path.name != "release.yaml":
            assert "write" not in str(workflow(path.name))
