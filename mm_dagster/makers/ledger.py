"""What the fills were worth: PnL in quote currency, split into parts that add up.

Of a fill of q lots at price p, s = 1 bought or -1 sold, mid m then, m5 five seconds later, M at the end:

    spread            = s q (m - p)
    adverse selection = s q (m5 - m)
    inventory         = s q (M - m5)
    fees              = -(fee - rebate) q p

Together they are the cash and the inventory at the end's mid. What is held at the end is then taken away at the best
price of the other side and the taker's fee: one more fill, so that a stretch ends with nothing. All but fees are
whole numbers, divided once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mm_dagster.arrays import Floats, Integers
from mm_dagster.books.book import BP
from mm_dagster.makers.matching import CLOSED, Matched
from mm_dagster.makers.moments import Tops
from mm_dagster.makers.track import SECOND_NS

MARKOUTS = (1, 5, 30)
"""Seconds after a fill at which it is marked."""
ADVERSE = 5
"""Of these the one up to which a move is adverse selection."""


@dataclass(frozen=True)
class Ledger:
    """A row a fill, the one that closes the inventory last.

    Attributes:
        fills: (f, 6), as `Matched` has them.
        twice_mid: best bid and ask added up at the fill, and MARKOUTS later, shape (f, 1 + 3), ticks; after the end as
            it stood last.
        final: the same at the end.
        unit: ticks times lots of one of the quote currency.
    """

    fills: Integers
    twice_mid: Integers
    final: int
    unit: int

    def parts(self, fee_bp: float, taker_fee_bp: float) -> dict[str, Floats]:
        """Spread, fees, adverse selection and inventory of each fill, quote currency.

        Args:
            fee_bp: of what was filled while it rested, less the rebate.
            taker_fee_bp: of the fill that closes.
        """
        sign, price, lots = self.fills[:, 1], self.fills[:, 2], self.fills[:, 3]
        now, later = self.twice_mid[:, 0], self.twice_mid[:, 1 + MARKOUTS.index(ADVERSE)]
        fee = np.where(self.fills[:, 5] == CLOSED, taker_fee_bp, fee_bp)
        return {
            "spread": sign * lots * (now - 2 * price) / (2 * self.unit),
            "fees": -fee * BP * self.turnover,
            "adverse_selection": sign * lots * (later - now) / (2 * self.unit),
            "inventory": sign * lots * (self.final - later) / (2 * self.unit),
        }

    def markouts_bp(self) -> Floats:
        """What each fill was worth MARKOUTS later, against its price, basis points of it, shape (f, 3)."""
        price = self.fills[:, 2:3]
        return self.fills[:, 1:2] * (self.twice_mid[:, 1:] - 2 * price) / (2 * price) / BP

    @property
    def turnover(self) -> Floats:
        """Quote currency of each fill."""
        # In floats: of a market with many decimals a price times an amount has no room in 64 bits.
        return self.fills[:, 2] * (self.fills[:, 3] / self.unit)


def ledger_of(matched: Matched, tops: Tops, unit: int, until_ns: int) -> Ledger:
    """The fills, marked, with the one that closes.

    Args:
        matched: what was filled.
        tops: the best prices; there is at least one before the first fill.
        unit: ticks times lots of one of the quote currency.
        until_ns: the end; the inventory is closed then.
    """
    fills = matched.fills
    if matched.inventory:
        sign = -1 if matched.inventory > 0 else 1
        price = tops.before(until_ns)[0 if sign < 0 else 1]
        closing = np.array([[until_ns, sign, price, abs(matched.inventory), len(matched.quotes), CLOSED]])
        fills = np.concatenate([fills, closing])
    later = np.array([0, *MARKOUTS], dtype=np.int64) * SECOND_NS
    times = np.minimum(fills[:, :1] + later[None, :], until_ns - 1)
    marks = tops.twice_mid(times.ravel()).reshape(times.shape)
    return Ledger(fills, marks, sum(tops.before(until_ns)), unit)
