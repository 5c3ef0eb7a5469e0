"""Every feature once more, at one `as_of`, as the textbook has it: slow loops over lists of bars, and no code shared.

A bar is (open, high, low, close, volume) or None when MISSING; lists are oldest first and end at `as_of`. None stands
for null. The lists are long enough for every window.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

Bar = tuple[float, float, float, float, float] | None
Value = float | None


def rolling(base: list[Bar], step: int) -> list[Bar]:
    """Bars of `step` base bars, cut from the newest backwards."""
    bars: list[Bar] = []
    for end in range(len(base), step - 1, -step):
        part = base[end - step : end]
        if any(bar is None for bar in part):
            bars.append(None)
        else:
            bars.append(
                (
                    part[0][0],
                    max(bar[1] for bar in part),
                    min(bar[2] for bar in part),
                    part[-1][3],
                    math.fsum(bar[4] for bar in part),
                )
            )
    return bars[::-1]


def known_mean(values: list[Value]) -> Value:
    """Mean of a window, by the rule for holes."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) >= 0.9 * len(values) else None


def exponential_mean(values: list[Value], decay: float) -> Value:
    pairs = [(decay**age, value) for age, value in enumerate(reversed(values))]
    weight = math.fsum(one for one, value in pairs if value is not None)
    full = math.fsum(one for one, _ in pairs)
    if weight < 0.9 * full:
        return None
    return math.fsum(one * value for one, value in pairs if value is not None) / weight


def ratio(top: Value, bottom: Value) -> Value:
    return None if top is None or bottom is None or bottom == 0 else top / bottom


def closes(bars: list[Bar]) -> list[Value]:
    return [None if bar is None else bar[3] for bar in bars]


def volumes(bars: list[Bar]) -> list[Value]:
    return [None if bar is None else bar[4] for bar in bars]


def returns(bars: list[Bar]) -> list[Value]:
    """One fewer than the bars."""
    return [
        None if before is None or bar is None else math.log(bar[3]) - math.log(before[3])
        for before, bar in pairwise(bars)
    ]


def squared(values: list[Value]) -> list[Value]:
    return [None if value is None else value * value for value in values]


def sizes(values: list[Value]) -> list[Value]:
    return [None if value is None else abs(value) for value in values]


def powers(values: list[Value]) -> list[Value]:
    return [None if value is None else abs(value) ** 1.75 for value in values]


def true_ranges(bars: list[Bar]) -> list[Value]:
    return [
        None if before is None or bar is None else max(bar[1], before[3]) - min(bar[2], before[3])
        for before, bar in pairwise(bars)
    ]


def expansion(bars: list[Bar]) -> Value:
    ranges = true_ranges(bars)
    return ratio(known_mean(ranges[-14:]), known_mean(ranges[-168:]))


def width(bars: list[Bar]) -> tuple[Value, Value]:
    """Bollinger width and %B."""
    window = closes(bars[-20:])
    known = [close for close in window if close is not None]
    if window[-1] is None or len(known) < 0.9 * 20:
        return None, None
    mean = math.fsum(known) / len(known)
    deviation = math.sqrt(math.fsum((close - mean) ** 2 for close in known) / len(known))
    return 4 * deviation / mean, ratio(window[-1] - mean, 4 * deviation) and 0.5 + (window[-1] - mean) / (4 * deviation)


def width_percentile(bars: list[Bar]) -> Value:
    present = width(bars)[0]
    past = [width(bars[: len(bars) - back])[0] for back in range(1, 169)]
    known = [one for one in past if one is not None]
    if present is None or len(known) < 0.9 * 168:
        return None
    return sum(one <= present for one in known) / len(known)


def donchian(bars: list[Bar]) -> tuple[Value, Value]:
    known = [bar for bar in bars[-97:-1] if bar is not None]
    if len(known) < 0.9 * 96:
        return None, None
    return max(bar[1] for bar in known), min(bar[2] for bar in known)


