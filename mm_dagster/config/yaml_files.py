"""The YAML files of a configuration folder as plain values, whatever stands there and whoever writes at the moment.

What is hidden (`.#grid.yaml`, `._grid.yaml`, `.grid.yaml.swp`) and what is no regular file (a folder named `old.yaml`,
a pipe, a socket) is none of ours; a link to a regular file is read. Nothing here waits: a pipe is never opened.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Collection, Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from mm_dagster.config.errors import ConfigError, foreseen

FILE_BYTES = 128 * 1024
"""The longest file: a market takes 40 bytes, a grid 300, and a parser must not be fed for minutes."""
MOST_FILES = 2_000
"""Files of a folder: more are no configuration."""
MOST_VALUES = 20_000
"""Values of a file with every alias written out: ten aliases of ten aliases ... are a bomb."""
DEEPEST = 20
"""Levels of nesting; the models have five."""
READINGS = 8
"""How often a folder is read until two readings agree."""
PAUSE_SECONDS = 0.02
"""Before a folder that changed meanwhile is read again."""

SUFFIXES = (".yaml", ".yml")


def read_folder(folder: Path, known: Collection[str]) -> dict[Path, bytes]:
    """The content of every YAML file of a configuration folder and of its `grids/`, all of one moment.

    An editor may write in place, and a folder may be exchanged, while we read: two readings must agree.

    Args:
        folder: the configuration folder.
        known: names of the files that must be regular ones if they are there.

    Raises:
        ConfigError: the folder or one of its files cannot be read, or it does not come to rest.
    """
    before: dict[Path, bytes | str] | None = None
    for attempt in range(READINGS):
        if attempt > 1:
            time.sleep(PAUSE_SECONDS)
        found = _reading(folder, known)
        if found == before:
            break
        before = found
    else:
        raise ConfigError(f"{folder}: is being written to at this moment; it is read again at the next run")
    for path, content in found.items():
        if isinstance(content, str):
            raise ConfigError(f"{path}: {content}")
    return {path: content for path, content in found.items() if isinstance(content, bytes)}


def _reading(folder: Path, known: Collection[str]) -> dict[Path, bytes | str]:
    """One reading: the content of each file, or, as text, why it cannot be had."""
    found: dict[Path, bytes | str] = {}
    grids = folder / "grids"
    for place, must in ((folder, known), (grids, ())):
        if place is grids and not os.path.lexists(grids):
            continue
        try:
            names = sorted(os.listdir(place))  # noqa: PTH208
        except OSError as error:
            return {place: _why_no_folder(place, error)}
        ours = [name for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES]
        if len(ours) > MOST_FILES:
            return {place: f"holds {len(ours)} YAML files, more than {MOST_FILES}; is it the right folder?"}
        for name in ours:
            content = _content(place / name, name in must)
            if content is not None:
                found[place / name] = content
    return found


def _why_no_folder(place: Path, error: OSError) -> str:
    if place.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP):
        return "is a link that leads nowhere; let it point to a folder"
    if isinstance(error, FileNotFoundError):
        return "no such folder; set MM_CONFIG_DIR to one with a markets.yaml, or make a home with `mm init`"
    if isinstance(error, NotADirectoryError):
        return "is no folder; put YAML files into a folder of this name"
    return f"cannot be read: {error.strerror}; let the user who runs this read it"


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def _content(path: Path, must: bool) -> bytes | str | None:
    """The bytes of a regular file; why they cannot be had; None: it is none of ours, or gone meanwhile."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind != stat.S_IFREG:
            return f"is {_KINDS.get(kind, 'a device')} and no file; put a file there" if must else None
        # What became a pipe since then is not waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            with open(handle, "rb", closefd=False) as file:
                content = file.read(FILE_BYTES + 1)
        finally:
            os.close(handle)
    except OSError as error:
        if path.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return f"is a link to {path.readlink()}, which is not there; put the file back, or delete the link"
        if isinstance(error, FileNotFoundError):
            return None
        return f"cannot be read: {error.strerror}; let the user who runs this read it"
    if len(content) > FILE_BYTES:
        return f"is longer than {FILE_BYTES // 1024} KiB; a configuration file is not"
    return content


