"""Studies of makers: which recorded books they read, what goes into the ledger of trials first, what is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mm_dagster.bars import BAR, Span, ceil_bar, floor_bar, iso, time_of_ns
from mm_dagster.config import sources
from mm_dagster.config.makers import MakersConfig
from mm_dagster.errors import ForeseenError
from mm_dagster.evaluation import resample
from mm_dagster.history.lake import Commit
from mm_dagster.makers import study as makers
from mm_dagster.makers.fill_probability import digest
from mm_dagster.makers.matching import CLOSED, WHY
from mm_dagster.makers.study import OWN, PARTS, Outcome, Study
from mm_dagster.makers.track import Track, TrackError, track_of
from mm_dagster.pipeline import trials
from mm_dagster.pipeline.book_samples import samples, tape_of_sample
from mm_dagster.pipeline.book_tapes import play
from mm_dagster.pipeline.findings import Finding
from mm_dagster.pipeline.foreign import Named, first_line
from mm_dagster.pipeline.own_quotes import OwnQuotes
from mm_dagster.pipeline.project import Project
from mm_dagster.recorder.places import Place, place_of, root_of
from mm_dagster.recorder.seal import Segment, is_intact, manifest
from mm_dagster.research.promotion import Idea, Promotion, PromotionError, Tried, judge_idea
from mm_dagster.tables import registry
from mm_dagster.tables.registry import CODE_VERSIONS, TABLES
from mm_dagster.text import counted

RECORDED = "recorded"
"""The study of what `mm record` recorded."""
TABLE, FILLS, MODELS = "maker_study", "maker_fill", "fill_model"

Say = Callable[[str], None]


class BooksError(ForeseenError):
    """There is no recorded book that could be studied; one line."""


@dataclass(frozen=True)
class Source:
    """What a study reads: a market's tracks, in order of time.

    Attributes:
        study: name of the study.
        market: exchange and market, like binance:ETH-USDT.
        tracks: what was recorded.
        left_out: what could not be read, a line each.
        is_simulated: whether it is made up.
    """

    study: str
    market: str
    tracks: tuple[Track, ...]
    left_out: tuple[str, ...] = ()
    is_simulated: bool = False


@dataclass(frozen=True)
class Done:
    """A study of a market with its verdicts.

    Attributes:
        source: what was read.
        study: what was found.
        judged: by maker, at the fee of makers.yaml; a line says why there is no verdict.
        rows: of `maker_study`, as they were stored.
    """

    source: Source
    study: Study
    judged: Mapping[str, Promotion | str]
    rows: list[dict[str, Any]]


# what is read ---------------------------------------------------------------------------------------------------------


def recorded(project: Project, exchange: str, symbol: str, say: Say = lambda said: None) -> Source:
    """The sealed quarter hours of a market, each a track.

    Raises:
        BooksError: there are none that can be read.
    """
    name = f"{exchange}:{symbol}"
    left_out: list[str] = []
    rows = manifest(place_of(root_of(project.data), exchange, symbol).segments)
    tracks = tuple(sealed(project, exchange, symbol, rows, left_out, say))
    if not tracks:
        why = f"none of {counted(len(rows), 'segment')} can be read: {left_out[0]}" if rows else "nothing is recorded"
        raise BooksError(f"{name}: {why}; `mm record` records, and a quarter hour is sealed when the next has begun")
    return Source(RECORDED, name, tracks, tuple(left_out))


def sealed(
    project: Project, exchange: str, symbol: str, rows: Sequence[Segment], left_out: list[str],
    say: Say = lambda said: None,
) -> Iterator[Track]:  # fmt: skip
    """The tracks of a market's segments; a line is added to `left_out` for each that cannot be read."""
    place = place_of(root_of(project.data), exchange, symbol)
    for row, following in zip_longest(rows, rows[1:]):
        try:
            track = _track(place, row, following)
        except Exception as error:
            # Each is a file from outside: whatever is wrong with one, the others are read.
            left_out.append(f"{row.file}: {first_line(error)[:160]}")
        else:
            yield track
        say(f"{exchange}:{symbol} {row.file}")


def _track(place: Place, row: Segment, following: Segment | None) -> Track:
    """
    Raises:
        BooksError: it is damaged.
        TrackError: there is nothing to quote on.
    """
    if not is_intact(place.segments, row):
        raise BooksError("it is damaged")
    return track_of(play(place, row, following).tape)


def sampled(folder: Path, name: str | None, say: Say = lambda said: None) -> Iterator[Source]:
    """The markets of a folder that somebody else recorded.

    Raises:
        SampleError: there is none, or a file cannot be read.
        TrackError: there is nothing on it to quote on.
    """
    for path in samples(folder):
        tape = tape_of_sample(path)
        market = f"{tape.market.exchange}:{tape.market.symbol}"
        say(market)
        yield Source(name or folder.resolve().name, market, (track_of(tape),))


# a study --------------------------------------------------------------------------------------------------------------


