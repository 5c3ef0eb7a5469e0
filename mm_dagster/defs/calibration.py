"""Did the touch probabilities come true on one's own grids? Asked once a day, answered with a picture. Only reads."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mm_dagster.defs.describe import picture
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.evaluation.calibration import EVENTS, Calibration, verdict_of
from mm_dagster.pictures import quality
from mm_dagster.pipeline.proofs import measure

CHECKS = {event: f"{event}_probability_is_honest" for event in EVENTS}
"""The check of each event."""

CHECK_KEYS = [dg.AssetCheckKey(dg.AssetKey("grid_risk"), name) for name in CHECKS.values()]


@dg.multi_asset_check(
    name="probabilities_are_honest",
    specs=[
        dg.AssetCheckSpec(name, asset="grid_risk", description=f"The predicted chance of {says} came true.")
        for (event, says), name in zip(EVENTS.items(), CHECKS.values(), strict=True)
    ],
    can_subset=True,
)
def probabilities_are_honest(
    context: dg.AssetCheckExecutionContext, project: ProjectOfRun
) -> Iterator[dg.AssetCheckResult]:
    """One check for each event: a break below, a break above, the stop."""
    for event, name in CHECKS.items():
        key = dg.AssetCheckKey(dg.AssetKey("grid_risk"), name)
        if key not in context.selected_asset_check_keys:
            continue
        found = measure(project, event)
        passed, sentence = (True, "No grid was evaluated yet.") if found is None else verdict_of(found)
        yield dg.AssetCheckResult(
            asset_key="grid_risk",
            check_name=name,
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=sentence,
            metadata=_figures(found) if found else {},
        )


def _figures(found: Calibration) -> dict[str, Any]:
    scores = {
        "samples": found.whole.count,
        "base_rate": found.whole.observed,
        "expected_calibration_error": found.expected_calibration_error,
        "brier_skill": found.brier_skill,
        "auc": found.auc,
        "not_over_yet_or_with_holes": found.censored,
    }
    known = {name: value for name, value in scores.items() if value is not None}
    return {
        **known,
        "reliability": picture(quality.reliability_picture(found, dots_per_inch=60), "predicted, observed"),
    }


@dg.definitions
def calibration() -> dg.Definitions:
    """Three checks on grid_risk."""
    return dg.Definitions(asset_checks=[probabilities_are_honest])
