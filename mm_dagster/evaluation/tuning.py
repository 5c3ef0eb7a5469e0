"""Better thresholds, proposed: searched on the past, judged on what came after it, deflated for the looking.

Days are cut into an expanding past and a block that follows it, with a gap between them as long as a grid lives, so
that no grid of the past reaches into the block. On each past an own search runs; what it finds is applied to the block.
The search on the last past makes the proposal, and the last block is the one that no trial has ever touched.

What is maximised is the worth of the alarms per week that a grid was watched:

    worth = sum over levels of weight x (breaks caught in time - price x false alarms) / grid-weeks

A break is caught in time at a level when the alarm that stood at the break had been raised at least the operator's
window of that level (`exit.window_minutes`) and at most 24 hours before: an alarm that always stands catches nothing.
A false alarm is one that no break follows within 24 hours. LATEST_ACCEPTABLE_EXIT asks to leave: weight 1, price as
given; 1/2 by default, so a needless exit costs half of what one in time saves, and alarms that are right less often
than every third time do not pay. WARNING asks to look: weight 1/2, half the price. The price is the operator's: another
one moves the thresholds for a reason that no data can give.

Trials differ in thresholds alone: features, grids and what became of them are computed once, and the states come from
the very code that runs every quarter hour.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

from mm_dagster.bars import BAR, DAY_BARS, Span, bar_number, by_bar, iso
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import alarms, deflation, resample
from mm_dagster.evaluation.alarms import Alarms
from mm_dagster.evaluation.cohort import Cohort, Columns, follow
from mm_dagster.evaluation.episodes import open_daily
from mm_dagster.evaluation.evaluate import LEAD_BARS
from mm_dagster.evaluation.market import Floats, Market, markets
from mm_dagster.exit import ladder, triggers
from mm_dagster.exit.triggers import LAG
from mm_dagster.grid import touch
from mm_dagster.regime import features, verdict
from mm_dagster.tables.registry import CODE_VERSIONS
from mm_dagster.tables.words import STATES, VERDICTS


class TuningError(Exception):
    """What cannot be searched. One line, with the remedy."""


# what is searched -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """A threshold that is searched.

    Attributes:
        path: file and key, with dots.
        low: least value.
        high: greatest value.
        step: values are low, low + step, ...; whole numbers when all three are.
        at_most: a key, earlier in SPACE, whose value this one must not exceed; it is lowered to it.
    """

    path: str
    low: float
    high: float
    step: float
    at_most: str | None = None

    @property
    def distribution(self) -> BaseDistribution:
        """As optuna has it."""
        if isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int):
            return IntDistribution(self.low, self.high, step=self.step)
        return FloatDistribution(self.low, self.high, step=self.step)

    def nearest(self, value: float) -> float:
        """The nearest value that can be searched."""
        steps = round((min(max(value, self.low), self.high) - self.low) / self.step)
        return _tidy(self.low + steps * self.step)


_BREAK = "exit.thresholds.break_likely"
SPACE = (
    Key(f"{_BREAK}.latest_acceptable_exit_on", 0.40, 0.80, 0.05),
    Key(f"{_BREAK}.latest_acceptable_exit_off", 0.20, 0.70, 0.05, at_most=f"{_BREAK}.latest_acceptable_exit_on"),
    Key(f"{_BREAK}.warning_on", 0.20, 0.60, 0.02, at_most=f"{_BREAK}.latest_acceptable_exit_on"),
    Key(f"{_BREAK}.warning_off", 0.10, 0.50, 0.05, at_most=f"{_BREAK}.warning_on"),
    Key("exit.confirm.mandatory", 0.40, 0.90, 0.05),
    Key("exit.confirm.latest_acceptable_exit", 0.35, 0.80, 0.05, at_most="exit.confirm.mandatory"),
    Key("exit.confirm.warning", 0.15, 0.60, 0.03, at_most="exit.confirm.latest_acceptable_exit"),
    Key("exit.persist.on", 1, 4, 1),
    Key("exit.persist.off_warning", 2, 16, 2),
    Key("exit.persist.off_latest_acceptable_exit", 4, 32, 4),
    Key("exit.thresholds.range_atr", 0.0, 1.5, 0.25),
    Key("exit.thresholds.volatility_expansion", 1.10, 1.60, 0.05),
    Key("exit.thresholds.reversion_lost_factor", 1.5, 4.0, 0.25),
    Key("exit.thresholds.transition_likely", 0.30, 0.70, 0.05),
    Key("exit.thresholds.confidence_fall", 0.05, 0.30, 0.05),
    Key("exit.thresholds.efficiency_rise", 0.05, 0.30, 0.05),
    Key("exit.thresholds.reversion_slowing_factor", 1.1, 2.0, 0.1),
    Key("exit.thresholds.soft_for_warning", 1, 4, 1),
    Key("risk.touch.k_break.h24", 0.60, 0.90, 0.02),
    Key("regime.hysteresis.up", 1, 6, 1),
    Key("regime.hysteresis.down", 2, 12, 2),
    Key("regime.logits.range_midpoint", 0.45, 0.65, 0.05),
    Key("regime.logits.range_trend_from", 0.25, 0.50, 0.05),
    Key("regime.logits.transition_midpoint", 0.32, 0.57, 0.05),
    Key("regime.logits.transition_range_midpoint", 0.40, 0.80, 0.05),
    Key("regime.logits.trend_midpoint", 0.40, 0.70, 0.05),
    Key("regime.logits.trend_4h_midpoint", 0.35, 0.65, 0.05),
    Key("regime.logits.trend_4h_floor", 0.30, 0.60, 0.05),
)
"""Every key that can be searched."""
FILES = ("exit", "risk", "regime")

Values = Mapping[str, float]
"""By the path of a key."""


def keys_of(text: str) -> tuple[Key, ...]:
    """The keys that a comma-separated list names: `all`, a file, the beginning of a path, or a whole path.

    Raises:
        TuningError: a name fits none.
    """
    wanted: list[Key] = []
    for name in (part.strip() for part in text.split(",")):
        found = [key for key in SPACE if name == "all" or key.path == name or key.path.startswith(f"{name}.")]
        if not found:
            raise TuningError(f"--keys: {name!r} fits no key; say all, {', '.join(FILES)}, or like {SPACE[0].path}")
        wanted += found
    return tuple(key for key in SPACE if key in wanted)


def values_of(config: Config, keys: Sequence[Key]) -> dict[str, float]:
    """The values of keys in a configuration."""
    return {key.path: float(_at(config, key.path)) for key in keys}


def _at(config: Config, path: str) -> Any:
    found: Any = config
    for part in path.split("."):
        found = getattr(found, part)
    return found


def with_values(config: Config, values: Values) -> Config:
    """The configuration with other values of some keys; its own models judge them."""
    parts: dict[str, dict[str, Any]] = {name: getattr(config, name).model_dump() for name in FILES}
    for path, value in values.items():
        *above, last = path.split(".")
        place: dict[str, Any] = reduce(lambda part, name: part[name], above, parts)
        place[last] = type(place[last])(value)
    return config.model_copy(
        update={name: type(getattr(config, name)).model_validate(part) for name, part in parts.items()}
    )


def allowed(values: Values, current: Values) -> dict[str, float]:
    """The values, lowered where a limit is exceeded, and raised where they limit what is not searched.

    Args:
        values: of the keys that are searched.
        current: of all keys.
    """
    found = dict(values)
    limited = [(key.path, key.at_most) for key in SPACE if key.at_most is not None]
    for path, limit in limited:
        if path in values:
            found[path] = min(found[path], found.get(limit, current[limit]))
    for path, limit in limited:
        if limit in values and path not in values:
            found[limit] = max(found[limit], current[path])
    return found


def _tidy(value: float) -> float:
    return round(float(value), 10)


# what it is searched on -----------------------------------------------------------------------------------------------

BLOCKS = 4
"""Blocks that follow a past each, all of the same length; the first past, with its gap, is as long as two of them."""
LEAST_BLOCK_DAYS = 21
SEARCH_GRIDS = 1_000
"""Trials look at every k-th grid of each market, so that there are about so many; every final figure uses all."""


@dataclass(frozen=True)
class Fold:
    """Days on which grids are opened: a past, and the block that follows it after the gap."""

    past: Span
    block: Span


def folds(days: Span, life_days: int) -> list[Fold]:
    """Cuts days into BLOCKS folds; the last block ends with the days.

    Args:
        days: whole days.
        life_days: the longest life of a grid; the gap is a day more, since a break is looked for so long after it.

    Raises:
        TuningError: there are too few days.
    """
    count = days.bars // DAY_BARS
    length = count // (BLOCKS + 2)
    gap = life_days + 1
    least = max(LEAST_BLOCK_DAYS, gap)
    if length < least:
        raise TuningError(
            f"{count} days from {iso(days.start)[:10]} on are too few for {BLOCKS} blocks of {least} days after a past "
            f"of twice that: choose at least {least * (BLOCKS + 2)} days, or backfill more"
        )
    cuts = [days.end - timedelta(days=length * left) for left in range(BLOCKS, -1, -1)]
    return [Fold(Span(days.start, start - timedelta(days=gap)), Span(start, end)) for start, end in pairwise(cuts)]


@dataclass(frozen=True)
class Ground:
    """Everything of one market that no trial changes.

    Attributes:
        market: what is known of it.
        features: rows of `regime_features`, from which other verdicts are computed.
        cohort: the grids, in the order of their days.
        day: number of the day on which each was opened, shape (m,).
        away: log distance of each close to the lower bound, shape (m, n).
    """

    market: Market
    features: pl.DataFrame
    cohort: Cohort
    day: Columns
    away: Floats

    def opened(self, days: Span, every: int = 1) -> slice:
        """The rows of the grids opened on some days, or of every k-th of them."""
        first, last = np.searchsorted(self.day, [days.start.toordinal(), days.end.toordinal()])
        return slice(int(first), int(last), every)


def prepare(
    symbols: Sequence[str], candles: Callable[[str], pl.DataFrame], days: Span, config: Config
) -> Iterator[Ground]:
    """The markets, one after another; those on which no grid could be opened are left out.

    Args:
        symbols: which.
        candles: rows of `candles` of a symbol, from LEAD_BARS before the days on, or as far back as they go.
        days: whole days.
        config: the current one.
    """
    for symbol in symbols:
        known = candles(symbol).filter(pl.col("symbol") == symbol, pl.col("open_time") < days.end)
        if known.is_empty():
            continue
        oldest = known["open_time"].min()
        assert isinstance(oldest, datetime)
        span = Span(max(days.back(LEAD_BARS).start, oldest), days.end)
        measured = features.compute(known, span, config.risk.vol)
        [market] = markets([symbol], known, measured, verdict.compute(measured, span, config.regime), span)
        grids = open_daily(market, days, config.evaluation)
        if not grids:
            continue
        cohort = follow(market, grids, config.evaluation.life_days * DAY_BARS)
        lower = np.broadcast_to(np.array([[grid.lower] for grid in grids]), cohort.close.shape)
        away = touch.log_ratio(cohort.close.ravel(), lower.ravel()).reshape(cohort.close.shape)
        day = np.array([grid.activated_at.toordinal() for grid in grids], np.int64)
        # Equity is no part of the worth.
        yield Ground(market, measured, replace(cohort, left=np.empty((len(grids), 0))), day, away)


# what a set of values is worth ----------------------------------------------------------------------------------------

LATEST, WARNING = "LATEST_ACCEPTABLE_EXIT", "WARNING"
PRICE = 0.5
"""Of a false alarm, in breaks caught in time."""
LEVELS = {LATEST: (1.0, 1.0), WARNING: (0.5, 0.5)}
"""Weight of a level, and its share of the price of a false alarm."""
LATEST_USEFUL_HOURS = alarms.HORIZON * BAR / timedelta(hours=1)


@dataclass(frozen=True)
class Outcome:
    """What became of the alarms on some grids, m in all.

    Attributes:
        day: on which each was opened, shape (m,).
        symbol: number of its market, shape (m,).
        alarms: by level.
        worth: of the alarms of each, shape (m,).
        in_time: whether its break was caught in time, by level, shape (m,) each.
    """

    day: Columns
    symbol: Columns
    alarms: Mapping[str, Alarms]
    worth: Floats
    in_time: Mapping[str, np.ndarray]

    @property
    def weeks(self) -> Floats:
        """How long each was watched, shape (m,)."""
        return self.alarms[LATEST].weeks

    @property
    def score(self) -> float:
        """Worth per grid-week."""
        weeks = float(self.weeks.sum())
        return float(self.worth.sum()) / weeks if weeks > 0 else 0.0


def judge(grounds: Sequence[Ground], days: Span, config: Config, base: Config, price: float, every: int = 1) -> Outcome:
    """What the alarms of the active policy are worth on the grids opened on some days.

    Args:
        grounds: the markets, prepared under `base`.
        days: the days.
        config: what is tried.
        base: the current configuration, whose windows say what is in time.
        price: of a false alarm.
        every: look at every k-th grid of each market.
    """
    window = base.exit.window_minutes
    hours = {LATEST: window.latest_acceptable_exit / 60, WARNING: window.warning / 60}
    # Nothing that comes after the last life is looked at.
    until = days.end + timedelta(days=base.evaluation.life_days + 1)
    parts: dict[str, list[Alarms]] = {level: [] for level in LEVELS}
    day, symbol = [], []
    for number, ground in enumerate(grounds):
        rows = ground.opened(days, every)
        cohort = _part(ground.cohort, rows)
        state = _states(ground, rows, until, config, base)
        for level in LEVELS:
            parts[level].append(alarms.judge(state >= STATES.index(level), cohort))
        day.append(ground.day[rows])
        symbol.append(np.full(day[-1].size, number, np.int64))
    found = {level: alarms.together(part) for level, part in parts.items()}
    in_time = {
        level: (one.lead >= max(hours[level], BAR / timedelta(hours=1))) & (one.lead <= LATEST_USEFUL_HOURS)
        for level, one in found.items()
    }
    worth = sum(
        weight * (in_time[level] - price * share * found[level].false) for level, (weight, share) in LEVELS.items()
    )
    return Outcome(np.concatenate(day), np.concatenate(symbol), found, np.asarray(worth, np.float64), in_time)


def _part(cohort: Cohort, rows: slice) -> Cohort:
    cut = {
        name: getattr(cohort, name)[rows]
        for name in ("grids", "close", "low", "last", "whole", "broken_low", "stopped", "broken_high", "left")
    }
    return replace(cohort, **cut)


def _states(ground: Ground, rows: slice, until: datetime, config: Config, base: Config) -> np.ndarray:
    """States of the active policy, as places in `tables.STATES`, up to the bar that ends what there is to warn of."""
    market, cohort = ground.market, _part(ground.cohort, rows)
    over, away = cohort.over, ground.away[rows]
    known = dict(market.known)
    if config.regime != base.regime:
        known |= _verdicts(ground, until, config)
    scale = config.risk.touch.k_break.h24
    states = np.zeros((len(cohort.grids), away.shape[1]), np.int8)
    for row, grid in enumerate(cohort.grids):
        count = int(over[row]) + 1
        first = market.place(grid.first_as_of)
        life = slice(first - LAG, first + count)
        seen = {name: values[life] for name, values in known.items()}
        ahead = bar_number(grid.first_as_of) + np.arange(count)
        sigma = touch.forecast(seen["volatility_forecast"][LAG:], ahead, DAY_BARS, config.risk.vol.weekend)
        p = touch.probability(away[row, :count], sigma, 24, scale)
        seen["p_break_low_24h"] = np.concatenate([np.full(LAG, np.nan), p])
        episode = ladder.fold(triggers.read(grid, seen, config.exit.thresholds), config.exit)
        states[row, :count] = episode.ladder.state
    return states


def _verdicts(ground: Ground, until: datetime, config: Config) -> dict[str, Floats]:
    """The verdict's columns under another `regime.yaml`, NaN from `until` on."""
    market = ground.market
    span = Span(market.span.start, min(market.span.end, until))
    said = verdict.compute(ground.features, span, config.regime)
    places = {name: float(place) for place, name in enumerate(VERDICTS)}
    said = said.with_columns(pl.col("verdict").replace_strict(places, default=None, return_dtype=pl.Float64))
    lane = pl.DataFrame({"symbol": [market.symbol]})
    return {
        name: np.pad(values[0], (0, market.span.bars - span.bars), constant_values=np.nan)
        for name, values in by_bar(said, span, lane, *triggers.VERDICT).items()
    }


