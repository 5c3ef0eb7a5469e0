"""The ledger of trials: what was ever tried on some days. A study writes it before anybody sees a figure.

A verdict is only given on what the ledger says, so that who tries a hundred ideas cannot forget ninety-nine of them.
Trials on the same days count together whatever the market, since markets move together; simulated ones only among
themselves. The same idea with the same settings on the same prices is one trial however often it is run, so that a
study that is repeated gives the same verdict.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats
from mm_dagster.bars import Span
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.project import Project
from mm_dagster.research import deflation
from mm_dagster.research.promotion import Tried
from mm_dagster.tables import registry
from mm_dagster.tables.registry import CODE_VERSIONS, identity


class Attempt(NamedTuple):
    """An idea that was tried.

    Attributes:
        what: its name.
        what_hash: of its code and settings.
        blocks: what it earned above its control by block, shape (blocks,).
        days: on which it was measured.
    """

    what: str
    what_hash: str
    blocks: Floats
    days: Span


class Data(NamedTuple):
    """What ideas are tried on.

    Attributes:
        symbols: the markets.
        hash: of their prices.
        is_simulated: whether they are made up.
    """

    symbols: Sequence[str]
    hash: str
    is_simulated: bool


def data_of(candles: pl.DataFrame, days: Span, is_simulated: bool) -> Data:
    """Names prices: the same for the same opens and closes of the same markets on the same days."""
    rows = candles.filter(days.opens()).sort("symbol", "open_time").select("symbol", "open_time", "open", "close")
    digest = hashlib.sha256()
    for symbol in (symbols := rows["symbol"].unique().sort().to_list()):
        mine = rows.filter(pl.col("symbol") == symbol)
        digest.update(symbol.encode())
        digest.update(mine["open_time"].dt.epoch("us").to_numpy().tobytes())
        for name in ("open", "close"):
            digest.update(mine[name].fill_null(np.nan).to_numpy().tobytes())
    return Data(symbols, digest.hexdigest()[:16], is_simulated)


def code_hash(source: str, *more: object) -> str:
    """Names code, comments and layout left out, and what it was called with."""
    return identity(ast.dump(ast.parse(source)), *more)


def note(project: Project, study: str, attempts: Sequence[Attempt], data: Data, command: str) -> dict[str, Tried]:
    """Writes trials into the ledger, and says of each what it has to be held against.

    Args:
        project: whose lake keeps the ledger.
        study: strategies or makers.
        attempts: what was tried now; their names differ.
        data: on what.
        command: how it was asked for.

    Returns:
        By name of the idea.

    Raises:
        LakeError: the ledger cannot be written; then there is no verdict.
    """
    kind = "simulated" if data.is_simulated else "real"
    rows = [
        {
            "trial_id": identity(study, one.what_hash, data.hash, one.days.start, one.days.end),
            "study": study,
            "what": one.what,
            "what_hash": one.what_hash,
            "data_hash": data.hash,
            "kind": kind,
            "symbols": ",".join(data.symbols),
            "first": one.days.start,
            "last": one.days.end,
            "ran_at": datetime.now(UTC),
            "command": command,
            "ratio": deflation.ratio(one.blocks) if one.blocks.size > 1 else None,
            "blocks": one.blocks.size,
            "code_version": CODE_VERSIONS["trial"],
        }
        for one in attempts
    ]
    with project.turn_lock():
        frame = registry.conform(pl.DataFrame(rows, infer_schema_length=None), "trial")
        project.lake.upsert("trial", frame, commit=Commit(study, "trial", ""))
    ledger = project.lake.read("trial").filter(pl.col("kind") == kind)
    return {one.what: _tried(ledger, one.days) for one in attempts}


def _tried(ledger: pl.DataFrame, days: Span) -> Tried:
    """All that was tried on days that these overlap."""
    beside = ledger.filter(pl.col("first") < days.end, pl.col("last") > days.start)
    return Tried(beside.height, beside["ratio"].drop_nulls().to_numpy())
