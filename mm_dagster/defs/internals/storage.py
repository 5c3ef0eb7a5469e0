"""Dagster's storage in SQLite files, where the days of a long run are noted together.

A run over years plans and notes each day of each asset: 13,000 events for three years. Dagster's own class opens two
files, writes and syncs them for every one of them; its batches (DAGSTER_EVENT_BATCH_SIZE) help in PostgreSQL only. As
there, what belongs together is one transaction here. What the job `history` of the demo takes, in seconds of the clock
and of the processor, on two cores that others used, too (Dagster 1.13.27):

    days  events  storage          storing       whole run
      90   1,137  this one          18    3.6    122    31
      90   1,137  storage: sqlite  165   25.7    249    50
     365   4,446  this one          36    8.5    147    46
     365   4,446  storage: sqlite  487  100.8    581   143
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

from dagster import EventLogEntry
from dagster._core.events import ASSET_EVENTS
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, _event_logs_directory
from dagster._serdes import ConfigurableClassData

from mm_dagster.defs.internals import idle

# Dagster's daemon loads nothing else of ours.
idle.leave_out()

AT_ONCE = 100
"""Events in a transaction; each repeats the metadata of its asset, pictures too, up to some hundred KB."""


class EventLog(SqliteEventLogStorage):
    """Stores the events that Dagster hands over together in one transaction a file, and not in one each."""

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores what `store_event` would, and in the same order.

        Args:
            events: of one run.
        """
        of_assets = [event for event in events if event.dagster_event_type in ASSET_EVENTS]
        if of_assets:
            inserts = [self.prepare_insert_event(event) for event in of_assets]
            with self.run_connection(of_assets[0].run_id) as connection:
                for insert in inserts:
                    connection.execute(insert)
            with self.index_transaction() as connection:
                numbers = []
                for insert in inserts:
                    key = connection.execute(insert).inserted_primary_key
                    assert key is not None
                    numbers.append(key[0])
                self._store_asset_event_tags(connection, of_assets, numbers)
                # An asset remembers only its last event.
                newest = {event.get_dagster_event().asset_key: place for place, event in enumerate(of_assets)}
                for place in newest.values():
                    self._store_asset_event(connection, of_assets[place], numbers[place])
        for event in events:
            if event.dagster_event_type not in ASSET_EVENTS:
                self.store_event(event)


class Storage(DagsterSqliteStorage):
    """As `storage: sqlite` in dagster.yaml, with that event log."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = EventLog(_event_logs_directory(base_dir))
        # Dagster hands events over together only where its environment says how many.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(AT_ONCE))

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls.from_local(inst_data=inst_data, **config_value)
