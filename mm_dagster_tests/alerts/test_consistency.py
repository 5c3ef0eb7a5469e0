"""No message contradicts the ledger or the row of risk: every kind of message over generated ones.

The ladder, the position and the sender are the real ones; only prices, fills and answers are made up.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mm_dagster.alerts import happened, message, policy
from mm_dagster.alerts.alert import PLAIN, Alert
from mm_dagster.alerts.parts import MESSAGE_LIMIT, TITLE_LIMIT
from mm_dagster.bars import BAR
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.exit.reasons import reasons_of
from mm_dagster.pages.grid import grid_on_page
from mm_dagster.pages.page import with_responses
from mm_dagster.pages.sentences import deadline
from mm_dagster.tables import registry
from mm_dagster.tables.words import RESPONSES
from mm_dagster.text import in_local_time
from mm_dagster_tests.alerts.given import RISK, Listener, MemoryLedger
from mm_dagster_tests.alerts.given import grid as config_of
from mm_dagster_tests.examples import examples
from mm_dagster_tests.exit.synthetic import START, climb, episode

GRID = config_of(activated_at=START, levels=8, capital=1000)
CONFIG = AlertsConfig()
BARS = 14

PRICES = st.lists(st.sampled_from([2980.0, 3060.0, 3075.0, 3127.0, 3180.0, 3190.0, None]), min_size=BARS, max_size=BARS)
PROBABILITIES = st.lists(st.sampled_from([0.1, 0.4, 0.8, None]), min_size=BARS, max_size=BARS)
HELD = st.lists(st.sampled_from(["model", "none", "some"]), min_size=BARS, max_size=BARS)
ANSWERS = st.lists(st.tuples(st.integers(1, BARS - 1), st.sampled_from(RESPONSES)), max_size=3)


@pytest.mark.slow
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(prices=PRICES, p=PROBABILITIES, held=HELD, answers=ANSWERS, late=st.integers(0, BARS - 2))
@example(
    prices=[3127.0, 2980.0, *[3190.0] * 12], p=[0.1] * BARS, held=["model"] * BARS, answers=[], late=0
)  # a stop, and then above the grid
@example(prices=[3127.0, *[3060.0] * 13], p=[0.8] * BARS, held=["none"] * BARS, answers=[], late=0)  # nothing left
@example(prices=[3127.0, *[3060.0] * 13], p=[0.8] * BARS, held=["some"] * BARS, answers=[(5, "stopped")], late=9)
def test_no_message_contradicts_the_ledger_or_the_risk(
    prices: list[float | None],
    p: list[float | None],
    held: list[str],
    answers: list[tuple[int, str]],
    late: int,
) -> None:
    missing = [bar for bar, price in enumerate(prices) if price is None]
    closes = [3127.0 if price is None else price for price in prices]
    frames = episode(BARS, {"close": closes, "low": closes, "p_break_low_24h": p}, missing=missing, of=GRID)
    risks = _risks(closes, missing, held)
    inventory = pl.DataFrame(
        {"as_of": [one["as_of"] for one in risks], "inventory": [one["inventory"] for one in risks]}
    )
    joined = frames.risk.drop("inventory").join(inventory.cast({"as_of": pl.Datetime("us", "UTC")}), on="as_of")
    frames = type(frames)(frames.candles, frames.features, frames.verdict, registry.conform(joined, "grid_risk"))
    rows = climb(frames, BARS, of=GRID).to_dicts()

    ledger, phone = MemoryLedger(), Listener()
    responses = registry.empty("operator_response")
    escalated: dict[str, datetime] = {}
    for bar in range(late, BARS):
        row, risk, clock = rows[bar], risks[bar], rows[bar]["as_of"] + timedelta(minutes=1)
        for at, action in answers:
            if at == bar:
                responses = pl.concat([responses, _answer(action, clock - timedelta(seconds=30))])
        seen = pl.DataFrame([row], schema=registry.dtypes("exit_state"), orient="row")
        waits = {GRID.id: "no network"} if row["never_known"] else {}
        due = policy.due(
            seen, registry.empty("entry_assessment"), ledger.read(), clock, CONFIG, [GRID], {GRID.id: risk["price"]},
            waits, responses,
        )  # fmt: skip
        answer = responses.sort("at").to_dicts()[-1] if responses.height else None
        stopped = answer is not None and answer["action"] == "stopped"
        outgoing = []
        for alert in due:
            title, text = alert.title, alert.message
            if title is None or text is None:
                reasons = reasons_of(row["triggers"], row["state"])
                title, text = message.render(alert, row, risk, GRID, reasons, False, answer)
                _holds(alert, title, text, risk, answer, stopped)
                if alert.kind == "ESCALATION":
                    escalated.setdefault(alert.state, clock)
                if alert.kind in ("ESCALATION", "REMINDER") and row["state"] is None:
                    raise AssertionError("a grid that is not judged is in no danger")
            outgoing.append((alert, title, text))
        _send(ledger, phone, outgoing, seen, clock, responses)
        page = grid_on_page(
            GRID, False, seen, pl.DataFrame([risk]), registry.empty("regime_verdict"),
            with_responses(ledger.read(), responses, clock), clock, CONFIG, answer, waits.get(GRID.id),
        )  # fmt: skip
        assert not (happened.holds_nothing(risk, GRID) and happened.SELL in (page.advice or ""))
        if stopped:
            assert (page.state, page.urgency, page.act_by) == ("STOPPED", 0, None)
        elif page.state not in escalated:
            assert "overdue" not in (deadline(page, clock) or "")


def _holds(
    alert: Alert, title: str, text: str, risk: dict[str, Any], answer: dict[str, Any] | None, stopped: bool
) -> None:
    """The invariants of one message."""
    assert len(title.encode("utf-16-le")) // 2 <= TITLE_LIMIT
    assert 0 < len(text.encode("utf-16-le")) // 2 <= MESSAGE_LIMIT
    nothing = happened.holds_nothing(risk, GRID)
    if nothing:
        assert happened.SELL not in text
        assert "at risk" not in text
    if risk["inventory"]:
        assert "is sold out" not in text
        assert "sold everything" not in text
    if risk["stopped_at"] is not None and not risk["inventory"]:
        assert "is sold out" not in text
    came = happened.happened(risk, GRID, answer)
    assert not came or text.startswith(in_local_time(came, "UTC", brief=True))
    if alert.kind != "REMINDER":
        assert "Overdue" not in text
    assert not stopped or alert.status == "SUPPRESSED"
    if alert.kind == "SETUP":
        assert alert.priority <= PLAIN


def _risks(closes: list[float], missing: list[int], held: list[str]) -> list[dict[str, Any]]:
    """Rows of risk as the model or the account would have them: after a stop or above the grid the model has none."""
    rows, stopped_at = [], None
    for bar, close in enumerate(closes):
        as_of = START + bar * BAR
        known = bar not in missing
        account = held[bar] != "model"
        if known and close <= GRID.stop and bar and stopped_at is None:
            stopped_at = as_of
        has = 0.0 if stopped_at or close > GRID.upper else 0.3
        inventory = {"model": has, "none": 0.0, "some": 0.25}[held[bar]]
        base = dict.fromkeys(registry.dtypes("grid_risk")) | RISK
        base |= {"grid_id": GRID.id, "activated_at": GRID.activated_at, "as_of": as_of, "symbol": GRID.symbol}
        base |= {"price": close if known else None, "inventory": inventory if known else None}
        base |= {"stopped_at": None if account else stopped_at, "source": "ACCOUNT" if account else "MODELLED"}
        rows.append(base)
    return rows


def _answer(action: str, at: datetime) -> pl.DataFrame:
    row = {"response_id": f"{at}{action}", "grid_id": GRID.id, "activated_at": START, "at": at, "action": action}
    return pl.DataFrame([row], schema=registry.dtypes("operator_response"), orient="row")


def _send(
    ledger: MemoryLedger,
    phone: Listener,
    outgoing: list[tuple[Alert, str, str]],
    seen: pl.DataFrame,
    clock: datetime,
    responses: pl.DataFrame,
) -> None:
    from mm_dagster.alerts import dispatch

    over = policy.cancellations(seen, ledger.read(), clock, CONFIG, [GRID], responses)
    words = [dispatch.Outgoing(alert, title, text, "ccxt") for alert, title, text in outgoing]
    dispatch.dispatch(words, over, ledger=ledger, channel=phone, clock=lambda: clock)
