"""What Prometheus scrapes: the lake, read at the scrape, and how the API itself answers.

Ticks run in other processes, so that a counter kept in one of them would never be seen here: nothing is counted, all of
it is read. The only module that imports prometheus_client.
"""

from __future__ import annotations

import logging
import math
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from mm_dagster import logs
from mm_dagster.api.readings import Reading, readings
from mm_dagster.api.series import API, BUILD, OF_LAKE, UP, Series

if TYPE_CHECKING:
    from mm_dagster.pipeline.project import Project

__all__ = ["CONTENT_TYPE", "Latency", "render"]

logger = logging.getLogger("mm_dagster")

# Each histogram would get a series more a label, of which no question here asks.
disable_created_metrics()  # type: ignore[no-untyped-call]

OTHER = "other"
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_ROUTES = 100
"""No program has more; what comes after them counts as another, so that nobody fills the memory with addresses."""


class Latency:
    """How long the API took to answer. One a process of the API; threads may share it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._routes: set[str] = set()
        self._seconds = Histogram(API.name, API.about, API.labels, registry=self.registry, buckets=API.buckets)

    def observe(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Notes one answer.

        Args:
            route: the template of its path, like /grids/{id}, never the path itself; None: no route matched.
            method: of the request.
            status: of the answer.
            seconds: from the request to the end of the answer.
        """
        if route is not None and len(self._routes) < _ROUTES:
            self._routes.add(route)
        known = route if route in self._routes else OTHER
        self._seconds.labels(known, method if method in _METHODS else OTHER, str(status)).observe(seconds)


def render(project: Project, latency: Latency | None = None) -> bytes:
    """All series in Prometheus' text format, to be sent as `CONTENT_TYPE`.

    What cannot be read makes `mm_up` 0 and is absent; nothing is raised.

    Args:
        project: the configuration and the lake, made for this scrape, since it reads its configuration once.
        latency: what the API has noted of its answers; None: there is no API.
    """
    registry = CollectorRegistry()
    registry.register(_OfLake(project))
    return generate_latest(registry) + (generate_latest(latency.registry) if latency else b"")


class _OfLake(Collector):
    """Reads when it is asked."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def collect(self) -> Iterator[Metric]:
        """The families of series.py, in its order; those of which nothing is known are left out."""
        began = time.perf_counter()
        try:
            found = [*readings(self._project)]
        except BaseException as error:
            # A panic of an extension module is no Exception; only a wish to stop is let through.
            if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
                raise
            logger.warning("nothing of the lake is measured: %s: %s", type(error).__name__, logs.redact(str(error)))
            yield _gauge(UP, [Reading(UP.name, (), 0.0)])
        else:
            found.append(Reading("mm_collect_seconds", (), time.perf_counter() - began))
            yield _gauge(UP, [Reading(UP.name, (), 1.0)])
            yield from _families(found)
        yield _gauge(BUILD, [Reading(BUILD.name, (_version(),), 1.0)])


def _families(found: Iterable[Reading]) -> Iterator[Metric]:
    by_name: dict[str, list[Reading]] = {}
    for reading in found:
        if reading.value is not None:
            by_name.setdefault(reading.name, []).append(reading)
    make = {"gauge": _gauge, "counter": _counter, "histogram": _histogram}
    for series in OF_LAKE:
        if series.name in by_name:
            yield make[series.kind](series, by_name.pop(series.name))
    assert not by_name, f"series.py does not know {', '.join(by_name)}"


def _gauge(series: Series, found: Iterable[Reading]) -> Metric:
    family = GaugeMetricFamily(series.name, series.about, labels=series.labels)
    for reading in found:
        family.add_metric(reading.labels, _number(reading))
    return family


def _counter(series: Series, found: Iterable[Reading]) -> Metric:
    family = CounterMetricFamily(series.name, series.about, labels=series.labels)
    for reading in found:
        family.add_metric(reading.labels, _number(reading))
    return family


def _histogram(series: Series, found: Iterable[Reading]) -> Metric:
    family = HistogramMetricFamily(series.name, series.about, labels=series.labels)
    for reading in found:
        assert isinstance(reading.value, Sequence)
        values = sorted(reading.value)
        bounds = [*series.buckets, math.inf]
        filled = [(floatToGoString(bound), bisect_right(values, bound)) for bound in bounds]  # type: ignore[no-untyped-call]
        family.add_metric(reading.labels, filled, sum(values))
    return family


def _number(reading: Reading) -> float:
    assert not isinstance(reading.value, Sequence)
    assert reading.value is not None
    return float(reading.value)


@cache
def _version() -> str:
    try:
        return version("mm-dagster")
    except PackageNotFoundError:
        return "unknown"