def ou(bars: list[Bar]) -> dict[str, Value]:
    names = ("ou_phi", "ou_mu", "ou_sigma", "ou_tau", "half_life", "ou_z")
    y = [None if close is None else math.log(close) for close in closes(bars[-193:])]
    pairs = [(before, after) for before, after in pairwise(y) if before is not None and after is not None]
    n = len(pairs)
    if y[-1] is None or n < 0.9 * 192:
        return dict.fromkeys(names)
    mean_x = math.fsum(x for x, _ in pairs) / n
    mean_y = math.fsum(z for _, z in pairs) / n
    xx = math.fsum((x - mean_x) ** 2 for x, _ in pairs)
    phi = math.fsum((x - mean_x) * (z - mean_y) for x, z in pairs) / xx
    intercept = mean_y - phi * mean_x
    sigma = math.sqrt(math.fsum((z - intercept - phi * x) ** 2 for x, z in pairs) / (n - 2))
    mu = intercept / (1 - phi)
    corrected = (n * phi + 1) / (n - 3)
    if corrected >= 1:
        half_life = math.inf
    elif corrected <= 0:
        half_life = 0.0
    else:
        half_life = math.log(2) / -math.log(corrected)
    z = (y[-1] - mu) * math.sqrt(1 - phi * phi) / sigma if abs(phi) < 1 else None
    return dict(zip(names, (phi, mu, sigma, (phi - 1) / (sigma / math.sqrt(xx)), half_life, z), strict=True))


def half_life_baseline(bars: list[Bar]) -> Value:
    past = [ou(bars[: len(bars) - back])["half_life"] for back in range(192, 192 + 720)]
    known = [one for one in past if one is not None]
    return median(known) if len(known) >= 0.9 * 720 else None


def efficiency_ratio(bars: list[Bar]) -> Value:
    path = known_mean([None if step is None else abs(step) for step in returns(bars[-41:])])
    if path is None or bars[-41] is None:
        return None
    return ratio(abs(math.log(bars[-1][3] / bars[-41][3])), 40 * path)


def swing(bars: list[Bar], row: int, side: int) -> Value:
    """`side` 1 for highs, -1 for lows."""
    window = bars[-196:]
    if sum(bar is not None for bar in window) < 0.9 * 196:
        return None
    pivots = []
    for p in range(3, 193):
        around = window[p - 3 : p + 4]
        if any(bar is None for bar in around):
            continue
        prices = [side * bar[row] for bar in around]
        if prices[3] > max(prices[:3]) and prices[3] >= max(prices[4:]):
            pivots.append(side * prices[3])
    if len(pivots) < 2:
        return 0.0
    return float((pivots[-1] > pivots[-2]) - (pivots[-1] < pivots[-2]))


def adx(bars: list[Bar]) -> Value:
    """With the true range in it, as Wilder has it."""
    plus, minus = [], []
    for before, bar in pairwise(bars):
        if before is None or bar is None:
            plus.append(None)
            minus.append(None)
            continue
        up, down = bar[1] - before[1], before[2] - bar[2]
        plus.append(up if up > down and up > 0 else 0.0)
        minus.append(down if down > up and down > 0 else 0.0)
    ranges = true_ranges(bars)
    dx = []
    for end in range(len(plus) - 139, len(plus) + 1):
        smooth = [exponential_mean(one[end - 140 : end], 13 / 14) for one in (plus, minus, ranges)]
        if bars[end] is None or None in smooth:
            dx.append(None)
            continue
        plus_di, minus_di = 100 * smooth[0] / smooth[2], 100 * smooth[1] / smooth[2]
        dx.append(100 * abs(plus_di - minus_di) / (plus_di + minus_di))
    return exponential_mean(dx, 13 / 14)


def variance_ratio(bars: list[Bar], n: int, q: int) -> tuple[Value, Value]:
    steps = returns(bars[-n - 1 :])
    known = [step for step in steps if step is not None]
    longs = [steps[i : i + q] for i in range(n - q + 1)]
    longs = [math.fsum(long) for long in longs if None not in long]
    if len(known) < 0.9 * n or len(longs) < 0.9 * (n - q + 1):
        return None, None
    count = len(known)
    mean = math.fsum(known) / count
    short_variance = math.fsum((step - mean) ** 2 for step in known) / (count - 1)
    long_variance = math.fsum((long - q * mean) ** 2 for long in longs) / (q * len(longs) * (1 - q / count))
    vr = long_variance / short_variance
    theta = 0.0
    for j in range(1, q):
        products = [
            (steps[k] - mean) ** 2 * (steps[k - j] - mean) ** 2
            for k in range(j, n)
            if steps[k] is not None and steps[k - j] is not None
        ]
        scale = (count - j) / len(products)
        delta = count * scale * math.fsum(products) / math.fsum((step - mean) ** 2 for step in known) ** 2
        theta += (2 * (q - j) / q) ** 2 * delta
    return vr, math.sqrt(count) * (vr - 1) / math.sqrt(theta)


def shared(bars: list[Bar]) -> dict[str, Value]:
    return {
        "efficiency_ratio": efficiency_ratio(bars),
        "swing_high": swing(bars, 1, 1),
        "swing_low": swing(bars, 2, -1),
        "ema_12": exponential_mean(closes(bars[-60:]), 1 - 2 / 13),
        "ema_26": exponential_mean(closes(bars[-130:]), 1 - 2 / 27),
        "ema_50": exponential_mean(closes(bars[-250:]), 1 - 2 / 51),
        "adx": adx(bars[-280:]),
        "atr": known_mean(true_ranges(bars)[-14:]),
    }


