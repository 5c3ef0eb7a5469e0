"""How tables and pictures look in Dagster's pages."""

import base64
from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from mm_dagster.bars import iso
from mm_dagster.tables import describe

OWNERS = ["team:mm-dagster"]
GROUP = "decision"
"""One group: Dagster folds groups away, and the flow from candles to alerts is what a newcomer should see first."""

_TYPES = {
    "String": "text",
    "Float64": "number",
    "Int64": "integer",
    "Boolean": "boolean",
    "Datetime": "timestamp, UTC",
    "List": "list",
}


def columns_of(table: str) -> Mapping[str, Any]:
    """The contract of a table as Dagster's column schema: every column with type and meaning."""
    return {
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    name=column["column"],
                    type=_TYPES.get(column["type"].split("(")[0], column["type"]),
                    description=column["description"],
                    constraints=dg.TableColumnConstraints(nullable=not column["key"], unique=False),
                )
                for column in describe(table)
            ]
        )
    }


def preview(frame: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """A few rows as a Markdown table, read as a person would write them."""
    lines = [
        "| " + " | ".join(frame.columns) + " |",
        "| " + " | ".join("---" for _ in frame.columns) + " |",
        *("| " + " | ".join(_cell(value) for value in row) + " |" for row in frame.iter_rows()),
    ]
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.6g}"
    if hasattr(value, "astimezone"):
        return iso(value)
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    return str(value)


def picture(png: bytes, caption: str) -> dg.MarkdownMetadataValue:
    """A PNG inside the page itself, so that nothing needs to be served."""
    return dg.MetadataValue.md(f"![{caption}](data:image/png;base64,{base64.b64encode(png).decode()})")


def glance(svg: str, caption: str) -> dg.MarkdownMetadataValue:
    """A picture so small that Dagster shows it at once: Markdown of 1,000 characters or more hides behind a click."""
    return dg.MetadataValue.md(f"![{caption}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")