# YAML -----------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the plain words of YAML 1.2: `on` is a word, 22:00 no number, 010 is ten.

    A key given twice is an error and not a silent choice, and so is a key that is no word.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _WORD:
                given = key_node.value if isinstance(key_node, yaml.ScalarNode) else "that is a list or a mapping"
                raise _refused(f"the key {given} is no word; write it in quotes, or leave it out", key_node)
            if key_node.value in seen:
                raise _refused(f"the key {key_node.value!r} is given twice; keep one", key_node)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        digits = str(self.construct_scalar(node)).replace("_", "").lower()
        based = digits.lstrip("+-")[:2] in ("0x", "0b")
        return int(digits, 0 if based else 10)


_WORD, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_PLAIN = {
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
# YAML 1.1 reads yes, no, on and off as booleans, 22:00 as 1320 and 010 as eight; YAML 1.2 does not.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _PLAIN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

_NEVER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Characters that no value of ours has."""


def parse(path: Path, content: bytes) -> dict[str, Any] | None:
    """The keys of a file; None: there is nothing but blanks and comments in it.

    Raises:
        ConfigError: it is no YAML, or holds what no configuration does.
    """
    with foreseen(path):
        try:
            loader = _Loader(content.decode("utf-8"))
            try:
                node = loader.get_single_node()
                if node is None:
                    return None
                _weigh(node, {}, [])
                values = loader.construct_document(node)
            finally:
                loader.dispose()
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{path}: not readable as YAML: byte {error.start + 1} is no UTF-8; save it as UTF-8"
            ) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" line {mark.line + 1}" if mark else ""
            raise ConfigError(
                f"{path}:{where} not readable as YAML: {getattr(error, 'problem', None) or error}"
            ) from None
        except ValueError as error:
            raise ConfigError(f"{path}: {_where(node, error) if node else error}") from None
    if values is None:
        return None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {values!r:.60}; it must hold keys, like `id: eth-v3`")
    return values


def texts(content: bytes) -> dict[str, str]:
    """What stands in a file that can be parsed, as it is written there, by key with dots."""
    node = _Loader(content.decode("utf-8")).get_single_node()
    return {key: scalar.value for key, scalar in _scalars(node, "")} if node else {}


def _refused(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _weigh(node: yaml.Node, known: dict[int, tuple[int, int]], above: list[yaml.Node]) -> tuple[int, int]:
    """How many values a node stands for with its aliases written out, and how deep they are.

    Raises:
        ConstructorError: too many, too deep, without an end, or a character that no value has.
    """
    if id(node) in known:
        return known[id(node)]
    if any(node is one for one in above):
        raise _refused("it refers to itself; write the values out", node)
    if isinstance(node, yaml.ScalarNode):
        if _NEVER.search(node.value):
            raise _refused(f"{node.value!r:.40} holds a line break or a control character; leave it out", node)
        weight = (1, 1)
    else:
        parts = [_weigh(part, known, [*above, node]) for part in _parts(node)]
        weight = (1 + sum(size for size, _ in parts), 1 + max((depth for _, depth in parts), default=0))
        if weight[0] > MOST_VALUES:
            raise _refused(f"it stands for more than {MOST_VALUES:,} values; write less, or fewer aliases", node)
        if weight[1] > DEEPEST or len(above) > DEEPEST:
            raise _refused(f"it is nested deeper than {DEEPEST} levels; write it as the reference shows", node)
    known[id(node)] = weight
    return weight


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    for part in node.value:
        if isinstance(part, tuple):
            yield from part
        else:
            yield part


def _where(node: yaml.Node, error: ValueError) -> str:
    """Which key holds what cannot be constructed, like the 31st of June."""
    for key, value in _scalars(node, ""):
        try:
            _Loader("").construct_object(value)
        except ValueError as own:
            return f"{key}: {value.value:.80} is wrong: {own}"
    return f"cannot be read: {error}"


def _scalars(node: yaml.Node, key: str) -> Iterator[tuple[str, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield key, node
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _scalars(value, f"{key}.{name.value}" if key else str(name.value))
    else:
        for number, value in enumerate(node.value):
            yield from _scalars(value, f"{key}.{number}" if key else str(number))
