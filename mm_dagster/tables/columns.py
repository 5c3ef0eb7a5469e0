"""What columns are made of: each builder names a kind of value, its unit and its rule once."""

from __future__ import annotations

from collections.abc import Sequence

from mm_dagster.tables.dataframely_internals import dy


def time(description: str, *, key: bool = False, nullable: bool = False) -> dy.Datetime:
    return dy.Datetime(
        primary_key=key, nullable=nullable, time_unit="us", time_zone="UTC", description=f"{description} UTC."
    )


def text(description: str, *, key: bool = False, nullable: bool = False) -> dy.String:
    return dy.String(primary_key=key, nullable=nullable, description=description)


def one_of(values: Sequence[str], description: str, *, key: bool = False, nullable: bool = False) -> dy.String:
    return dy.String(
        primary_key=key,
        nullable=nullable,
        description=f"{description} One of {', '.join(values)}.",
        check=lambda c: c.is_in(values),
    )


def number(
    description: str,
    *,
    key: bool = False,
    low: float | None = None,
    high: float | None = None,
    inf: bool = False,
    nullable: bool = True,
) -> dy.Float64:
    return dy.Float64(primary_key=key, nullable=nullable, min=low, max=high, allow_inf=inf, description=description)


def probability(description: str) -> dy.Float64:
    return dy.Float64(nullable=True, min=0.0, max=1.0, description=description)


def flag(description: str, *, nullable: bool = True) -> dy.Bool:
    return dy.Bool(nullable=nullable, description=description)


def count(description: str, *, nullable: bool = True, key: bool = False) -> dy.Int64:
    return dy.Int64(primary_key=key, nullable=nullable, description=description)


def counts(description: str, *, nullable: bool = True) -> dy.List:
    return dy.List(dy.Int64(), nullable=nullable, description=description)


def structs(description: str, *, nullable: bool = False, **fields: dy.Column) -> dy.List:
    return dy.List(dy.Struct(fields), nullable=nullable, description=description)


def hash_of_configuration() -> dy.String:
    return text("Hash of the configuration keys that change this table's values.")


def version_of_code() -> dy.String:
    return text("Version of the code that computed the row.")


def source_of_candles() -> dy.String:
    return text(
        "Where its candles come from: ccxt:EXCHANGE, recorded:VENUE or simulated:VERSION; null: not known yet.",
        nullable=True,
    )
