"""The monthly judgement on rows of the lake: which markets and grids are judged, and what is written."""

import polars as pl

from mm_dagster.config.whole import Config
from mm_dagster.evaluation import monthly
from mm_dagster.pipeline.project import Project


def judged_markets(project: Project, config: Config) -> list[str]:
    """The watched markets; the synthetic ones only where there is no other, since they would flatter or blame."""
    return [one for one in config.symbols if project.config.is_simulated or not project.config.market(one).is_simulated]


def operated(project: Project, config: Config) -> monthly.Operated:
    """The operator's grids and alerts on the same markets, and on those that he no longer watches."""
    apart = [one for one in config.symbols if one not in judged_markets(project, config)]
    of_these = ~pl.col("symbol").is_in(apart)
    alerts = project.lake.sql(f"FROM alert_responses WHERE {project.lake.in_force('notification')}")
    return monthly.Operated(project.lake.read("grid_episode").filter(of_these), alerts.filter(of_these))
