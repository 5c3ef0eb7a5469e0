"""Order books that somebody else recorded, as tapes: folders of `depth.parquet` and `trades.parquet`.

`depth` has a row a level: `local_ns`, `final_id`, `is_snapshot`, `side`, `price`, `qty`, all of one message with one
`seq`; `trades` has `seq`, `local_ns`, `price`, `qty`, `buyer_is_maker`. Messages that a snapshot already has are
dropped, as Binance says it; what came before the snapshot is applied to it when it comes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from mm_dagster.arrays import Floats, Integers
from mm_dagster.books.follow import BookMarket
from mm_dagster.books.ladder import Scale
from mm_dagster.books.tape import Op, Tape
from mm_dagster.errors import ForeseenError

FILES = ("depth.parquet", "trades.parquet")
MOST_DECIMALS = 8
_TYPES: dict[str, type[pl.DataType]] = {
    "seq": pl.Int64,
    "local_ns": pl.Int64,
    "final_id": pl.Int64,
    "is_snapshot": pl.Boolean,
    "side": pl.String,
    "price": pl.Float64,
    "qty": pl.Float64,
    "buyer_is_maker": pl.Boolean,
}
_DEPTH = ("seq", "local_ns", "final_id", "is_snapshot", "side", "price", "qty")
_TRADES = ("seq", "local_ns", "price", "qty", "buyer_is_maker")


class SampleError(ForeseenError):
    """A folder has no order book; one line that says why."""


def is_sample(folder: Path) -> bool:
    """Whether a folder has the files of a market."""
    return all((folder / name).is_file() for name in FILES)


def samples(folder: Path) -> list[Path]:
    """The markets of a folder: itself, or those below it, by name."""
    found = [folder] if is_sample(folder) else sorted(path for path in folder.glob("**/") if is_sample(path))
    if not found:
        raise SampleError(f"{folder}: no folder with {' and '.join(FILES)} is in it")
    return found


def tape_of_sample(folder: Path) -> Tape:
    """The tape of a market.

    Raises:
        SampleError: a file cannot be read, or is none of those.
    """
    depth, trades = (_read(folder / name, columns) for name, columns in zip(FILES, (_DEPTH, _TRADES), strict=True))
    snapshots = depth.filter("is_snapshot")
    if snapshots.is_empty():
        raise SampleError(f"{folder / FILES[0]}: has no snapshot, and no book begins")
    first = snapshots["seq"][0]
    snapshot = snapshots.filter(pl.col("seq") == first)
    begin_ns = snapshot["local_ns"][0]
    depth = depth.filter(~pl.col("is_snapshot") & (pl.col("final_id") > snapshot["final_id"][0]))
    depth = depth.filter(pl.col("side").is_not_null()).with_columns(pl.max_horizontal("local_ns", pl.lit(begin_ns)))
    scale = Scale(*(_decimals(folder, snapshot, depth, trades, name) for name in ("price", "qty")))
    trades = trades.filter(pl.col("local_ns") >= begin_ns)
    if trades.is_empty():
        raise SampleError(f"{folder / FILES[1]}: has no trade after the snapshot")
    until_ns = max([begin_ns, *depth["local_ns"].tail(1), *trades["local_ns"].tail(1)])
    told = np.column_stack(
        [
            trades["local_ns"].to_numpy(),
            _whole(trades["price"].to_numpy(), scale.price_decimals),
            _whole(trades["qty"].to_numpy(), scale.amount_decimals),
            trades["buyer_is_maker"].to_numpy().astype(np.int64),
        ]
    )
    market = BookMarket(_exchange(folder), folder.name, scale, len(snapshot) // 2)
    none = np.zeros((0, 6), np.int64)
    return Tape(
        market, begin_ns, until_ns, _rows(snapshot, depth, scale, begin_ns), depth["local_ns"].unique().to_numpy(),
        told, none, none[:, :5], np.array([[begin_ns, until_ns]]), (), 0, 0, 0,
    )  # fmt: skip


def _exchange(folder: Path) -> str:
    """As books.yaml would name it, where the folder above has the venue's name."""
    return {"binance-perp": "binance_usdm"}.get(folder.parent.name, folder.parent.name)


def _read(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """
    Raises:
        SampleError: it cannot be read, lacks a column, or holds something else.
    """
    try:
        rows = pl.read_parquet(path, columns=list(columns)).sort("seq", maintain_order=True)
        rows = rows.with_columns(pl.col(name).cast(_TYPES[name]) for name in columns)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of polars is no Exception
        raise SampleError(f"{path}: cannot be read: {' '.join(str(error).split())[:120]}") from None
    numbers = rows.filter(pl.col("price").is_not_null())
    bad = numbers.filter(~pl.col("price").is_between(0, 1e9, closed="right") | ~pl.col("qty").is_between(0, 1e12))
    if bad.height:
        raise SampleError(f"{path}: a level of price {bad['price'][0]} and amount {bad['qty'][0]}")
    if not rows["local_ns"].is_sorted() or rows["local_ns"].null_count():
        raise SampleError(f"{path}: its times are not in the order of `seq`")
    return rows


def _decimals(folder: Path, *frames_and_name: object) -> int:
    *frames, name = frames_and_name
    values = np.concatenate([frame[name].to_numpy() for frame in frames])  # type: ignore[index]
    for decimals in range(MOST_DECIMALS + 1):
        scaled = values * 10.0**decimals
        if (np.abs(scaled - np.rint(scaled)) < 1e-6 * np.maximum(1.0, np.abs(scaled) * 1e-6)).all():
            return decimals
    raise SampleError(f"{folder}: {name} has more than {MOST_DECIMALS} decimals")


def _whole(values: Floats, decimals: int) -> Integers:
    return np.rint(values * 10.0**decimals).astype(np.int64)


def _levels(frame: pl.DataFrame, scale: Scale) -> Integers:
    return np.column_stack(
        [
            frame["local_ns"].to_numpy(),
            np.where(frame["side"].to_numpy() == "bid", int(Op.BID), int(Op.ASK)),
            _whole(frame["price"].to_numpy(), scale.price_decimals),
            _whole(frame["qty"].to_numpy(), scale.amount_decimals),
        ]
    )


def _rows(snapshot: pl.DataFrame, depth: pl.DataFrame, scale: Scale, begin_ns: int) -> Integers:
    """All rows: the snapshot, what each message changed, and a row after each that says that the book stands."""
    whole, changes = _levels(snapshot, scale), _levels(depth, scale)
    far = [
        (begin_ns, op, int(getattr(whole[whole[:, 1] == side, 2], pick)()), 0)
        for op, side, pick in ((Op.FAR_BID, Op.BID, "min"), (Op.FAR_ASK, Op.ASK, "max"))
    ]
    begin = [(begin_ns, Op.BEGIN, 0, 0)]
    ends = np.flatnonzero(np.diff(depth["seq"].to_numpy(), append=-1) != 0)
    stands = np.column_stack([changes[ends, 0], np.full(len(ends), int(Op.STANDS)), 0 * ends, 0 * ends + 1])
    merged = np.insert(changes, ends + 1, stands, axis=0)
    return np.concatenate([begin, whole, far, [(begin_ns, Op.STANDS, 0, 1)], merged]).astype(np.int64)
