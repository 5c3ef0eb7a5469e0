"""Questions that people ask of the history, as views of the lake: any DuckDB client sees them beside the tables."""

from __future__ import annotations

VIEWS = {
    "alert_responses": """
        -- One row for each escalation that was told, with the first thing that the operator did about it.
        SELECT
            n.alert_id, n.grid_id, n.activated_at, n.symbol, n.state, n.priority, n.sent_at,
            n.acknowledged_at, n.acknowledged_by_device, n.expired_at,
            r.at AS responded_at, r.action, r.seconds_from_alert, r.within_window
        FROM notification n
        LEFT JOIN (
            SELECT * FROM operator_response
            QUALIFY row_number() OVER (PARTITION BY alert_id ORDER BY "at", response_id) = 1
        ) r ON r.alert_id = n.alert_id
        WHERE n.kind = 'ESCALATION' AND n.status = 'SENT'
    """,
    "response_kpis": """
        -- By month (UTC) and state: how soon the operator acted, and how often not at all.
        SELECT
            strftime(sent_at AT TIME ZONE 'UTC', '%Y-%m') AS month,
            state,
            count(*) AS alerts,
            count(responded_at) AS responses,
            quantile_cont(seconds_from_alert, 0.5) AS p50_seconds,
            quantile_cont(seconds_from_alert, 0.95) AS p95_seconds,
            count(*) FILTER (WHERE within_window) AS within_window,
            count(*) FILTER (WHERE responded_at IS NULL) AS missed,
            count(acknowledged_at) AS acknowledged,
            count(expired_at) AS expired,
            count(*) FILTER (WHERE responded_at IS NOT NULL AND acknowledged_at IS NULL) AS acted_without_acknowledging
        FROM alert_responses
        GROUP BY ALL
        ORDER BY ALL
    """,
}
"""SELECT of each view by name, in an order in which each knows those before it."""
