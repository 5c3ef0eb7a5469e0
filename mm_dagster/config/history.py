"""history.yaml: how much is kept and fetched."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mm_dagster.config.model import Address, Model, SecretUrl


class MirrorConfig(Model):
    """The git repository of snapshots. Credentials of the remote belong to git's own configuration."""

    remote: Annotated[Address | None, Field(description="Where snapshots are pushed; none: they stay here.")] = None
    branch: str = "main"
    balances: bool = False
    """Whether what an account holds is written into the snapshots; without it they tell what is modelled."""


class HistoryConfig(Model):
    """history.yaml: how much is kept and fetched."""

    keep_snapshots_days: Annotated[int, Field(ge=1, description="How far back time travel reaches.")] = 30
    keep_runs_days: Annotated[
        int,
        Field(
            ge=1,
            description="How long Dagster keeps every run; the newest successful one of each job, partition and check "
            "is always kept. A day of ticks takes about 90 MB.",
        ),
    ] = 1
    keep_failed_runs_days: Annotated[
        int, Field(ge=1, description="How long Dagster keeps failed runs, of each job the newest fifty at most.")
    ] = 14
    catch_up_days: Annotated[
        int,
        Field(
            ge=1,
            le=60,
            description="How far back a tick puts right what is missing or stale; between ticks, older days.",
        ),
    ] = 3
    mirror: MirrorConfig = MirrorConfig()
    catalog: SecretUrl | None = None
    """`{url_env: NAME}`: address of a PostgreSQL database as the lake's catalogue; null: SQLite beside the data."""
