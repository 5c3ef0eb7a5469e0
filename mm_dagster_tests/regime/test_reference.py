"""What the documentation says of the features, against the code."""

from __future__ import annotations

import re

import pytest

from mm_dagster.config.risk import VolatilityConfig
from mm_dagster.regime.features import Definition, definitions
from mm_dagster.regime.reference import PARTS, _function, _read, reference
from mm_dagster.tables.regime import RegimeFeatures
from mm_dagster_tests.conftest import PROJECT

DEFINITIONS = definitions(VolatilityConfig())


def test_the_features_are_documented_as_they_are():
    assert (PROJECT / "docs" / "features.md").read_text() == reference(), "run `make docs`"


def test_every_column_is_defined_once():
    defined = [name for one in DEFINITIONS for names in one.columns.values() for name in names]
    stamps = {"symbol", "as_of", "config_hash", "code_version", "source"}
    assert sorted(defined) == sorted({*RegimeFeatures.column_names()} - stamps)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda one: _function(one).__name__)
def test_every_definition_says_all_there_is_to_know(definition: Definition):
    _, parts = _read(_function(definition))
    assert [part for part in PARTS if part in parts] == list(parts)
    assert {*PARTS} - {*parts} <= {"Null"}
    said = {int(number) for number in re.findall(r"\d+", parts["Warm-up"])}
    assert definition.bars in said
