"""Whatever people read shows figures that can be read: tiny and huge prices, small and large capital, old data.

Four markets go through the whole program, with a grid for each thing that can happen to one; then every message, page,
picture, table and command is read for what nobody should have to: exponents, amounts of 0.00 that are none, long times
in minutes, more digits than mean something, and sums that do not add up.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from html import unescape
from itertools import chain, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from matplotlib.figure import Figure
from matplotlib.text import Text
from rich.console import Console

from mm_dagster.alerts import digest, drill, failures, message
from mm_dagster.alerts.alert import JUDGED, PARTLY_JUDGED, Alert
from mm_dagster.alerts.limit_words import BREACHED, OVER, Known, OfLimit
from mm_dagster.alerts.parts import MESSAGE_LIMIT, length
from mm_dagster.bars import BAR, Span, iso
from mm_dagster.cli import printing
from mm_dagster.cli.app import CommandError
from mm_dagster.cli.examine import freshness
from mm_dagster.config.alerts import AlertsConfig
from mm_dagster.config.exit import ExitConfig
from mm_dagster.config.grid import GridConfig
from mm_dagster.exit.live import live_state
from mm_dagster.exit.reasons import reasons_of, sentence
from mm_dagster.grid import account, levels
from mm_dagster.market.contradiction import held_back, ticker_doubt
from mm_dagster.market.simulated import simulate
from mm_dagster.pages.gather import drawn, page
from mm_dagster.pages.report import render
from mm_dagster.pages.terminal import status_page
from mm_dagster.pictures import quality
from mm_dagster.pictures.decision import decision_picture
from mm_dagster.pictures.equity import equity_picture
from mm_dagster.pipeline.exhibits import markdown_of
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.snapshots import snapshots
from mm_dagster.tables.market import MarketRules
from mm_dagster.tables.registry import EVERY_BAR, empty
from mm_dagster.tables.words import ALERT_KINDS, ENTRY_ADVICE, LIMITS, STATES
from mm_dagster_tests.cli.small import called
from mm_dagster_tests.exit import synthetic
from mm_dagster_tests.pipeline.recordings import NOW, configure

pytestmark = pytest.mark.slow

ZONE = "Europe/Berlin"
FALL = 24
"""Bars before NOW in which every market falls by a tenth, and since whose beginning the grids run."""
LATER = NOW + timedelta(days=178, hours=17)


@dataclass(frozen=True)
class Market:
    """A market by its price at the activation of its grids, and their capital, both in quote currency."""

    symbol: str
    price: float
    capital: float


MARKETS = (
    Market("SHIB-USDT", 0.0000123456, 1000),
    Market("BTC-JPY", 15_234_567, 3_000_000),
    Market("ETH-BTC", 0.0412345, 0.05),
    Market("ETH-USDT", 3127.45, 250_000),
)
QUOTES = "USDT|JPY|BTC"
GRIDS = {
    "stopped": {"lower": 0.97, "upper": 1.05, "stop": 0.94},
    "below": {"lower": 0.97, "upper": 1.05, "stop": 0.80},
    "inside": {"lower": 0.80, "upper": 1.10, "stop": 0.70},
    "above": {"lower": 0.50, "upper": 0.60, "stop": 0.45},
    "idle": {"lower": 0.97, "upper": 1.05, "stop": 0.94, "enabled": False},
}
"""What happens to each grid: bounds as shares of the price."""
SOME = ("stopped", "inside", "idle")
"""Those of all markets but the first."""


# what may not be read -------------------------------------------------------------------------------------------------

EXPONENT = re.compile(r"(?<![\w#.-])[+-]?\d[\d,]*\.?\d*[eE][+-]?\d+(?!\w)")
MINUTES = re.compile(r"(?<![\d.,])(\d[\d,]*)(?:\.\d+)? (?:minutes?|min)\b")
AMOUNT = re.compile(rf"([+-]?[\d,]*\d(?:\.\d+)?) (?:{QUOTES})\b")
NAMED = re.compile(
    r"(?:realised|unrealised|sold at the stop|total|value|capital|worth|stands at|cost|of) "
    r"([+-]?(?:\d[\d,]*)?\d(?:\.\d+)?)(?![\d.,]* %)"
)
SUM = re.compile(rf"stands at (\S+) (?:{QUOTES}): realised (\S+), unrealised ([^\s,]+)(?:, sold at the stop (\S+))? \(")
MANY_DIGITS = 8


def faults(text: str) -> list[str]:
    """What is wrong with the figures of a text."""
    found = [f"exponent: {one}" for one in EXPONENT.findall(text)]
    found += [f"minutes: {one}" for one in MINUTES.findall(text) if int(one.replace(",", "")) > 120]
    for amount in {*AMOUNT.findall(text), *NAMED.findall(text)}:
        digits = re.sub(r"[^\d]", "", amount).lstrip("0")
        if not digits and len(amount.strip("+-")) > 1:
            found.append(f"reads as nothing: {amount}")
        if len(digits) > MANY_DIGITS:
            found.append(f"digits: {amount}")
    for one in SUM.finditer(text):
        total, *parts = (number(part) for part in one.groups() if part)
        if abs(sum(parts) - total) * 2 > last_place(one[1]):
            found.append(f"does not add up: {one[0]}")
    return found


def number(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("−", "-"))


def last_place(text: str) -> Decimal:
    return Decimal(1).scaleb(int(number(text).as_tuple().exponent))


def in_all(texts: Iterable[tuple[str, str]]) -> list[str]:
    """The faults of texts, each with the place where it stands."""
    return [f"{where}: {fault}" for where, text in texts for fault in faults(text)]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The price 1.234e-05 is below", 1), ("at 1.5e+07", 1), ("1E5", 1), ("#5b3e1d and eth-v3 2e-range", 0),
        ("13620 minutes old", 1), ("within 240 minutes", 1), ("90 min", 0), ("waiting may cost 0.00 BTC", 1),
        ("0.000 USDT", 1), ("0 BTC", 0), ("0.00412 BTC", 0), ("1,396,492.64 JPY", 1), ("1,396,493 JPY", 0),
        ("stands at -15.33 USDT: realised +716.53, unrealised -731.87 (modelled)", 1),
        ("stands at -15.33 USDT: realised +716.53, unrealised -731.86 (modelled)", 0),
        ("total +0.00 ", 1), ("confidence +0.00, 0.00 ATR outside", 0),
    ],
)  # fmt: skip
def test_what_nobody_can_read_is_found(text: str, count: int) -> None:
    assert len(faults(text)) == count, faults(text)


# the markets ----------------------------------------------------------------------------------------------------------


def grid_of(market: Market, name: str) -> dict[str, object]:
    """The content of a grid's file."""
    given = {"levels": 8, "capital": market.capital, "activated_at": iso(NOW - FALL * BAR)}
    shares = {key: share if isinstance(share, bool) else market.price * share for key, share in GRIDS[name].items()}
    return {"id": f"{market.symbol.lower()}-{name}", "symbol": market.symbol, **given, **shares}


