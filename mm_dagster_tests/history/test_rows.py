"""The replacement of rows, beside the one that it took the place of: slower, and simple enough to be believed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_dagster.bars import BAR, Span
from mm_dagster.history.connection import count, quote, transaction
from mm_dagster.history.lake import Commit, Lake, Written
from mm_dagster.history.rows import Staged, _same_row, listed, same_key
from mm_dagster.history.sources import Sources
from mm_dagster.tables import registry

START = datetime(2026, 1, 31, 23, tzinfo=UTC)
COMMIT = Commit("run-1", "test", "a span")
BARS = 8
GRIDS = ("eth", "btc", "ö'\"")
PLACES = st.integers(0, BARS)
FLOATS = st.sampled_from([None, 0.0, -0.0, 1.0, 0.1 + 0.2, 5e-324, float("nan"), float("inf"), -float("inf")])
TEXTS = st.sampled_from([None, "", "a", "A", "é", "'"])
TRIGGERS = st.lists(
    st.fixed_dictionaries({"name": TEXTS, "family": TEXTS, "value": FLOATS, "fired": st.sampled_from([None, True])}),
    max_size=2,
)
SOURCES = st.sampled_from([None, "ccxt:kucoin", "recorded:kucoin"])
FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "exit_state": {
        "triggers": st.one_of(st.none(), TRIGGERS),
        "live_reason": TEXTS,
        "advice": TEXTS,
        "source": SOURCES,
    },
    "grid_risk": {"price": FLOATS, "recommendations": st.lists(TEXTS, max_size=2), "candle_source": SOURCES},
}


def writes_of(table: str) -> st.SearchStrategy[list[Any]]:
    """First bar, how many, whose rows, their fields again and again, and whether they are only upserted."""
    drawn = st.lists(st.fixed_dictionaries(FIELDS[table]), min_size=2, max_size=2)
    return st.lists(
        st.tuples(PLACES, PLACES, st.sampled_from([GRIDS, GRIDS[:1], GRIDS[1:]]), drawn, st.booleans()),
        min_size=1,
        max_size=3,
    )


def as_before(connection: duckdb.DuckDBPyConnection, staged: Staged, commit: Commit) -> Written:
    """What `replace` did before rows were sorted outside of the lock: both sides are staged and compared each time."""
    table, where, values = staged.table, staged.where, staged.values
    key = registry.TABLES[table].primary_key()
    connection.register("__given", staged.rows)
    connection.execute("CREATE TEMP TABLE __new AS SELECT * FROM __given")
    connection.unregister("__given")
    connection.execute(
        f"CREATE TEMP TABLE __stored AS SELECT {listed(key, 's')}, "
        f"n.{quote(key[0])} IS NOT NULL AND {_same_row(table)} AS kept "
        f"FROM (SELECT * FROM {table} s WHERE {where}) s LEFT JOIN __new n ON {same_key(table)}",
        values,
    )
    unchanged = count(connection, "SELECT count(*) FROM __stored WHERE kept")
    deleted = count(connection, "SELECT count(*) FROM __stored") - unchanged
    inserted = staged.rows.num_rows - unchanged
    if inserted or deleted:
        with transaction(connection, commit):
            if deleted:
                connection.execute(
                    f"DELETE FROM {table} s WHERE ({where}) "
                    f"AND EXISTS (SELECT 1 FROM __stored n WHERE NOT n.kept AND {same_key(table)})",
                    values,
                )
            connection.execute(
                f"INSERT INTO {table} BY NAME SELECT * FROM __new n "
                f"WHERE NOT EXISTS (SELECT 1 FROM __stored s WHERE s.kept AND {same_key(table)}) "
                f"ORDER BY {listed(key)}"
            )
    connection.execute("DROP TABLE __new")
    connection.execute("DROP TABLE __stored")
    return Written(inserted, deleted, unchanged)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Lake]:
    """Two lakes that are given the same."""
    folder = tmp_path_factory.mktemp("pair")
    Lake(folder / "new").close()
    shutil.copytree(folder / "new", folder / "old")
    return Lake(folder / "new"), Lake(folder / "old")


def rows_of(table: str, first: int, bars: int, grids: Sequence[str], drawn: list[dict[str, Any]]) -> pl.DataFrame:
    """One row a grid and bar, in no order: the write is to sort them."""
    common = {"symbol": "ETH-USDT", "activated_at": START, "complete": True, "config_hash": "", "code_version": "5"}
    made = [
        {
            **{name: value for name, value in common.items() if name in registry.dtypes(table)},
            "grid_id": grid,
            "as_of": START + (first + 1 + bar) * BAR,
            **drawn[(place + bar) % len(drawn)],
        }
        for place, grid in enumerate(grids)
        for bar in reversed(range(bars))
    ]
    types = registry.dtypes(table)
    return registry.conform(pl.DataFrame(made, schema={name: types[name] for name in made[0]} if made else {}), table)


def done(lake: Lake, table: str, writes: list[Any]) -> list[Any]:
    """What each write counted and left, to the last bit: the signs of zeros, the nulls inside of lists; and how many
    snapshots there are more.
    """
    seen = lake.of(Sources({"ETH-USDT": "ccxt:kucoin"}))
    lake.write(table, registry.empty(table), span=Span(START, START + BARS * BAR), commit=COMMIT)
    before, told = lake.snapshots().height, list[Any]()
    for first, bars, grids, drawn, upserted in writes:
        span = Span(START + first * BAR, START + min(first + bars, BARS) * BAR)
        rows = rows_of(table, first, span.bars, grids, drawn)
        if upserted:
            told.append(seen.upsert(table, rows, commit=COMMIT))
        else:
            told.append(seen.write(table, rows, span=span, grids=grids, commit=COMMIT))
        told.append(repr(lake.sql(f"SELECT * FROM {table}").sort("grid_id", "as_of").rows()))
    return [*told, lake.snapshots().height - before]


def compare(pair: tuple[Lake, Lake], table: str, writes: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # What a column may hold is not what is compared here.
        patch.setattr("mm_dagster.history.lake.refuse_invalid", lambda rows, table: None)
        found = done(pair[0], table, writes)
        patch.setattr("mm_dagster.history.lake.replace", as_before)
        assert found == done(pair[1], table, writes)


@pytest.mark.slow
@pytest.mark.parametrize("table", FIELDS)
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_counts_and_snapshots_are_those_of_the_simple_replacement(
    pair: tuple[Lake, Lake], table: str, data: st.DataObject
) -> None:
    compare(pair, table, data.draw(writes_of(table)))


@pytest.mark.long
@pytest.mark.parametrize("table", FIELDS)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_so_are_they_after_many_more(pair: tuple[Lake, Lake], table: str, data: st.DataObject) -> None:
    compare(pair, table, data.draw(writes_of(table)))
