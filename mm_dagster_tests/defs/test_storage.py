"""Dagster's storage: what is stored together is what would have been stored one by one."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from mm_dagster.defs.internals import storage
from mm_dagster.defs.internals.storage import EventLog
from mm_dagster_tests.conftest import PROJECT

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-13")
TAGS = {"dagster/asset_partition_range_start": "2024-01-01", "dagster/asset_partition_range_end": "2024-01-12"}


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("whole", asset="first")],
)
def first() -> dg.MaterializeResult:
    """A history."""
    return dg.MaterializeResult(metadata={"rows": 96}, check_results=[dg.AssetCheckResult(passed=True)])


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), deps=[first])
def second() -> None:
    """What follows from it."""


def known_after_a_run(folder: Path, where: dict[str, Any]) -> tuple[type, dict[str, Any]]:
    """The class of the event log, and what it says of a run over all days."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text(yaml.safe_dump({"storage": where, "telemetry": {"enabled": False}}))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        done = dg.materialize([first, second], instance=instance, tags=TAGS)
        log, keys = instance.event_log_storage, [first.key, second.key]
        events = [entry.get_dagster_event() for entry in log.get_logs_for_run(done.run_id) if entry.is_dagster_event]
        records = {record.asset_entry.asset_key: record.asset_entry for record in log.get_asset_records(keys)}
        lasts = {key: entry.last_materialization for key, entry in records.items()}
        checks = log.get_asset_check_execution_history(dg.AssetCheckKey(first.key, "whole"), limit=9)
        return type(log), {
            "run": [(event.event_type, event.asset_key, event.partition) for event in events],
            "partitions": {key: log.get_materialized_partitions(key) for key in keys},
            "last": {key: last and (last.asset_materialization.partition) for key, last in lasts.items()},
            "ids": {key: entry.last_materialization_storage_id for key, entry in records.items()},
            "tags": {key: [dict(tags) for tags in log.get_event_tags_for_asset(key)] for key in keys},
            "checks": [check.status for check in checks],
        }


def without_data_version(tags: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if "data_version" not in name}


@pytest.mark.long
def test_what_is_stored_together_is_what_would_be_stored_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"sqlite": {"base_dir": str(tmp_path / "one" / "by_one")}}
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    _, expected = known_after_a_run(tmp_path / "one", plain)

    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE")
    monkeypatch.setattr(storage, "AT_ONCE", 10)
    monkeypatch.setenv("MM_DAGSTER_DIR", str(tmp_path / "together" / "files"))
    together: list[int] = []
    store = EventLog.store_event_batch
    monkeypatch.setattr(EventLog, "store_event_batch", lambda log, them: together.append(len(them)) or store(log, them))
    ours = yaml.safe_load((PROJECT / "dagster.yaml").read_text())["storage"]
    kind, found = known_after_a_run(tmp_path / "together", ours)

    assert kind is EventLog
    for known in (expected, found):
        known["tags"] = {key: [without_data_version(tags) for tags in of] for key, of in known["tags"].items()}
    assert found == expected
    assert len(found["partitions"][second.key]) == 12
    # 24 days and a check are planned, and then 12 days of each asset are noted.
    assert together == [10, 10, 5, 10, 2, 10, 2]
