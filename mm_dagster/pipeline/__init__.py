"""The use cases: what a tick, a backfill, a repair, a notice does with rooms and lake. No Dagster, no terminal."""
