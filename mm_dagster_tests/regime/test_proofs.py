"""The proofs hold on real candles, and each of them finds the fault that it is there for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_dagster.bars import BAR, Span, iso
from mm_dagster.config.whole import Config
from mm_dagster.regime import features, proofs, verdict
from mm_dagster.regime.proofs import (
    FOLDED_BARS,
    Evidence,
    live_equals_backfill,
    no_look_ahead,
    pooled,
    warm_up_suffices,
)
from mm_dagster.tables.regime import WARMUP_BARS
from mm_dagster.tables.registry import CODE_VERSIONS
from mm_dagster.text import plain_text
from mm_dagster_tests.regime.markets import real, without

MARKETS = ("ETH-USDT", "SOL-USDT")
NOON = datetime(2025, 10, 10, 12, tzinfo=UTC)
SPAN = Span(NOON, NOON + 12 * BAR)
CONFIG = Config.model_validate(
    {
        "markets": {
            "venues": {"main": {"kind": "simulated"}},
            "markets": [{"symbol": symbol, "venue": "main"} for symbol in MARKETS],
        }
    }
)
TABLES = ("regime_features", "regime_verdict")
TOO_LITTLE = "have less than {} times the warm-up of 4,592 bars before them"


def evidence(candles: pl.DataFrame, span: Span = SPAN, symbols: tuple[str, ...] = MARKETS) -> Evidence:
    """What the lake would hold after a backfill."""
    measured, judged = proofs.recompute(candles, span, CONFIG)
    return Evidence(
        span, symbols, CONFIG, candles, stamped(measured, "regime_features"), stamped(judged, "regime_verdict")
    )


def stamped(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    return frame.with_columns(
        config_hash=pl.lit(CONFIG.hash_of(table, MARKETS[0])), code_version=pl.lit(CODE_VERSIONS[table])
    )


@pytest.fixture(scope="module")
def candles(shared_data: Path) -> pl.DataFrame:
    """Two markets around the crash of 2025-10-10."""
    return pl.concat([real(shared_data, symbol) for symbol in MARKETS]).filter(Evidence.candle_span(SPAN).opens())


@pytest.fixture(scope="module")
def stored(candles: pl.DataFrame) -> Evidence:
    return evidence(candles)


def test_all_three_hold_on_real_candles(stored: Evidence) -> None:
    ahead, warm, live = proofs.prove(stored)
    known = sum(
        frame.filter(SPAN.closes()).drop("symbol", "as_of", "config_hash", "code_version").count().sum_horizontal()[0]
        for frame in (stored.features, stored.verdicts)
    )
    assert known > 24 * 50
    assert [proof.result for proof in (ahead, warm, live)] == ["HOLDS"] * 3
    assert [proof.cells for proof in (ahead, warm, live)] == [known, 2 * known, known]
    assert ahead.apart == warm.apart == live.apart == {}
    assert ahead.sentence == (
        f"{known:,} cells of 2 markets on 2025-10-10 recomputed on history cut at each bar: none differs."
    )


def test_progress_grows_to_one(stored: Evidence) -> None:
    told: list[float] = []
    no_look_ahead(replace(stored, symbols=("ETH-USDT",)), told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) == FOLDED_BARS + 2 * SPAN.bars


# engines with a fault -------------------------------------------------------------------------------------------------

Compute = Callable[..., pl.DataFrame]


def peeking(column: str) -> Callable[[Compute], Compute]:
    """Features of which one is that of the next bar, where that is known."""

    def fault(compute: Compute) -> Compute:
        def broken(candles: pl.DataFrame, span: Span, *arguments: Any, **more: Any) -> pl.DataFrame:
            longer = Span(span.start, span.end + BAR)
            known = pl.col("as_of") <= candles["open_time"].max() + BAR  # type: ignore[operator]
            rows = compute(candles, longer, *arguments, **more).with_columns(
                pl.when(known.shift(-1)).then(pl.col(column).shift(-1)).otherwise(column).over("symbol").alias(column)
            )
            return rows.filter(span.closes())

        return broken

    return fault


def from_the_first_candle(compute: Compute) -> Compute:
    """Features of which one knows when the data starts, in its last bits."""

    def broken(candles: pl.DataFrame, *arguments: Any, **more: Any) -> pl.DataFrame:
        day = candles["open_time"].min().toordinal()  # type: ignore[union-attr]
        return compute(candles, *arguments, **more).with_columns(pl.col("adx") + day * 1e-12)

    return broken


def from_the_next_bar(compute: Compute) -> Compute:
    """Verdicts drawn from the newest features there are, those of the next bar where they are known."""

    def broken(measured: pl.DataFrame, span: Span, *arguments: Any) -> pl.DataFrame:
        rows = measured.sort("symbol", "as_of").with_columns(
            pl.col("efficiency_ratio").shift(-1).over("symbol").fill_null(pl.col("efficiency_ratio"))
        )
        return compute(rows, span, *arguments)

    return broken


def from_all_that_is_given(compute: Compute) -> Compute:
    """Verdicts that know how many features there are."""

    def broken(measured: pl.DataFrame, *arguments: Any) -> pl.DataFrame:
        return compute(measured, *arguments).with_columns(pl.col("confidence") + measured.height * 1e-12)

    return broken


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "fault", "prove", "table", "column"),
    [
        (features, peeking("adx"), no_look_ahead, "regime_features", "adx"),
        (features, peeking("closes_outside_15m"), no_look_ahead, "regime_features", "closes_outside_15m"),
        (verdict, from_the_next_bar, no_look_ahead, "regime_verdict", "confidence"),
        (verdict, from_all_that_is_given, no_look_ahead, "regime_verdict", "confidence"),
        (features, from_the_first_candle, warm_up_suffices, "regime_features", "adx"),
    ],
    ids=["a feature peeks", "a flag peeks", "a verdict peeks", "a verdict counts", "a feature knows the start"],
)
def test_an_engine_with_a_fault_is_found(
    stored: Evidence,
    monkeypatch: pytest.MonkeyPatch,
    room: Any,
    fault: Callable[[Compute], Compute],
    prove: Callable[[Evidence], dict[str, proofs.Proof]],
    table: str,
    column: str,
) -> None:
    monkeypatch.setattr(room, "compute", fault(room.compute))
    proof = prove(stored)[table]
    assert proof.result == "DIFFERS"
    assert proof.differing > 0
    assert proof.first
    assert f": {column} is " in proof.first.sentence
    assert proof.sentence.endswith(f"{proof.first.sentence}.")


def test_a_verdict_is_found_to_peek_when_only_its_features_do(
    stored: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "compute", peeking("efficiency_ratio")(features.compute))
    assert no_look_ahead(stored)["regime_verdict"].result == "DIFFERS"


def test_dependence_on_the_start_is_not_mistaken_for_look_ahead(
    stored: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "compute", from_the_first_candle(features.compute))
    assert no_look_ahead(stored)["regime_features"].result == "HOLDS"


def test_a_declared_warm_up_that_is_too_short_is_found(stored: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "WARMUP_BARS", WARMUP_BARS - 200)
    found = pooled(list(warm_up_suffices(stored).values()))
    assert found.result == "DIFFERS"
    assert found.first
    assert "is null with the declared warm-up, and " in found.first.sentence


# what is stored -------------------------------------------------------------------------------------------------------


def altered(stored: Evidence, table: str, row: int, column: str, value: object) -> tuple[Evidence, dict[str, Any]]:
    """The evidence with another value in one cell of the span, and the row as it was."""
    name = "features" if table == "regime_features" else "verdicts"
    frame: pl.DataFrame = getattr(stored, name).filter(SPAN.closes())
    before = frame.row(row, named=True)
    here = (pl.col("symbol") == before["symbol"]) & (pl.col("as_of") == before["as_of"])
    changed = getattr(stored, name).with_columns(
        pl.when(here).then(pl.lit(value, frame.schema[column])).otherwise(column).alias(column)
    )
    return replace(stored, **{name: changed}), before


@settings(max_examples=40)
def digits_of(value: float) -> str:
    """All of them, and no exponent but where a broken bit has made hundreds of zeros."""
    text = plain_text(value)
    return text if len(text) <= 30 else str(value)


@given(data=st.data(), row=st.integers(0, 2 * SPAN.bars - 1), bit=st.integers(0, 63))
def test_one_altered_bit_is_found_and_named(stored: Evidence, data: st.DataObject, row: int, bit: int) -> None:
    table = data.draw(st.sampled_from(TABLES))
    frame = stored.features if table == "regime_features" else stored.verdicts
    names = [name for name, dtype in frame.schema.items() if dtype == pl.Float64]
    column = data.draw(st.sampled_from(names))
    value = frame.filter(SPAN.closes())[column][row]
    flipped = (np.array([value or 0.0]).view(np.uint64) ^ np.uint64(1 << bit)).view(np.float64)[0]
    changed, before = altered(stored, table, row, column, flipped)
    found = live_equals_backfill(changed)
    proof = found.pop(table)
    assert proof.differing == 1
    assert proof.first
    assert proof.first.sentence == (
        f"{before['symbol']} at {iso(before['as_of'])}: {column} is stored as {digits_of(flipped)}, "
        f"and recomputed as {'null' if value is None else digits_of(value)}"
    )
    assert [other.result for other in found.values()] == ["HOLDS"]


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("regime_verdict", "verdict", None),
        ("regime_verdict", "raw_verdict", "RANGE_OK"),
        ("regime_features", "inside_range", None),
        ("regime_features", "half_life_baseline", float("nan")),
        ("regime_features", "swing_high", -0.0),
    ],
)
def test_words_flags_nulls_and_the_sign_of_zero_count(stored: Evidence, table: str, column: str, value: object) -> None:
    changed, before = altered(stored, table, 0, column, value)
    assert before[column] is not value
    assert live_equals_backfill(changed)[table].differing == 1


def test_rows_under_another_configuration_or_code_are_set_apart_and_are_no_failure(stored: Evidence) -> None:
    eth = pl.col("symbol") == "ETH-USDT"
    changed = replace(
        stored,
        features=stored.features.with_columns(
            pl.when(eth).then(pl.lit("before")).otherwise("config_hash").alias("config_hash"), adx=pl.lit(1.0)
        ).filter(eth | (pl.col("as_of") > SPAN.end - 2 * BAR)),
        verdicts=stored.verdicts.with_columns(
            pl.when(~eth & (pl.col("as_of") == SPAN.end))
            .then(pl.lit("0"))
            .otherwise("code_version")
            .alias("code_version")
        ),
    )
    found = live_equals_backfill(changed)
    assert found["regime_features"].apart == {
        proofs.OTHER_CONFIG: {"ETH-USDT": SPAN.bars},
        proofs.NOT_STORED: {"SOL-USDT": SPAN.bars - 2},
    }
    # Of SOL-USDT two rows are left, and they say something else.
    assert found["regime_features"].differing == 2
    assert found["regime_verdict"].apart == {
        proofs.OTHER_FEATURES: {"ETH-USDT": SPAN.bars, "SOL-USDT": SPAN.bars - 1},
        proofs.OTHER_CODE: {"SOL-USDT": 1},
    }
    assert found["regime_verdict"].result == "NOTHING COMPARED"
    assert found["regime_verdict"].sentence.startswith("Nothing was compared on 2025-10-10. Not compared: ")


def test_a_verdict_is_comparable_again_when_all_96_of_its_features_are(stored: Evidence) -> None:
    first = stored.features["as_of"].min()
    old = pl.when(pl.col("as_of") == first).then(pl.lit("0")).otherwise("code_version")
    changed = replace(stored, features=stored.features.with_columns(code_version=old))
    # The lead begins 95 bars before the span: only the span's first verdict was folded over its first row.
    assert live_equals_backfill(changed)["regime_verdict"].apart == {
        proofs.OTHER_FEATURES: {"ETH-USDT": 1, "SOL-USDT": 1}
    }


# what cannot be compared ----------------------------------------------------------------------------------------------


def test_a_market_without_enough_history_is_said_and_proves_nothing(candles: pl.DataFrame) -> None:
    eth = pl.col("symbol") == "ETH-USDT"
    young = evidence(candles.filter(eth | SPAN.back(round(1.6 * WARMUP_BARS)).opens()))
    found = warm_up_suffices(young)["regime_features"]
    assert found.result == "HOLDS"
    assert found.apart == {TOO_LITTLE.format("2"): {"SOL-USDT": SPAN.bars}}
    new = evidence(candles.filter(eth | SPAN.back(WARMUP_BARS).opens()))
    found = warm_up_suffices(new)["regime_verdict"]
    assert found.symbols == {"ETH-USDT"}
    assert found.sentence.endswith(
        "Not compared: 12 rows of SOL-USDT have less than 1.5 times the warm-up of 4,592 bars before them."
    )


def test_rows_of_which_nothing_is_known_are_not_counted_as_proven(candles: pl.DataFrame) -> None:
    hole = Span(SPAN.start + 4 * BAR, SPAN.start + 8 * BAR)
    holed = evidence(without(candles, hole))
    for found in (no_look_ahead(holed), live_equals_backfill(holed)):
        assert found["regime_verdict"].result == "HOLDS"
        assert found["regime_verdict"].apart[proofs.UNKNOWN]["ETH-USDT"] >= 4


def test_a_market_without_candles_is_counted_apart(candles: pl.DataFrame) -> None:
    alone = evidence(candles.filter(pl.col("symbol") == "ETH-USDT"))
    for found in (no_look_ahead(alone), warm_up_suffices(alone), live_equals_backfill(alone)):
        for proof in found.values():
            assert proof.symbols == {"ETH-USDT"}
            assert proof.apart[proofs.NO_CANDLE] == {"SOL-USDT": SPAN.bars}
    nobody = replace(alone, candles=candles.clear())
    assert [proof.result for proof in proofs.prove(nobody)[:2]] == ["NOTHING COMPARED"] * 2


def test_months_add_up_to_one_proof(stored: Evidence) -> None:
    parts = live_equals_backfill(stored)
    changed, before = altered(stored, "regime_verdict", 3, "trend_score", 0.0)
    whole = pooled([*parts.values(), *live_equals_backfill(changed).values()])
    assert whole.cells == 2 * sum(part.cells for part in parts.values())
    assert whole.differing == 1
    assert whole.first
    assert whole.first.as_of == before["as_of"]
    assert whole.symbols == set(MARKETS)
