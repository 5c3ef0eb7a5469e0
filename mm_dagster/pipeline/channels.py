"""The channels that configuration and environment name, in their order, and the ledger in the lake.

Pushover goes first where there is one, since it alone rings until somebody has heard it; then Telegram; what apprise
reaches never goes first, since it only sends.
"""

import logging

import polars as pl

from mm_dagster import environment
from mm_dagster.alerts.apprise import AddressError, Apprise
from mm_dagster.alerts.channel import Channel, Together
from mm_dagster.alerts.notes import Notes
from mm_dagster.alerts.pushover import Pushover
from mm_dagster.alerts.telegram import Telegram
from mm_dagster.config.alerts import PushoverConfig
from mm_dagster.history.lake import Commit
from mm_dagster.pipeline.project import Project
from mm_dagster.tables import registry

logger = logging.getLogger(__name__)

NOTES = "telegram.json"


def each_channel(project: Project, ringing: PushoverConfig | None = None) -> list[Channel]:
    """All channels that there are credentials for, the first one first.

    Args:
        project: what names them.
        ringing: how Pushover rings, in the place of its configuration.
    """
    pushover = pushover_of(project, ringing)
    return [one for one in (pushover, telegram_of(project), apprise_of(project)) if one is not None]


def two_channels(project: Project, ringing: PushoverConfig | None = None) -> tuple[Channel | None, Channel | None]:
    """The first channel and the second, each None where there is none; all but the first are the second together."""
    channels = each_channel(project, ringing)
    first = channels.pop(0) if channels and not isinstance(channels[0], Apprise) else None
    return first, Together(channels) if len(channels) > 1 else next(iter(channels), None)


def pushover_of(project: Project, ringing: PushoverConfig | None = None) -> Pushover | None:
    """Pushover, if the environment has its credentials; they go nowhere else."""
    token, user = (environment.secret(variable) for variable in environment.PUSHOVER)
    return Pushover(token, user, ringing or project.config.alerts.pushover) if token and user else None


def telegram_of(project: Project) -> Telegram | None:
    """Telegram, if it is configured and the environment has its token and a number of a chat."""
    config = project.config.alerts.telegram
    token, chat = (environment.secret(one) for one in (config.token_env, config.chat_env)) if config else (None, None)
    if config is None or not token or not chat:
        return None
    try:
        number = int(chat)
    except ValueError:
        logger.error("%s holds no number of a chat; `mm doctor` says how to find it", config.chat_env)
        return None
    notes = Notes(project.data / NOTES, registry.identity("telegram", token))
    return Telegram(token, number, config, notes, project.config.alerts.in_telegram)


def apprise_of(project: Project) -> Apprise | None:
    """What apprise reaches, if the environment has an address; one that cannot be read is left out."""
    urls = [environment.secret(one.url_env) for one in project.config.alerts.apprise]
    try:
        return Apprise([url for url in urls if url]) if any(urls) else None
    except AddressError as error:
        logger.error("%s; `mm doctor` says which variable", error)
        return None


class LakeLedger:
    """The ledger in the lake."""

    def __init__(self, project: Project, run_id: str) -> None:
        self._lake = project.lake
        self._commit = Commit(run_id=run_id, asset="notification", span="")

    def read(self) -> pl.DataFrame:
        """All rows."""
        return self._lake.read("notification")

    def events(self) -> pl.DataFrame:
        """All events."""
        return self._lake.read("alert_event")

    def write(self, rows: pl.DataFrame, events: pl.DataFrame) -> None:
        """Commits rows, each in place of the one with the same alert_id, then adds events."""
        if rows.height:
            self._lake.upsert("notification", rows, commit=self._commit)
        if events.height:
            self._lake.upsert("alert_event", events, commit=self._commit)
