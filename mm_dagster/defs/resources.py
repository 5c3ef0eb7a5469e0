"""What every step is given: the project, and which turn of the pipeline this run is."""

import logging
from datetime import datetime

import dagster as dg
from pydantic import Field

from mm_dagster.bars import parse_time
from mm_dagster.defs.internals.console import console, take_over
from mm_dagster.pipeline.project import Project

logger = logging.getLogger("mm_dagster")


class Turn(dg.ConfigurableResource):
    """Which turn of the pipeline a run is. Empty: the partitions that it was started for."""

    as_of: str = Field(default="", description="The tick: closing time of the newest bar, ISO 8601 UTC.")
    symbols: list[str] = Field(default=[], description="Only these markets; none named: all of the configuration.")
    again: bool = Field(default=False, description="Ask the venues also for the bars of the days that are known.")

    @property
    def time(self) -> datetime | None:
        """The tick's as_of; None in a run over whole partitions."""
        return parse_time(self.as_of) if self.as_of else None


class ProjectResource(dg.ConfigurableResource[Project]):
    """Where configuration and data are. Each run gets a project of its own, which reads the configuration anew."""

    config_dir: str
    data_dir: str

    @classmethod
    def here(cls) -> "ProjectResource":
        """That of the project that the environment names."""
        project = Project.here()
        return cls(config_dir=project.config_dir, data_dir=project.data_dir)

    def create_resource(self, context: dg.InitResourceContext) -> Project:
        """The project of one run."""
        return Project(self.config_dir, self.data_dir)


ProjectOfRun = dg.ResourceParam[Project]
"""What a step or a sensor that is given the project says of it."""

take_over()


@dg.definitions
def resources() -> dg.Definitions:
    """The resources of every step, and the executor: in process, since starting processes costs more than the work."""
    return dg.Definitions(
        resources={"project": ProjectResource.here(), "turn": Turn()},
        executor=dg.in_process_executor,
        loggers={"console": console},
        metadata={"configuration": Project.here().config_dir, "data": Project.here().data_dir},
    )
