"""What test_lake.py says of the lake holds with PostgreSQL as its catalogue: the same tests over another lake."""

from __future__ import annotations

import pytest

from mm_dagster.history.lake import Lake
from mm_dagster_tests.history.test_lake import new_york as new_york
from mm_dagster_tests.history.test_lake import (
    test_a_failing_write_leaves_everything_as_it_was_and_the_next_one_works,
    test_a_lost_file_is_named,
    test_a_mistyped_table_is_answered_with_the_nearest,
    test_a_query_names_tables_bare_and_times_are_utc,
    test_a_write_of_some_symbols_or_grids_leaves_the_others,
    test_every_commit_says_which_run_wrote_what,
    test_readers_wait_for_no_writer_and_a_writer_says_who_is_in_the_way,
    test_the_upkeep_keeps_the_rows_and_bounds_files_and_snapshots,
    test_the_upkeep_sets_aside_what_a_killed_writer_left,
    test_threads_share_one_lake,
    test_time_travel_answers_what_was_known_then,
)
from mm_dagster_tests.history.test_lake_postgres import address as address
from mm_dagster_tests.history.test_lake_postgres import lake as lake
from mm_dagster_tests.history.test_lake_postgres import template as template

pytestmark = pytest.mark.long

__all__ = [
    "test_a_failing_write_leaves_everything_as_it_was_and_the_next_one_works",
    "test_a_lost_file_is_named",
    "test_a_mistyped_table_is_answered_with_the_nearest",
    "test_a_query_names_tables_bare_and_times_are_utc",
    "test_a_write_of_some_symbols_or_grids_leaves_the_others",
    "test_every_commit_says_which_run_wrote_what",
    "test_readers_wait_for_no_writer_and_a_writer_says_who_is_in_the_way",
    "test_the_upkeep_keeps_the_rows_and_bounds_files_and_snapshots",
    "test_the_upkeep_sets_aside_what_a_killed_writer_left",
    "test_threads_share_one_lake",
    "test_time_travel_answers_what_was_known_then",
]


@pytest.fixture
def quiet(lake: Lake) -> Lake:
    return lake
