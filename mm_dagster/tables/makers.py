"""What makers would have made on recorded books. Nothing reads them to decide."""

from __future__ import annotations

from mm_dagster.tables.columns import (
    count,
    flag,
    hash_of_configuration,
    number,
    one_of,
    probability,
    structs,
    text,
    time,
    version_of_code,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage

FILL_REASONS = ("QUEUE", "THROUGH", "OPPOSITE", "CLOSED")


class MakerStudy(dy.Schema):
    """What a maker would have made of a recorded book at a fee, beside its controls. Doing nothing makes 0."""

    study = text("Name of the study: recorded, the folder's, or paper: a row a stretch, never judged.", key=True)
    market = text("Exchange and market, like binance:ETH-USDT.", key=True)
    as_of = time("The quarter hour in which its last stretch ended, of paper the end of the stretch;", key=True)
    maker = text("naive, glft, expected_value, or PATH:FUNCTION of somebody's own.", key=True)
    fee_bp = number("Fee less rebate of what was filled while it rested, basis points.", key=True, nullable=False)
    first = time("Beginning of the first stretch that was quoted on;")
    stretches = count("How many; each begins and ends without inventory.", nullable=False)
    decisions = count("While the book was known.", nullable=False)
    quoting_share = probability("Share of these at which it quoted on a side at least.")
    fills = count("Without those that close a stretch.", nullable=False)
    turnover = number("All that was traded, quote currency.", low=0.0)
    net = number("spread + fees + adverse_selection + inventory, quote currency.")
    spread = number("From the price to the mid at the fill; what closes a stretch pays it.")
    fees = number("Paid, less rebates; negative.")
    adverse_selection = number("What the mid did within 5 s of the fills.")
    inventory = number("What it did from then to the end of the stretch.")
    net_bp = number("net over turnover, basis points; null: nothing was traded.")
    markout_1s_bp = number("Mean worth of what was filled while it rested, 1 s later at the mid, basis points.")
    markout_5s_bp = number("Likewise 5 s later.")
    markout_30s_bp = number("Likewise 30 s later, at the end of the stretch at the latest.")
    shifted = number("Mean of net over the same quotes at other times of each stretch, quote currency.")
    p_shifted = probability("Share of these that made as much; null: none was tried.")
    swapped = number("net of the same quotes with their sides exchanged, quote currency.")
    low = number("Lower end of the 95 % interval of the mean net of a stretch; null: too few stretches.")
    high = number("Upper end.")
    trials = count("Ideas that were tried on these days when it was judged; null: it was not judged.")
    passes = flag("Whether it passes the promotion gate; null: it was not judged, as at fees beside makers.yaml's.")
    reason = text("Why it does not pass, or was not judged.", nullable=True)
    config_hash = hash_of_configuration()
    code_version = version_of_code()


class MakerFill(dy.Schema):
    """Every fill of a study at the fee of makers.yaml."""

    study = text("Name of the study.", key=True)
    market = text("Exchange and market.", key=True)
    as_of = time("The quarter hour in which the study ended, of paper the end of the stretch;", key=True)
    maker = text("Who quoted.", key=True)
    fill = count("In the order of the fills, from 0 on.", key=True, nullable=False)
    at = time("When;")
    side = one_of(("BUY", "SELL"), "What it did.")
    price = number("Quote currency.", low=0.0, nullable=False)
    amount = number("Base currency.", low=0.0, nullable=False)
    why = one_of(
        FILL_REASONS,
        "QUEUE: traded beyond the queue. THROUGH: traded through its price. OPPOSITE: reached by the other side. "
        "CLOSED: took the best price at the end of a stretch.",
    )
    spread = number("Quote currency, as of maker_study.")
    fees = number("Likewise.")
    adverse_selection = number("Likewise.")
    inventory = number("Likewise.")
    markout_1s_bp = number("What it was worth 1 s later, basis points.")
    markout_5s_bp = number("Likewise 5 s later.")
    markout_30s_bp = number("Likewise 30 s later.")
    config_hash = hash_of_configuration()
    code_version = version_of_code()


class FillModel(dy.Schema):
    """The fill model before each stretch of a study: every number of it, so that it can be run again."""

    study = text("Name of the study.", key=True)
    market = text("Exchange and market.", key=True)
    as_of = time("Beginning of the stretch that it quoted on; it knows only stretches before;", key=True)
    parameters = structs(
        "Every number: name, value. Coefficients are of standardised columns.", name=dy.String(), value=dy.Float64()
    )
    samples = count("Probes that it was fitted on.", nullable=False)
    fills = count("Those that were filled.", nullable=False)
    parameters_hash = text("SHA-256 of the parameters.")
    config_hash = hash_of_configuration()
    code_version = version_of_code()


# 1 of each: raised together, since one study makes all three.
STAGES = tuple(
    Stage(table, schema, group="studies", code_version="1")
    for table, schema in (("fill_model", FillModel), ("maker_fill", MakerFill), ("maker_study", MakerStudy))
)