def record(folder: Path, market: Market) -> None:
    """Writes 55 days of a market that ends with a fall."""
    rows = simulate("ETH-USDT", Span(NOW - timedelta(days=55), NOW))
    scale = market.price / rows["close"][-FALL - 1]
    # Up and down on the way, so that grids earn something.
    fall = np.linspace(1.0, 0.9, FALL) * (1 + 0.03 * np.sin(np.arange(FALL) * np.pi / 3))
    falling = np.concatenate([np.ones(rows.height - FALL), fall]) * scale
    prices = ("open", "high", "low", "close")
    rows = rows.with_columns((pl.col(name) * falling).alias(name) for name in prices)
    rows = rows.with_columns(high=pl.max_horizontal(prices), low=pl.min_horizontal(prices))
    (folder / market.symbol).mkdir(parents=True)
    rows.write_parquet(folder / market.symbol / "15m.parquet")


@dataclass(frozen=True)
class Ticked:
    """A tick over all markets: the environment of its project, and what the command said."""

    environment: dict[str, str]
    said: str


@pytest.fixture(scope="module")
def ticked(tmp_path_factory: pytest.TempPathFactory) -> Ticked:
    """One tick, as the command runs it."""
    folder = tmp_path_factory.mktemp("figures")
    config = folder / "configuration"
    for market in MARKETS:
        record(config / "candles", market)
    grids = [grid_of(market, name) for market in MARKETS for name in (GRIDS if market is MARKETS[0] else SOME)]
    configure(config, grids, {"main": {"kind": "recorded", "path": "candles"}}, {one.symbol: "main" for one in MARKETS})
    (config / "alerts.yaml").write_text(yaml.safe_dump({"timezone": ZONE, "digest_at": "08:00"}))
    # Grids of one market lie over each other here, so that each thing happens to one of them.
    portfolio = {"window_days": 30, "equity": 1_000_000, "limits": {"min_step_apart": 0}}
    (config / "portfolio.yaml").write_text(yaml.safe_dump(portfolio))
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    environment = {**own, "MM_CONFIG_DIR": str(config), "MM_DATA_DIR": str(folder / "data"), "COLUMNS": "110"}
    code, said, errors = called(environment, "tick", "--as-of", iso(NOW))
    assert code == 0, errors
    return Ticked(environment, said + errors)


