"""A file with some values changed keeps everything else, and reads as what was meant."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mm_dagster.research.difference import changed


def nested(values: dict[str, float], given: dict[str, Any]) -> dict[str, Any]:
    for path, value in values.items():
        *above, last = path.split(".")
        place = given
        for part in above:
            if not isinstance(place.get(part), dict):
                place[part] = {}
            place = place[part]
        place[last] = value
    return given


VALUES = {"confirm.warning": 0.25, "thresholds.break_likely.warning_on": 0.4, "persist.on": 3}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only words\n",
        "# why\npolicy: confirmed\n",
        "policy: confirmed  # without an end of line",
        "{policy: confirmed, confirm: {warning: 0.3, mandatory: 0.6}}\n",
        "{}\n",
        "confirm:\npersist: {}\n",
        'confirm:\n  # the exposure\n  warning: 0.30   # as measured\n  mandatory: 0.6\npersist:\n  "on": 2\n',
        "thresholds:\n    # four spaces\n    range_atr: 0.5\n    break_likely: {warning_off: 0.2}\npolicy: literal\n",
    ],
)
def test_a_changed_file_differs_in_the_values_alone(text: str) -> None:
    after = changed(text, VALUES)
    assert yaml.safe_load(after) == nested(VALUES, yaml.safe_load(text) or {})
    for words in ("# why", "# only words", "# the exposure", "# as measured", "# four spaces", "# without"):
        assert (words in text) == (words in after)


def test_a_value_that_stands_there_is_replaced_where_it_stands() -> None:
    text = "confirm:\n  warning: 0.30   # as measured\n"
    assert changed(text, {"confirm.warning": 0.25}) == "confirm:\n  warning: 0.25   # as measured\n"
