"""What a venue asks of an order is noted with the episode, once, and before anything was computed by it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster.bars import BAR
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.judge import keep_episodes
from mm_dagster.pipeline.work import lately
from mm_dagster.tables.market import NO_RULES, MarketRules
from mm_dagster_tests.history.samples import sample
from mm_dagster_tests.market.faulty import BEGIN, SYMBOL, Exchange, Watch, market
from mm_dagster_tests.pipeline.recordings import grid

RULES, OTHERS = MarketRules(price_tick=0.01, amount_lot=0.001), MarketRules(price_tick=0.1)
ACTIVATED = BEGIN - 8 * BAR


@pytest.mark.slow
def test_a_venue_that_was_silent_at_first_sight_is_asked_until_a_row_rests_on_it(tmp_path: Path) -> None:
    watch = Watch(tmp_path, Exchange({SYMBOL: market(days=6)}))
    one = grid("one", SYMBOL, 3000.0, activated_at=ACTIVATED.isoformat())
    (tmp_path / "configuration" / "grids" / "one.yaml").write_text(yaml.safe_dump(one))

    def seen(rules: MarketRules | None) -> tuple[MarketRules, float | None]:
        watch.exchange.rules = lambda symbol: rules  # type: ignore[method-assign]
        found = keep_episodes(watch.job(lately(BEGIN, 3), BEGIN))["one"]
        (row,) = watch.lake.read("grid_episode").to_dicts()
        return found, row["price_tick"]

    assert seen(None) == (NO_RULES, None)
    assert seen(RULES) == (RULES, 0.01)
    assert seen(OTHERS) == (RULES, 0.01), "an episode keeps the rules that it began with"

    (tmp_path / "configuration" / "grids" / "one.yaml").write_text(
        yaml.safe_dump({**one, "activated_at": (ACTIVATED + 2 * BAR).isoformat()})
    )
    watch.exchange.rules = lambda symbol: None  # type: ignore[method-assign]
    keep_episodes(watch.job(lately(BEGIN, 3), BEGIN))
    (tmp_path / "configuration" / "grids" / "one.yaml").write_text(
        yaml.safe_dump({**one, "activated_at": (ACTIVATED + 2 * BAR).isoformat(), "enabled": False})
    )
    watch.exchange.rules = lambda symbol: RULES  # type: ignore[method-assign]
    keep_episodes(watch.job(lately(BEGIN, 3), BEGIN))
    ended = watch.lake.read("grid_episode").filter(pl.col("activated_at") == ACTIVATED + 2 * BAR)
    assert ended["closed_by"].to_list() == ["disabled"], "it ends in the run in which its rules are known"

    (tmp_path / "configuration" / "grids" / "one.yaml").write_text(
        yaml.safe_dump({**one, "activated_at": (ACTIVATED + 3 * BAR).isoformat()})
    )
    watch.exchange.rules = lambda symbol: None  # type: ignore[method-assign]
    job = watch.job(lately(BEGIN, 3), BEGIN)
    assert keep_episodes(job)["one"] == NO_RULES
    (of_it,) = job.grids(SYMBOL)
    risk = sample("grid_risk", [BEGIN], ("one",)).with_columns(symbol=pl.lit(SYMBOL), activated_at=of_it.activated_at)
    watch.lake.upsert("grid_risk", risk.with_columns(price=3000.0), commit=Commit("", "grid_risk", ""))
    watch.exchange.rules = lambda symbol: RULES  # type: ignore[method-assign]
    assert keep_episodes(watch.job(lately(BEGIN, 3), BEGIN))["one"] == NO_RULES
