"""What every file's model is made of: unknown keys are refused, nothing changes after loading; the types of values."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from mm_dagster.config import written


class Model(BaseModel):
    """Unknown keys are refused; nothing changes after loading."""

    # No `use_attribute_docstrings`: it reads the source of every model at each start, a third of a second. The
    # reference reads the docstrings where it is written.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    only_for_checks: ClassVar[bool] = False
    """Whether its keys change no row, only how far a check looks."""
    only_for_tables: ClassVar[frozenset[str] | None] = None
    """The tables whose rows its keys change; None: those of every table that depends on its file."""
    hashed_when_given: ClassVar[frozenset[str]] = frozenset()
    """Keys that change a row only where they are given: a row of before there was such a key has the same hash."""

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


def _utc(value: Any, info: ValidationInfo) -> datetime:
    """In the zone that is given as the context where it names none."""
    return written.moment(value, (info.context or {}).get("zone", UTC))


CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
_TOKEN = re.compile(r"(?i)[?&#;][^=]*(?:token|key|secret|passw|auth|sig)[^=]*=")


def _without_credentials(address: str) -> str:
    """An address that may be kept, logged and shown. The user of ssh is no secret."""
    found = CREDENTIALS.search(address)
    if found and (address.startswith("http") or ":" in found[0]):
        raise ValueError("an address with a login in it would be kept and shown; leave the login to the environment")
    if _TOKEN.search(address):
        raise ValueError("an address with a key in it would be kept and shown; leave the key to the environment")
    return address


def _variable(name: str) -> str:
    """A name as variables have: in capitals, and no long word without an underscore, as keys are."""
    looks_like_a_key = len(name) >= _LONG_WORD and "_" not in name and any(letter.isdigit() for letter in name)
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", name) or looks_like_a_key:
        raise ValueError(
            "must be the name of a variable of the environment, in capitals like MM_SECRET, and not what it holds"
        )
    return name


_LONG_WORD = 16


VariableName = Annotated[str, AfterValidator(_variable)]

Address = Annotated[str, AfterValidator(_without_credentials)]

UtcTime = Annotated[datetime, BeforeValidator(_utc)]

Symbol = Annotated[str, BeforeValidator(written.symbol), Field(description="Base and quote, like ETH-USDT.")]

Name = Annotated[str, Field(pattern=written.NAME)]

Probability = Annotated[float, Field(ge=0, le=1)]

LocalTime = Annotated[str, BeforeValidator(written.local_time)]

Positive = Annotated[float, Field(gt=0)]


class SecretUrl(Model):
    """An address that may hold a password: only the name of the environment variable with it stands here."""

    url_env: VariableName
    """Variable with the address."""
