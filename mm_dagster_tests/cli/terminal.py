"""A command on a terminal of its own, and a person who answers what it asks."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS = 240.0
"""For all of it: a busy computer is no failure."""

AGAIN_SECONDS = 5.0
"""After so long a person presses Ctrl-C once more."""


def on_terminal(
    command: Sequence[str],
    answers: Sequence[tuple[str, str]],
    *,
    own: Mapping[str, str],
    cwd: Path,
    columns: int = 110,
) -> tuple[int, str]:
    """The exit code, and all that stood on the terminal, what was typed too.

    Args:
        command: a Python program and its arguments.
        answers: for each question a part of it, and what is then typed: text with its line end, or a control character.
        own: its environment.
        cwd: where it is called.
        columns: how wide the terminal is.
    """
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

    def take_the_terminal() -> None:
        # So that Ctrl-C reaches it.
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    with subprocess.Popen(
        [sys.executable, *command],
        env=dict(own), cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=take_the_terminal,
    ) as process:  # fmt: skip
        os.close(theirs)
        seen, read_to, ends, left = "", 0, time.monotonic() + SECONDS, list(answers)
        typed, since = "", time.monotonic()
        # A letter of several bytes may come in two parts.
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while time.monotonic() < ends:
            if not select.select([mine], [], [], 1.0)[0]:
                # Between a question and the wait for its answer Python notes a Ctrl-C and waits on: one presses again.
                if typed == "\x03" and not left and time.monotonic() - since > AGAIN_SECONDS:
                    os.write(mine, typed.encode())
                    since = time.monotonic()
                continue
            try:
                part = os.read(mine, 65_536)
            except OSError:  # Linux says so that nobody is on the other side any more
                break
            if not part:
                break
            seen += decoder.decode(part)
            # A question ends with a blank, which comes a moment after its words: what is typed stands behind it.
            if left and left[0][0] in seen[read_to:] and _plain(seen).rstrip("\r").endswith(" "):
                read_to = len(seen)
                typed, since = left.pop(0)[1], time.monotonic()
                os.write(mine, typed.encode())
        else:
            process.kill()
            raise AssertionError(f"it did not end; it said:\n{seen}")
        code = process.wait(30)
    os.close(mine)
    assert not left, f"nothing asked for {left[0][0]!r}; it said:\n{seen}"
    return code, _plain(seen.replace("\r\n", "\n"))


def _plain(text: str) -> str:
    """Without colours and other orders to the terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
