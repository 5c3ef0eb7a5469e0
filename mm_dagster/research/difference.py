"""A YAML file with some values changed and everything else, comments too, as it stands."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from mm_dagster.text import plain_text


def changed(text: str, values: Mapping[str, float | str]) -> str:
    """The text with keys set to values.

    Args:
        text: block or flow YAML that holds a mapping, or nothing.
        values: by dotted path within the file; a key that is not there is added beside its nearest relatives. A text
            is taken as YAML has it, a number to six significant digits.
    """
    for path, value in values.items():
        text = _with(text, path.split("."), value if isinstance(value, str) else _number(value))
    return text


def _with(text: str, parts: list[str], value: str) -> str:
    node = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        ended = text if not text or text.endswith("\n") else f"{text}\n"
        return ended + _block(parts, value, 0) + "\n"
    while True:
        child = next((child for key, child in node.value if key.value == parts[0]), None)
        if child is None:
            return _beside(text, node, parts, value)
        parts = parts[1:]
        if not parts or not isinstance(child, yaml.MappingNode):
            before, after = text[: child.start_mark.index], text[child.end_mark.index :]
            gap = " " if before.endswith(":") else ""
            return before + gap + (f"{{{_flow(parts, value)}}}" if parts else value) + after
        node = child


def _beside(text: str, node: yaml.MappingNode, parts: list[str], value: str) -> str:
    """As the first key of a mapping: in front of it no comment can be torn from what it explains."""
    if node.flow_style:
        at = node.start_mark.index + 1
        return f"{text[:at]}{_flow(parts, value)}{', ' if node.value else ''}{text[at:]}"
    first = node.value[0][0].start_mark
    if first.column == 0:
        # At the top of a file the first key may have the file's own words above it: the end is safer.
        return f"{text.rstrip()}\n{_block(parts, value, 0)}\n"
    return f"{text[: first.index]}{_block(parts, value, first.column)}\n{' ' * first.column}{text[first.index :]}"


def _block(parts: list[str], value: str, column: int) -> str:
    """Nested keys one below the other; the first line is not indented, since it stands where a key stood."""
    lines = [f"{' ' * (column + 2 * depth)}{_key(part)}:" for depth, part in enumerate(parts)]
    return "\n".join(lines).lstrip() + f" {value}"


def _flow(parts: list[str], value: str) -> str:
    return f"{_key(parts[0])}: " + (value if len(parts) == 1 else f"{{{_flow(parts[1:], value)}}}")


def _number(value: float) -> str:
    """A value to six significant digits, as YAML reads it back and a person reads it at all."""
    return plain_text(float(f"{value:.6g}"))


def _key(name: str) -> str:
    """A key as YAML reads it back: `on` and `off` alone would be truth values (YAML 1.1)."""
    return name if yaml.safe_load(name) == name else f'"{name}"'
