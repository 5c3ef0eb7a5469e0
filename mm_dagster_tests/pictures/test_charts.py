"""Pictures: the same bytes for the same rows, readable in every case that has been seen, nothing over anything else."""

from __future__ import annotations

import base64
import itertools
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from mm_dagster.bars import BAR, TIME, Span
from mm_dagster.config.grid import GridConfig
from mm_dagster.evaluation.calibration import SAMPLE_SCHEMA, Calibration, calibrate
from mm_dagster.evaluation.leaving import Left
from mm_dagster.pictures import colours, extent, glance, quality
from mm_dagster.pictures.decision import decision_picture
from mm_dagster.pictures.equity import equity_picture
from mm_dagster.pictures.leaving import intervals_picture
from mm_dagster.tables import registry
from mm_dagster.tables.words import STATES, VERDICTS
from mm_dagster.text import money_text, price_text

START = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = 672


def grid(**changes: Any) -> GridConfig:
    values: dict[str, Any] = {
        "id": "eth-v3", "symbol": "ETH-USDT", "activated_at": START + timedelta(days=1), "lower": 3070, "upper": 3185,
        "levels": 8, "stop": 2990, "capital": 1000,
    }  # fmt: skip
    return GridConfig.model_validate(values | changes)


def candles(
    start_price: float = 3120.0, *, count: int = WEEK, sigma: float = 0.004, symbol: str = "ETH-USDT"
) -> pl.DataFrame:
    """A random walk, made up."""
    random = np.random.default_rng(3)
    close = start_price * np.exp(np.cumsum(random.normal(0, sigma / 2, count)))
    opened = np.concatenate([[start_price], close])[:count]
    span = Span(START, START + count * BAR)
    frame = pl.DataFrame(
        {
            "open_time": span.open_times(),
            "close_time": span.open_times() + BAR,
            "open": opened,
            "high": np.maximum(opened, close) * 1.001,
            "low": np.minimum(opened, close) * 0.999,
            "close": close,
            "volume": np.ones(count),
        }
    ).with_columns(symbol=pl.lit(symbol), status=pl.lit("TRADED"), venue=pl.lit("made-up"))
    return registry.conform(frame, "candles")


