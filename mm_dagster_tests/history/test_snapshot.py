"""The snapshot is the same text for the same rows, and says what the tables say."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from mm_dagster.history import snapshot
from mm_dagster.history.snapshot import render_snapshot, snapshot_path
from mm_dagster.tables import words
from mm_dagster_tests.history.samples import sample

AS_OF = datetime(2026, 2, 1, 0, 15, tzinfo=UTC)
TRIGGERS = [
    dict(zip(("name", "family", "level", "value", "threshold", "fired"), trigger, strict=True))
    for trigger in (
        ("STOP_BREACHED", "hard", "MANDATORY_EXIT", 1.0, 0.9, False),
        ("BREAK_LIKELY", "measured", "WARNING", 0.4123456789, 0.35, True),
        ("REVERSION_LOST", "reversion", "WARNING", math.inf, 8.0, True),
        ("CONFIDENCE_FALLING", "regime", "WARNING", None, 0.1, None),
    )
]


ACCOUNT = {
    "source": "MODELLED",
    "total": 1012.34,
    "available": None,
    "locked": None,
    "deployable_capital": None,
    "required_reserve": 512.5,
}


def row(table: str, **values: Any) -> dict[str, Any]:
    return sample(table, [AS_OF], ("ETH-USDT",)).row(0, named=True) | values


def grid(enabled: bool = True, **parts: Any) -> dict[str, Any]:
    config = {"id": "eth", "symbol": "ETH-USDT", "enabled": enabled, "lower": 2800.0, "upper": 3400.0}
    return {"config": config, "risk": row("grid_risk"), "exit": None, "entry": None, **parts}


def render(*grids: dict[str, Any], simulated: bool = False, **verdict: Any) -> dict[str, Any]:
    text = render_snapshot(
        "ETH-USDT", AS_OF, row("regime_features"), row("regime_verdict", **verdict), grids, ACCOUNT, simulated
    )
    read = yaml.safe_load(text)
    assert isinstance(read, dict)
    return read


def test_a_snapshot_lies_where_its_day_and_time_say() -> None:
    assert snapshot_path(AS_OF, "ETH-USDT") == "metrics/2026/02/01/0015_ETH-USDT.yaml"


@pytest.mark.parametrize(
    ("verdict", "primary", "secondary"),
    [
        ("RANGE_OK", "RANGE", "none"),
        ("RANGE_WEAK", "RANGE", "WEAKENING"),
        ("TRANSITION", "RANGE", "TRANSITION"),
        ("TREND", "TREND", "none"),
        (None, None, None),
    ],
)
def test_a_verdict_is_told_as_regime_and_signal(
    verdict: str | None, primary: str | None, secondary: str | None
) -> None:
    regime = render(verdict=verdict)["regime_analysis"]
    assert [regime[key] for key in ("verdict", "primary_regime", "secondary_signal")] == [verdict, primary, secondary]


def test_every_verdict_has_its_telling() -> None:
    assert all(render(verdict=verdict)["regime_analysis"]["primary_regime"] for verdict in words.VERDICTS)


def test_a_running_grid_shows_its_state_and_the_triggers_that_fired() -> None:
    state = row("exit_state", state="WARNING", since=AS_OF, recommended_window_minutes=240, triggers=TRIGGERS)
    (shown,) = render(grid(exit=state))["grid_analysis"]
    assert shown["exit_state"]["state"] == "WARNING"
    assert shown["exit_state"]["since"] == "2026-02-01T00:15:00Z"
    assert shown["exit_state"]["fired_triggers"] == [
        {"name": "BREAK_LIKELY", "level": "WARNING", "value": 0.412346, "threshold": 0.35},
        {"name": "REVERSION_LOST", "level": "WARNING", "value": "inf", "threshold": 8.0},
    ]
    assert shown["configuration"] == {"lower": 2800.0, "upper": 3400.0}
    assert set(shown["risk_assessment"]) == {"position_health", "stop_loss_risk", "risk_level", "recommendations"}
    assert "entry_assessment" not in shown


def test_a_grid_that_is_off_shows_the_entry_advice_instead() -> None:
    (shown,) = render(grid(enabled=False, entry=row("entry_assessment", advice="WAIT")))["grid_analysis"]
    assert shown["entry_assessment"]["advice"] == "WAIT"
    assert "exit_state" not in shown


def test_what_is_not_known_is_null_and_never_zero() -> None:
    (shown,) = render(grid(risk=None))["grid_analysis"]
    assert [shown[key] for key in ("risk_metrics", "risk_assessment", "exit_state")] == [None] * 3
    assert render()["account_summary"] == ACCOUNT


def test_a_simulated_market_is_called_so() -> None:
    assert render(simulated=True)["simulated"] is True
    assert render()["simulated"] is False


def test_the_same_rows_are_the_same_text_in_whatever_order_the_columns_come() -> None:
    rows = [row("regime_features", close=1234567.89), row("regime_verdict"), row("grid_risk")]
    backwards = [dict(reversed(part.items())) for part in rows]
    text, same = (
        render_snapshot("ETH-USDT", AS_OF, features, verdict, [grid(risk=risk)], ACCOUNT, False)
        for features, verdict, risk in (rows, backwards)
    )
    assert text == same
    assert text.startswith("symbol: ETH-USDT\nas_of: '2026-02-01T00:15:00Z'\nsimulated: false\nregime_analysis:\n")


@pytest.mark.parametrize(
    ("price", "told"),
    [
        (123456.789, 123456.79),
        (2512.34567, 2512.35),
        (0.0123456789, 0.0123457),
        (1.23456789e-7, 1.23457e-7),
        (0.0, 0.0),
    ],
)
def test_a_price_is_told_to_the_cent_or_to_six_digits(price: float, told: float) -> None:
    text = render_snapshot(
        "ETH-USDT", AS_OF, row("regime_features", close=price), row("regime_verdict"), [], ACCOUNT, False
    )
    assert yaml.safe_load(text)["regime_analysis"]["features"]["close"] == told


def test_an_infinite_half_life_is_told_as_a_word() -> None:
    features = row("regime_features", half_life=math.inf)
    text = render_snapshot("ETH-USDT", AS_OF, features, row("regime_verdict"), [], ACCOUNT, False)
    assert "    half_life: inf\n" in text
    assert yaml.safe_load(text)["regime_analysis"]["features"]["half_life"] == "inf"


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml, so that there is one writer")
def test_both_of_yaml_s_writers_write_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    advice = "Leave by 04:15Z: the stop (2,700) is 0.4 % away — 'soon', \"now\" #1; " * 4
    state = row("exit_state", state="WARNING", since=AS_OF, advice=advice, triggers=TRIGGERS)
    given = ("ETH-USDT", AS_OF, row("regime_features"), row("regime_verdict"), [grid(exit=state)], ACCOUNT, True)
    text = render_snapshot(*given)

    class Slow(yaml.SafeDumper):
        """PyYAML's own."""

    Slow.add_representer(float, snapshot._decimal)
    monkeypatch.setattr(snapshot, "_Dumper", Slow)
    assert render_snapshot(*given) == text
