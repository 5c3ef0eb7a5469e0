"""The shipped check of the touch probabilities, on a simulated market: synthetic, so only its workings are judged."""

from __future__ import annotations

import os
from collections.abc import Iterator

import dagster as dg
import pytest
import yaml

from mm_dagster.bars import DAY_BARS
from mm_dagster.definitions import defs
from mm_dagster.defs.calibration import CHECK_KEYS, CHECKS
from mm_dagster.evaluation.calibration import SAMPLE_BARS, verdict_of
from mm_dagster.pipeline.project import Project
from mm_dagster.pipeline.proofs import measure
from mm_dagster_tests.defs.live import QUIET

pytestmark = pytest.mark.slow

DAYS = 6


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A grid that runs and one that waits on a simulated market, and six days of their rows."""
    folder = tmp_path_factory.mktemp("calibration")
    (folder / "configuration" / "grids").mkdir(parents=True)
    markets = {"venues": {"main": {"kind": "simulated"}}, "markets": [{"symbol": "ETH-USDT", "venue": "main"}]}
    (folder / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    before = dict(os.environ)
    os.environ.update(MM_CONFIG_DIR=str(folder / "configuration"), MM_DATA_DIR=str(folder / "data"))
    try:
        price = float(Project.here().venues.of("ETH-USDT").fetch("ETH-USDT", _day("2026-06-23")).rows["close"][0])
        for name, width in (("runs", 0.02), ("waits", 0.04)):
            grid = {
                "id": name,
                "symbol": "ETH-USDT",
                "enabled": name == "runs",
                "activated_at": "2026-06-23T00:00:00Z",
                "lower": round(price * (1 - width), 2),
                "upper": round(price * (1 + width), 2),
                "levels": 5,
                "stop": round(price * (1 - 1.5 * width), 2),
                "capital": 1000,
            }
            (folder / "configuration" / "grids" / f"{name}.yaml").write_text(yaml.safe_dump(grid))
        tags = {
            "dagster/asset_partition_range_start": "2026-06-23",
            "dagster/asset_partition_range_end": f"2026-06-{22 + DAYS}",
        }
        assert run("history", tags=tags).success
        yield Project.here()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _day(text: str):  # type: ignore[no-untyped-def]
    from datetime import datetime, timedelta

    from mm_dagster.bars import Span

    start = datetime.fromisoformat(f"{text}T00:00:00+00:00")
    return Span(start, start + timedelta(days=1))


def run(job: str, **arguments: object) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return (
            defs()
            .resolve_job_def(job)
            .execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False, **arguments)  # type: ignore[arg-type]
        )


def test_every_hourly_row_of_both_grids_is_judged_or_counted_as_left_out(project: Project) -> None:
    for event in CHECKS:
        found = measure(project, event)
        assert found is not None
        # The grid that runs has a row of its activation, too.
        rows = 2 * DAYS * DAY_BARS // SAMPLE_BARS + 1
        assert found.whole.count + found.censored + found.unknown + found.over == rows
        # The last day of each grid is not over yet, unless the grid is.
        assert found.censored + found.over >= 24


def test_the_checks_say_what_was_found_with_the_picture(project: Project) -> None:
    every = {one.asset_check_key: one for one in run("proofs").get_asset_check_evaluations()}
    found = {key: every[key] for key in CHECK_KEYS}
    for event, key in zip(CHECKS, CHECK_KEYS, strict=True):
        calibration = measure(project, event)
        assert calibration is not None
        assert (found[key].passed, found[key].description) == verdict_of(calibration)
        assert found[key].severity == dg.AssetCheckSeverity.WARN
        metadata = {name: entry.value for name, entry in found[key].metadata.items()}
        assert metadata["samples"] == calibration.whole.count
        assert "data:image/png;base64," in metadata["reliability"]
