"""What is said of studies of makers."""

from mm_dagster.pipeline.makers import finding


def test_a_check_over_no_study_does_not_pass() -> None:
    found = finding("told", [], ["binance:ETH-USDT: nothing is recorded"])
    assert (found.passed, found.sentence) == (False, "Nothing was studied: binance:ETH-USDT: nothing is recorded.")
    assert not finding("told", [], []).passed
