"""history.yaml: how much is kept and fetched, and where the files are."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mm_dagster.config.model import Address, Model, SecretUrl, VariableName

_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_PREFIX = r"[A-Za-z0-9_=][A-Za-z0-9_.=-]*"


def _place(path: str) -> str:
    """A place in a bucket, without the slash behind it. Only characters that no client of S3 writes otherwise."""
    path = path.removesuffix("/")
    if not re.fullmatch(rf"s3://{_BUCKET}(/{_PREFIX})+", path):
        raise ValueError(
            "must be a bucket and a prefix in it, like s3://my-bucket/grids: the bucket of small letters, digits, -, "
            "the prefix of letters, digits, -, _, . and ="
        )
    return path


def _endpoint(address: str) -> str:
    """Where another storage than Amazon's is: its host and port, with https unless it says http."""
    if not re.fullmatch(r"(https?://)?([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?/?", address):
        raise ValueError("must be a host, like minio.example.com:9000 or http://127.0.0.1:9000, without a path")
    return address.removesuffix("/")


class DataConfig(Model):
    """In object storage that speaks S3, instead of in the data folder: see docs/deployment.md."""

    path: Annotated[str, AfterValidator(_place)] | None = None
    """Bucket and prefix, like `s3://my-bucket/grids`; null: the files are below the data folder."""
    endpoint: Annotated[Address, AfterValidator(_endpoint)] | None = None
    """Host of another storage than Amazon's, like `minio.example.com:9000`; https unless it begins with `http://`."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")] = "us-east-1"
    """Where the bucket is, as it is signed."""
    key_env: VariableName | None = None
    """Variable with the key that may list, read, write and delete below the path."""
    secret_env: VariableName | None = None
    """Variable with that key's secret."""
    token_env: VariableName | None = None
    """Variable with the session token, where the key is a temporary one."""
    retries: Annotated[int, Field(ge=0, le=30)] = 12
    """How often a request is repeated that failed."""
    wait: Annotated[float, Field(gt=0, le=60)] = 0.5
    """Seconds before the first repetition; before each later one half as long again, 85 seconds in all."""
    timeout: Annotated[int, Field(ge=1, le=600)] = 20
    """Seconds without an answer after which a request has failed."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        said = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        if self.path is None and said:
            raise ValueError("names a storage and no `path` in it; add one, like path: s3://my-bucket/grids")
        if self.path is not None and (self.key_env is None or self.secret_env is None):
            raise ValueError("must name the variables with key and secret: key_env and secret_env")
        return self


def _none_is_local(given: Any) -> Any:
    return {} if given is None else given


class MirrorConfig(Model):
    """The git repository of snapshots. Credentials of the remote belong to git's own configuration."""

    remote: Annotated[Address | None, Field(description="Where snapshots are pushed; none: they stay here.")] = None
    branch: str = "main"
    balances: bool = False
    """Whether what an account holds is written into the snapshots; without it they tell what is modelled."""


class HistoryConfig(Model):
    """history.yaml: how much is kept and fetched, and where the files are."""

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
    data: Annotated[DataConfig, BeforeValidator(_none_is_local)] = DataConfig()
    """Where the lake's Parquet files are."""