def run_study(
    project: Project, source: Source, own: Named | None, command: str, config: MakersConfig | None = None,
    say: Say = lambda said: None,
) -> Done:  # fmt: skip
    """A study of a market: computed, written into the ledger of trials, judged by what that says, and kept.

    Args:
        project: whose lake keeps the ledger.
        source: what is read.
        own: somebody's own quotes, beside the others.
        command: how it was asked for.
        config: in place of makers.yaml.
        say: told after each stretch.

    Raises:
        MakersError: too few stretches.
        IdeaError: what the function did or gave cannot be used.
        LakeError: the ledger cannot be written; then nothing is said.
    """
    config = config or project.config.makers
    parts = makers.stretches(source.tracks, config)
    left = len(parts) - config.learn_stretches

    def progress(done: int) -> None:
        say(f"{source.market} {done} of {left}")

    if own is None:
        found = makers.study(parts, config, progress=progress)
    else:
        with OwnQuotes(own, config.touch_share) as quotes:
            found = _named(makers.study(parts, config, quotes, progress=progress), str(own))
    span = Span(
        floor_bar(time_of_ns(parts[0].track.from_ns)),
        max(ceil_bar(time_of_ns(parts[-1].track.until_ns)), floor_bar(time_of_ns(parts[0].track.from_ns)) + BAR),
    )
    judged = _judged(project, source, found, own, command, config, span)
    rows = keep_study(project, source.study, source.market, found, judged, config, span.end)
    return Done(source, found, judged, rows)


def keep_study(
    project: Project, study: str, market: str, found: Study, judged: Mapping[str, Promotion | str],
    config: MakersConfig, as_of: datetime,
) -> list[dict[str, Any]]:  # fmt: skip
    """Writes a study into the lake; the rows of `maker_study`."""
    stamp = {
        "study": study, "market": market, "as_of": as_of,
        "config_hash": sources.digest(config.model_dump(mode="json")),
    }  # fmt: skip
    rows = [_row(one, found, judged, config) | stamp for one in found.outcomes]
    _keep(project, TABLE, rows, as_of)
    _keep(project, FILLS, [row | stamp for row in _fills(found, config)], as_of)
    _keep(project, MODELS, [stamp | row for row in _models(found)], as_of)
    return rows


def _named(found: Study, name: str) -> Study:
    """The study, in which somebody's own maker has its name."""
    outcomes = tuple(replace(one, maker=name) if one.maker == OWN else one for one in found.outcomes)
    made = {name if maker == OWN else maker: whole for maker, whole in found.made.items()}
    return replace(found, outcomes=outcomes, made=made)


def idea_of(one: Outcome, capital: float) -> Idea:
    """A maker as the gate wants it: its stretches are the gate's days, its capital what it may hold."""
    return Idea(one.net / capital, one.holding / capital, one.shifted / capital, one.swapped / capital)


def _judged(
    project: Project, source: Source, found: Study, own: Named | None, command: str, config: MakersConfig, span: Span
) -> dict[str, Promotion | str]:
    """What the gate says, once all that was tried stands in the ledger."""
    settings = config.model_dump_json()
    at_fee = {one.maker: one for one in found.outcomes if one.fee_bp == config.net_fee_bp}
    attempts = []
    for name, one in at_fee.items():
        is_own = own is not None and name == str(own)
        code = trials.code_hash(own.source, own.function) if own is not None and is_own else CODE_VERSIONS[TABLE]
        what = registry.identity(code, name, settings)
        attempts.append(trials.Attempt(name, what, idea_of(one, config.inventory).blocks, span))
    seen = hashlib.sha256(source.market.encode())
    for track in source.tracks:
        seen.update(track.events.tobytes())
    data = trials.Data((source.market,), seen.hexdigest()[:16], source.is_simulated)
    tried = trials.note(project, "makers", attempts, data, command)
    return {name: judge(one, tried[name], config) for name, one in at_fee.items()}


def judge(one: Outcome, tried: Tried, config: MakersConfig) -> Promotion | str:
    """What the gate says of a maker; a line where it cannot say anything."""
    if not one.fills:
        return "it was never filled"
    if not one.shifted.size:
        return "shifts is 0 in makers.yaml: without them nobody is judged"
    try:
        return judge_idea(idea_of(one, config.inventory), tried)
    except PromotionError as error:
        return str(error).replace("days are", "stretches are")


