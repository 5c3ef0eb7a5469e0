"""The chapter: prose with figures put in, a claim only where the figures bear it out, and each question's tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.page import ClaimError
from benchmarks.portfolio.allocation import EQUAL, IN_AND_OUT, INVESTED, RISKS, Allocated
from benchmarks.portfolio.judged import Figure, Judgement
from benchmarks.portfolio.parameters import CHOICES, LEVELS, WIDTHS, Parametered
from benchmarks.portfolio.ranking import FRESH, OUTCOMES, PLANTED, SLOW, Ranked
from benchmarks.shared import markdown
from mm_dagster.research.tuning import SURE

TEXT = Path(__file__).with_name("page.md")
SIGMA, WORST = RISKS
DAY, FORTNIGHT = PLANTED
BACKTEST, _, _, ON_FEWEST, AHEAD = CHOICES
CALM, ATR = "volatility forecast low", "ATR over price low"
MOMENTUM = "momentum of 7 days high"
LOW = ("price low in its range of 4 days", "price low in its range of 28 days")
PAST = tuple(f"grid profit of {days} days high" for days in (7, 14, 28))
KUCOIN, RISING = "KuCoin 2025", "Bitfinex 2017"
EVERY = "all sets together"


def claims(ranked: Ranked, allocated: Allocated, parametered: Parametered) -> Iterator[tuple[str, bool]]:
    """What the chapter says in words, and whether the figures bear it out."""
    yield from _claims_of_rankings(ranked)
    yield from _claims_of_markets(ranked)
    yield from _claims_of_weights(allocated)
    yield from _claims_of_parameters(parametered)


def _claims_of_rankings(found: Ranked) -> Iterator[tuple[str, bool]]:
    every = [one for some in found.together.values() for one in some.values()]
    alone = [one for figures in found.sets.values() for some in figures.values() for one in some.values()]
    noise = [passing for some in found.noise.values() for _, passing in some.values()]
    yield "no ranking passes", not any(one.passes for one in every)
    yield "no ranking passes on a set alone", not any(one.passes for one in alone)
    yield "no ranking passes turned around", not any(found.opposite.values())
    yield "the planted ranking passes by equity", all(found.planted[one][DAY].passes for one in ("held", "left"))
    yield "nothing planted passes in the tail", not any(one.passes for one in found.planted["tail"].values())
    yield "no noise passes", not any(noise)
    yield "the intervals are too narrow for slow noise", found.noise[SLOW]["tail"][0] > 5


def _claims_of_markets(found: Ranked) -> Iterator[tuple[str, bool]]:
    held, left, tail = (found.together[outcome] for outcome in OUTCOMES)
    alone = {name: figures["held"] for name, figures in found.sets.items()}
    for name in (CALM, ATR):
        yield f"the tail is shorter by {name}", tail[name].gain.low > 0 and tail[name].deflated >= SURE
        yield f"so it is on the placebo by {name}", tail[name].placebo.low > 0 > tail[name].difference.low
    yield "momentum is the best by equity", max(held.values(), key=lambda one: one.deflated) is held[MOMENTUM]
    sure = [name for name, some in alone.items() if some[MOMENTUM].gain.low > 0]
    yield "momentum is that of one set", sure == [RISING]
    for some in (held, left):
        past = [some[name].gain for name in PAST]
        yield "past grid profit costs, not surely", all(one.value <= 0 < one.high for one in past)
    costs = [(name, one) for name, some in alone.items() for one in PAST if some[one].gain.high < 0]
    yield "it surely costs on KuCoin over 28 days and nowhere else", costs == [(KUCOIN, PAST[2])]
    yield "a low price gains nothing", all(held[name].gain.value < 0 < held[name].gain.high for name in LOW)
    for name in LOW:
        yield f"the tail is shorter by {name}", min(tail[name].gain.value, tail[name].placebo.value) > 0
        yield f"so it is on the placebo by {name}", tail[name].difference.low < 0 < tail[name].difference.high


def _claims_of_weights(found: Allocated) -> Iterator[tuple[str, bool]]:
    every = [one for rule in found.rules.values() for one in rule.gains.values()]
    noise = [passing for some in found.noise.values() for _, passing in some.values()]
    yield "no rule of weights passes", not any(one.passes for one in every)
    yield "planted weights pass", all(one.passes for one in found.planted.values())
    yield "no weights by noise pass", not any(noise)
    for word in ("gate", "Kelly"):
        gain = _rule(found, word).gains[SIGMA].gain
        yield f"{word} gains by cash alone", gain.low < 0 < gain.high
    for word in ("throttle", "target"):
        yield f"the {word} costs", _rule(found, word).gains[SIGMA].gain.high < 0


def _claims_of_parameters(found: Parametered) -> Iterator[tuple[str, bool]]:
    backtest, fewest = found.choices[BACKTEST], found.choices[ON_FEWEST].gain
    yield "the backtest gains, and so it does on the placebo", min(backtest.gain.low, backtest.placebo.low) > 0
    yield "no knowledge is in it", backtest.difference.low < 0 < backtest.difference.high
    yield "it gains nothing on few levels", fewest.low < 0 < fewest.high
    yield "the best in hindsight does not pass", not found.best[1].passes
    yield "planted parameters pass", found.choices[AHEAD].passes
    yield "blind ones do not", found.noise[1] == 0
    both = [some for pair in found.levels.values() for some in pair]
    yield "fewer levels cost less on every width", all(some[-1].low > 0 for some in both)
    yield "booked is more than left", all(one[2].low > one[3].high for one in found.driftless.values())
    yield "a loss is not sure without a direction", found.driftless[EVERY][3].high > 0
    yield "narrow grids of many levels lose without one", found.levels[WIDTHS[0]][1][-2].high < 0
    yield "the placebo of Binance 2022 rose", found.driftless["Binance 2022"][3].value > 0


def _rule(allocated: Allocated, word: str) -> Any:
    [found] = [rule for name, rule in allocated.rules.items() if word in name]
    return found


def write(ranked: Ranked, allocated: Allocated, parametered: Parametered) -> str:
    """The chapter.

    Raises:
        ClaimError: a claim is not borne out; the page has to be written anew.
    """
    if wrong := [claim for claim, holds in claims(ranked, allocated, parametered) if not holds]:
        raise ClaimError(f"the figures do not show that {', nor that '.join(wrong)}: write portfolio/page.md anew")
    figures = {**_of_rankings(ranked), **_of_weights(allocated), **_of_parameters(parametered), **_beside(ranked)}
    driftless = parametered.driftless[KUCOIN]
    figures |= {"kucoin_booked": _short(driftless[2].value, sign=False), "kucoin_net": _short(driftless[3].value)}
    return TEXT.read_text().format(**figures)


def _of_rankings(found: Ranked) -> dict[str, str]:
    held, _, tail = (found.together[outcome] for outcome in OUTCOMES)
    figures = {
        "ranking_size": size(found.grids, found.days, held[CALM].blocks),
        "trials": str(found.trials),
        "seeds": str(found.seeds),
        "planted_tail_deflated": _short(found.planted["tail"][DAY].deflated, sign=False),
        "fortnight_tail_deflated": _short(found.planted["tail"][FORTNIGHT].deflated, sign=False),
        "calm_tail": told(tail[CALM].gain),
        "calm_placebo": told(tail[CALM].placebo),
        "atr_tail": told(tail[ATR].gain),
        "atr_placebo": told(tail[ATR].placebo),
        "momentum": told(held[MOMENTUM].gain),
        "momentum_placebo": told(held[MOMENTUM].placebo),
        "momentum_deflated": _short(held[MOMENTUM].deflated, sign=False),
        "momentum_2017": told(found.sets[RISING]["held"][MOMENTUM].gain),
        "ranking_tables": "\n\n".join(_ranking_table(found, outcome) for outcome in OUTCOMES),
    }
    figures["alone_table"] = _alone_table(found)
    figures |= {f"planted_{outcome}": told(found.planted[outcome][DAY].gain) for outcome in OUTCOMES}
    for word, kind in (("fresh", FRESH), ("slow", SLOW)):
        counts = [found.noise[kind][outcome] for outcome in OUTCOMES]
        figures[word] = _listed([count for count, _ in counts])
        figures[f"{word}_passes"] = _none(sum(count for _, count in counts))
    return figures


def _of_weights(found: Allocated) -> dict[str, str]:
    gains = {(name, risk): one for name, rule in found.rules.items() for risk, one in rule.gains.items()}
    best = max(gains, key=lambda key: gains[key].deflated)
    figures = {
        "allocation_size": size(found.grids, found.days, gains[best].blocks),
        "best_rule": best[0],
        "best_rule_deflated": _short(gains[best].deflated, sign=False),
        "equal": told(_turned(found.rules[EQUAL].mean), sign=False),
        "gate_mean": told(_rule(found, "gate").mean),
        "planted_rule": told(found.planted[SIGMA].gain),
        "allocation_tables": _allocation_tables(found),
    }
    for word, name in (("gate", "gate"), ("kelly", "Kelly"), ("throttle", "throttle"), ("target", "target")):
        figures[word] = told(_rule(found, name).gains[SIGMA].gain)
    for word, kind in (("invested", INVESTED), ("in_and_out", IN_AND_OUT)):
        figures[word] = _listed([found.noise[kind][risk][0] for risk in RISKS])
    return figures


def _of_parameters(found: Parametered) -> dict[str, str]:
    backtest, (best, of_best), every = found.choices[BACKTEST], found.best, found.driftless[EVERY]
    return {
        "parameters_size": size(found.grids, found.days, backtest.blocks),
        "backtest": told(backtest.gain),
        "backtest_placebo": told(backtest.placebo),
        "backtest_difference": told(backtest.difference),
        "backtest_fewest": told(found.choices[ON_FEWEST].gain),
        "fewest": f"{100 * found.fewest:.0f} %",
        "best": str(best),
        "best_gain": told(of_best.gain),
        "best_placebo": told(of_best.placebo),
        "best_deflated": _short(of_best.deflated, sign=False),
        "planted_choice": told(found.choices[AHEAD].gain),
        "blind": str(found.noise[0]),
        "blind_passes": _none(found.noise[1]),
        "booked": told(every[2], sign=False),
        "net": told(every[3]),
        "narrow": told(found.levels[WIDTHS[0]][1][-2]),
        "parameters_tables": _choices_table(found),
        "driftless_table": _driftless_table(found),
        "levels_table": _levels_table(found),
    }


def _beside(found: Ranked) -> dict[str, str]:
    """The figures beside those of the first study."""
    held, left, tail = (found.together[outcome] for outcome in OUTCOMES)
    lows = [(figures["held"][name].gain.value, one) for one, figures in found.sets.items() for name in LOW]
    assert min(lows)[1] == RISING
    return {
        "most_deflated": _short(max(one.deflated for some in (held, left) for one in some.values()), sign=False),
        "past_grids": _costs([held[name].gain.value for name in PAST]),
        "past_left": _costs([left[name].gain.value for name in PAST]),
        "low_least": _short(min(lows)[0]),
        "low_most": f"{_short(max(lows)[0])} on {max(lows)[1]}",
        "past_kucoin": told(found.sets[KUCOIN]["held"][PAST[2]].gain),
        "low_4d": told(held[LOW[0]].gain),
        "low_28d": told(held[LOW[1]].gain),
        "low_4d_placebo": told(held[LOW[0]].placebo),
        "low_28d_placebo": told(held[LOW[1]].placebo),
        "low_tail": " and ".join(told(tail[name].gain) for name in LOW),
        "low_tail_placebo": " and ".join(told(tail[name].placebo) for name in LOW),
        "tail_deflated": _short(max(one.deflated for one in tail.values()), sign=False),
    }


def _costs(gains: Sequence[float]) -> str:
    """From the least cost to the greatest."""
    return f"{_short(-max(gains), sign=False)} to {_short(-min(gains), sign=False)}"


def size(grids: Mapping[str, int], days: Mapping[str, int], blocks: int) -> str:
    """How much a question stands on."""
    sets = ", ".join(f"{name} {grids[name]:,} on {days[name]}" for name in grids)
    return (
        f"{sum(grids.values()):,} grids whose fortnight is known, on {sum(days.values()):,} midnights in {blocks} "
        f"blocks of two weeks ({sets} midnights)."
    )


def of_rankings(found: Ranked) -> str:
    """The tables of the question."""
    parts = [_ranking_table(found, outcome) for outcome in OUTCOMES]
    size_of = size(found.grids, found.days, max(one.blocks for one in found.together["held"].values()))
    noise = [
        [kind, outcome, f"{above} of {found.seeds}", f"{passing} of {found.seeds}"]
        for kind, some in found.noise.items()
        for outcome, (above, passing) in some.items()
    ]
    parts += [_alone_table(found), markdown(["noise", "outcome", "interval above 0", "passes"], noise)]
    return f"# ranking\n\n{size_of}\n\n" + "\n\n".join(parts)


def _alone_table(found: Ranked) -> str:
    """The best on each set alone, by outcome."""
    rows = []
    for name, figures in found.sets.items():
        for outcome, some in figures.items():
            best = max(some, key=lambda ranking: some[ranking].deflated)
            passing = [one for one, judgement in some.items() if judgement.passes]
            rows.append([name, OUTCOMES[outcome], best, *_judged(some[best])[:-1], ", ".join(passing) or "none"])
    head = ["set", "outcome", "highest deflated", "gain on it", *_HEAD[1:-1], "pass"]
    return f"**Each set alone**\n\n{markdown(head, rows)}"


def _ranking_table(found: Ranked, outcome: str) -> str:
    rows = [
        [name, *_judged(one), *(told(figures[outcome][name].gain, zeros=True) for figures in found.sets.values())]
        for name, one in found.together[outcome].items()
    ]
    rows += [
        [f"*planted: {name}*", *_judged(one), *["–"] * len(found.sets)] for name, one in found.planted[outcome].items()
    ]
    head = ["ranking", *_HEAD, *found.sets]
    return f"**Outcome: {OUTCOMES[outcome]}**\n\n{markdown(head, rows)}"


_HEAD = ("gain, all sets", "on the placebo", "difference", "deflated", "passes")


def _judged(one: Judgement) -> list[str]:
    figures = [told(figure, zeros=True) for figure in (one.gain, one.placebo, one.difference)]
    return [*figures, f"{one.deflated:.2f}", "yes" if one.passes else "no"]


def of_weights(found: Allocated) -> str:
    """The tables of the question."""
    blocks = max(one.blocks for rule in found.rules.values() for one in rule.gains.values())
    return f"# allocation\n\n{size(found.grids, found.days, blocks)}\n\n{_allocation_tables(found)}"


def _allocation_tables(found: Allocated) -> str:
    names = [name for name in found.rules if name != EQUAL]
    rows = [
        [
            name,
            f"{rule.invested:.2f}",
            told(rule.mean, zeros=True),
            f"{rule.sigma:.2f}",
            f"{rule.worst:.2f}",
            *(told(found.sets[one][name], zeros=True) if name != EQUAL else "–" for one in found.sets),
        ]
        for name, rule in found.rules.items()
    ]
    head = ["rule", "invested", "mean", "standard deviation", "worst 5 %", *(f"gain, {one}" for one in found.sets)]
    parts = [f"**What each did**; gains at the same {SIGMA}\n\n{markdown(head, rows)}"]
    for risk in RISKS:
        rows = [[name, *_judged(found.rules[name].gains[risk])] for name in names]
        rows.append(["*planted: upper third by the return of the day to come*", *_judged(found.planted[risk])])
        parts.append(f"**At the same {risk}**\n\n{markdown(['rule', *_HEAD], rows)}")
    noise = [
        [kind, risk, f"{above} of {found.seeds}", f"{passing} of {found.seeds}"]
        for kind, some in found.noise.items()
        for risk, (above, passing) in some.items()
    ]
    parts.append(markdown(["weights that know nothing", "risk", "interval above 0", "passes"], noise))
    return "\n\n".join(parts)


def of_parameters(found: Parametered) -> str:
    """The tables of the question."""
    tables = [_choices_table(found), _driftless_table(found), _levels_table(found)]
    blocks = max(one.blocks for one in found.choices.values())
    return f"# parameters\n\n{size(found.grids, found.days, blocks)}\n\n" + "\n\n".join(tables)


def _choices_table(found: Parametered) -> str:
    rows = [
        [name, *_judged(one), *(told(figures[name], zeros=True) for figures in found.sets.values())]
        for name, one in found.choices.items()
    ]
    best, one = found.best
    rows.append([f"best of the 100 in hindsight ({best}) less the fixed rule", *_judged(one), *["–"] * len(found.sets)])
    return markdown(["choice", *_HEAD, *found.sets], rows)


def _driftless_table(found: Parametered) -> str:
    rows = [[name, *(told(one, zeros=True) for one in figures)] for name, figures in found.driftless.items()]
    return markdown(["set", "booked", "net", "booked, placebo", "net, placebo"], rows)


def _levels_table(found: Parametered) -> str:
    rows = []
    for width, both in found.levels.items():
        for what, some in zip(("", ", placebo"), both, strict=True):
            rows.append([f"{100 * width:.0f} %{what}", *(told(one, zeros=True) for one in some)])
    return markdown(["width", *(f"{count} levels" for count in LEVELS), f"{LEVELS[0]} less {LEVELS[-1]}"], rows)


SECTIONS: Mapping[str, Callable[[Any], str]] = {
    "ranking": of_rankings,
    "allocation": of_weights,
    "parameters": of_parameters,
}


def told(figure: Figure, sign: bool = True, zeros: bool = False) -> str:
    """A figure with its interval; in prose without the zero before the point."""
    if not math.isfinite(figure.value):
        return "–"
    value, low, high = (_number(one, sign, zeros) for one in figure)
    between = "…" if zeros else "to"
    return f"{value} ({low} {between} {high})" if math.isfinite(figure.low) else value


def _short(value: float, sign: bool = True) -> str:
    return _number(value, sign, zeros=False)


def _number(value: float, sign: bool, zeros: bool) -> str:
    text = f"{value:+.2f}" if sign else f"{value:.2f}"
    text = text.replace("-0.00", "0.00").replace("+0.00", "0.00")
    return text if zeros or text == "0.00" else text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def _turned(figure: Figure) -> Figure:
    return Figure(-figure.value, -figure.high, -figure.low)


def _listed(counts: Sequence[int]) -> str:
    *first, last = map(str, counts)
    return f"{', '.join(first)} and {last}"


def _none(count: int) -> str:
    return "none" if count == 0 else str(count)