@pytest.fixture
def project(ticked: Ticked) -> Project:
    """The project of that tick."""
    return Project(ticked.environment["MM_CONFIG_DIR"], ticked.environment["MM_DATA_DIR"])


@pytest.fixture
def mm(ticked: Ticked) -> Callable[..., str]:
    """A command in this process; what it says on both streams."""
    return lambda *arguments: "".join(called(ticked.environment, *arguments)[1:])


# messages -------------------------------------------------------------------------------------------------------------


def alerts_of(grid: GridConfig) -> Iterator[Alert]:
    """An alert of every kind and state that one grid can have."""
    by_kind = {
        "ENTRY": ENTRY_ADVICE,
        "BLIND": (*STATES, "UNKNOWN"),
        "SETUP": (JUDGED, PARTLY_JUDGED, "UNKNOWN"),
        **dict.fromkeys(("ESCALATION", "REMINDER", "DEESCALATION", "RECOVERED"), STATES),
    }
    for kind, states in by_kind.items():
        for state in states:
            yield Alert(
                alert_id="0", kind=kind, grid_id=grid.id, symbol=grid.symbol, activated_at=grid.activated_at,
                as_of=NOW, state=state, state_since=NOW - 2 * BAR, priority=0, before=STATES[-1],
                found_at=NOW + timedelta(minutes=1), reason=f"No candle of it since {iso(NOW)} is known.",
            )  # fmt: skip


def rows_of(project: Project, table: str, grid: GridConfig) -> list[dict[str, Any]]:
    """The rows that a tick stored of a grid, those that decide of its last bars first."""
    return project.lake.read(table, span=Span(NOW - FALL * BAR, NOW), grids=[grid.id]).sort("as_of").to_dicts()[::-4]


def messages(project: Project) -> Iterator[tuple[str, str]]:
    """Every kind of message: of grids by their rows, and those of no single grid."""
    zone: dict[str, Any] = {"timezone": ZONE} if "timezone" in message.render.__annotations__ else {}
    told = set()
    for grid in project.config.grids:
        risks = rows_of(project, "grid_risk", grid)
        decided = rows_of(project, "exit_state" if grid.enabled else "entry_assessment", grid)
        tiny = [dict(risks[0], **dict.fromkeys(_MONEY, grid.capital * share)) for share in (1e-8, 0.0, -3.3e-7)]
        seen = [*zip(decided, risks, strict=True), *product(decided[:1], tiny)]
        for alert, (row, risk) in product(alerts_of(grid), seen):
            if (alert.kind == "ENTRY") != (not grid.enabled):
                continue
            reasons = reasons_of(row["triggers"], row["state"]) if grid.enabled else []
            live = {} if not grid.enabled else row | {"live_reason": seen_live(grid, row["as_of"], risk["price"])}
            title, text = message.render(alert, live or row, risk, grid, reasons, False, **zone)
            told.add(alert.kind)
            yield f"{alert.kind} {alert.state} {grid.id}", f"{title}\n{text}"
    lake, span = project.lake, Span(NOW - BAR, NOW)
    summed = digest.due(
        lake.read("exit_state", span=span), empty("notification"), NOW,
        AlertsConfig(digest_at="00:15", timezone=ZONE), project.config.grids, False,
    )  # fmt: skip
    yield "DIGEST", f"{summed[0].title}\n{summed[0].message}"
    failed = failures.failure("key", "candles", f"no answer since {iso(NOW)}", NOW, empty("notification"))
    assert failed is not None
    yield "FAILURE", "\n".join(message.failure(failed, **zone))
    ended = failures.failure(
        "key", "eth DONE", "There is nothing to do. It was left", NOW, empty("notification"), kind="EXIT"
    )
    assert ended is not None
    yield "EXIT", "\n".join(message.failure(ended, **zone))
    yield "TEST", "\n".join(message.trial(failures.trial("pushover", NOW, 0), **zone))
    yield "DRILL", "\n".join(drill.words("eth", NOW, reminds=False, simulated=False, **zone))
    yield from limits_of(project)
    assert {*told, "LIMIT", "DIGEST", "FAILURE", "EXIT", "TEST", "DRILL"} == set(ALERT_KINDS)


