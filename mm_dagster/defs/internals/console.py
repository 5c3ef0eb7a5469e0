"""What a run logs through Dagster, written like everything else."""

import logging

import dagster as dg
import dagster._loggers

from mm_dagster import logs


@dg.logger(
    config_schema={
        "log_level": dg.Field(str, default_value="INFO", description="DEBUG, INFO, WARNING, ERROR or CRITICAL."),
        "name": dg.Field(str, default_value="dagster"),
    },
    description="The lines of a run on stderr, in the format of MM_LOG_FORMAT.",
)
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """What a run logs through Dagster, written like everything else; see logs.py."""
    logger = logging.Logger(context.logger_config["name"])
    logger.addHandler(logs.handler_of_runs(logging.getLevelName(context.logger_config["log_level"].upper())))
    return logger


def take_over() -> None:
    """Makes it the logger of every run whose configuration names none; Dagster has no setting for that."""
    dagster._loggers.colored_console_logger = console
