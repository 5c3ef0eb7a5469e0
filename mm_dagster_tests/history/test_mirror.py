"""The mirror loses no commit, asks nobody, and depends on nobody's git settings."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from mm_dagster.history import mirror as module
from mm_dagster.history.mirror import Mirror, MirrorError

PATH = "metrics/2026/02/01/0015_ETH-USDT.yaml"
OTHER = "metrics/2026/02/01/0030_ETH-USDT.yaml"


def run(folder: Path, *command: str) -> str:
    """What git prints, without anything of ours in its environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = {f"GIT_{who}_{what}": "else@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", str(folder), *command], env=clean | identity, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


ENDLESS = """
import sys
from pathlib import Path
from mm_dagster.history.mirror import Mirror
mirror = Mirror(Path(sys.argv[1]), sys.argv[2], "main")
for number in range(10_000):
    mirror.write({f"{number}.yaml": "x", "newest.yaml": str(number)}, str(number))
    mirror.push()
    print(number, flush=True)
"""


@pytest.fixture(autouse=True)
def hostile_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who signs, hooks, ignores and renames: none of it may matter."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "commit-msg", "prepare-commit-msg", "pre-push", "pre-merge-commit"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    (tmp_path / "ignored").write_text("*.yaml\n")
    (tmp_path / "gitconfig").write_text(
        "[commit]\ngpgSign = true\n[gpg]\nprogram = false\n[user]\nname = Somebody\nuseConfigOnly = true\n"
        f"[core]\nhooksPath = {hooks}\nexcludesFile = {tmp_path / 'ignored'}\nautocrlf = true\n"
        "[init]\ndefaultBranch = trunk\n[merge]\nff = only\n[pull]\nrebase = true\n[push]\ndefault = nothing\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "somewhere else"))


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote.git"
    folder.mkdir()
    run(folder, "init", "--quiet", "--bare", "--initial-branch=main")
    run(folder, "config", "core.hooksPath", str(folder / "hooks"))
    return folder


def test_what_is_written_is_committed_once_by_us_on_the_branch(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", None, "snapshots")
    commit = mirror.write({PATH: "price: 1\n", OTHER: "größe: 2\n"}, "# two files")
    folder = tmp_path / "mirror"
    assert run(folder, "log", "-1", "--format=%H|%an <%ae>|%cn|%s|%D") == (
        f"{commit}|mm_dagster <mm_dagster@localhost>|mm_dagster|# two files|HEAD -> snapshots"
    )
    assert run(folder, "show", f"HEAD:{OTHER}") == "größe: 2"
    assert (folder / PATH).read_bytes() == b"price: 1\n"
    assert mirror.write({PATH: "price: 1\n"}, "again") is None
    assert mirror.write({PATH: "price: 2\n"}, "news") not in (None, commit)
    assert run(folder, "rev-list", "--count", "HEAD") == "2"
    assert run(folder, "status", "--porcelain", "--ignored") == ""


def test_without_a_remote_nothing_waits_and_nothing_is_pushed(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", None, "main")
    assert mirror.waiting() == 0
    assert not (tmp_path / "mirror").exists()
    mirror.write({PATH: "price: 1\n"}, "one")
    mirror.push()
    assert mirror.waiting() == 0
    assert "set mirror.remote" in mirror.check()


def test_commits_wait_until_the_remote_has_them(tmp_path: Path, remote: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", str(remote), "main")
    for number in range(3):
        mirror.write({PATH: f"price: {number}\n"}, f"tick {number}")
    assert mirror.waiting() == 3
    assert mirror.check() == f"{remote} answers; 3 commits wait"
    mirror.push()
    assert mirror.waiting() == 0
    assert run(remote, "log", "--format=%s", "main") == "tick 2\ntick 1\ntick 0"


def test_a_refusing_remote_is_one_line_and_loses_nothing(tmp_path: Path, remote: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", str(remote), "main")
    mirror.write({PATH: "price: 1\n"}, "one")
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho the disk is full >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(MirrorError, match=r"remote: the disk is full.*; 1 commits wait in ") as raised:
        mirror.push()
    assert "\n" not in str(raised.value)
    assert mirror.waiting() == 1
    hook.unlink()
    mirror.push()
    assert mirror.waiting() == 0


def test_another_remote_has_nothing_of_ours_yet(tmp_path: Path, remote: Path) -> None:
    folder = tmp_path / "mirror"
    first = Mirror(folder, str(remote), "main")
    first.write({PATH: "price: 1\n"}, "one")
    first.push()
    run(tmp_path, "clone", "--quiet", "--bare", str(remote), str(tmp_path / "second.git"))
    run(tmp_path / "second.git", "update-ref", "-d", "refs/heads/main")
    second = Mirror(folder, str(tmp_path / "second.git"), "main")
    assert (first.waiting(), second.waiting()) == (0, 1)
    second.push()
    assert run(tmp_path / "second.git", "rev-list", "--count", "main") == "1"


def test_what_another_clone_pushed_is_joined_and_our_files_stay_whole(tmp_path: Path, remote: Path) -> None:
    ours, theirs = (Mirror(tmp_path / name, str(remote), "main") for name in ("ours", "theirs"))
    ours.write({PATH: "a: 1\nb: 1\nc: 1\n", "kept.yaml": "x: 1\n"}, "base")
    ours.push()
    theirs.write({OTHER: "of: theirs\n"}, "unrelated beginning")
    theirs.push()

    theirs.write({PATH: "a: 2\nb: 1\nc: 1\n", "theirs.yaml": "t: 1\n"}, "theirs")
    run(tmp_path / "theirs", "rm", "--quiet", "kept.yaml")
    run(tmp_path / "theirs", "-c", "core.hooksPath=", "commit", "--quiet", "--no-gpg-sign", "-m", "they delete")
    theirs.push()
    ours.write({PATH: "a: 1\nb: 1\nc: 3\n", "kept.yaml": "x: 2\n"}, "ours")
    ours.push()

    assert ours.waiting() == 0
    assert run(remote, "show", f"main:{PATH}") == "a: 1\nb: 1\nc: 3"
    assert run(remote, "show", "main:kept.yaml") == "x: 2"
    assert run(remote, "show", "main:theirs.yaml") == "t: 1"
    assert {"theirs", "they delete", "ours"} <= set(run(remote, "log", "--format=%s", "main").splitlines())
    assert run(tmp_path / "ours", "status", "--porcelain") == ""
    theirs.write({OTHER: "of: theirs again\n"}, "more")
    theirs.push()
    assert (tmp_path / "theirs" / PATH).read_text() == "a: 1\nb: 1\nc: 3\n"


def test_what_a_killed_process_left_is_cleared(tmp_path: Path, remote: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", str(remote), "main")
    mirror.write({PATH: "price: 1\n"}, "one")
    git = tmp_path / "mirror" / ".git"
    for name in (
        "index.lock",
        "HEAD.lock",
        "config.lock",
        "refs/heads/main.lock",
        "packed-refs.lock",
        "objects/maintenance.lock",
    ):
        (git / name).touch()
    (git / "fresh.tmp").write_text("half a f")
    mirror.waiting()
    assert list(git.rglob("*.lock")) == []
    assert mirror.write({PATH: "price: 2\n"}, "two") is not None
    mirror.push()
    assert run(remote, "show", f"main:{PATH}") == "price: 2"


def test_a_kill_at_any_moment_loses_no_commit_that_was_reported(tmp_path: Path, remote: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", str(remote), "main")
    command = [sys.executable, "-c", ENDLESS, str(tmp_path / "mirror"), str(remote)]
    for kill in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as writer:
            assert writer.stdout is not None
            reported = int(writer.stdout.readline())
            with contextlib.suppress(subprocess.TimeoutExpired):
                writer.wait(0.011 * kill)  # each kill meets another command of git
            os.killpg(writer.pid, signal.SIGKILL)
        for lock in remote.rglob("*.lock"):
            lock.unlink()  # a remote on this disk was killed too; a server is not
        mirror.write({f"after/{kill}": "x"}, "after")
        mirror.push()
        assert mirror.waiting() == 0
        files = run(remote, "ls-tree", "-r", "--name-only", "main").splitlines()
        assert {f"{number}.yaml" for number in range(reported + 1)} | {f"after/{kill}"} <= set(files)
    run(remote, "fsck", "--strict")


def test_a_join_that_was_interrupted_is_finished(tmp_path: Path, remote: Path) -> None:
    ours, theirs = (Mirror(tmp_path / name, str(remote), "main") for name in ("ours", "theirs"))
    ours.write({PATH: "a: 1\n"}, "ours")
    theirs.write({PATH: "a: 2\n", OTHER: "b: 1\n"}, "theirs")
    theirs.push()
    folder = tmp_path / "ours"
    run(folder, "fetch", "--quiet", str(remote), "main")
    merge = ("merge", "--no-ff", "--no-commit", "--allow-unrelated-histories", "-Xours", "FETCH_HEAD")
    run(folder, *merge)
    assert (folder / ".git" / "MERGE_HEAD").exists()
    ours.write({"new.yaml": "n: 1\n"}, "after")
    ours.push()
    assert run(remote, "show", f"main:{PATH}") == "a: 1"
    assert run(remote, "show", f"main:{OTHER}") == "b: 1"


def test_processes_take_turns_by_the_lock_beside_the_folder(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", None, "main")
    thread = threading.Thread(target=lambda: mirror.write({PATH: "price: 1\n"}, "one"))
    with FileLock(tmp_path / "mirror.lock"):
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert not (tmp_path / "mirror" / PATH).exists()
    thread.join()
    assert (tmp_path / "mirror" / PATH).exists()


def test_a_remote_that_went_away_gets_all_when_it_is_back(tmp_path: Path, remote: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", str(remote), "main")
    mirror.write({PATH: "price: 1\n"}, "one")
    away = remote.rename(tmp_path / "away")
    for number in (2, 3):
        with pytest.raises(MirrorError, match=f"{number - 1} commits wait in ") as raised:
            mirror.push()
        assert str(raised.value).startswith(f"{remote}: ")
        assert "\n" not in str(raised.value)
        mirror.write({PATH: f"price: {number}\n"}, "more")
    with pytest.raises(MirrorError, match=r"^mirror\.remote: .*remote\.git"):
        mirror.check()
    away.rename(remote)
    mirror.push()
    assert run(remote, "rev-list", "--count", "main") == "3"


def test_a_remote_whose_history_was_replaced_is_joined(tmp_path: Path, remote: Path) -> None:
    ours, theirs = (Mirror(tmp_path / name, str(remote), "live/ours") for name in ("ours", "theirs"))
    ours.write({PATH: "a: 1\n"}, "ours")
    ours.push()
    run(remote, "update-ref", "-d", "refs/heads/live/ours")
    theirs.write({OTHER: "b: 1\n"}, "theirs")
    theirs.push()
    ours.write({"new.yaml": "n: 1\n"}, "again")
    ours.push()
    assert run(remote, "ls-tree", "-r", "--name-only", "live/ours").splitlines() == [PATH, OTHER, "new.yaml"]
    assert run(remote, "for-each-ref", "--format=%(refname)") == "refs/heads/live/ours"


def test_paths_mean_themselves_and_no_files_are_no_commit(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", None, "main")
    assert mirror.write({"*": "1", "-n": "2", ":(top)a": "3", "a b/é": "4"}, "- many") is not None
    assert mirror.write({}, "none") is None
    assert run(tmp_path / "mirror", "ls-tree", "-rz", "--name-only", "HEAD").split("\0")[:-1] == [
        "*", "-n", ":(top)a", "a b/é",
    ]  # fmt: skip


class Locked(http.server.BaseHTTPRequestHandler):
    """A server that wants a password."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def locked_server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Locked) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("credentials", ["", "bob:s3cret@", "s3cret@", "bob:p@s3cret@"])
def test_credentials_are_never_asked_for_stored_or_shown(tmp_path: Path, locked_server: str, credentials: str) -> None:
    mirror = Mirror(tmp_path / "mirror", f"http://{credentials}{locked_server}/x.git", "main")
    mirror.write({PATH: "price: 1\n"}, "one")
    for action in (mirror.push, mirror.check):
        with pytest.raises(MirrorError, match=locked_server) as raised:
            action()
        assert "s3cret" not in "".join(traceback.format_exception(raised.value))
        assert "\n" not in str(raised.value)
    stored = [path.read_bytes() for path in (tmp_path / "mirror" / ".git").rglob("*") if path.is_file()]
    assert not any(b"s3cret" in text for text in stored)
    assert mirror.waiting() == 1


def test_a_silent_remote_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMOTE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        mirror = Mirror(tmp_path / "mirror", f"git://127.0.0.1:{server.getsockname()[1]}/x.git", "main")
        mirror.write({PATH: "price: 1\n"}, "one")
        with pytest.raises(MirrorError, match=r"did not complete in 0\.5 secs"):
            mirror.push()
    assert mirror.waiting() == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MirrorError, match=r"file/mirror: .*Not a directory"):
        Mirror(tmp_path / "file" / "mirror", None, "main").write({PATH: "price: 1\n"}, "one")
