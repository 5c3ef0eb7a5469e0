"""What the advice is worth on real candles, written down: `python -m benchmarks.evidence --out docs`.

Each set of recorded candles is read by the recorded venue and judged by `mm_dagster.evaluation`, as `mm evaluate` does
with what is in the lake. It writes `evidence.md`, two pages for people, whose every claim is checked against the
figures before it is written; `evidence/`, the tables and pictures; and the figures that the advice quotes, into the
package. Needs `MM_SHARED_DATA`. What other benchmarks found (information, ablation) is taken in from their files.
"""
