"""How much of the functions in mm_dagster/defs/ knows nothing of Dagster: that belongs to another room.

A function counts with what is nested in it, without its decorators, docstrings and blank lines. It touches Dagster if
it, or a decorator or annotation of it, uses a name imported from dagster, or if a parameter is given by Dagster: a
context, the project or the turn of a run. Prints the share of lines in functions that do not, and each of these
functions; fails above 15 %.

    python .ci/defs_share.py [FOLDER]
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOM = Path(__file__).resolve().parents[1] / "mm_dagster" / "defs"
LIMIT = 15
"""Per cent."""
GIVEN = {"ProjectOfRun", "Turn"}
"""Annotations of what Dagster gives a function, beside its own classes: the resources of defs/resources.py."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def outer_functions(node: ast.AST) -> Iterator[Function]:
    """The functions and methods of a module that stand in no other function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield child
        else:
            yield from outer_functions(child)


def names_of_dagster(module: ast.Module) -> set[str]:
    """What a module calls that which it imports from dagster."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {
                (one.asname or one.name).split(".")[0] for one in node.names if one.name.split(".")[0] == "dagster"
            }
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dagster":
            found |= {one.asname or one.name for one in node.names}
    return found


def touches(function: Function, dagster: set[str]) -> bool:
    """Whether a function, its decorators or its annotations use what is Dagster's."""
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return not used.isdisjoint(dagster | GIVEN)


def lines_of(function: Function, text: list[str]) -> int:
    """The lines of a function, without its decorators, docstrings and blank lines."""
    lines = set(range(function.lineno, (function.end_lineno or 0) + 1))
    for node in ast.walk(function):
        if isinstance(node, Function | ast.ClassDef) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return sum(bool(text[number - 1].strip()) for number in lines)


def main() -> int:
    """Prints the share; 1 if it is above the limit."""
    room = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOM
    total = 0
    strangers: list[tuple[int, str]] = []
    for path in sorted(room.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        module, text = ast.parse(source), source.splitlines()
        dagster = names_of_dagster(module)
        for function in outer_functions(module):
            lines = lines_of(function, text)
            total += lines
            if not touches(function, dagster):
                strangers.append((lines, f"{path.relative_to(room)}:{function.lineno} {function.name}"))
    apart = sum(lines for lines, _ in strangers)
    share = 100 * apart / total if total else 0.0
    for lines, where in sorted(strangers, reverse=True):
        print(f"{lines:5d} {where}")
    print(f"{apart} of {total} function lines in {room.name}/ touch no Dagster name: {share:.1f} % (limit {LIMIT} %)")
    return int(share > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
