"""A pasted page of a bot: all that is read is right, all that is in doubt is said, nothing is wrong in silence."""

from __future__ import annotations

from collections import Counter
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_dagster.bars import iso
from mm_dagster.config import pasted_words
from mm_dagster.config.pasted import FIELDS, Found, NoSpotGrid, read
from mm_dagster_tests.config.pasted_texts import AT, ETH, TEXTS, UNSURE, Paste

BERLIN = ZoneInfo("Europe/Berlin")


def as_said(found: Found) -> dict[str, object]:
    """What was read, as the table has it."""
    values = {name: iso(value) if name == "activated_at" else value for name, value in found.values.items()}
    return values | dict.fromkeys(found.unsure, UNSURE)


@pytest.mark.parametrize("paste", TEXTS, ids=lambda paste: paste.name)
def test_every_value_is_right_or_asked_for(paste: Paste) -> None:
    if paste.refused:
        with pytest.raises(NoSpotGrid, match=paste.refused):
            read(paste.text, BERLIN)
        return
    found = read(paste.text, BERLIN)
    expected = {name: value for name, value in paste.says.items() if value is not None}
    assert as_said(found) == expected, {name: one.sentence for name, one in found.unsure.items()}
    assert set(found.missing) == set(FIELDS) - set(expected)


def test_there_are_sixty_texts_of_five_languages() -> None:
    assert len(TEXTS) >= 60
    assert len({paste.name for paste in TEXTS}) == len(TEXTS)


def test_a_label_stands_for_one_field() -> None:
    canonical = Counter(
        (name, word) for name, words in pasted_words.LABELS.items() for word in {one.casefold() for one in words}
    )
    names: dict[str, set[str]] = {}
    for name, word in canonical:
        names.setdefault(word.replace(" ", "").replace("-", ""), set()).add(name)
    assert {word: of for word, of in names.items() if len(of) > 1} == {}


# whatever is done to a text -------------------------------------------------------------------------------------------

LINES = (
    "ETH/USDT", "Lower price: 3,070.50 USDT", "Upper price: 3,185.00 USDT", "Number of grids: 6",
    "Stop loss: 2,990.00 USDT", "Investment: 769.02 USDT", "Created: 2026-01-10 01:00",
)  # fmt: skip
RIGHT = {**ETH, **AT, "lower": 3070.5}
JUNK = (
    "Share", "Total profit 12.31 USDT", "Grid profit\t20.11", "24h low price 3,001.2", "Take profit: 3,300.00",
    "End bot", "Running time 3d 4h", "Profit per grid 0.40% - 0.42%", "Matched orders 41", "Entry price 3,101.20",
    "Lower your risk by 30%", "Fees paid 0.52 USDT", "41", "3,102.5", "Upper 5% of bots", "Stop bot",
    "Investment per grid 128.17", "Last updated 2026-01-12 10:00", "Copied 1,204 times", "", "--", "12:31:04",
    "Your stop loss was moved 2 times", "Number of trades 33", "Max. investment 10,000.00 USDT",
    "Total assets 781.33 USDT",
)  # fmt: skip


def wrong_in_silence(text: str) -> dict[str, object]:
    """What is read as sure and is not right."""
    try:
        found = read(text, BERLIN)
    except NoSpotGrid:
        return {}
    said = {name: value for name, value in as_said(found).items() if value != UNSURE}
    return {name: value for name, value in said.items() if value != RIGHT.get(name)}


@given(st.permutations(LINES), st.lists(st.tuples(st.integers(0, 7), st.sampled_from(JUNK)), max_size=8))
def test_shuffled_lines_with_junk_between_them_give_no_wrong_value(
    lines: list[str], junk: list[tuple[int, str]]
) -> None:
    lines = list(lines)
    for place, line in junk:
        lines.insert(place, line)
    assert wrong_in_silence("\n".join(lines)) == {}


@given(st.permutations(LINES), st.lists(st.tuples(st.integers(0, 7), st.sampled_from(JUNK)), max_size=6), st.booleans())
def test_labels_and_values_on_lines_of_their_own_give_no_wrong_value(
    lines: list[str], junk: list[tuple[int, str]], turned: bool
) -> None:
    lines = list(lines)
    for place, line in junk:
        lines.insert(place, line)
    parts = [line.partition(": ")[::2] for line in lines]
    text = "\n".join("\n".join(part for part in (pair[::-1] if turned else pair) if part) for pair in parts)
    assert wrong_in_silence(text) == {}


GERMAN = str.maketrans(",.", ".,")


