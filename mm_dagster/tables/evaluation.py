"""What the signals were worth, and the models that might know more."""

from __future__ import annotations

from mm_dagster.tables.columns import (
    count,
    flag,
    hash_of_configuration,
    number,
    one_of,
    source_of_candles,
    structs,
    text,
    time,
    version_of_code,
)
from mm_dagster.tables.dataframely_internals import dy
from mm_dagster.tables.stages import Stage
from mm_dagster.tables.words import METRICS, OUTCOMES, RESPONSES, STATES


class SignalQuality(dy.Schema):
    """What the signals were worth until as_of: one figure of one signal or control, with its 95 % interval."""

    as_of = time("End of the last whole month that was looked at; a year before it by default;", key=True)
    grids = text(
        "Whose grids: rule, opened every day by a rule that knows no signal, or real, the operator's.", key=True
    )
    policy = text(
        "confirmed or literal; trigger: it decides by itself; control: a rule that anybody could follow; placebo: the "
        "active policy on the same markets with random signs; real: what the operator was notified of, and did.",
        key=True,
    )
    signal = text("Exit state, trigger or control that is judged, or p_break_low_24h.", key=True)
    metric = text(
        "What is measured. " + " ".join(f"{name}, {unit}: {meaning}." for name, (unit, meaning) in METRICS.items()),
        key=True,
    )
    value = number("The figure, in the metric's unit; null where there was nothing to judge.")
    low = number("Lower end of its 95 % interval; null where too little is known for one.")
    high = number("Upper end.")
    n = count(
        "What it is a figure of: hours for the probability, alarms for the precision, breaks for the recall, breaks "
        "warned of for the leads, alerts for what was sent, else grids."
    )
    config_hash = hash_of_configuration()
    code_version = version_of_code()


class CandidateParameters(dy.Schema):
    """Models that might tell of a break, fitted each month on the hours before it. Nothing that decides reads them."""

    as_of = time("Beginning of the month from which they apply; nothing later was looked at;", key=True)
    symbol = text("Market.", key=True)
    model = text("hmm: Gaussian hidden Markov model; garch: GARCH(1,1).", key=True)
    parameters = structs(
        "Every parameter: name, value. `unit` is the standard deviation of the returns; the others are of returns over "
        "it. States of hmm go from the calmest to the roughest.",
        name=dy.String(),
        value=dy.Float64(),
    )
    converged = flag("Whether the fit ended by itself; false: its iterations were used up.", nullable=False)
    fitted_from = time("When the first hour opened that it was fitted on;")
    hours = count("Known hourly returns from then until as_of.", nullable=False)
    returns_hash = text("SHA-256 of these returns, log, as 64-bit numbers, NaN where one is not known.")
    parameters_hash = text("SHA-256 of the parameters.")
    fitted_with = text("Library and version.")
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


class AlertOutcome(dy.Schema):
    """What came after each escalation of a grid: was it right, and what was leaving then worth?

    A row is OPEN until 24 hours have passed, whatever has happened by then; its money is null until 14 days have.
    """

    grid_id = text("Grid.", key=True)
    activated_at = time("Episode;", key=True)
    as_of = time("The bar at which the state was entered;", key=True)
    state = one_of(STATES, "The state that was entered.")
    symbol = text("Market.")
    told = flag("Whether the operator was notified; false: it would have been, before anyone listened.", nullable=False)
    alert_id = text("The alert; null: there was none.", nullable=True)
    outcome = one_of(
        OUTCOMES,
        "OPEN: 24 hours have not passed. BROKE: two closes in a row below the grid within them. STOPPED: the stop was "
        "touched within them. HELD: neither. LATE: the grid was broken before. UNKNOWN: a bar of these hours is not "
        "known.",
    )
    hours = number("From as_of to the close of the bar that broke or stopped it.", low=0.0)
    gain_vs_hold = number(
        "Value at as_of, sold then, less the value 14 days later or at the stop; quote currency. Fees and slippage of "
        "both are in it."
    )
    gain_vs_hold_percent = number("The same, percent of the capital.")
    gain_vs_next_level = number(
        "Value at as_of less that when a higher state was entered within 14 days, quote currency; null: none was."
    )
    gain_vs_next_level_percent = number("The same, percent of the capital.")
    action = one_of(RESPONSES, "The first thing that the operator did about it.", nullable=True)
    seconds_to_action = number("From the alert to it, seconds.")
    config_hash = hash_of_configuration()
    code_version = version_of_code()
    source = source_of_candles()


STAGES = (
    Stage(
        "alert_outcome",
        AlertOutcome,
        group="audit",
        after=("candles", "grid_risk", "exit_state", "notification", "operator_response"),
        code_version="1",
    ),
    Stage(
        "signal_quality",
        SignalQuality,
        group="evaluation",
        after=("candles", "grid_risk", "notification"),
        settings=("exit", "evaluation", "risk"),
        # 2: the placebo, the lowest fifth of the grid and the next level beside every mean and shortfall.
        code_version="2",
    ),
    Stage("candidate_parameters", CandidateParameters, group="evaluation", after=("candles",), code_version="1"),
)
