"""The proofs of the regime engine on one's own history, once a day and whenever asked for. They only read."""

from collections.abc import Callable, Iterator, Mapping

import dagster as dg

from mm_dagster.defs.describe import checked
from mm_dagster.defs.resources import ProjectOfRun
from mm_dagster.pipeline.proofs import compared, evidence, newest_whole_day
from mm_dagster.regime.proofs import Evidence, Proof, live_equals_backfill, no_look_ahead, warm_up_suffices

TABLES = ("regime_features", "regime_verdict")

PROOFS: Mapping[Callable[[Evidence], Mapping[str, Proof]], str] = {
    no_look_ahead: "Recomputed on history cut at each bar of the newest whole day, its rows are the same bits.",
    warm_up_suffices: "Recomputed with 1, 1.5 and 2 times the declared warm-up, the newest whole day is the same bits.",
    live_equals_backfill: "What was stored of the newest whole day is what its stored candles give, bit for bit.",
}
"""The checks on both tables, and what each says when it passes."""

CHECKS = [dg.AssetCheckKey(dg.AssetKey(table), prove.__name__) for prove in PROOFS for table in TABLES]


def _checks(prove: Callable[[Evidence], Mapping[str, Proof]], says: str) -> dg.AssetChecksDefinition:
    name = prove.__name__

    @dg.multi_asset_check(
        name=name,
        specs=[dg.AssetCheckSpec(name, asset=table, description=says) for table in TABLES],
        can_subset=True,
    )
    def check(context: dg.AssetCheckExecutionContext, project: ProjectOfRun) -> Iterator[dg.AssetCheckResult]:
        day = newest_whole_day(project)
        found = prove(evidence(project.lake, project.config, day, project.config.symbols)) if day else {}
        for key in context.selected_asset_check_keys:
            yield checked(compared(found.get(key.asset_key.to_user_string()), key.name), key.asset_key)

    return check


@dg.definitions
def proofs() -> dg.Definitions:
    """Three checks on features and verdicts each."""
    return dg.Definitions(asset_checks=[_checks(prove, says) for prove, says in PROOFS.items()])
