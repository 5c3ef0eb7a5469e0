"""The search itself: a resumable study that proposes values and remembers what each was worth."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

from mm_dagster.arrays import Floats
from mm_dagster.config.whole import Config
from mm_dagster.evaluation import resample
from mm_dagster.research import deflation
from mm_dagster.research.space import SPACE, Key, Values, _tidy, allowed, values_of, with_values
from mm_dagster.research.worth import SEARCH_GRIDS, Fold, Outcome, PreparedMarket, edges, judge

WORTH_KEEPING = 0.05
"""A key whose return to its current value costs less than this share of the gain goes back: fewer changes to judge."""


@dataclass(frozen=True)
class SearchResult:
    """What the search on one past found.

    Attributes:
        values: of every key that is searched.
        edges: of them over the current ones on the grids of the search, by block, shape (blocks,).
        ratios: of edge to noise of everything that was tried, shape (tried,).
    """

    values: dict[str, float]
    edges: Floats
    ratios: Floats


class Search:
    """A search that is kept in a file and goes on where it stopped.

    A trial depends on the name of the study, its number, and the trials before it alone: a search that was interrupted
    and goes on finds what one in a single go does.
    """

    def __init__(
        self,
        grounds: Sequence[PreparedMarket],
        config: Config,
        keys: Sequence[Key],
        price: float,
        name: str,
        journal: Path,
    ) -> None:
        self.grounds = grounds
        self.config = config
        self.keys = keys
        self.price = price
        self.name = name
        # Limits that are not searched are needed too.
        self.all_current = values_of(config, SPACE)
        self.current = {key.path: self.all_current[key.path] for key in keys}
        # Every trial would be a line.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.storage = JournalStorage(JournalFileBackend(str(journal)))

    def run(self, fold: Fold, number: int, trials: int, progress: Callable[[int, float], None]) -> SearchResult:
        """Searches on the past of a fold.

        Args:
            fold: the fold.
            number: its number.
            trials: how many there are in the end, those of earlier runs included.
            progress: told after each trial how many there are now, and the best edge so far.
        """
        study = optuna.create_study(
            storage=self.storage, study_name=f"{self.name}-{number}", direction="maximize", load_if_exists=True
        )
        for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Its process was killed.
            self.storage.set_trial_state_values(left._trial_id, TrialState.FAIL)
        every = self._every(fold)
        now = judge(self.grounds, fold.past, self.config, self.config, self.price, every)

        def judged(values: Values) -> Outcome:
            return judge(self.grounds, fold.past, with_values(self.config, values), self.config, self.price, every)

        distributions = {key.path: key.distribution for key in self.keys}
        done = _finished(study)[:trials]
        best = max((trial.value or 0.0 for trial in done), default=now.score)
        progress(len(done), max(best - now.score, 0.0))
        while len(done) < trials:
            study.sampler = optuna.samplers.TPESampler(seed=_seed(f"{self.name}/{number}/{len(done)}"))
            if not done:
                study.enqueue_trial({key.path: key.nearest(self.current[key.path]) for key in self.keys})
            trial = study.ask(distributions)
            try:
                one = judged(self._allowed(trial.params))
            except BaseException:
                study.tell(trial, state=TrialState.FAIL)
                raise
            trial.set_user_attr("ratio", deflation.ratio(edges(one, now)))
            study.tell(trial, one.score)
            done = _finished(study)[:trials]
            best = max(best, one.score)
            progress(len(done), max(best - now.score, 0.0))
        ratios = [float(trial.user_attrs["ratio"]) for trial in done]
        top = max(done, key=lambda trial: (trial.value, -trial.number), default=None)
        if top is None or top.value is None or top.value <= now.score:
            return SearchResult(
                dict(self.current), np.zeros(np.unique(now.day // resample.BLOCK_DAYS).size), np.array(ratios)
            )
        values, kept = self._allowed(top.params), judged(self._allowed(top.params))
        spare = WORTH_KEEPING * (kept.score - now.score)
        for key in reversed(self.keys):
            back = {**values, key.path: self.current[key.path]}
            if values[key.path] == self.current[key.path] or self._allowed(back) != back:
                continue
            one = judged(back)
            ratios.append(deflation.ratio(edges(one, now)))
            if one.score >= kept.score - spare:
                values, kept = back, one
        return SearchResult(values, edges(kept, now), np.array(ratios))

    def _every(self, fold: Fold) -> int:
        grids = sum(len(range(*ground.opened(fold.past).indices(ground.day.size))) for ground in self.grounds)
        return max(1, round(grids / SEARCH_GRIDS))

    def _allowed(self, values: Values) -> dict[str, float]:
        return allowed({path: _tidy(value) for path, value in values.items()}, self.all_current)


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