def hourly(bars: list[Bar]) -> dict[str, Value]:
    if bars[-1] is None:
        return {}
    result = shared(bars) | ou(bars)
    result["bollinger_width"], result["bollinger_percent_b"] = width(bars)
    result["bollinger_width_percentile"] = width_percentile(bars)
    high, low = donchian(bars)
    result["range_high"], result["range_low"] = high, low
    result["inside_range"] = None if high is None else low <= bars[-1][3] <= high
    result["atr_expansion"] = expansion(bars)
    result["half_life_baseline"] = half_life_baseline(bars)
    for q in (4, 16):
        result[f"variance_ratio_{q}"], result[f"variance_ratio_{q}_z"] = variance_ratio(bars, 384, q)
    last = bars[-96:]
    logs = [None if bar is None else tuple(math.log(price) for price in bar[:4]) for bar in last]
    variances = {
        "parkinson": lambda o, h, low, c: (h - low) ** 2 / (4 * math.log(2)),
        "garman_klass": lambda o, h, low, c: (h - low) ** 2 / 2 - (2 * math.log(2) - 1) * (c - o) ** 2,
        "rogers_satchell": lambda o, h, low, c: (h - c) * (h - o) + (low - c) * (low - o),
    }
    for name, variance in variances.items():
        mean = known_mean([None if log is None else variance(*log) for log in logs])
        result[name] = None if mean is None else math.sqrt(mean)
    steps = returns(bars)
    products = [
        None if before is None or step is None else abs(before * step) for before, step in pairwise(steps[-97:])
    ]
    bipower, realised = known_mean(products), known_mean(squared(steps[-96:]))
    result["jump_share"] = (
        None if bipower is None or realised is None else max(0.0, 1 - math.pi / 2 * bipower / realised)
    )
    result["volume_ratio"] = ratio(known_mean(volumes(bars[-4:])), known_mean(volumes(bars[-168:])))
    return result


def four_hourly(bars: list[Bar]) -> dict[str, Value]:
    if bars[-1] is None:
        return {}
    result = {f"{name}_4h": value for name, value in shared(bars).items()}
    result["variance_ratio_4_4h"], result["variance_ratio_4_z_4h"] = variance_ratio(bars, 144, 4)
    return result


def forecast(bars: list[Bar], as_of: datetime) -> Value:
    """Standard deviation of an hourly return on a weekday; one on a weekend is 0.7 of it."""
    steps = returns(bars)
    calm = []
    for age, step in enumerate(reversed(steps)):
        opened = as_of - (age + 1) * timedelta(minutes=15)
        calm.append(step if step is None or opened.strftime("%a") not in ("Sat", "Sun") else step / 0.7)
    calm.reverse()
    means = []
    for hours in (12, 168):
        means.append(exponential_mean(powers(calm[-24 * hours :]), math.exp(-math.log(2) / (4 * hours))))
    if None in means:
        return None
    # What the mean would be of a normal return with a standard deviation of 1; and an hour has four returns.
    normal = 2 ** (1.75 / 2) * math.gamma(2.75 / 2) / math.sqrt(math.pi)
    return math.sqrt(4) * ((means[0] + means[1]) / 2 / normal) ** (1 / 1.75)


def base(bars: list[Bar], as_of: datetime) -> dict[str, Value]:
    if bars[-1] is None:
        return {}
    steps = squared(returns(bars))
    high, low = donchian(bars)
    close, before = bars[-1][3], bars[-97]
    volume = known_mean(volumes(bars[-96:]))
    hour, day = known_mean(steps[-4:]), known_mean(steps[-96:])
    return {
        "close": close,
        "change_24h": None if before is None else (close / before[3] - 1) * 100,
        "volume_24h": None if volume is None else volume * 96,
        "closes_outside_15m": None if high is None else close < low or close > high,
        "atr_expansion_15m": expansion(bars),
        "volatility_4_15m": None if hour is None else math.sqrt(4 * hour),
        "volatility_96_15m": None if day is None else math.sqrt(4 * day),
        "volatility_forecast": forecast(bars, as_of),
    }


def features(bars: list[Bar], as_of: datetime) -> dict[str, Value]:
    """Every feature at the close of the last base bar, `as_of`, UTC; a name that is not there is null."""
    return base(bars, as_of) | hourly(rolling(bars, 4)) | four_hourly(rolling(bars, 16))
