"""alerts.yaml: what is news, how often it is said again, and where."""

from __future__ import annotations

from functools import cache
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import Field, field_validator, model_validator

from mm_dagster.config.model import Address, LocalTime, Model, Name, Positive, SecretUrl, VariableName
from mm_dagster.text import did_you_mean
from mm_dagster.web import host_of, is_loopback


class PushoverConfig(Model):
    """Pushover. Token and user key come from the environment: `PUSHOVER_TOKEN`, `PUSHOVER_USER`."""

    api_url: Address = "https://api.pushover.net/1/"
    timeout_seconds: Positive = 15.0
    emergency_retry_seconds: Annotated[int, Field(ge=30)] = 60
    emergency_expire_seconds: Annotated[int, Field(ge=30, le=10_800)] = 3_000


class TelegramConfig(Model):
    """Telegram, which can be answered: a bot of this configuration alone. See docs/alerts.md."""

    token_env: VariableName
    """Variable with the bot's token, like TELEGRAM_TOKEN."""
    chat_env: VariableName
    """Variable with the number of the chat, like TELEGRAM_CHAT."""
    api_url: Address = "https://api.telegram.org"
    timeout_seconds: Positive = 15.0


class QuietHours(Model):
    """Local hours in which nothing but MANDATORY_EXIT makes a sound; most of the rest waits until they are over."""

    start: LocalTime
    """Beginning, like 22:00."""
    end: LocalTime
    """End, like 07:00; before the beginning it is on the next day."""


LIMITED = (
    "WARNING", "LATEST_ACCEPTABLE_EXIT", "REMINDER", "DEESCALATION", "ENTRY", "BLIND", "RECOVERED", "LIMIT", "DIGEST",
    "FAILURE",
)  # fmt: skip
"""What may have a limit an hour: states of an escalation, and kinds of all else."""


class Budget(Model):
    """How many messages there may be: an operator who gets too many mutes them all."""

    monthly: Annotated[int, Field(ge=1)] = 1_000
    """Messages in a calendar month, UTC; Pushover sends 10,000 for nothing."""
    reserve: Annotated[int, Field(ge=0)] = 200
    """How many of them only MANDATORY_EXIT may use."""
    per_hour: dict[str, Annotated[int, Field(ge=0)]] = {
        "WARNING": 10,
        "LATEST_ACCEPTABLE_EXIT": 20,
        "REMINDER": 10,
        "DEESCALATION": 10,
        "ENTRY": 6,
        "BLIND": 10,
        "RECOVERED": 10,
        "LIMIT": 6,
        "FAILURE": 4,
    }
    """At most so many in an hour, by state of an escalation, by kind of all else; MANDATORY_EXIT has no limit."""

    @model_validator(mode="after")
    def _can_work(self) -> Budget:
        if self.reserve > self.monthly:
            raise ValueError(f"reserve: {self.reserve} is more than the {self.monthly} messages of a month")
        for name in self.per_hour:
            if name not in LIMITED:
                raise ValueError(f"per_hour: {name!r} has no limit{did_you_mean(name, set(LIMITED))}")
        return self


class AlertsConfig(Model):
    """alerts.yaml: what is news, how often it is said again, and where."""

    max_age_minutes: Annotated[int, Field(ge=15, description="An older bar is no news.")] = 45
    blind_after_minutes: Annotated[int, Field(ge=15, description="Without a fresh state for so long: BLIND.")] = 45
    reminder_minutes: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(min_length=1, description="After the alert; then again every last of them."),
    ] = (30, 60, 120, 240)
    warning_repeat_minutes: Annotated[int, Field(ge=15, description="At most one WARNING a grid in this time.")] = 240
    entry_repeat_minutes: Annotated[int, Field(ge=15, description="At most one entry message a grid.")] = 240
    link: Annotated[
        Address | None, Field(description="Address of the live page, as the operator's phone reaches it.")
    ] = None
    timezone: str = "UTC"
    """The operator's time zone, like Europe/Berlin: for the times that they read, the quiet hours and the digest."""
    quiet_hours: QuietHours | None = None
    """`{start: "22:00", end: "07:00"}`: local hours in which only MANDATORY_EXIT makes a sound; null: none."""
    digest_at: LocalTime | None = "08:00"
    """Local time of a daily summary; null: none."""
    budget: Budget = Budget()
    pushover: PushoverConfig = PushoverConfig()
    telegram: TelegramConfig | None = None
    """`{token_env: TELEGRAM_TOKEN, chat_env: TELEGRAM_CHAT}`: messages that can be answered; null: none. Beside them
    `api_url` and `timeout_seconds`."""
    people: dict[Name, Annotated[int, Field(gt=0)] | None] = {}
    """Who may answer: names as you choose, each with the number that Telegram gives to that person, or null for who
    only uses the live page. Empty: `mm link` takes any name, and in Telegram the one person of the chat may answer,
    in a group nobody."""
    apprise: tuple[SecretUrl, ...] = ()
    """Second channels, `[{url_env: NAME}]`, each an address as apprise writes it."""
    heartbeat: SecretUrl | None = None
    """`{url_env: NAME}`: an address that is called at the end of each tick, for a watcher outside; null: none."""

    @property
    def in_telegram(self) -> dict[str, int]:
        """The numbers that Telegram gives to those who may answer there, by name."""
        return {name: number for name, number in self.people.items() if number is not None}

    @property
    def is_linked(self) -> bool:
        """Whether the link of a message leads a phone anywhere: there is one, and it is not this computer's own."""
        return self.link is not None and not is_loopback(host_of(self.link))

    @field_validator("people")
    @classmethod
    def _are_several(cls, people: dict[str, int | None]) -> dict[str, int | None]:
        names: dict[int, str] = {}
        for name, number in people.items():
            if number is not None and names.setdefault(number, name) != name:
                raise ValueError(f"{names[number]} and {name} have the same number {number}; give each their own")
        return people

    @field_validator("link")
    @classmethod
    def _can_be_read(cls, link: str | None) -> str | None:
        try:
            if link is None or (host_of(link) and urlsplit(link).port != 0):
                return link
        except ValueError:
            pass
        raise ValueError(f"{link!r} is no address; write it like https://grids.example.com")

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in _timezones():
            raise ValueError(f"{name!r} is no time zone; write it like Europe/Berlin")
        return name


@cache
def _timezones() -> set[str]:
    """Once a process: they are looked for in the folders of the system."""
    return available_timezones()
