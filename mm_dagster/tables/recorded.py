"""What `mm record` has kept of order books, what lacks in it, and what is made of it. No decision reads any of it.

The books themselves never enter the lake: they stand in segments, Parquet files beside it.
"""

from __future__ import annotations

from mm_dagster.tables.columns import (
    count,
    counts,
    flag,
    hash_of_configuration,
    number,
    one_of,
    probability,
    text,
    time,
    version_of_code,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage
from mm_dagster.tables.words import GAP_KINDS, GAP_PARTS, RECORDS_BEGAN


def _exchange() -> dy.String:
    return text("Its name in books.yaml.", key=True)


def _symbol() -> dy.String:
    return text("Market; it need not be in markets.yaml.", key=True)


def _depth(side: str, bp: int) -> dy.Float64:
    return number(
        f"What waits in the {side} within {bp} basis points of the mid, quote currency, in the second in which it is "
        "least; null: the book does not reach so far.",
        low=0.0,
    )


class BookSegment(dy.Schema):
    """Each sealed quarter hour of a recorded market: the file that holds it, whether all is in it, and what came of
    replaying it.
    """

    exchange = _exchange()
    symbol = _symbol()
    as_of = time("End of the quarter hour;", key=True)
    file = text("The Parquet file, relative to the folder `books` of the data.")
    sha256 = text("Of the file when it was sealed, hex.")
    bytes = count("Size of the file.", nullable=False)
    frames = count("Rows of the file: messages, checkpoints, notes of losses.", nullable=False)
    messages = count("What was received: messages, answers, connects and disconnects.", nullable=False)
    first_received_at = time("When the first was received, by the recorder's clock; null: none was.", nullable=True)
    last_received_at = time("When the last was.", nullable=True)
    turned_back = count("How often that clock was earlier than at the message before.", nullable=False)
    lost = count("Messages that were received and could not be written.", nullable=False)
    is_complete = flag("Whether every frame that was written as a whole is in it.", nullable=False)
    sealed_at = time("When its row was made;")
    changed = text(
        "Why the file is not any more what was sealed; null: it is, when it was last looked at.", nullable=True
    )
    refused = text("Why it cannot be replayed, in one line; null: it can.", nullable=True)
    began = one_of(RECORDS_BEGAN, "Why its first file was begun; null: nothing is known.", nullable=True)
    is_followed = flag("Whether the log goes on where its last file ended; null: nothing is known.")
    checkpoints = count(
        "States of the recorder that its replay could be held to, that at the head of the next among them."
    )
    checkpoints_differing = count("Of these that the replay did not give, byte for byte.")
    crossed = count("How often the book was given up because its best bid was not below its best ask.")
    quotes = count("Best prices and amounts that the exchange sent with the number of a book in sync.")
    quotes_differing = count("Of these that are not the best of that book.")
    code_version = version_of_code()


class BookGap(dy.Schema):
    """Each place where something of a recorded market may be missing, and why: of the log of what was received, or of
    the book that is made of it.
    """

    exchange = _exchange()
    symbol = _symbol()
    from_time = time("When all was last known to be there;", key=True)
    part = one_of(GAP_PARTS, "What lacks something.", key=True)
    number = count("From 1, where two gaps of it begin at once.", nullable=False, key=True)
    to_time = time("When all was there again; null: not yet.", nullable=True)
    kind = one_of(GAP_KINDS, "Why.")
    messages = count("How many messages were lost; null: not known.")
    said = text("In words.")
    as_of = time("End of the quarter hour whose segment tells of it;")


class BookFeatures(dy.Schema):
    """What the recorded book and trades of a quarter hour say; a feature has no value where the book was never in sync.

    Windows are by receive time, [as_of - 15 minutes, as_of): those of the log. No decision reads them.
    """

    exchange = _exchange()
    symbol = _symbol()
    as_of = time("End of the quarter hour;", key=True)
    in_sync_share = probability("Share of the time in which the book was known to be the exchange's, 0 to 1.")
    messages = count("What was received.")
    changes = count("Changes of the book while it was in sync.")
    trades = count("Trades.")
    mid = number("Middle between the best prices, the last that was known in it, quote currency.", low=0.0)
    spread_bp = number("Way between the best prices, basis points of the mid, weighted by time.", low=0.0)
    weighted_mid_bp = number(
        "Best prices weighted by the amounts of the other side, basis points from the mid, at the end; first order."
    )
    imbalance_1 = number(
        "(bid - ask) / (bid + ask) of the best amounts, -1 to 1, weighted by time.", low=-1.0, high=1.0
    )
    imbalance_n = number("The same over the best `levels` of books.yaml.", low=-1.0, high=1.0)
    order_flow_imbalance = number("Sum of what came to the best bid less what came to the best ask, base currency.")
    buy_volume = number("Traded with the buyer as aggressor, base currency.", low=0.0)
    sell_volume = number("Traded with the seller as aggressor, base currency.", low=0.0)
    bucket_lots = count(
        "Size of a volume bucket of this UTC day, lots: a fiftieth of yesterday's volume; null: fewer than 72 quarter "
        "hours of yesterday are known."
    )
    bucket_imbalances = counts("|buy - sell| of each bucket that became full in it, lots.")
    bucket_buy_lots = count("Bought so far in the bucket that is not full at the end, lots.")
    bucket_sell_lots = count("Sold so far in it, lots.")
    vpin = probability("Sum of |buy - sell| over that of all volume, last 50 full buckets of the UTC day, 0 to 1.")
    vpin_buckets = count("Of how many buckets.")
    rv_mid = number("Sum of the squared log returns of the mid over 1 s.", low=0.0)
    bid_depth_5bp = _depth("bids", 5)
    bid_depth_10bp = _depth("bids", 10)
    bid_depth_25bp = _depth("bids", 25)
    bid_depth_50bp = _depth("bids", 50)
    ask_depth_5bp = _depth("asks", 5)
    ask_depth_10bp = _depth("asks", 10)
    ask_depth_25bp = _depth("asks", 25)
    ask_depth_50bp = _depth("asks", 50)
    depth_reach_bp = number(
        "How far from the mid the book was known at least, basis points; null: all of it was, or there was none.",
        low=0.0,
    )
    kyle_lambda = number("Slope of the 10 s return on the signed volume, basis points per million of quote currency.")
    kyle_r2 = number("R squared of it, 0 to 1.", low=0.0, high=1.0)
    recovery_ms = number(
        "Median time until the spread was back at its median after it had been three times as wide, ms.", low=0.0
    )
    recoveries = count("How often it was; null: there was no book.")
    lead_ms = number("By how much the perpetual of books.yaml moves before this market, ms; below 0: after it.")
    lead_corr = number("Hayashi-Yoshida correlation at that lead; where times do not fit together it may exceed 1.")
    lead_first_ms = number("The lead in the first half of the quarter hour, ms.")
    lead_second_ms = number("The lead in the second half, ms.")
    book_digest = text("SHA-256 of the whole book at the end; null: it is not in sync then.", nullable=True)
    config_hash = text(
        "Hash of the configuration keys that change this table's values, and of the segments that it is made of."
    )
    code_version = version_of_code()


class LiquidityProfile(dy.Schema):
    """What the book of a recorded market is like at each hour of the day: medians over the days before."""

    exchange = _exchange()
    symbol = _symbol()
    as_of = time("End of the last day that it is over;", key=True)
    hour = count("Hour of the day, UTC, 0 to 23.", nullable=False, key=True)
    days = count("Days that have a quarter hour of this hour.", nullable=False)
    windows = count("Quarter hours.", nullable=False)
    spread_bp = number("Median spread, basis points of the mid.", low=0.0)
    spread_bp_90 = number("Nine of ten quarter hours have less.", low=0.0)
    bid_depth_10bp = number("Median of what waits in the bids within 10 basis points, quote currency.", low=0.0)
    bid_depth_10bp_low = number("One of ten quarter hours has less.", low=0.0)
    bid_depth_25bp = number("Median within 25 basis points.", low=0.0)
    bid_depth_25bp_low = number("One of ten has less.", low=0.0)
    bid_depth_50bp = number("Median within 50 basis points.", low=0.0)
    bid_depth_50bp_low = number("One of ten has less.", low=0.0)
    recovery_ms = number("Median of the time until the spread is back, ms.", low=0.0)
    config_hash = hash_of_configuration()
    code_version = version_of_code()


STAGES = (
    Stage("book_segment", BookSegment, group="books", code_version="1"),
    Stage("book_gap", BookGap, group="books", after=("book_segment",)),
    Stage("book_features", BookFeatures, group="books", after=("book_segment",), code_version="1"),
    Stage("liquidity_profile", LiquidityProfile, group="books", after=("book_features",), code_version="1"),
)