def _keep(project: Project, table: str, rows: Sequence[Mapping[str, Any]], as_of: datetime) -> None:
    if not rows:
        return
    frame = pl.DataFrame(rows, infer_schema_length=None, nan_to_null=True)
    frame = frame.with_columns(code_version=pl.lit(CODE_VERSIONS[table]))
    with project.turn_lock():
        project.lake.upsert(table, registry.conform(frame, table), commit=Commit("study", table, iso(as_of)))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _row(
    one: Outcome, found: Study, judged: Mapping[str, Promotion | str], config: MakersConfig
) -> dict[str, Any]:  # fmt: skip
    said = judged.get(one.maker) if one.fee_bp == config.net_fee_bp else "it was not judged at this fee"
    is_judged = isinstance(said, Promotion)
    low = high = None
    if one.net.size >= resample.LEAST_BLOCKS * resample.BLOCK_DAYS:
        low, high = resample.interval(one.net[resample.in_blocks(one.net.size)].mean(axis=1)[1:])
    shifted = one.shifted.sum(axis=1)
    net = float(one.net.sum())
    return {
        "maker": one.maker,
        "fee_bp": one.fee_bp,
        "first": time_of_ns(int(found.starts[0])),
        "stretches": one.net.size,
        "decisions": one.decisions,
        "quoting_share": one.quoting / one.decisions if one.decisions else None,
        "fills": one.fills,
        "turnover": float(one.turnover.sum()),
        "net": net,
        **{name: float(values.sum()) for name, values in zip(PARTS, one.parts, strict=True)},
        "net_bp": _known(makers.per_turnover_bp(one)),
        **{f"markout_{at}s_bp": _known(value) for at, value in zip((1, 5, 30), one.markouts_bp, strict=True)},
        "shifted": float(shifted.mean()) if shifted.size else None,
        "p_shifted": float((shifted >= net - 1e-12).mean()) if shifted.size else None,
        "swapped": float(one.swapped.sum()),
        "low": low,
        "high": high,
        "trials": said.trials if isinstance(said, Promotion) else None,
        "passes": said.passes if isinstance(said, Promotion) else None,
        "reason": said if not is_judged else ("; ".join(said.refused) or None),  # type: ignore[union-attr]
    }


def _fills(found: Study, config: MakersConfig) -> Iterator[dict[str, Any]]:
    ticks = found.scale.price_decimals
    for maker, whole in found.made.items():
        number = 0
        for made in whole:
            parts = made.ledger.parts(config.net_fee_bp, config.taker_fee_bp)
            marks = made.ledger.markouts_bp()
            for k, (at, sign, price, lots, _, why) in enumerate(made.ledger.fills.tolist()):
                yield {
                    "maker": maker,
                    "fill": number,
                    "at": time_of_ns(at),
                    "side": "BUY" if sign > 0 else "SELL",
                    "price": price / 10**ticks,
                    "amount": lots / 10**found.scale.amount_decimals,
                    "why": WHY[why],
                    **{name: float(values[k]) for name, values in parts.items()},
                    **{
                        f"markout_{after}s_bp": None if why == CLOSED else float(marks[k, place])
                        for place, after in enumerate((1, 5, 30))
                    },
                }
                number += 1


def _models(found: Study) -> Iterator[dict[str, Any]]:
    for start, model in zip(found.starts.tolist(), found.models, strict=True):
        if model is not None:
            numbers = model.parameters()
            yield {
                "as_of": time_of_ns(start),
                "parameters": [{"name": name, "value": value} for name, value in numbers.items()],
                "samples": model.samples,
                "fills": model.fills,
                "parameters_hash": digest(numbers),
            }


def newest_study(project: Project, name: str | None) -> pl.DataFrame:
    """The rows of the newest study of each name and market; see `maker_study`."""
    rows = project.lake.read(TABLE)
    if name is not None:
        rows = rows.filter(pl.col("study") == name)
    newest = pl.col("as_of") == pl.col("as_of").max().over("study", "market")
    return rows.filter(newest).sort(TABLES[TABLE].primary_key())


def study_of_the_recorded(project: Project, command: str, say: Say = lambda said: None) -> tuple[list[Done], list[str]]:
    """Every market of books.yaml that has been recorded for long enough, and why the others are left out."""
    done: list[Done] = []
    left_out: list[str] = []
    for exchange, symbol in project.config.books.recorded:
        try:
            source = recorded(project, exchange, symbol, say)
            done.append(run_study(project, source, None, command, say=say))
            left_out += source.left_out
        except (BooksError, TrackError, makers.MakersError) as error:
            left_out.append(str(error))
    return done, left_out


def finding(check: str, done: Sequence[Done], left_out: Sequence[str]) -> Finding:
    """What passes, in a sentence."""
    if not done:
        why = left_out[0] if left_out else "no market stands in books.yaml"
        return Finding(check, False, f"Nothing was studied: {why}.")
    passing = [
        f"{one.source.market} {maker}"
        for one in done
        for maker, said in one.judged.items()
        if isinstance(said, Promotion) and said.passes
    ]
    who = f"{', '.join(passing)} passed the gate" if passing else "No maker passed the gate"
    return Finding(check, True, f"{who}, on {counted(len(done), 'market')}. Nothing is switched on.")


def picture_of(done: Done) -> bytes:
    """What the makers of a study made, in parts; a PNG."""
    # Imported here because it loads matplotlib, and every run of any job loads this module.
    from mm_dagster.pictures.makers import parts_picture

    return parts_picture(done.source.market, done.rows)
