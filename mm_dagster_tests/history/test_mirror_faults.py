"""What a power loss or another's repository may do to the mirror: it heals, keeps what was committed, obeys nobody."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from mm_dagster.history.mirror import Mirror, MirrorError

TRIALS = 60
SEED = 20261128
PATH = "metrics/eth.yaml"


def run(folder: Path, *command: str, check: bool = True) -> str:
    """What git prints, without anything of ours in its environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = {f"GIT_{who}_{what}": "else@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ("git", "-C", str(folder), "-c", "core.hooksPath=/dev/null", "-c", "protocol.file.allow=always", *command)
    return subprocess.run(command, env=clean | identity, check=check, capture_output=True, text=True).stdout.strip()


def bare(folder: Path) -> Path:
    folder.mkdir()
    run(folder, "init", "--quiet", "--bare", "--initial-branch=main")
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A remote with three of our commits, and a mirror with two more that wait."""
    folder = tmp_path_factory.mktemp("good")
    remote = bare(folder / "remote.git")
    mirror = Mirror(folder / "mirror", str(remote), "main")
    for number in range(5):
        mirror.write({PATH: f"number: {number}\n", f"metrics/{number}.yaml": "x\n"}, f"tick {number}")
        if number == 2:
            mirror.push()
    return folder


def harm(chance: random.Random, directory: Path) -> str:
    """Does what a power loss does to some files of a repository; says what."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and "hooks" not in path.parts)
    done = []
    for path in chance.sample(files, chance.choice((1, 1, 1, 2, 5))):
        path.chmod(0o600)
        kind = chance.choice(("empty", "truncate", "zeros", "flip", "delete", "garbage"))
        content = bytearray(path.read_bytes())
        if kind == "delete":
            path.unlink()
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "truncate":
            path.write_bytes(content[: len(content) // 2])
        elif kind == "zeros":
            path.write_bytes(bytes(len(content)))
        elif kind == "garbage":
            path.write_bytes(chance.randbytes(60))
        elif content:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(content)
        done.append(f"{kind} {path.relative_to(directory)}")
    if chance.random() < 0.3:
        (directory / chance.choice(("index.lock", "HEAD.lock", "packed-refs.lock"))).write_bytes(b"")
        done.append("stale lock")
    return ", ".join(done)


def trial(number: int, good: Path, folder: Path, said: pytest.LogCaptureFixture) -> None:
    said.clear()
    shutil.copytree(good, folder, symlinks=True)
    remote, place = folder / "remote.git", folder / "mirror"
    before = run(good / "mirror", "log", "--format=%H").splitlines()
    pushed = run(good / "remote.git", "log", "--format=%H", "main").splitlines()
    chance = random.Random(SEED + number)
    if chance.random() < 0.3:
        run(place, "gc", "--quiet")
    done = harm(chance, place / ".git")
    mirror = Mirror(place, str(remote), "main")
    what = f"trial {number}: {done}"
    mirror.write({PATH: "number: 99\n"}, "after")
    mirror.push()
    after = run(remote, "log", "--format=%H %s", "main")
    # Where its own repository was too torn to carry it, what it wrote came over without it, see below.
    assert "after" in after or "is set aside as" in said.text, what
    assert set(pushed) <= set(run(remote, "log", "--format=%H", "main").splitlines()), what
    assert run(remote, "show", f"main:{PATH}") == "number: 99", what
    assert run(remote, "fsck", "--no-dangling") == "", what
    # What is not there any more is named, and kept.
    for commit in before:
        if commit not in after:
            assert list(folder.glob("mirror.broken-*")), what
            named = [line for line in said.messages if "is set aside as" in line]
            assert named, what
    for kept in (3, 4):
        assert run(remote, "show", f"main:metrics/{kept}.yaml") == "x", what
    assert mirror.waiting() == 0, what


def test_what_a_power_loss_leaves_heals(good: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8):
        trial(number, good, tmp_path / str(number), caplog)


@pytest.mark.long
def test_what_many_power_losses_leave_heals(good: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8, TRIALS):
        trial(number, good, tmp_path / str(number), caplog)
        shutil.rmtree(tmp_path / str(number))


@pytest.mark.parametrize("name", ["index", "HEAD", "refs/heads/main", "objects", "packed-refs", "config"])
@pytest.mark.parametrize("kind", ["empty", "gone"])
def test_without_a_remote_it_heals_too(name: str, kind: str, tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", None, "main")
    commit = mirror.write({PATH: "number: 1\n"}, "one")
    path = tmp_path / "mirror" / ".git" / name
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    if kind == "empty":
        path.write_bytes(b"")
    mirror.write({"metrics/btc.yaml": "number: 2\n"}, "two")
    folder = tmp_path / "mirror"
    assert run(folder, "show", f"HEAD:{PATH}") == "number: 1"
    assert run(folder, "show", "HEAD:metrics/btc.yaml") == "number: 2"
    assert run(folder, "status", "--porcelain") == ""
    if name != "objects":
        assert str(commit) in run(folder, "log", "--format=%H")
    else:
        assert "set aside as damaged: mirror.broken-1" in mirror.check()


def test_push_says_what_it_did(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", str(bare(tmp_path / "remote.git")), "main")
    assert mirror.push() == "nothing waits"
    mirror.write({PATH: "number: 1\n"}, "one")
    assert mirror.push() == f"1 commits pushed to {tmp_path / 'remote.git'}"


# what others push -----------------------------------------------------------------------------------------------------


def theirs(tmp_path: Path, entries: str) -> Path:
    """A remote whose tree holds entries that no work tree would: mode, type and name, one a line."""
    remote = bare(tmp_path / "remote.git")

    def blob(content: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(remote), "hash-object", "-w", "--stdin"], input=content, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def tree(lines: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(remote), "mktree"], input=lines, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    lines = ""
    for line in filter(None, entries.split("\n")):
        mode, name, content = line.split("|")
        if mode == "160000":
            lines += f"160000 commit {'a' * 40}\t{name}\n"
        elif mode == "040000":
            lines += f"040000 tree {tree(f'100644 blob {blob(content)}{chr(9)}inner')}\t{name}\n"
        else:
            lines += f"{mode} blob {blob(content)}\t{name}\n"
    run(remote, "update-ref", "refs/heads/main", run(remote, "commit-tree", "-m", "theirs", tree(lines)))
    return remote


HOSTILE = {
    "a link in the place of our folder": "120000|metrics|{outside}",
    "a link in the place of our file": "120000|eth.yaml|{outside}/victim",
    "a submodule in the place of our folder": "160000|metrics|",
    "a file in the place of our folder": "100644|metrics|x",
    "a folder in the place of our file": "040000|eth.yaml|x",
    "a twin in capitals": "040000|METRICS|x",
    "git's own folder": "040000|.git|x",
    "git's own folder in capitals": "040000|.GIT|x",
    "a filter": "100644|.gitattributes|* filter=evil diff=evil merge=evil ident\n100644|own.txt|x",
    "another encoding": "100644|.gitattributes|* working-tree-encoding=UTF-16 text eol=crlf",
    "submodules": '160000|sub|\n100644|.gitmodules|[submodule "sub"]',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_others_push_leads_nothing_of_ours_elsewhere(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    ran = tmp_path / "ran"
    (tmp_path / "gitconfig").write_text(
        f'[filter "evil"]\nsmudge = touch {ran}\nclean = touch {ran}\nrequired = true\n'
        f'[merge "evil"]\ndriver = touch {ran}\n[core]\nfsmonitor = touch {ran}\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    remote = theirs(tmp_path, HOSTILE[what].format(outside=outside).replace("\\n", "\n"))
    mirror = Mirror(tmp_path / "mirror", str(remote), "main")
    mirror.write({PATH: "number: 1\n", "eth.yaml": "a\r\nb\n"}, "one")
    said = ""
    try:
        mirror.push()
    except MirrorError as error:
        said = str(error)
        assert "\n" not in said
    mirror.write({PATH: "number: 2\n", "eth.yaml": "a\r\nb\r\n"}, "two")
    try:
        mirror.push()
    except MirrorError as error:
        said = str(error)
    place = remote if not said else tmp_path / "mirror"
    tip = "main" if not said else "HEAD"
    assert run(place, "show", f"{tip}:{PATH}") == "number: 2"
    raw = subprocess.run(["git", "-C", str(place), "show", f"{tip}:eth.yaml"], capture_output=True, check=True).stdout
    assert raw == b"a\r\nb\r\n"
    assert bool(said) is what.startswith("git's own folder")
    assert sorted(path.name for path in outside.iterdir()) == ["victim"]
    assert (outside / "victim").read_text() == "untouched"
    assert not ran.exists()
    assert not [path for path in (tmp_path / "mirror").rglob("*") if path.is_symlink()]


def test_a_link_that_lies_in_the_work_tree_is_replaced_and_not_followed(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", None, "main")
    mirror.write({PATH: "number: 1\n"}, "one")
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "eth.yaml"
    victim.write_text("untouched")
    path = tmp_path / "mirror" / PATH
    for trap in ("file", "folder", "hard link", "dangling"):
        if trap == "folder":
            shutil.rmtree(path.parent)
            path.parent.symlink_to(outside)
        else:
            path.unlink()
            if trap == "hard link":
                os.link(victim, path)
            else:
                path.symlink_to(victim if trap == "file" else outside / "new")
        mirror.write({PATH: f"{trap}\n"}, trap)
        assert path.read_text() == f"{trap}\n"
        assert not path.is_symlink()
    assert victim.read_text() == "untouched"
    assert [one.name for one in outside.iterdir()] == ["eth.yaml"]


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", ".git/hooks/x", "a/.GIT/x", "a//b", ".", "a\nb", ".git. /x"]
)
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match="is no path of a file in the mirror"):
        Mirror(tmp_path / "mirror", None, "main").write({name: "x"}, "one")


def test_a_bundle_with_a_head_on_no_branch_is_one_line_and_none_is_made(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", None, "main")
    mirror.write({PATH: "number: 1\n"}, "one")
    mirror.write({PATH: "number: 2\n"}, "two")
    run(tmp_path / "mirror", "checkout", "--quiet", "--detach", "HEAD~1")
    run(tmp_path / "mirror", "bundle", "create", str(tmp_path / "odd"), "HEAD", "main")
    run(tmp_path / "mirror", "bundle", "create", str(tmp_path / "headless"), "main")
    (tmp_path / "junk").write_bytes(b"# v2 git bundle\nrubbish")
    for name in ("odd", "headless"):
        with pytest.raises(MirrorError, match="its HEAD is on no branch"):
            Mirror(tmp_path / f"from {name}", None, "main").unbundle(tmp_path / name)
    with pytest.raises(MirrorError) as caught:
        Mirror(tmp_path / "from junk", None, "main").unbundle(tmp_path / "junk")
    assert "\n" not in str(caught.value)
    mirror.bundle(tmp_path / "own")
    other = Mirror(tmp_path / "from own", None, "main")
    other.unbundle(tmp_path / "own")
    assert (tmp_path / "from own" / PATH).read_text() == "number: 1\n"
    assert "two" in run(tmp_path / "from own", "log", "--all", "--format=%s")


SURROUNDINGS = {
    "a setting that is counted and not there": {"GIT_CONFIG_COUNT": "1"},
    "settings of the user that are none": {"GIT_CONFIG_GLOBAL": "{folder}/none"},
    "a parameter that is none": {"GIT_CONFIG_PARAMETERS": "'core.x"},
    "no git on the PATH": {"PATH": "{folder}"},
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_git_that_works_nowhere_condemns_no_repository(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Mirror(tmp_path / "mirror", None, "main").write({PATH: "number: 1\n"}, "tick 1")
    before = run(tmp_path / "mirror", "rev-parse", "HEAD")
    (tmp_path / "none").write_text("[user\nname")
    with monkeypatch.context() as wrong:
        for variable, value in SURROUNDINGS[name].items():
            wrong.setenv(variable, value.format(folder=tmp_path))
        with pytest.raises(MirrorError) as refused:
            Mirror(tmp_path / "mirror", None, "main").write({PATH: "number: 2\n"}, "tick 2")
        assert "\n" not in str(refused.value)
        with pytest.raises(MirrorError):
            Mirror(tmp_path / "mirror", None, "main").check()
    assert not list(tmp_path.glob("mirror.broken-*"))
    assert run(tmp_path / "mirror", "rev-parse", "HEAD") == before
    assert Mirror(tmp_path / "mirror", None, "main").write({PATH: "number: 2\n"}, "tick 2")