@given(
    st.permutations(LINES),
    st.sampled_from(["", ",", ".", "'", " ", "\u00a0", "\u202f", "，"]),
    st.sampled_from([".", ","]),
    st.sampled_from([": ", " ", ":", "：", " - ", "\t", " = ", "\n", " | "]),
    st.sampled_from(["\n", "\r\n", "\n\n", "; ", " | ", "\t", ", ", " "]),
)
def test_other_separators_give_no_wrong_value(
    lines: list[str], thousands: str, decimal: str, behind_label: str, between: str
) -> None:
    if thousands == decimal or (thousands == "，" and decimal == ","):
        return
    changed = [
        line.replace(",", "\0").replace(".", decimal).replace("\0", thousands).replace(": ", behind_label)
        for line in lines
    ]
    assert wrong_in_silence(between.join(changed)) == {}


@given(st.permutations(LINES), st.integers(0, 200), st.integers(0, 200))
def test_a_text_that_is_cut_anywhere_gives_no_wrong_value_but_where_it_was_cut(
    lines: list[str], start: int, end: int
) -> None:
    whole = "\n".join(lines)
    text = whole[min(start, end) : max(start, end)]
    # What is cut within a number cannot be seen: only whole lines are judged.
    cut = [line for line in text.split("\n") if line in LINES]
    assert wrong_in_silence("\n".join(cut)) == {}


def refusal(text: str) -> str:
    """Why a text is refused; nothing: it is not."""
    try:
        read(text, BERLIN)
    except NoSpotGrid as error:
        return str(error)
    return ""


@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert "\n" not in refusal(text)


@given(
    st.lists(
        st.sampled_from(
            [*LINES, *JUNK, "Lower", "price", "3,070", "-", "/", "6", "grids", "2026", "UTC+8", "(", ")", "%", "ETH"]
        ),
        max_size=30,
    )
)
def test_any_heap_of_its_words_is_read_or_refused(parts: list[str]) -> None:
    for between in ("\n", " "):
        assert "\n" not in refusal(between.join(parts))


def test_a_text_is_read_in_a_blink() -> None:
    text = "\n".join(one.text for one in TEXTS if not one.refused) * 5
    read(text[:50_000], BERLIN)


WRITTEN = {
    "lower": ("3,070.50", "3.070,50", "3070.5", "3070,5 USDT", "3 070,50"),
    "upper": ("3,185.00", "3.185,00", "3185", "3185 USDT"),
    "levels": ("6", "6 grids", "6 (Geometric)"),
    "stop": ("2,990.00", "2.990,00 USDT", "2990", "2990 (-2.6%)"),
    "capital": ("769.02", "769,02", "769.02 USDT", "$769.02"),
    "activated_at": ("2026-01-10 01:00", "10.01.2026 01:00 Uhr", "Jan 10, 2026 01:00 AM",
                     "2026年1月10日 01:00", "10 de enero de 2026, 01:00"),
}  # fmt: skip


@given(st.data())
def test_every_label_in_every_layout_gives_the_right_value_or_none(data: st.DataObject) -> None:
    lines = ["ETH/USDT"]
    for name in data.draw(st.permutations(sorted(WRITTEN))):
        label = data.draw(st.sampled_from(pasted_words.LABELS[name]))
        label = data.draw(st.sampled_from([label, label.title(), label.upper(), label.replace(" ", "-")]))
        behind = data.draw(st.sampled_from([": ", " ", "：", "\t", "\n", " (USDT): ", "\n\n", ""]))
        lines.append(f"{label}{behind}{data.draw(st.sampled_from(WRITTEN[name]))}")
        lines += data.draw(st.lists(st.sampled_from(JUNK), max_size=1))
    text = "\n".join(lines)
    silent = {name: value for name, value in wrong_in_silence(text).items() if name not in ("convention", "spacing")}
    assert silent == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_every_label_is_known_where_its_value_stands_behind_it(name: str) -> None:
    others = dict(zip(("lower", "upper", "levels", "stop", "capital", "activated_at"), LINES[1:], strict=True))
    for label in pasted_words.LABELS[name]:
        value = WRITTEN[name][0]
        rest = [line for other, line in others.items() if other != name]
        for between in (": ", "\n", " (USDT)\n" if name != "levels" else "\n"):
            found = read("\n".join(["ETH/USDT spot", *rest, f"{label}{between}{value}"]), BERLIN)
            assert as_said(found).get(name) == RIGHT[name], (label, between, found.unsure)