def limits_of(project: Project) -> Iterator[tuple[str, str]]:
    """Every limit breached and over, of the capital and in the currency of each grid."""
    for grid, name, news in product(project.config.grids, LIMITS, (BREACHED, OVER)):
        subject, quote = {"pair": grid.symbol, "position": grid.id}.get(name, "all"), grid.symbol.partition("-")[2]
        value = 240.0 if name == "fills_per_day" else 0.2345678
        row = {"as_of": NOW, "value": value, "threshold": value / 1.1, "breached": news == BREACHED}
        risk = {"grids": 6, "capital": grid.capital, "session_capital": grid.capital / 3, "counts_as": 1.0987}
        risk |= {"es_5_24h": grid.capital / 7, "var_5_24h": grid.capital / 9, "drawdown": grid.capital / 1e6}
        risk |= {"most_correlated": "ETH-USDT/SOL-USDT"}
        share = {"grid_id": grid.id, "symbol": grid.symbol, "capital": grid.capital, "es_5_share": 1 / 3, "as_of": NOW}
        share |= {"stopping_takes_off": grid.capital / 11, "activated_at": grid.activated_at}
        title, text = message.limit(
            OfLimit(news, quote, name, subject), Known(row, None, risk, [share, share | {"grid_id": "other"}]), False,
            ZONE,
        )  # fmt: skip
        yield f"LIMIT {name} {news} {grid.id}", f"{title}\n{text}"


_MONEY = ("total_pnl", "capital_at_risk", "profit_giveback", "liquidation_value", "grid_profit", "unrealised_pnl")


def seen_live(grid: GridConfig, newest: datetime, price: float | None) -> str | None:
    """What a live run says that has not seen the market for nine days."""
    return live_state(
        grid, ExitConfig(), judged=True, clock=newest + timedelta(days=9, hours=11), newest_known=newest,
        last_price=min(price or grid.stop, grid.stop),
    )[1]  # fmt: skip


@pytest.fixture(scope="module")
def texts(ticked: Ticked) -> list[tuple[str, str]]:
    """All messages, each with its kind, state and grid."""
    return list(messages(Project(ticked.environment["MM_CONFIG_DIR"], ticked.environment["MM_DATA_DIR"])))


def test_every_message_can_be_read(texts: list[tuple[str, str]]) -> None:
    assert len(texts) > 300
    assert not in_all(texts)
    assert any("9 days 11 h ago" in text for _, text in texts)


def test_a_price_is_written_as_its_venue_writes_it(project: Project) -> None:
    grid = next(one for one in project.config.grids if one.id == "eth-usdt-stopped")
    risk, row = rows_of(project, "grid_risk", grid)[0], rows_of(project, "exit_state", grid)[0]
    alert = next(one for one in alerts_of(grid) if one.kind == "ESCALATION")
    said = {tick: message.render(alert, row, risk, grid, [], False, price_tick=tick)[1] for tick in (None, 0.01)}
    assert "3,283.82, stop 2,939.8. " in str(said[None])
    assert "3,283.82, stop 2,939.80. " in str(said[0.01])


