"""Did the touch probabilities come true on one's own grids? Asked once a day, answered with a picture. Only reads."""

from collections.abc import Iterator

import dagster as dg

from mm_dagster.defs.describe import checked
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.evaluation.calibration import EVENTS
from mm_dagster.pipeline.proofs import honesty

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
        if key in context.selected_asset_check_keys:
            yield checked(honesty(project, event, name), key.asset_key)


@dg.definitions
def calibration() -> dg.Definitions:
    """Three checks on grid_risk."""
    return dg.Definitions(asset_checks=[probabilities_are_honest])
