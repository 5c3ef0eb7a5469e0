"""What every file's model is made of: unknown keys are refused, nothing changes after loading; the types of values."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Model(BaseModel):
    """Unknown keys are refused; nothing changes after loading."""

    # No `use_attribute_docstrings`: it reads the source of every model at each start, a third of a second. The
    # reference reads the docstrings where it is written.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    only_for_checks: ClassVar[bool] = False
    """Whether its keys change no row, only how far a check looks."""

    @model_validator(mode="before")
    @classmethod
    def _keep_other_defaults(cls, given: Any) -> Any:
        """A nested key that is set leaves its neighbours at their defaults, also where these differ by place."""
        if not isinstance(given, dict):
            return given
        merged = dict(given)
        for name, field in cls.model_fields.items():
            if isinstance(field.default, Model) and isinstance(given.get(name), dict):
                merged[name] = {**field.default.model_dump(), **given[name]}
        return merged


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


def _without_credentials(address: str) -> str:
    """An address that may be kept, logged and shown. The user of ssh is no secret."""
    found = CREDENTIALS.search(address)
    if found and (address.startswith("http") or ":" in found[0]):
        raise ValueError("an address with a login in it would be kept and shown; leave the login to the environment")
    return address


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("must be the name of a variable of the environment, like MM_SECRET, and not what it holds")
    return name


VariableName = Annotated[str, AfterValidator(_variable)]

Address = Annotated[str, AfterValidator(_without_credentials)]

UtcTime = Annotated[datetime, AfterValidator(_utc)]

Symbol = Annotated[str, Field(pattern=r"^[A-Z0-9]+-[A-Z0-9]+$", description="Base and quote, like ETH-USDT.")]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]

Probability = Annotated[float, Field(ge=0, le=1)]

LocalTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]

Positive = Annotated[float, Field(gt=0)]


class SecretUrl(Model):
    """An address that may hold a password: only the name of the environment variable with it stands here."""

    url_env: VariableName
    """Variable with the address."""