def test_times_on_a_phone_are_local_with_utc_beside_them(texts: list[tuple[str, str]]) -> None:
    assert not [text for _, text in texts if re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d", text)]
    assert any("By 2 Mar 17:01 CET (16:01 UTC): Be ready" in text for _, text in texts)
    assert any("as of 13:00 CET." in text for _, text in texts)


def test_no_message_is_too_long_and_none_is_cut(texts: list[tuple[str, str]]) -> None:
    bodies = [text.partition("\n")[2] for _, text in texts]
    assert max(map(length, bodies)) <= MESSAGE_LIMIT
    assert [body for body in bodies if "…" in body] == []


# what is stored in words ----------------------------------------------------------------------------------------------


def scaled(market: Market, **more: Any) -> dict[str, Any]:
    """The quiet readings of the exit's tests, at the price of a market."""
    scale = market.price / synthetic.QUIET["close"]
    names = ("close", "low", "range_high", "range_low", "atr")
    return {name: synthetic.QUIET[name] * scale for name in names} | more


def ladders() -> Iterator[tuple[str, pl.DataFrame]]:
    """Exit states in which each trigger fires or is near, by what happens to a market."""
    for market in MARKETS:
        scale = market.price / synthetic.QUIET["close"]
        of = synthetic.grid(
            symbol=market.symbol, capital=market.capital,
            **{name: value * scale for name, value in (("lower", 3070), ("upper", 3185), ("stop", 2990))},
        )  # fmt: skip
        happenings: dict[str, dict[str, Any]] = {
            "quiet": scaled(market),
            "stop": scaled(market, low=2980 * scale, close=2985 * scale),
            "below": scaled(market, low=3020 * scale, close=3030 * scale, p_break_low_24h=0.9),
            "above": scaled(market, low=3185 * scale, close=3200 * scale),
            "break": scaled(market, p_break_low_24h=0.4),
            "all": scaled(
                market, verdict="TREND", confidence=-0.4, transition_probability=0.9, half_life=40.0,
                atr_expansion=3.0, efficiency_ratio=0.9, close=3060 * scale, low=3050 * scale, p_break_low_24h=0.7,
            ),
        }  # fmt: skip
        for name, values in happenings.items():
            frames = synthetic.episode(12, values, of=of)
            yield f"{market.symbol} {name}", synthetic.climb(frames, 12, of=of)
        for bars in (60, 400):
            frames = synthetic.episode(bars, scaled(market), missing=range(8, bars), of=of)
            yield f"{market.symbol} blind", synthetic.climb(frames, bars, of=of)


def test_the_words_of_every_decision_can_be_read() -> None:
    texts = []
    for where, rows in ladders():
        for row in rows.to_dicts():
            told = [row["advice"], *(row["nearest"] or []), *reasons_of(row["triggers"], row["state"])]
            texts += [(where, sentence) for sentence in told]
    assert not in_all(texts)
    assert any("the data are 4 days 2 h old" in text for _, text in texts)


def test_the_words_of_every_row_can_be_read(project: Project) -> None:
    span = Span(NOW - timedelta(days=2), NOW)
    texts = []
    for table in ("grid_risk", "entry_assessment", "exit_state"):
        for row in project.lake.read(table, span=span).to_dicts():
            words = chain.from_iterable(value if isinstance(value, list) else [value] for value in row.values())
            texts += [(table, word) for word in words if isinstance(word, str) and " " in word]
    assert len(texts) > 500
    assert not in_all(texts)


def test_what_is_refused_is_refused_in_words_that_can_be_read() -> None:
    rules = MarketRules(price_tick=1e-7, amount_lot=1e-6, amount_min=1e7, cost_min=1e6)
    said = [
        levels.levels_clash(np.array([1.00e-7, 1.01e-7]), rules),
        levels.order_too_small(np.array([1.23e-5, 1.25e-5]), 12.0, rules),
        levels.order_too_small(np.array([1.23e-5, 1.25e-5]), 2e7, rules),
        levels.order_too_small(np.array([1.23e-5, 1.25e-5]), 0.0, rules),
    ]
    assert None not in said
    for market in MARKETS:
        for change in ({"stop": 1.01}, {"upper": 0.9}):
            shares = {**GRIDS["below"], **change}
            values = {name: share * market.price for name, share in shares.items()}
            with pytest.raises(ValueError, match="lower") as refused:
                synthetic.grid(symbol=market.symbol, **values)
            # What pydantic adds is the input, which is not ours.
            said.append(str(refused.value).splitlines()[1].partition(" [type=")[0])
    assert not in_all(("refused", str(one)) for one in said)


def test_what_is_seldom_said_can_be_read() -> None:
    said = [sentence({"name": "RANGE_INVALIDATED", "value": 1e7, "threshold": 1e-5})]
    start = NOW - timedelta(minutes=15)
    for market in MARKETS:
        price = market.price
        said.append(ticker_doubt(price * 3, price, price * 1.01, "the bar before"))
        of = synthetic.grid(
            symbol=market.symbol, capital=market.capital, lower=price * 0.97, upper=price * 1.05, stop=price * 0.9
        )
        model, real = (
            pl.DataFrame([{"source": "ACCOUNT", "inventory": held, "fills": 1, "total_pnl": market.capital * share}])
            for held, share in ((0.0, 1e-6), (market.capital / price, -3.3e-7))
        )
        found = account.differences(of, model, real)
        assert found
        said += found
        rows = pl.DataFrame(
            [
                {"open_time": start + place * BAR, "open": one, "high": one, "low": one, "close": one, "volume": 1.0}
                for place, one in enumerate((price, price * 0.00001))
            ],
            schema_overrides={"open_time": pl.Datetime("us", "UTC")},
        )
        said += held_back(rows, rows.head(1))["reason"].to_list()
    assert len(said) == 1 + 3 * len(MARKETS)
    assert not in_all(("seldom", str(one)) for one in said)
    with pytest.raises(CommandError) as late:
        freshness(Stale(), lambda symbol: NOW)  # type: ignore[arg-type]
    assert "178 days ago" in str(late.value)


class Stale:
    """A project whose only market was last seen half a year ago."""

    lake = SimpleNamespace(newest=lambda table, **_: {"ETH-USDT": NOW - timedelta(days=178, hours=17)})
    config = SimpleNamespace(
        symbols=["ETH-USDT"], alerts=AlertsConfig(), market=lambda symbol: SimpleNamespace(kind="ccxt")
    )


# pages ----------------------------------------------------------------------------------------------------------------


def moments(project: Project) -> Iterator[tuple[str, Any]]:
    """The page right after the tick, and half a year later."""
    yield "fresh", page(project, NOW + timedelta(minutes=2), looked_up=True)
    yield "stale", page(project, LATER)


def test_the_page_in_the_terminal_can_be_read(project: Project) -> None:
    for where, found in moments(project):
        console = Console(file=io.StringIO(), width=110)
        console.print(status_page(found, 110))
        text = console.file.getvalue()  # type: ignore[attr-defined]
        joined = " ".join(text.split())
        assert not in_all([(where, text), (where, joined)])
        assert not re.search(r"\dT\d\d:\d\d", text)
        assert "2026-03-02 13:00 CET (12:00 UTC)" in joined
        assert where != "stale" or "178 days" in joined


def test_the_report_can_be_read(project: Project) -> None:
    for where, found in moments(project):
        html = render(found, drawn(project, found), generated_at=LATER)
        words = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", html, flags=re.DOTALL)
        read = unescape(" ".join(re.sub(r"<[^>]*>", " ", words).split())).replace("\xa0", " ")
        # What a reader hears who does not see the drawings.
        heard = unescape(" ".join(re.findall(r'aria-label="([^"]*)"', words)))
        assert not in_all([(where, read), (where, heard)])
        assert not re.search(r"\dT\d\d:\d\d", html)
        assert "2026-03-02 13:00 CET (12:00 UTC)" in read
        assert where != "stale" or "178 days" in read
        columns = re.findall(r'<dl class="sum">(.*?)</dl>', html, flags=re.DOTALL)
        assert len(columns) >= len(MARKETS)
        for column in columns:
            *parts, total = re.findall(r'class="num">([^<]*)<', column)
            assert not [one for one in (*parts, total) if re.fullmatch(r"[+-]?0\.0+", one)]
            assert abs(sum(map(number, parts)) - number(total)) * 2 <= last_place(total), column


# pictures -------------------------------------------------------------------------------------------------------------


def words_of(figure: Figure) -> list[str]:
    """All that stands in a picture, with what only shows when it is drawn."""
    figure.canvas.draw()
    offsets = [axis.get_offset_text().get_text() for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    return [*(text.get_text().replace("−", "-") for text in figure.findobj(Text)), *offsets]


def test_every_picture_can_be_read(project: Project, figures: list[Figure]) -> None:
    span = Span(NOW - timedelta(days=3), NOW)
    lake = project.lake
    grids = [one for one in project.config.grids if one.id.endswith(("-stopped", "-idle"))]
    for grid in grids:
        bars = lake.read("candles", span=span, symbols=[grid.symbol])
        verdicts = lake.read("regime_verdict", span=span, symbols=[grid.symbol])
        states = lake.read("exit_state", span=span, grids=[grid.id])
        risks = lake.read("grid_risk", span=span, grids=[grid.id])
        decision_picture(grid, bars, verdicts, states, dots_per_inch=40)
        if grid.enabled:
            equity_picture(grid, risks, dots_per_inch=40)
    drawn_figures = {id(figure): figure for figure in figures}.values()
    assert len(drawn_figures) == len(MARKETS) * 3
    texts = [(f"picture {place}", word) for place, figure in enumerate(drawn_figures) for word in words_of(figure)]
    assert not in_all(texts)
    assert not [word for _, word in texts if re.fullmatch(r"\D+ [+-]?0\.00+", word)]


def test_the_picture_of_slow_answers_counts_hours(figures: list[Figure]) -> None:
    kpis = pl.DataFrame(
        {
            "month": ["2026-02", "2026-03"], "state": ["WARNING"] * 2, "alerts": [30_000_000, 4], "responses": [3, 4],
            "p50_seconds": [3600.0, 40_000.0], "p95_seconds": [90_000.0, 800_000.0],
        }
    )  # fmt: skip
    quality.response_picture(kpis)
    words = words_of(figures[0])
    assert not in_all(("answers", word) for word in words)
    assert "hours to act" in words


# tables, snapshots, commands ------------------------------------------------------------------------------------------


def test_every_table_can_be_read(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = ("config_hash", "parameters_hash", "returns_hash", "alert_id")
    found = []
    for table in (*EVERY_BAR, "grid_episode", "tick"):
        rows = project.lake.read(table)
        if table == "portfolio_contribution" and rows.is_empty():
            # Too few days of these markets are known for a night of all grids.
            continue
        shown = rows.select(name for name in rows.columns if name not in hidden)
        recent = pl.concat([shown.head(20), shown.tail(40)])
        # Of 55 days no night can be told; pages/test_portfolio.py reads those figures.
        assert recent.height or table == "portfolio_contribution"
        if recent.is_empty():
            continue
        found += [(f"Dagster {table}", line) for line in markdown_of(recent).splitlines()]
        printing.print_frame(recent, as_json=False)
        found += [(f"printed {table}", line) for line in capsys.readouterr().out.splitlines()]
    assert not in_all(found)


def test_a_snapshot_can_be_read_and_reads_back_as_the_same_numbers(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mm_dagster.history import snapshot

    given: list[Any] = []
    readable = snapshot._readable

    def kept(value: Any) -> Any:
        made = readable(value)
        if isinstance(value, dict) and "symbol" in value:
            given.append(made)
        return made

    monkeypatch.setattr(snapshot, "_readable", kept)
    files = snapshots(project, project.config.symbols, Span(NOW - BAR, NOW))
    assert len(files) == len(MARKETS)
    assert not in_all(files.items())
    whole = [one for one in given if "grid_analysis" in one]
    assert [yaml.safe_load(text) for text in files.values()] == whole


def test_every_command_can_be_read(mm: Callable[..., str], ticked: Ticked, tmp_path: Path) -> None:
    found = {
        "tick": ticked.said,
        "status": mm("status", "--as-of", iso(NOW + timedelta(minutes=1))),
        "status, later": mm("status"),
        "doctor": mm("doctor"),
        "portfolio": mm("portfolio", "--as-of", iso(NOW + timedelta(minutes=1))),
        "portfolio, what if": mm(
            "portfolio", "--as-of", iso(NOW + timedelta(minutes=1)), "--what-if", "shib-usdt-inside=2000"
        ),
        "report": mm("report", "--out", str(tmp_path / "report.html"), "--as-of", iso(NOW + timedelta(minutes=1))),
        "respond": mm("respond", "shib-usdt-inside", "kept", "--at", iso(NOW)),
        "sql": mm("sql", "SELECT symbol, close, volume, atr, volatility_forecast FROM regime_features "
                         "JOIN candles USING (symbol) WHERE close_time = as_of ORDER BY as_of DESC LIMIT 8"),
        "sql, decisions": mm("sql", "SELECT * EXCLUDE config_hash FROM grid_risk ORDER BY as_of DESC LIMIT 40"),
        "sql, words": mm("sql", "SELECT grid_id, advice, nearest, triggers FROM exit_state ORDER BY as_of LIMIT 40"),
    }  # fmt: skip
    assert not in_all(found.items())
    assert "SHIB-USDT" in found["tick"]
    assert "not foreseen" not in found["doctor"]
    assert re.search(r"realised \+[\d.,]+, unrealised -", found["status"])
