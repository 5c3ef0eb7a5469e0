"""The text of a grid's file, with what each key means beside it, and markets.yaml with one more market."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from mm_dagster.bars import iso
from mm_dagster.config import written
from mm_dagster.config.grid import GridConfig
from mm_dagster.text import plain_text

_COLUMN = 44
"""Where the comments begin."""


def amount(number: float) -> str:
    """A number as a file has it: never one that may be meant in thousands, as 1.234 may."""
    text = plain_text(number)
    return f"{text}0" if written.is_ambiguous(text) else text


def values_of(grid: GridConfig) -> dict[str, str]:
    """What a grid's file says, by key with dots, as YAML writes it."""
    return {
        "id": grid.id,
        "symbol": grid.symbol,
        "enabled": "true" if grid.enabled else "false",
        "activated_at": iso(grid.activated_at),
        "lower": amount(grid.lower),
        "upper": amount(grid.upper),
        "levels": str(grid.levels),
        "level_convention": grid.level_convention,
        "spacing": grid.spacing,
        "stop": amount(grid.stop),
        "capital": amount(grid.capital),
        "fees.maker": plain_text(grid.fees.maker),
        "fees.taker": plain_text(grid.fees.taker),
        "fees.paid_in": grid.fees.paid_in,
        **({"source.exchange": grid.source.exchange, "source.id": grid.source.id} if grid.source else {}),
    }


def grid_text(grid: GridConfig) -> str:
    """A new file for a grid."""
    quote = grid.symbol.partition("-")[2]
    values = values_of(grid)
    counted = f"{grid.levels} intervals are {grid.levels + 1} prices"
    said = {
        "activated_at": "UTC; when it began to trade",
        "lower": quote,
        "upper": quote,
        "levels": "as the exchange shows it",
        "level_convention": counted if grid.level_convention == "intervals" else "it counts the prices",
        "spacing": "equal differences" if grid.spacing == "arithmetic" else "equal ratios",
        "stop": f"{quote}, below the lower bound",
        "capital": f"{quote} that was put in",
        "fees": "fractions: 0.001 is 0.1 %",
        "source": "the bot that it is, read at every tick",
    }
    fees = ", ".join(f"{key[5:]}: {value}" for key, value in values.items() if key.startswith("fees."))
    lines = [
        "# A changed bound, level or stop is a new episode and needs a new activated_at: `mm grid edit` gives it one."
    ]
    plain = {key: value for key, value in values.items() if "." not in key} | {"fees": f"{{{fees}}}"}
    if grid.source:
        plain["source"] = f'{{exchange: {_scalar("exchange", grid.source.exchange)}, id: "{grid.source.id}"}}'
    for key, value in plain.items():
        line = f"{key}: {_scalar(key, value)}"
        lines.append(f"{line:{_COLUMN}} # {said[key]}" if key in said else line)
    return "\n".join(lines) + "\n"


_NO_WORDS = ("enabled", "lower", "upper", "levels", "stop", "capital", "fees", "activated_at", "source")


def _scalar(key: str, value: str) -> str:
    """A word as YAML reads it back as a word: `on`, or a market of digits, needs quotes."""
    return value if key in _NO_WORDS or _reads_back(value) else f'"{value}"'


def _reads_back(value: str) -> bool:
    try:
        return bool(yaml.safe_load(value) == value)
    except yaml.YAMLError:
        return False


def in_its_line_ends(content: bytes, change: Callable[[str], str]) -> bytes:
    """A file with a change made to its text; what an editor of Windows wrote keeps its line ends."""
    text = content.decode("utf-8")
    ends = "\r\n" if "\r\n" in text else "\n"
    return change(text.replace("\r\n", "\n")).replace("\n", ends).encode("utf-8")


def with_market(text: str, symbol: str, venue: str) -> str:
    """markets.yaml with a market more, and everything else, comments too, as it stands.

    Args:
        text: a valid markets.yaml.
        symbol: the market.
        venue: a venue of the file.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    markets = next((value for key, value in root.value if key.value == "markets"), None)
    assert isinstance(markets, yaml.SequenceNode)
    entry = f"{{symbol: {_scalar('symbol', symbol)}, venue: {_scalar('venue', venue)}}}"
    if markets.flow_style:
        head = text[: markets.end_mark.index - 1].rstrip()
        return f"{head}{'' if head.endswith((',', '[')) else ','} {entry}{text[markets.end_mark.index - 1 :]}"
    end = text.find("\n", _last(markets))
    end = len(text) if end < 0 else end
    return f"{text[:end]}\n{' ' * markets.start_mark.column}- {entry}{text[end:]}"


def _last(node: yaml.Node) -> int:
    """Where the last value of a node ends: a block's own end is where the next key begins."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _last(last[1] if isinstance(last, tuple) else last)