def edges(one: Outcome, other: Outcome) -> Floats:
    """What one set of values gains on another on the same grids, by block of weeks, per grid-week, shape (blocks,)."""
    block = one.day // resample.BLOCK_DAYS
    block = block - block.min() if block.size else block
    weeks = np.bincount(block, one.weeks)
    return np.bincount(block, one.worth - other.worth)[weeks > 0] / weeks[weeks > 0]


# the search -----------------------------------------------------------------------------------------------------------

WORTH_KEEPING = 0.05
"""A key whose return to its current value costs less than this share of the gain goes back: fewer changes to judge."""


@dataclass(frozen=True)
class Found:
    """What the search on one past found.

    Attributes:
        values: of every key that is searched.
        edges: of them over the current ones on the grids of the search, by block, shape (blocks,).
        ratios: of edge to noise of everything that was tried, shape (tried,).
    """

    values: dict[str, float]
    edges: Floats
    ratios: Floats


class Search:
    """A search that is kept in a file and goes on where it stopped.

    A trial depends on the name of the study, its number, and the trials before it alone: a search that was interrupted
    and goes on finds what one in a single go does.
    """

    def __init__(
        self,
        grounds: Sequence[Ground],
        config: Config,
        keys: Sequence[Key],
        price: float,
        name: str,
        journal: Path,
    ) -> None:
        self.grounds = grounds
        self.config = config
        self.keys = keys
        self.price = price
        self.name = name
        # Limits that are not searched are needed too.
        self.all_current = values_of(config, SPACE)
        self.current = {key.path: self.all_current[key.path] for key in keys}
        # Every trial would be a line.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.storage = JournalStorage(JournalFileBackend(str(journal)))

    def run(self, fold: Fold, number: int, trials: int, progress: Callable[[int, float], None]) -> Found:
        """Searches on the past of a fold.

        Args:
            fold: the fold.
            number: its number.
            trials: how many there are in the end, those of earlier runs included.
            progress: told after each trial how many there are now, and the best edge so far.
        """
        study = optuna.create_study(
            storage=self.storage, study_name=f"{self.name}-{number}", direction="maximize", load_if_exists=True
        )
        for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Its process was killed.
            self.storage.set_trial_state_values(left._trial_id, TrialState.FAIL)
        every = self._every(fold)
        now = judge(self.grounds, fold.past, self.config, self.config, self.price, every)

        def judged(values: Values) -> Outcome:
            return judge(self.grounds, fold.past, with_values(self.config, values), self.config, self.price, every)

        distributions = {key.path: key.distribution for key in self.keys}
        done = _finished(study)[:trials]
        best = max((trial.value or 0.0 for trial in done), default=now.score)
        progress(len(done), max(best - now.score, 0.0))
        while len(done) < trials:
            study.sampler = optuna.samplers.TPESampler(seed=_seed(f"{self.name}/{number}/{len(done)}"))
            if not done:
                study.enqueue_trial({key.path: key.nearest(self.current[key.path]) for key in self.keys})
            trial = study.ask(distributions)
            try:
                one = judged(self._allowed(trial.params))
            except BaseException:
                study.tell(trial, state=TrialState.FAIL)
                raise
            trial.set_user_attr("ratio", deflation.ratio(edges(one, now)))
            study.tell(trial, one.score)
            done = _finished(study)[:trials]
            best = max(best, one.score)
            progress(len(done), max(best - now.score, 0.0))
        ratios = [float(trial.user_attrs["ratio"]) for trial in done]
        top = max(done, key=lambda trial: (trial.value, -trial.number), default=None)
        if top is None or top.value is None or top.value <= now.score:
            return Found(dict(self.current), np.zeros(np.unique(now.day // resample.BLOCK_DAYS).size), np.array(ratios))
        values, kept = self._allowed(top.params), judged(self._allowed(top.params))
        spare = WORTH_KEEPING * (kept.score - now.score)
        for key in reversed(self.keys):
            back = {**values, key.path: self.current[key.path]}
            if values[key.path] == self.current[key.path] or self._allowed(back) != back:
                continue
            one = judged(back)
            ratios.append(deflation.ratio(edges(one, now)))
            if one.score >= kept.score - spare:
                values, kept = back, one
        return Found(values, edges(kept, now), np.array(ratios))

    def _every(self, fold: Fold) -> int:
        grids = sum(len(range(*ground.opened(fold.past).indices(ground.day.size))) for ground in self.grounds)
        return max(1, round(grids / SEARCH_GRIDS))

    def _allowed(self, values: Values) -> dict[str, float]:
        return allowed({path: _tidy(value) for path, value in values.items()}, self.all_current)


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


# the proposal ---------------------------------------------------------------------------------------------------------

SURE = 0.95
LEAST_BLOCKS = 8
"""Of weeks: fewer are too few to draw from, and a figure on them stands without an interval."""
BOTH = "both"
"""In the place of a signal: the worth is that of both levels."""
IN_SAMPLE, OUT_OF_SAMPLE, HOLD_OUT = "in sample", "out of sample", "hold-out"


@dataclass(frozen=True)
class Proposal:
    """What a study proposes, and how far it can be believed.

    Attributes:
        current: values in force, by key.
        proposed: values that the search on the longest past found.
        by_fold: what the search on each past found, in their order.
        folds: the pasts and blocks.
        figures: part, signal, metric; current, current_low, current_high; proposed, proposed_low, proposed_high;
            difference, low, high; grids. Parts are IN_SAMPLE (the longest past, on which the proposal was found),
            OUT_OF_SAMPLE (all blocks, each under what its own past proposed) and HOLD_OUT (the last block alone).
            Intervals are null where there are fewer than LEAST_BLOCKS of weeks.
        tried: sets of values that the search on the longest past looked at.
        ratio: edge to noise of the proposal in sample, by block of weeks.
        luck: the ratio to expect of the best of so many that are worth nothing.
        deflated: probability that the true one is above that.
        real: probability that the edge out of sample is above 0.
    """

    current: dict[str, float]
    proposed: dict[str, float]
    by_fold: tuple[dict[str, float], ...]
    folds: tuple[Fold, ...]
    figures: pl.DataFrame
    tried: int
    ratio: float
    luck: float
    deflated: float
    real: float

    @property
    def changed(self) -> dict[str, float]:
        """Proposed values that differ from the current ones."""
        return {path: value for path, value in self.proposed.items() if value != self.current[path]}

    @property
    def verdict(self) -> str:
        """One sentence: proven, or why not."""
        if not self.changed:
            return "nothing to propose: no trial was worth more than the current values"
        edge = {part: self.edge(part) for part in (OUT_OF_SAMPLE, HOLD_OUT)}
        difference, low, high = edge[OUT_OF_SAMPLE]
        if low is None or high is None:
            return "not proven: there are too few weeks out of sample for an interval"
        if low <= 0.0 <= high:
            return "not proven: the interval of the difference out of sample holds 0"
        if difference is not None and difference < 0:
            return "worse: out of sample the search loses against the current values"
        if self.deflated < SURE:
            return f"not proven: in sample the best of {self.tried} trials would look as good by luck alone"
        if (edge[HOLD_OUT][0] or 0.0) <= 0:
            return "not proven: nothing is gained on the hold-out"
        return "better out of sample; a person decides"

    @property
    def proven(self) -> bool:
        """Whether the verdict is that it is better."""
        return self.verdict.startswith("better")

    def edge(self, part: str) -> tuple[float | None, float | None, float | None]:
        """Difference in worth, with its interval."""
        return self.figures.filter(part=part, metric="worth").select("difference", "low", "high").row(0)


def about(grounds: Sequence[Ground], days: Span, config: Config, keys: Sequence[Key], price: float) -> dict[str, str]:
    """What a study stands on: trials under another of these must not be mixed with it."""

    def digest(*parts: bytes) -> str:
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]

    parts = [config.regime, config.risk, config.exit, config.evaluation]
    prices = [values.tobytes() for ground in grounds for values in ground.market.prices.values()]
    return {
        "symbols": ",".join(ground.market.symbol for ground in grounds),
        "days": f"{iso(days.start)[:10]} to {iso(days.end - timedelta(days=1))[:10]}",
        "keys": ",".join(key.path for key in keys),
        "price": f"{price:g}",
        "candles": digest(*prices),
        "configuration": digest(*(part.model_dump_json().encode() for part in parts)),
        "code": digest(repr((SPACE, BLOCKS, SEARCH_GRIDS, LEVELS, CODE_VERSIONS)).encode()),
    }


NOTE = "study.json"


def stands_on(folder: Path) -> dict[str, str]:
    """What the study in a folder was found to stand on when it began; nothing where there is none."""
    note = folder / NOTE
    return json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}


def claim(folder: Path, now: Mapping[str, str]) -> None:
    """Writes down what a study stands on when it is new, and refuses one that stands on something else.

    Raises:
        TuningError: the study was made under other circumstances.
    """
    before = stands_on(folder)
    if not before:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{NOTE}"
        fresh.write_text(json.dumps(dict(now), indent=1) + "\n", encoding="utf-8")
        fresh.replace(folder / NOTE)
        return
    for name, value in now.items():
        if before.get(name) != value:
            raise TuningError(
                f"--study {folder.name}: was made with other {name} ({before.get(name)!s:.60}, now {value:.60}); "
                "choose another name"
            )


Progress = Callable[[int, int, float], None]
"""Told the number of the fold, how many trials it has now, and the best edge so far."""


def tune(
    name: str,
    folder: Path,
    grounds: Sequence[Ground],
    days: Span,
    config: Config,
    keys: Sequence[Key],
    trials: int,
    price: float = PRICE,
    progress: Progress = lambda fold, done, best: None,
) -> Proposal:
    """Searches on every past, and judges what was found on the block that follows it.

    Args:
        name: of the study; with the number of trials and the data it decides everything.
        folder: where its trials are kept; those that are there count.
        grounds: see `prepare`.
        days: likewise.
        config: the current configuration.
        keys: what is searched.
        trials: for each past.
        price: of a false alarm, in breaks caught in time.
        progress: see there.

    Raises:
        TuningError: there are too few days or no grids, or the study was made under other circumstances.
    """
    cut = folds(days, config.evaluation.life_days)
    if not any(len(ground.day[ground.opened(cut[0].past)]) for ground in grounds):
        raise TuningError(
            f"no grid could be opened from {iso(cut[0].past.start)[:10]} to {iso(cut[0].past.end)[:10]}: features need "
            f"{LEAD_BARS // DAY_BARS} days of candles before; choose a later --from, or backfill earlier days"
        )
    claim(folder, about(grounds, days, config, keys, price))
    search = Search(grounds, config, keys, price, name, folder / "trials.journal")
    found = [
        search.run(fold, number, trials, lambda done, best, number=number: progress(number, done, best))  # type: ignore[misc]
        for number, fold in enumerate(cut)
    ]

    def both(span: Span, values: Values) -> tuple[Outcome, Outcome]:
        now = judge(grounds, span, config, config, price)
        if values == search.current:
            return now, now
        return now, judge(grounds, span, with_values(config, values), config, price)

    blocks = [both(fold.block, one.values) for fold, one in zip(cut, found, strict=True)]
    pooled = _together([now for now, _ in blocks]), _together([new for _, new in blocks])
    parts = {
        IN_SAMPLE: both(cut[-1].past, found[-1].values),
        OUT_OF_SAMPLE: pooled,
        HOLD_OUT: blocks[-1],
    }
    rows = [row for part, (now, new) in parts.items() for row in _compared(part, now, new)]
    last = found[-1]
    luck = deflation.best_by_luck(last.ratios, last.ratios.size)
    return Proposal(
        current=search.current,
        proposed=last.values,
        by_fold=tuple(one.values for one in found),
        folds=tuple(cut),
        figures=pl.DataFrame(rows, schema=FIGURES, orient="row"),
        tried=last.ratios.size,
        ratio=deflation.ratio(last.edges),
        luck=luck,
        deflated=deflation.probability(last.edges, luck),
        real=deflation.probability(edges(pooled[1], pooled[0])),
    )


FIGURES = {
    "part": pl.String(),
    "signal": pl.String(),
    "metric": pl.String(),
    **{
        name: pl.Float64()
        for name in (
            "current", "current_low", "current_high", "proposed", "proposed_low", "proposed_high", "difference", "low",
            "high",
        )
    },
    "grids": pl.Int64(),
}  # fmt: skip


def _together(parts: Sequence[Outcome]) -> Outcome:
    return Outcome(
        np.concatenate([part.day for part in parts]),
        np.concatenate([part.symbol for part in parts]),
        {level: alarms.together([part.alarms[level] for part in parts]) for level in LEVELS},
        np.concatenate([part.worth for part in parts]),
        {level: np.concatenate([part.in_time[level] for part in parts]) for level in LEVELS},
    )


def _compared(part: str, now: Outcome, new: Outcome) -> Iterator[tuple[Any, ...]]:
    """The figures of both, and their difference on the same draws."""
    if not now.day.size:
        return
    weights = resample.draws(now.day - now.day.min(), now.symbol)
    if not resample.enough(now.day, LEAST_BLOCKS):
        weights = weights[:1]
    before, after = (_figures(one, weights) for one in (now, new))
    for name, values in before.items():
        row: list[float | None] = []
        for drawn in (values, after[name], after[name] - values):
            known = [float(drawn[0]), *resample.interval(drawn[1:])]
            row += [value if np.isfinite(value) else None for value in known]
        yield (part, *name, *row, now.day.size)


def _figures(one: Outcome, weights: Floats) -> dict[tuple[str, str], Floats]:
    """By signal and metric, shape (1 + draws,)."""
    found = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        weeks = weights @ one.weeks
        found[BOTH, "worth"] = weights @ one.worth / weeks
        for level, raised in one.alarms.items():
            true, false, broke = weights @ raised.true, weights @ raised.false, weights @ raised.broke
            warned = np.flatnonzero(raised.lead > 0)
            found[level, "precision"] = true / (true + false)
            found[level, "recall"] = weights @ (raised.lead > 0) / broke
            found[level, "caught_in_time"] = weights @ one.in_time[level] / broke
            found[level, "false_alarms_per_grid_week"] = false / weeks
            found[level, "lead_p50_hours"] = alarms.quantile(raised.lead[warned], 0.5, weights[:, warned])
    return found
