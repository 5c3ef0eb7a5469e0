"""A real recorder's process: what comes in by a pipe is said to be received, and kept. It is killed at any moment."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

from mm_dagster.recorder.log import Log

NUMBER = struct.Struct("<Q")
STEP_NS = 400_000_000
"""Between two messages: a quarter hour has 2,250."""


def main(folder: str, start_ns: int, first: int) -> None:
    """Keeps numbers from standard input, at a clock that goes by them; says each on standard output before."""
    last = [start_ns + (first - 1) * STEP_NS]
    log = Log(Path(folder), lambda: last[-1].to_bytes(8, "little"), lambda: last[-1])
    os.write(1, NUMBER.pack(0))
    while len(data := os.read(0, NUMBER.size)) == NUMBER.size:
        os.write(1, data)
        (number,) = NUMBER.unpack(data)
        last[-1] = start_ns + number * STEP_NS
        log.append("depth", data + bytes(number % 300), last[-1])
    log.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
