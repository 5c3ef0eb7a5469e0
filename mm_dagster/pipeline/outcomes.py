"""What came after the alerts, from the lake into `alert_outcome`, and by level."""

from __future__ import annotations

from typing import Any

import polars as pl

from mm_dagster.bars import BAR, Span, ceil_bar
from mm_dagster.evaluation.outcomes import Life, escalations, follow, hit_rate
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.project import Project
from mm_dagster.tables import registry
from mm_dagster.tables.words import STATES

_EPISODE = ("grid_id", "activated_at")


def keep_outcomes(project: Project, run_id: str) -> tuple[pl.DataFrame, int]:
    """Computes and stores `alert_outcome` of every escalation that was told, or would have been.

    Returns:
        All rows, and how many stored ones changed.
    """
    rows = outcomes_of(project)
    if rows.is_empty():
        return rows, 0
    first, last = rows["as_of"].min(), rows["as_of"].max()
    span = Span(first - BAR, last)  # type: ignore[operator, arg-type]
    with project.turn_lock():
        commit = Commit(run_id=run_id, asset="alert_outcome", span=str(span))
        written = project.lake.write("alert_outcome", rows, span=span, commit=commit)
    return rows, written.inserted + written.deleted


def outcomes_of(project: Project) -> pl.DataFrame:
    """Rows of `alert_outcome` as the lake knows them now."""
    lake = project.lake
    alerts = lake.read("notification").filter((pl.col("kind") == "ESCALATION") & (pl.col("status") == "SENT"))
    told = {(row["grid_id"], row["activated_at"], row["as_of"]): row for row in alerts.iter_rows(named=True)}
    answers = lake.read("operator_response").sort("at", "response_id")
    first_answer: dict[str, dict[str, Any]] = {}
    for row in answers.drop_nulls("alert_id").iter_rows(named=True):
        first_answer.setdefault(row["alert_id"], row)
    found = []
    for episode in lake.read("grid_episode").filter("enabled").iter_rows(named=True):
        key = (episode["grid_id"], episode["activated_at"])
        columns = ["activated_at", "as_of", "state", "config_hash"]
        states = lake.read("exit_state", grids=[key[0]], columns=columns)
        states = states.filter(pl.col("activated_at") == key[1]).sort("as_of")
        entered = escalations(states.select("as_of", "state"))
        mine = {as_of: row for (*of, as_of), row in told.items() if (*of,) == key}
        # An alert may tell of a state that was entered some bars before; it is judged from when it told of it.
        covered = {row["state_since"] for row in mine.values()}
        wanted = {as_of: state for as_of, state in entered.items() if as_of not in covered}
        wanted |= {as_of: row["state"] for as_of, row in mine.items()}
        if not wanted:
            continue
        life = _life(project, episode, entered)
        hashes = dict(states.select("as_of", "config_hash").iter_rows())
        for as_of, state in sorted(wanted.items()):
            alert = told.get((*key, as_of))
            answer = first_answer.get(alert["alert_id"]) if alert else None
            found.append(
                {
                    **{name: episode[name] for name in (*_EPISODE, "symbol")},
                    "as_of": as_of,
                    "state": state,
                    "told": alert is not None,
                    "alert_id": alert["alert_id"] if alert else None,
                    **follow(life, as_of, state),
                    "action": answer["action"] if answer else None,
                    "seconds_to_action": answer["seconds_from_alert"] if answer else None,
                    "config_hash": hashes.get(as_of, ""),
                    "code_version": registry.CODE_VERSIONS["alert_outcome"],
                    "source": None,
                }
            )
    return pl.DataFrame(found, schema=registry.dtypes("alert_outcome"), orient="row")


def _life(project: Project, episode: dict[str, Any], entered: dict[Any, str]) -> Life:
    lake, start = project.lake, ceil_bar(episode["activated_at"])
    newest = lake.newest("candles").get(episode["symbol"], start - BAR) + BAR
    span, symbols = Span(start - BAR, max(start, newest)), [episode["symbol"]]
    candles = lake.read("candles", span=span, symbols=symbols, columns=["close_time", "low", "close"])
    worth = lake.read("grid_risk", grids=[episode["grid_id"]], columns=["activated_at", "as_of", "liquidation_value"])
    worth = worth.filter(pl.col("activated_at") == episode["activated_at"]).drop_nulls("liquidation_value")
    return Life(
        lower=episode["lower"],
        stop=episode["stop"],
        capital=episode["capital"],
        first_as_of=start,
        bars={close_time: (low, close) for close_time, low, close in candles.iter_rows()},
        values=dict(worth.select("as_of", "liquidation_value").iter_rows()),
        entered=entered,
        known_until=newest,
    )


def by_level(project: Project, rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The own hit rate of each state beside the expected one, told and would-have-been apart.

    Args:
        project: whose newest `signal_quality` has the expected one.
        rows: of `alert_outcome`.
    """
    worth = project.lake.sql("FROM signal_worth").filter(
        (pl.col("grids") == "rule") & (pl.col("policy") == project.config.exit.policy)
    )
    expected = {row["signal"]: row for row in worth.iter_rows(named=True)}
    found = []
    for state in STATES[1:]:
        for told in (True, False):
            mine = rows.filter((pl.col("state") == state) & (pl.col("told") == told))
            if mine.is_empty():
                continue
            own, beside = hit_rate(mine["outcome"]), expected.get(state, {})
            found.append(
                {
                    "state": state,
                    "told": told,
                    "alerts": mine.height,
                    "open": int((mine["outcome"] == "OPEN").sum()),
                    "late": int((mine["outcome"] == "LATE").sum()),
                    "known": own.known,
                    "right": own.hits,
                    "hit_rate": own.rate,
                    "low": own.low,
                    "high": own.high,
                    "expected": beside.get("precision"),
                    "expected_low": beside.get("precision_low"),
                    "expected_high": beside.get("precision_high"),
                    "median_hours": mine["hours"].median(),
                    "mean_gain_vs_hold_percent": mine["gain_vs_hold_percent"].mean(),
                    "gains_known": mine["gain_vs_hold_percent"].len() - mine["gain_vs_hold_percent"].null_count(),
                }
            )
    return found
