"""Which grids to run, how much in each, and how wide: each question measured on the recorded candles.

ranking: does one of 35 rankings of the markets find the better grids? allocation: does one of 12 rules of weights do
better than equal weights at the same risk? parameters: does a backtest of a week choose width, levels and stop?
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from benchmarks.evidence.page import ClaimError
from benchmarks.portfolio import allocation, page, parameters, ranking
from benchmarks.portfolio.laid_out import NAMES, lay_out, markets
from benchmarks.portfolio.ranking import LEAST_MARKETS
from benchmarks.shared import SHARED

QUESTIONS = ("ranking", "allocation", "parameters")
EXAMPLES = """examples:
  python -m benchmarks.portfolio ranking
  python -m benchmarks.portfolio allocation --sets kucoin-2025 binance-2022
  python -m benchmarks.portfolio parameters --sets kraken-2023 --json
  python -m benchmarks.portfolio --out docs/evidence/portfolio.md    (all three, as a chapter of the evidence)

The recordings are read from the folder that MM_SHARED_DATA names.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.portfolio",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("questions", nargs="*", metavar="question", help=f"{', '.join(QUESTIONS)}; default: all three")
    parser.add_argument(
        "--sets", nargs="+", metavar="SET", help=f"some of {', '.join(NAMES)}; default: all with markets enough"
    )
    parser.add_argument("--json", action="store_true", help="figures for programs, instead of tables")
    parser.add_argument("--out", type=Path, help="where to write the chapter; needs all questions and all sets")
    arguments = parser.parse_args()
    questions = arguments.questions or QUESTIONS
    if unknown := [one for one in questions if one not in QUESTIONS]:
        parser.error(f"there is no question {unknown[0]!r}; there are {', '.join(QUESTIONS)}")
    if unknown := [one for one in arguments.sets or () if one not in NAMES]:
        parser.error(f"there is no set {unknown[0]!r}; there are {', '.join(NAMES)}")
    if arguments.out and (arguments.sets or set(questions) != set(QUESTIONS)):
        parser.error("--out writes the whole chapter: give neither a question nor --sets")
    asked = [NAMES[name] for name in arguments.sets or NAMES]
    if absent := [one.name for one in asked if not markets(one)]:
        parser.error(f"{absent[0]} is not in {SHARED}; set MM_SHARED_DATA to the folder of the recordings")
    if "parameters" not in questions:
        few = [one.name for one in asked if markets(one) < LEAST_MARKETS]
        asked = [one for one in asked if one.name not in few]
        if few and arguments.sets:
            parser.error(f"{few[0]} has fewer than {LEAST_MARKETS} markets: there is nothing to choose among")
    begun = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - begun:5.0f} s  {text}", file=sys.stderr, flush=True)

    laid_out = lay_out(asked, "parameters" in questions, progress)
    found: dict[str, Any] = {}
    for question in questions:
        if question == "parameters":
            found[question] = parameters.measure(laid_out.tried)
        elif laid_out.pairs:
            found[question] = (ranking if question == "ranking" else allocation).measure(laid_out.pairs)
        progress(f"{question} measured")
    if arguments.json:
        print(json.dumps(plain(found), indent=1))
    elif not arguments.out:
        print("\n\n".join(page.SECTIONS[question](one) for question, one in found.items()))
    if arguments.out:
        try:
            text = page.write(*(found[question] for question in QUESTIONS))
        except ClaimError as error:
            sys.exit(str(error))
        arguments.out.write_text(text)
        progress(f"{arguments.out} written")


def plain(value: object) -> Any:
    """What JSON can say: NaN is null, a set of parameters its name."""
    if isinstance(value, parameters.Parameters):
        return str(value)
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict()) | ({"passes": value.passes} if hasattr(value, "passes") else {})
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


if __name__ == "__main__":
    main()