def with_hole(frame: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    """MISSING from one bar to another, both included."""
    hole = pl.int_range(pl.len()).is_between(first, last)
    prices = ("open", "high", "low", "close", "volume")
    return frame.with_columns(
        *(pl.when(~hole).then(pl.col(name)).alias(name) for name in prices),
        status=pl.when(hole).then(pl.lit("MISSING")).otherwise("status"),
    )


def verdicts(bars: pl.DataFrame) -> pl.DataFrame:
    """Every verdict and none, in stretches of 50 bars."""
    words = [*VERDICTS, None]
    frame = bars.select("symbol", as_of="close_time").with_columns(
        verdict=pl.Series([words[place // 50 % 5] for place in range(bars.height)], dtype=pl.String)
    )
    return registry.conform(frame, "regime_verdict")


def states(bars: pl.DataFrame, **changes: Any) -> pl.DataFrame:
    """Up the ladder in stretches of 120 bars, from a day after START on."""
    whose = {"grid_id": "eth-v3", "activated_at": START + timedelta(days=1)} | changes
    frame = bars.select("symbol", as_of="close_time").with_columns(
        pl.lit(whose["grid_id"]).alias("grid_id"),
        pl.lit(whose["activated_at"], dtype=TIME).alias("activated_at"),
        state=pl.Series([STATES[min(3, place // 120)] for place in range(bars.height)], dtype=pl.String),
    )
    return registry.conform(frame, "exit_state")[96:]


def risk_rows(of: GridConfig, count: int = WEEK, stopped_after: int | None = None) -> pl.DataFrame:
    """Positions of a grid, made up but adding up."""
    random = np.random.default_rng(5)
    span = Span(START, START + count * BAR)
    profit = np.cumsum(random.exponential(0.0008, count)) * of.capital
    unrealised = -0.01 * of.capital * np.abs(np.sin(np.arange(count) / 60))
    frame = pl.DataFrame(
        {
            "as_of": span.open_times() + BAR,
            "grid_profit": profit,
            "exit_pnl": np.zeros(count),
            "unrealised_pnl": unrealised,
            "total_pnl": profit + unrealised,
            "liquidation_value": of.capital + profit + unrealised,
            "liquidation_value_optimistic": of.capital + 1.1 * profit + unrealised,
        }
    ).with_columns(
        grid_id=pl.lit(of.id),
        activated_at=pl.lit(of.activated_at, dtype=TIME),
        symbol=pl.lit(of.symbol),
        source=pl.lit("MODELLED"),
    )
    if stopped_after is not None:
        at = pl.lit(START + stopped_after * BAR, dtype=TIME)
        frame = frame.with_columns(stopped_at=pl.when(pl.col("as_of") >= at).then(at))
    return registry.conform(frame, "grid_risk")


def a_calibration(count: int = 3000) -> Calibration:
    """Predictions that come true as often as they say, made up."""
    random = np.random.default_rng(1)
    predicted = random.beta(0.3, 1.5, count)
    samples = pl.DataFrame(
        {
            "as_of": [START + timedelta(hours=place) for place in range(count)],
            "predicted": predicted,
            "happened": random.uniform(size=count) < predicted,
            "over": [False] * count,
        },
        schema=SAMPLE_SCHEMA,
    )
    return calibrate(samples, event="break_low")


def worth() -> pl.DataFrame:
    """Figures of every exit state and control, made up."""
    random = np.random.default_rng(5)
    signals = [("confirmed", state) for state in STATES[1:]]
    controls = (
        "hold_to_stop",
        "break_only",
        "near_bound",
        "tight_stop",
        "adx_25",
        "atr_expansion",
        "mean_holding_time",
    )
    signals += [("control", name) for name in (*controls, "random_exits")]
    metrics = ("precision", "recall", "lead_p50_hours", "mean_equity", "shortfall_5pct")
    probability = ("base_rate", "auc", "brier_skill", "ece")
    names = [(*signal, metric) for signal in signals for metric in metrics]
    names += [("confirmed", "p_break_low_24h", metric) for metric in probability]
    values = random.uniform(0.2, 0.9, len(names)) * [100 if name[2] in metrics[3:] else 1 for name in names]
    rows = [
        {"policy": name[0], "signal": name[1], "metric": name[2], "value": value, "low": 0.9 * value,
         "high": 1.1 * value, "n": 5000}
        for name, value in zip(names, values.tolist(), strict=True)
    ]  # fmt: skip
    # What never gave an alarm has no precision.
    rows[metrics.index("precision")].update(value=None, low=None, high=None)
    return registry.conform(pl.DataFrame(rows), "signal_quality")


def came() -> list[Left]:
    """Coverage of every interval, made up."""
    return [
        Left(moment, minutes, None, f"coverage_{width}", width / 100, width / 100 - 0.06, width / 100 + 0.05, 1234)
        for moment in ("broken", "latest_acceptable_exit")
        for minutes in (15, 60)
        for width in (80, 90)
    ]


BINS = pl.DataFrame(
    {
        "low": [0.0, 0.1, 0.9], "high": [0.1, 0.2, 1.0], "count": [52030.0, 7.0, 1.0], "predicted": [0.03, 0.15, 0.93],
        "observed": [0.02, 0.0, 1.0], "lower": [0.01, 0.0, None], "upper": [0.04, 0.5, None],
    }
)  # fmt: skip


def decision(of: GridConfig, bars: pl.DataFrame, **options: Any) -> bytes:
    return decision_picture(of, bars, verdicts(bars), states(bars, grid_id=of.id), **options)


CRASH = candles().with_columns(
    *(
        pl.when(pl.int_range(pl.len()) >= 500).then(0.55 * pl.col(name)).otherwise(name).alias(name)
        for name in ("open", "high", "low", "close")
    )
)
HOLES = with_hole(with_hole(with_hole(candles(), 100, 190), 300, 301), WEEK - 1, WEEK - 1)
KEY = ("grid_id", "activated_at", "as_of", "symbol")
FAR_BELOW = {"lower": 1000, "upper": 1100, "stop": 900}
FAR_ABOVE = {"lower": 9000, "upper": 9900, "stop": 8900}
PEPE: dict[str, Any] = {"symbol": "PEPE-USDT", "lower": 1.1e-5, "upper": 1.4e-5, "stop": 1.02345e-5}

PICTURES: dict[str, Callable[..., bytes]] = {
    "an ordinary week": lambda **options: decision(grid(), candles(), **options),
    "a crash": lambda **options: decision(grid(), CRASH, **options),
    "holes, the newest bar among them": lambda **options: decision(grid(), HOLES, **options),
    "a price far above the grid": lambda **options: decision(grid(**FAR_BELOW), candles(), **options),
    "a price far below the grid": lambda **options: decision(grid(**FAR_ABOVE), candles(), **options),
    "a thousand levels": lambda **options: decision(
        grid(lower=3000, upper=30000, levels=1000, stop=2990, spacing="geometric"), candles(), **options
    ),
    "bounds that nearly touch": lambda **options: decision(
        grid(lower=3070, upper=3090, levels=2, stop=3069), CRASH, **options
    ),
    "a grid that is not running": lambda **options: decision_picture(
        grid(enabled=False), candles(), verdicts(candles()), registry.empty("exit_state"), **options
    ),
    "no exit state yet": lambda **options: decision_picture(
        grid(), candles(), verdicts(candles()), registry.empty("exit_state"), **options
    ),
    "nothing at all": lambda **options: decision_picture(
        grid(), registry.empty("candles"), registry.empty("regime_verdict"), registry.empty("exit_state"), **options
    ),
    "nothing but holes": lambda **options: decision(grid(), with_hole(candles(), 0, WEEK), **options),
    "a single bar": lambda **options: decision(grid(), candles(count=1), **options),
    "a flat price": lambda **options: decision(grid(), candles(sigma=0), **options),
    "prices of 1e-5": lambda **options: decision(grid(**PEPE), candles(1.234e-5, symbol="PEPE-USDT"), **options),
    "prices of 3e5": lambda **options: decision(
        grid(symbol="BTC-JPY", lower=2.9e5, upper=3.1e5, stop=2.85e5), candles(3e5, symbol="BTC-JPY"), **options
    ),
    "the longest name": lambda **options: decision(grid(id="x" * 64), candles(), **options),
    "equity": lambda **options: equity_picture(grid(), risk_rows(grid()), **options),
    "equity, stopped": lambda **options: equity_picture(
        grid(), risk_rows(grid(), stopped_after=400), **options
    ),
    "equity in bitcoin": lambda **options: equity_picture(
        grid(symbol="ETH-BTC", capital=0.05), risk_rows(grid(symbol="ETH-BTC", capital=0.05)), **options
    ),
    "equity in yen": lambda **options: equity_picture(
        grid(symbol="BTC-JPY", capital=5e6), risk_rows(grid(symbol="BTC-JPY", capital=5e6)), **options
    ),
    "equity of one bar": lambda **options: equity_picture(grid(), risk_rows(grid(), 1), **options),
    "equity without rows": lambda **options: equity_picture(grid(), registry.empty("grid_risk"), **options),
    "equity without positions": lambda **options: equity_picture(
        grid(), registry.conform(risk_rows(grid()).select(KEY), "grid_risk"), **options
    ),
    "reliability": lambda **options: quality.reliability_picture(a_calibration(), **options),
    "reliability of nothing": lambda **options: quality.reliability_picture(a_calibration(0), **options),
    "reliability of an hour": lambda **options: quality.reliability_picture(a_calibration(1), **options),
    "worth": lambda **options: quality.quality_picture(worth(), **options),
    "worth of nothing": lambda **options: quality.quality_picture(worth().clear(), **options),
    "worth without intervals": lambda **options: quality.quality_picture(
        worth().with_columns(low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64)), **options
    ),
    "reliability of the rule's grids": lambda **options: quality.quality_reliability_picture(
        BINS, worth().filter(pl.col("signal") == "p_break_low_24h"), **options
    ),
    "reliability of no grid": lambda **options: quality.quality_reliability_picture(
        BINS.clear(), worth().clear(), **options
    ),
    "intervals": lambda **options: intervals_picture(came(), **options),
    "intervals without their own": lambda **options: intervals_picture(
        [one._replace(low=None, high=None) for one in came()], **options
    ),
    "intervals that failed": lambda **options: intervals_picture(
        [one._replace(value=one.value / 5, low=0.0) for one in came()], **options
    ),
    "intervals of nothing": lambda **options: intervals_picture([], **options),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_every_word_is_inside_the_picture_and_over_no_other(name: str, figures: list[Figure]) -> None:
    png = PICTURES[name](title_prefix="SIMULATED · ")
    assert struct.unpack(">II", png[16:24]) == (720, 486)
    words = [text for text in figures[0].findobj(Text) if is_shown(text)]
    renderer = FigureCanvasAgg(figures[0]).get_renderer()
    boxes = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in words]
    assert len(boxes) >= 8
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= 720, text
        assert box.y1 <= 486, text
    for (one, box), (other, its) in itertools.combinations(boxes, 2):
        apart = box.x1 <= its.x0 + 1 or its.x1 <= box.x0 + 1 or box.y1 <= its.y0 + 2 or its.y1 <= box.y0 + 2
        assert apart, f"{one!r} over {other!r}"


def is_shown(text: Text) -> bool:
    """Words that are drawn; matplotlib keeps others, like ticks beyond the axis."""
    if not text.get_text().strip() or not text.get_visible():
        return False
    axes = text.axes
    if axes is None:
        return True
    ticks = {
        tick.label1
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        if tick.label1.get_visible() and inside(axis.get_view_interval(), tick.get_loc())
    }
    every = {tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis.get_major_ticks()}
    return text in ticks or text not in every


def inside(interval: Any, value: float) -> bool:
    return bool(min(interval) <= value <= max(interval))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a crash", "equity, stopped", "reliability", "intervals"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_same_rows_give_the_same_bytes(name: str, theme: str) -> None:
    assert PICTURES[name](theme=theme) == PICTURES[name](theme=theme)


def test_the_order_of_rows_other_markets_grids_and_episodes_change_no_byte() -> None:
    bars, earlier = candles(), START - timedelta(days=30)
    others = candles(7.0, symbol="BTC-USDT")
    whole = decision(grid(), bars)
    mixed = decision_picture(
        grid(),
        shuffled(pl.concat([others, bars])),
        shuffled(pl.concat([verdicts(others), verdicts(bars)])),
        shuffled(pl.concat([states(bars, grid_id="eth-v4")[::-1], states(bars)])),
    )
    assert mixed == whole
    again = grid(activated_at=earlier)
    equity = equity_picture(grid(), risk_rows(grid()))
    rows = [risk_rows(again), risk_rows(grid(id="eth-v4")), risk_rows(grid())]
    assert equity_picture(grid(), shuffled(pl.concat(rows))) == equity


def shuffled(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sample(fraction=1, shuffle=True, seed=2)


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_a_hole_is_not_bridged(figures: list[Figure]) -> None:
    decision(grid(), HOLES)
    line = next(one for one in figures[0].axes[0].get_lines() if len(one.get_xdata()) == WEEK)
    assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [*range(100, 191), 300, 301, WEEK - 1]
    assert "not known" in words_of(figures[0])


def test_rows_that_are_not_there_are_a_hole_too(figures: list[Figure]) -> None:
    bars = candles()
    decision(grid(), bars.filter(~pl.int_range(pl.len()).is_between(100, 190)))
    line = next(one for one in figures[0].axes[0].get_lines() if len(one.get_xdata()) == WEEK)
    assert int(np.isnan(line.get_ydata()).sum()) == 91


def test_a_price_that_is_not_known_is_said_to_be(figures: list[Figure]) -> None:
    decision(grid(), HOLES)
    assert "2026-03-09T00:00:00Z · price not known, last known at 2026-03-08T23:45:00Z" in words_of(figures[0])


def test_a_thousand_levels_stay_lines_and_the_picture_says_how_many_are_drawn(figures: list[Figure]) -> None:
    PICTURES["a thousand levels"]()
    flat = [one for one in figures[0].axes[0].get_lines() if is_level(one)]
    assert 10 < len(flat) < 40
    assert any(text.startswith("grid of 1,001 prices, geometric, 1 in ") for text in words_of(figures[0]))


def is_level(line: Artist) -> bool:
    return isinstance(line, Line2D) and line.get_linewidth() == 0.6


def test_every_level_of_a_small_grid_is_drawn(figures: list[Figure]) -> None:
    decision(grid(), candles())
    levels = sorted(float(one.get_ydata()[0]) for one in figures[0].axes[0].get_lines() if is_level(one))
    assert levels == pytest.approx(np.linspace(3070, 3185, 9))


@pytest.mark.parametrize(("of", "away"), [(FAR_BELOW, " ▼"), (FAR_ABOVE, " ▲")])
def test_a_grid_out_of_sight_is_named_at_the_edge(of: dict[str, float], away: str, figures: list[Figure]) -> None:
    decision(grid(**of), candles())
    words = words_of(figures[0])
    assert {f"upper {of['upper']:,}{away}", f"lower {of['lower']:,}{away}", f"stop {of['stop']:,}{away}"} <= set(words)


def test_the_state_and_where_the_price_stands_are_in_words(figures: list[Figure]) -> None:
    bars = candles().with_columns(*(pl.lit(3080.0).alias(name) for name in ("open", "high", "low", "close")))
    decision(grid(), bars, title_prefix="SIMULATED · ")
    words = words_of(figures[0])
    assert "MANDATORY EXIT" in words
    assert "SIMULATED · ETH-USDT · eth-v3" in words
    assert "2026-03-09T00:00:00Z · 3,080 · 0.3 % above lower · 2.9 % above stop" in words
    assert "activated" in words


def test_a_state_older_than_the_newest_bar_carries_its_time(figures: list[Figure]) -> None:
    bars = candles()
    decision_picture(grid(), bars, verdicts(bars), states(bars)[:-8])
    assert "MANDATORY EXIT AT 2026-03-08T22:00:00Z" in words_of(figures[0])


def test_equity_says_what_it_is_worth_and_when_it_was_stopped(figures: list[Figure]) -> None:
    rows = risk_rows(grid(), stopped_after=400)
    equity_picture(grid(), rows)
    words, last = words_of(figures[0]), rows.row(-1, named=True)
    assert "stopped" in words
    assert "MODELLED" in words
    assert f"value {last['liquidation_value']:,.2f}" in words
    assert f"total {last['total_pnl']:+,.2f}" in words
    assert f"realised {last['grid_profit']:+,.2f}" in words
    assert f"unrealised {last['unrealised_pnl']:+,.2f}" in words
    assert "capital 1,000.00" in words
    assert "conservative to optimistic path" in words


def test_equity_without_an_optimistic_path_claims_no_band(figures: list[Figure]) -> None:
    rows = risk_rows(grid()).with_columns(
        liquidation_value_optimistic=pl.lit(None, dtype=pl.Float64), source=pl.lit("ACCOUNT")
    )
    equity_picture(grid(), rows)
    assert "conservative to optimistic path" not in words_of(figures[0])
    assert "ACCOUNT" in words_of(figures[0])


def test_reliability_shows_every_bin_that_has_samples(figures: list[Figure]) -> None:
    calibration = a_calibration()
    quality.reliability_picture(calibration)
    points = next(one for one in figures[0].axes[0].get_lines() if one.get_label() == "observed")
    filled = [one for one in calibration.bins if one.count]
    assert points.get_ydata() == pytest.approx([100 * (one.observed or 0) for one in filled])
    assert points.get_xdata() == pytest.approx([100 * (one.predicted or 0) for one in filled])
    assert {f"{one.count:,}" for one in filled} <= set(words_of(figures[0]))


# the glance -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 43, 44, 45, WEEK, 5000])
def test_a_glance_stays_below_what_dagster_shows_at_once(count: int) -> None:
    of = grid(id="x" * 64, symbol="1000SATS-USDT", lower=1, upper=100000, stop=0.5, levels=2)
    svg = glance.glance(of, candles(99000, count=count, sigma=0.001, symbol="1000SATS-USDT"))
    caption = f"{of.id} {of.symbol}: a week of price, grid and stop"
    assert len(f"![{caption}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})") < 1000


def test_a_glance_does_not_bridge_a_hole() -> None:
    assert glance.glance(grid(), candles()).count("M") == 3
    assert glance.glance(grid(), with_hole(candles(), 200, 400)).count("M") == 4


def ticks(bad: Callable[[int], bool]) -> pl.DataFrame:
    """A tick every quarter hour, the first one the longest; some failed, some never ended, some are not there."""
    until = datetime(2026, 1, 10, 12, tzinfo=UTC)
    rows = [
        {
            "as_of": until - back * BAR,
            "started_at": until,
            "finished_at": None if bad(back) and back % 3 == 0 else until + timedelta(seconds=3 + back / 10),
            "symbols_ok": [],
            "symbols_failed": ["A-B"] if bad(back) and back % 3 == 1 else [],
            "reason": None,
        }
        for back in range(glance.TICKS_SHOWN)
        if not (bad(back) and back % 3 == 2)
    ]
    return pl.DataFrame(rows, schema=registry.dtypes("tick"))


@pytest.mark.parametrize(
    "bad", [lambda _: False, lambda back: back % 2 == 1, lambda _: True], ids=["ok", "half", "all"]
)
def test_a_glance_at_the_ticks_stays_below_what_dagster_shows_at_once(bad: Callable[[int], bool]) -> None:
    svg = glance.ticks_glance(ticks(bad), datetime(2026, 1, 10, 12, tzinfo=UTC))
    assert len(base64.b64encode(svg.encode())) + len("![](data:image/svg+xml;base64,)") + 60 < 1000
    assert "NaN" not in svg


def test_a_glance_at_the_ticks_marks_those_that_went_wrong_and_none_before_the_first() -> None:
    until = datetime(2026, 1, 10, 12, tzinfo=UTC)
    assert "M" not in glance.ticks_glance(ticks(lambda _: False), until).rpartition('d="')[2]
    assert 'd="M230 2h5"' in glance.ticks_glance(ticks(lambda back: back == 1), until)
    # Neighbours are one stroke.
    assert 'd="M220 2h15"' in glance.ticks_glance(ticks(lambda back: back in (1, 2, 3)), until)
    few = ticks(lambda _: False).filter(pl.col("as_of") > until - 3 * BAR)
    assert 'd=""' in glance.ticks_glance(few, until)
    assert glance.ticks_glance(few.clear(), until).endswith("</svg>")


def test_a_glance_reads_on_white_and_on_black() -> None:
    svg = glance.glance(grid(), candles())
    for stroke in ("#d0405f", "#707d92"):
        assert stroke in svg
        assert contrast(stroke, "#ffffff") >= 3
        assert contrast(stroke, "#111111") >= 3


# colours and numbers --------------------------------------------------------------------------------------------------


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    dark, bright = sorted((colours.luminance(one), colours.luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_and_curves_have_contrast_on_their_background(theme: colours.Theme) -> None:
    palette = colours.PALETTES[theme]
    for colour in (palette.ink, palette.faint, palette.grid, palette.alarm, palette.realised, palette.unrealised):
        assert contrast(colour, palette.paper) >= 4.5, colour


def test_white_or_black_words_read_on_every_badge() -> None:
    for colour in (*colours.STATE_COLOURS.values(), *(palette.faint for palette in colours.PALETTES.values())):
        assert contrast(colours.on_colour(colour), colour) >= 4.5, colour


# How colours look without one kind of cone (Machado, Oliveira and Fernandes 2009, severity 1), on linear RGB.
COLOUR_BLIND = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    "full sight": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}


@pytest.mark.parametrize("sight", COLOUR_BLIND)
def test_no_two_states_look_alike_to_any_eye(sight: str) -> None:
    seen = [lab(np.array(COLOUR_BLIND[sight]) @ linear(colour)) for colour in colours.STATE_COLOURS.values()]
    assert min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2)) > 15


def linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of a linear sRGB colour; a distance of 2 is just seen side by side."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (300000, "300,000"),
        (1234567.8, "1,234,568"),
        (3120.5, "3,120.5"),
        (168.53, "168.53"),
        (1.1e-5, "0.000011"),
        (1.23456e-05, "0.0000123456"),
        (100.0, "100"),
        (0.999, "0.999"),
    ],
)
def test_a_price_is_written_out(price: float, text: str) -> None:
    assert price_text(price) == text


@pytest.mark.parametrize(
    ("amount", "capital", "signed", "text"),
    [
        (12.345, 1000, True, "+12.35"),
        (-0.001, 1000, True, "-0.001"),
        (0.0, 1000, True, "0"),
        (-1234.5, 1000, True, "-1,234.50"),
        (0.00012346, 0.05, True, "+0.000123"),
        (5000046.07, 5e6, False, "5,000,046"),
    ],
)
def test_money_is_as_fine_as_its_capital(amount: float, capital: float, signed: bool, text: str) -> None:
    assert money_text(amount, capital, signed=signed) == text


def test_the_axis_holds_price_and_grid_unless_the_price_is_far() -> None:
    of = grid(lower=100, upper=120, stop=90)
    low, high = extent.price_range(of, 100.0, 180.0)
    assert low < 90 < 180 < high
    low, high = extent.price_range(of, 181.0, 200.0)
    assert 120 < low < 181 < 200 < high
    low, high = extent.price_range(of, 10.0, 29.0)
    assert low < 10 < 29 < high < 90
    low, high = extent.price_range(of, 50.0, 500.0)
    assert low < 50 < 500 < high
    low, high = extent.price_range(of, None, None)
    assert low < 90 < 120 < high


def test_what_the_operator_did_is_drawn_the_same_each_time_with_and_without_answers() -> None:
    kpis = pl.DataFrame(
        {
            "month": ["2026-05", "2026-05", "2026-06"],
            "state": ["WARNING", "MANDATORY_EXIT", "WARNING"],
            "alerts": [9, 2, 1],
            "responses": [5, 2, 0],
            "p50_seconds": [5400.0, 120.0, None],
            "p95_seconds": [14000.0, 300.0, None],
        }
    )
    first = quality.response_picture(kpis)
    assert first.startswith(b"\x89PNG")
    assert quality.response_picture(kpis) == first
    assert quality.response_picture(kpis.with_columns(responses=0)) != first
    assert quality.response_picture(kpis.clear()).startswith(b"\x89PNG")
