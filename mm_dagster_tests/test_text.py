"""Words and figures: no exponent, digits that show something, sums that add up as they are read."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.text import (
    in_local_time,
    local_time,
    money_text,
    money_texts,
    number_text,
    plain_text,
    price_text,
    scale_texts,
    spoken,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.00001234, "0.00001234"), (15_234_567.0, "15,234,567"), (0.0412345678, "0.0412346"), (9.9999996, "10"),
        (999_999.5, "1,000,000"), (-3.5e-9, "-0.0000000035"), (0.0, "0"), (-0.0, "0"), (1e-30, "about 0"),
        (1e16, "10,000,000,000,000,000"), (math.inf, "inf"), (3127, "3,127"), (0.5, "0.5"),
    ],
)  # fmt: skip
def test_a_number_has_no_exponent_and_no_zeros_at_its_end(number: float, text: str) -> None:
    assert number_text(number) == text


@given(FINITE)
def test_no_number_is_ever_written_with_an_exponent_or_as_the_zero_that_it_is_not(number: float) -> None:
    text = number_text(number)
    assert not re.search(r"\d[eE]", text)
    if text not in ("0", "about 0"):
        assert float(text.replace(",", "")) == pytest.approx(number, rel=1e-5)
    assert (text == "0") == (number == 0)


@given(FINITE)
def test_a_plain_number_reads_back_as_the_same_float(number: float) -> None:
    assert float(plain_text(number)) == number
    assert re.fullmatch(r"-?\d+(\.\d+)?", plain_text(number))


@pytest.mark.parametrize(
    ("price", "tick", "text"),
    [
        (3127, 0.01, "3,127.00"), (0.0000123, 1e-8, "0.00001230"), (15_234_567.2, 1.0, "15,234,567"),
        (3.14159, 0.05, "3.14"), (3127.456789, None, "3,127.46"), (30.0, 10.0, "30"), (math.nan, 0.1, "nan"),
        (0.0412, 1.0, "0.0412"),
    ],
)  # fmt: skip
def test_a_tick_decides_the_decimals_of_a_price(price: float, tick: float | None, text: str) -> None:
    assert price_text(price, tick) == text


@pytest.mark.parametrize(
    ("amount", "capital", "text"),
    [
        (0.00412, 0.05, "0.00412"), (1_396_492.64, 2e6, "1,396,493"), (12.3, 1000, "12.30"), (0.0003, 1000, "0.0003"),
        (-0.00034567, 1000, "-0.00035"), (0.0, 1000, "0"), (1e-13, 1000, "0"), (6.153, 769, "6.15"),
        (1_396_492.64, 50_000, "1,396,493"), (99_999.999, 50_000, "100,000.00"), (math.inf, 1000, "inf"),
        (2.5, 25, "2.50"), (0.1, 0.05, "0.10"),
    ],
)  # fmt: skip
def test_money_shows_digits_that_say_something(amount: float, capital: float, text: str) -> None:
    assert money_text(amount, capital) == text


def test_parts_give_way_to_their_sum_and_what_does_not_add_up_stays() -> None:
    assert money_texts([716.534, -731.866], -15.332, 1000) == (["+716.53", "-731.86"], "-15.33")
    assert money_texts([0.0, 3.0], 3.0, 1000) == (["0", "+3.00"], "+3.00")
    assert money_texts([0.0001571, -0.0041801], -0.004023, 0.05) == (["+0.000157", "-0.004180"], "-0.004023")
    assert money_texts([0.004, -12.34], -12.336, 1000) == (["+0.004", "-12.34"], "-12.34")
    assert money_texts([0.0067, 0.0067], 0.0134, 1000) == (["+0.006", "+0.007"], "+0.013")
    assert money_texts([1.0, 2.0], 9.0, 1000) == (["+1.00", "+2.00"], "+9.00")
    assert money_texts([None, 2.0], None, 1000) == (["", "+2.00"], "")


AMOUNTS = st.lists(st.floats(-1, 1).map(lambda one: one**5), min_size=1, max_size=3)


@given(AMOUNTS, st.sampled_from([0.05, 1.0, 37.0, 1000.0, 250_000.0, 3e6]))
def test_what_is_read_adds_up(shares: list[float], capital: float) -> None:
    parts = [share * capital for share in shares]
    said, whole = money_texts(parts, math.fsum(parts), capital)
    read = [Decimal(one.replace(",", "")) for one in (*said, whole)]
    last = Decimal(1).scaleb(int(read[-1].as_tuple().exponent))
    assert abs(sum(read[:-1]) - read[-1]) <= last * Decimal("0.55")
    for part, one in zip(parts, said, strict=True):
        assert not re.fullmatch(r"[+-]?0\.0+", one)
        assert (one == "0") == (abs(part) < 1e-12 * capital)
        assert len(one.strip("+-").replace(",", "").replace(".", "").lstrip("0")) <= 8


def test_the_marks_of_a_scale_can_be_told_apart() -> None:
    assert scale_texts([0.0000118, 0.000012, 0.0000122], 2e-7) == ["0.0000118", "0.0000120", "0.0000122"]
    assert scale_texts([15_000_000, 15_500_000], 500_000) == ["15,000,000", "15,500,000"]


@pytest.mark.parametrize(
    ("minutes", "text"), [(257_357, "178 days"), (13_620, "9 days 11 h"), (45, "45 min"), (75, "1 h 15 min")]
)
def test_a_duration_is_told_as_one_says_it(minutes: int, text: str) -> None:
    assert spoken(timedelta(minutes=minutes)) == text


def test_a_time_is_local_with_utc_beside_it() -> None:
    at = datetime(2026, 6, 29, 16, 45, tzinfo=UTC)
    assert local_time(at, "Europe/Berlin") == "2026-06-29 18:45 CEST (16:45 UTC)"
    assert local_time(at, "UTC") == "2026-06-29 16:45 UTC"
    assert local_time(at, "Etc/UTC") == "2026-06-29 16:45 UTC"
    late = datetime(2026, 6, 29, 23, 45, tzinfo=UTC)
    assert local_time(late, "Europe/Berlin") == "2026-06-30 01:45 CEST (2026-06-29 23:45 UTC)"


def test_every_time_of_a_sentence_becomes_local_and_nothing_else_changes() -> None:
    stored = "reached at 2026-06-29T16:45:00Z, left at 2026-06-29T17:00:00Z; `mm --to 2026-06-29`; 2026-13-01T00:00:00Z"
    assert in_local_time(stored, "Asia/Tokyo") == (
        "reached at 2026-06-30 01:45 JST (2026-06-29 16:45 UTC), left at 2026-06-30 02:00 JST (2026-06-29 17:00 UTC); "
        "`mm --to 2026-06-29`; 2026-13-01T00:00:00Z"
    )
    assert in_local_time("9999-12-31T23:59:59Z", "Asia/Tokyo") == "9999-12-31T23:59:59Z"
