"""One market at one tick as YAML that a person reads: regime, grids with risk and exit state, account."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import yaml

from mm_dagster.bars import iso
from mm_dagster.tables.registry import dtypes
from mm_dagster.tables.words import NOT_JUDGED_YET
from mm_dagster.text import plain_text

_READING = {
    "RANGE_OK": ("RANGE", "none"),
    "RANGE_WEAK": ("RANGE", "WEAKENING"),
    "TRANSITION": ("RANGE", "TRANSITION"),
    "TREND": ("TREND", "none"),
}
"""Verdict -> primary_regime, secondary_signal."""

_FEATURES = (
    "close", "range_low", "range_high", "atr", "atr_expansion", "efficiency_ratio", "adx", "half_life",
    "bollinger_width_percentile", "variance_ratio_4_z", "volatility_forecast", "change_24h", "volume_24h",
)  # fmt: skip
_SCORES = ("trend_score", "trend_score_4h", "mean_reversion_score", "range_score")
_PROBABILITIES = ("p_range_ok", "p_range_weak", "p_transition", "p_trend")
_ASSESSMENT = ("position_health", "stop_loss_risk", "risk_level", "recommendations")
_SAFE: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml's, where PyYAML was built with it: the same text, ten times as fast."""
_ACCOUNT = ("source", "total", "available", "locked", "deployable_capital", "required_reserve")


class _Dumper(_SAFE):  # type: ignore[misc]
    """Writes numbers without exponents: 0.00000118 and not 1.18e-06, which YAML reads as the same."""


def _decimal(dumper: Any, number: float) -> yaml.Node:
    text = plain_text(number) if math.isfinite(number) else {math.inf: ".inf", -math.inf: "-.inf"}.get(number, ".nan")
    node: yaml.Node = dumper.represent_scalar("tag:yaml.org,2002:float", text if "." in text else f"{text}.0")
    return node


_Dumper.add_representer(float, _decimal)


def snapshot_path(as_of: datetime, symbol: str) -> str:
    """Where a snapshot lies in the repository: metrics/YYYY/MM/DD/HHMM_ETH-USDT.yaml."""
    return f"metrics/{as_of:%Y/%m/%d/%H%M}_{symbol}.yaml"


def render_snapshot(
    symbol: str,
    as_of: datetime,
    features: Mapping[str, Any],
    verdict: Mapping[str, Any],
    grids: Sequence[Mapping[str, Any]],
    account: Mapping[str, Any],
    simulated: bool,
) -> str:
    """The snapshot's text; the same for the same rows.

    Args:
        symbol: the market.
        as_of: the tick.
        features: its row of `regime_features`.
        verdict: its row of `regime_verdict`.
        grids: for each grid `config` (as in its file), `risk`, `exit` and `entry` (rows, or None).
        account: `source` and the figures of the account that it trades on, in quote currency.
        simulated: whether the market is synthetic; the snapshot says so.
    """
    primary, secondary = _READING.get(verdict["verdict"], (None, None))
    content = {
        "symbol": symbol,
        "as_of": iso(as_of),
        "simulated": simulated,
        "regime_analysis": {
            "verdict": verdict["verdict"],
            "primary_regime": primary,
            "secondary_signal": secondary,
            "confidence": verdict["confidence"],
            "transition_probability": verdict["transition_probability"],
            "probabilities": {name: verdict[name] for name in _PROBABILITIES},
            "scores": {name: verdict[name] for name in _SCORES},
            "features": {name: features[name] for name in _FEATURES},
        },
        "grid_analysis": [_grid(grid) for grid in grids],
        "account_summary": {key: account[key] for key in _ACCOUNT},
    }
    return str(yaml.dump(_readable(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def _grid(grid: Mapping[str, Any]) -> dict[str, Any]:
    config, risk, state, entry = grid["config"], grid["risk"], grid["exit"], grid["entry"]
    left_out = {
        "grid_id",
        "activated_at",
        "as_of",
        "symbol",
        "config_hash",
        "code_version",
        "candle_source",
        *_ASSESSMENT,
    }
    part: dict[str, Any] = {
        "id": config["id"],
        "enabled": config["enabled"],
        "configuration": {key: value for key, value in config.items() if key not in ("id", "enabled", "symbol")},
        "risk_metrics": {key: risk[key] for key in dtypes("grid_risk") if key not in left_out} if risk else None,
        "risk_assessment": {key: risk[key] for key in _ASSESSMENT} if risk else None,
    }
    if config["enabled"]:
        part["exit_state"] = _exit(state) if state else None
    else:
        part["entry_assessment"] = (
            {key: entry[key] for key in ("advice", "reasons", "lower", "upper", "levels")} if entry else None
        )
    return part


def _exit(state: Mapping[str, Any]) -> dict[str, Any]:
    shown = ("state", "since", "advice", "recommended_window_minutes", "literal_state", "live_state", "live_reason")
    fired = [
        {key: trigger[key] for key in ("name", "level", "value", "threshold")}
        for trigger in state["triggers"]
        if trigger["fired"]
    ]
    named = {"state": state["state"] or NOT_JUDGED_YET}
    return {**{key: state[key] for key in shown}, **named, "complete": state["complete"], "fired_triggers": fired}


def _readable(value: Any) -> Any:
    """For people, not for computing: six significant digits and at least two decimals, ISO 8601, infinities as text."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, float):
        return str(value) if math.isinf(value) else float(f"{value:.6g}" if abs(value) < 10_000 else f"{value:.2f}")
    if isinstance(value, Mapping):
        return {key: _readable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(item) for item in value]
    return value
