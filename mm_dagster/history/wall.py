"""What a query may ask: tables of the lake, by functions of DuckDB that only compute.

A read-only attachment does not stop a SELECT from writing: functions of extensions merge and delete files, read other
databases, and send text to a server. So DuckDB's own parser says which functions and tables a query names, and each
must be on a list. The connection is locked besides: it reaches no file but the lake's own.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import duckdb

from mm_dagster.history.connection import LakeError, quoted
from mm_dagster.history.views import VIEWS
from mm_dagster.tables.registry import TABLES

_SHOW = {"tables", "schemas", "databases", "__show_tables_expanded", "all_tables"}
_TABLE_FUNCTIONS = frozenset({
    "duckdb_columns", "duckdb_constraints", "duckdb_functions", "duckdb_keywords", "duckdb_schemas", "duckdb_tables",
    "duckdb_types", "duckdb_views", "generate_series", "icu_calendar_names", "json_each", "json_tree",
    "pg_timezone_names", "range", "repeat", "repeat_row", "unnest", "regexp_split_to_table", "generate_subscripts",
})  # fmt: skip
"""Those that make rows of their arguments, or of what the lake says of itself."""
_OF_THE_LAKE = frozenset({"snapshots", "current_snapshot", "last_committed_snapshot"})
"""Written `history.snapshots()`."""
_NOT_COMPUTING = frozenset({
    "current_setting", "currval", "getenv", "getvariable", "json_deserialize_sql", "json_execute_serialized_sql",
    "json_serialize_plan", "json_serialize_sql", "nextval", "parse_duckdb_log_message", "pg_sleep", "query",
    "query_table", "setseed", "sleep_ms", "write_log",
})  # fmt: skip
"""Scalar functions that read or change more than their arguments, or only wait."""
_OWN = frozenset({*TABLES, *VIEWS, "lake_schema"})
_VIEWS = frozenset({
    "duckdb_columns", "duckdb_constraints", "duckdb_schemas", "duckdb_tables", "duckdb_types", "duckdb_views",
    "pg_attribute", "pg_class", "pg_description", "pg_namespace", "pg_tables", "pg_type", "pg_views", "sqlite_master",
    "sqlite_schema",
})  # fmt: skip
"""DuckDB's own views that say what there is; those of `information_schema`, too."""
_FROM = frozenset({
    "BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "PIVOT", "SHOW_REF", "EMPTY", "SELECT_NODE",
    "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE",
})  # fmt: skip
"""What a FROM, or one side of a UNION, may consist of."""
_WORDS_BEFORE_BRACKETS = frozenset({
    "all", "and", "any", "array", "as", "at", "between", "bigint", "blob", "by", "case", "cast", "char", "collate",
    "columns", "cross", "cube", "decimal", "describe", "distinct", "double", "else", "except", "exclude", "exists",
    "explain", "extract", "filter", "float", "for", "from", "full", "glob", "group", "grouping", "having", "ilike",
    "in", "inner", "int", "integer", "intersect", "interval", "is", "join", "lambda", "lateral", "left", "like",
    "limit", "list", "map", "materialized", "natural", "not", "numeric", "offset", "on", "or", "order", "outer",
    "over", "overlay", "partition", "pivot", "position", "qualify", "recursive", "rename", "replace", "returning",
    "right", "rollup", "row", "select", "semi", "sets", "similar", "some", "struct", "substring", "summarize",
    "table", "then", "time", "timestamp", "timestamptz", "trim", "try", "try_cast", "union", "unnest", "unpivot",
    "using", "values", "varchar", "when", "where", "window", "with", "within",
})  # fmt: skip
_PLAIN = re.compile(r"[^\W\d]\w*")


def check(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Refuses what is not one query over the lake by functions that only compute.

    Args:
        connection: with the lake attached as `history`.
        text: in DuckDB's SQL.

    Raises:
        LakeError: it is none; named is what it must not use, and what to write instead.
        duckdb.Error: it is no SQL.
    """
    # EXPLAIN is no query: EXPLAIN ANALYZE carries out what it explains, a COPY over a file of the lake too.
    statements = connection.extract_statements(text)
    if not statements:
        raise LakeError("an empty text is not a query; write SELECT, FROM, SHOW or DESCRIBE")
    # A PIVOT over whatever a column holds is rewritten to a temporary type, which nobody wrote, and a SELECT.
    pivots = [one for one in statements if one.type == duckdb.StatementType.CREATE and not one.query]
    written = [one for one in statements if one not in pivots]
    for statement in written:
        if statement.type != duckdb.StatementType.SELECT:
            raise LakeError(f"{statement.type.name} is not a query; write SELECT, FROM, SHOW or DESCRIBE")
    if len(written) != 1:
        raise LakeError(f"{len(written)} queries at once; write one, and join them with UNION ALL if they are alike")
    try:
        # As a literal: to bind a value DuckDB imports pandas where it is installed, which takes longer than the query.
        [(serialized,)] = connection.execute(f"SELECT json_serialize_sql('{quoted(text)}')").fetchall()
        tree = json.loads(serialized)
        if not tree["error"]:
            _check_tree(tree, connection)
        elif pivots:
            _check_words(text)
        else:
            # PRAGMA, and what else only looks like a query once DuckDB has rewritten it.
            raise LakeError("this is not a query; write SELECT, FROM, SHOW or DESCRIBE")
    except RecursionError as error:
        raise LakeError("the query is nested too deeply; split it with WITH") from error


@cache
def _functions() -> frozenset[str]:
    """The functions of DuckDB itself that take values and give values; none of an extension that is loaded later."""
    with duckdb.connect() as bare:
        rows = bare.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE function_type IN ('scalar', 'aggregate', 'macro') AND internal"
        ).fetchall()
    # In a SELECT list, too; DuckDB knows it as something of its own.
    return (frozenset(name.lower() for (name,) in rows) | {"unnest"}) - _NOT_COMPUTING


def _names_in(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """All tables and views of the lake, an analyst's own included."""
    rows = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'history' "
        "UNION SELECT view_name FROM duckdb_views() WHERE database_name = 'history'"
    ).fetchall()
    return frozenset(name.lower() for (name,) in rows)


def _check_tree(tree: dict[str, Any], connection: duckdb.DuckDBPyConnection) -> None:
    nodes = list(_nodes(tree))
    named = {entry["key"] for node in nodes for entry in node.get("cte_map", {}).get("map", [])}
    odd = next((name for name in sorted(named) if not _PLAIN.fullmatch(name)), None)
    if odd is not None:
        raise LakeError(f"WITH {odd}: name it by letters, digits and _ only")
    known = _OWN | {name.lower() for name in named}
    if any(node.get("type") == "BASE_TABLE" and str(node["table_name"]).lower() not in known for node in nodes):
        known |= _names_in(connection)
    table_calls = {id(node["function"]) for node in nodes if node.get("type") == "TABLE_FUNCTION"}
    for node in nodes:
        for place in ("from_table", "left", "right", "source"):
            below = node.get(place)
            if isinstance(below, dict) and "sample" in below and below.get("type") not in _FROM:
                raise LakeError(f"{below.get('type')} cannot be asked here; write tables, joins and subqueries")
        match node.get("type"):
            case "BASE_TABLE":
                _check_table(node, known)
            case "SHOW_REF" if not node.get("query"):
                _check_show(node)
        if "function_name" in node:
            if id(node) in table_calls:
                _check_table_function(node)
            else:
                _check_function(node["function_name"])


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _check_table(node: dict[str, Any], known: frozenset[str]) -> None:
    catalog, schema = str(node["catalog_name"]).lower(), str(node["schema_name"]).lower()
    name = str(node["table_name"])
    if catalog in ("", "history", "system") and (
        schema == "information_schema" or (schema in ("", "main", "pg_catalog") and name.lower() in _VIEWS)
    ):
        return
    if (catalog, schema) not in {("", ""), ("", "main"), ("", "history"), ("history", ""), ("history", "main")}:
        where = ".".join(part for part in (catalog, schema, name) if part)
        raise LakeError(f"{where} is no table of the history; `mm sql` lists what there is")
    if name.lower() not in known:
        # However far it is: DuckDB names one, too, and a name that is wrong in all its letters still gets a remedy.
        [nearest] = difflib.get_close_matches(name.lower(), sorted(known | _VIEWS), n=1, cutoff=0)
        hint = f'Did you mean "{nearest}"?'
        raise LakeError(f"Table with name {name} does not exist! {hint} `mm sql` lists what there is")


def _check_show(node: dict[str, Any]) -> None:
    shown = str(node["table_name"]).strip('"').lower()
    where = {str(node["catalog_name"]).lower(), str(node["schema_name"]).lower()} - {"", "history", "main"}
    if where or (shown and shown not in _SHOW):
        raise LakeError(f"SHOW {shown or 'TABLES FROM ' + min(where)} cannot be asked here; write SHOW TABLES")


def _check_table_function(node: dict[str, Any]) -> None:
    name = str(node["function_name"]).lower()
    if name in _TABLE_FUNCTIONS:
        return
    of_the_lake = (str(node["catalog"]).lower(), str(node["schema"]).lower())
    if name in _OF_THE_LAKE and of_the_lake in {("", "history"), ("history", "main")}:
        return
    raise LakeError(_instead(name))


def _check_function(name: str) -> None:
    if name.lower() not in _functions():
        raise LakeError(_instead(name.lower()))


def _instead(name: str) -> str:
    """Why a function cannot be used, and what to write instead."""
    if name.startswith(("read_", "parquet_", "sniff_", "sqlite_", "postgres_", "glob", "arrow_", "pandas_")):
        remedy = (
            "it reads what is not the history; write the name of a table, or attach the history in a DuckDB of your "
            "own (docs/analysis.md)"
        )
    elif name.startswith("ducklake_") or name in _OF_THE_LAKE:
        remedy = "write FROM history.snapshots(); the upkeep is the job `maintenance`"
    elif name in ("query", "query_table"):
        remedy = "write the query or the table's name itself"
    elif name in ("getenv", "current_setting", "getvariable") or name.startswith(("duckdb_", "pragma_", "which_")):
        remedy = "it tells of the program and not of the history; SHOW TABLES and DESCRIBE tell what there is"
    else:
        near = difflib.get_close_matches(name, sorted(_functions() | _TABLE_FUNCTIONS), 1)
        remedy = f'did you mean "{near[0]}"?' if near else "duckdb_functions() lists those that compute"
    return f"the function {name} cannot be used here: {remedy}"


def _check_words(text: str) -> None:
    """The same for a PIVOT over whatever a column holds, of which DuckDB gives no tree: word by word."""
    raw = text.encode()
    tokens = duckdb.tokenize(text)
    # What lies between two starts is one token, with the space and the comments behind it.
    words = []
    for number, (start, kind) in enumerate(tokens):
        end = tokens[number + 1][0] if number + 1 < len(tokens) else len(raw)
        words.append((raw[start:end].decode(errors="replace").strip(), kind))
    for number, (word, kind) in enumerate(words):
        follows = words[number + 1][0] if number + 1 < len(words) else ""
        name = _bare(word)
        if kind == duckdb.token_type.string_const or name is None:
            before = words[number - 1][0].lower() if number else ""
            if kind == duckdb.token_type.string_const and before in ("from", "join", "pivot", "describe", "summarize"):
                raise LakeError(f"{word} is no table of the history; `mm sql` lists what there is")
            continue
        if name.startswith(("__ducklake", "duckdb_", "pg_", "pragma_")) and name not in _VIEWS | _TABLE_FUNCTIONS:
            raise LakeError(_instead(name))
        called = follows.startswith("(")
        if called and name not in _functions() | _TABLE_FUNCTIONS | _OF_THE_LAKE and name not in _WORDS_BEFORE_BRACKETS:
            raise LakeError(_instead(name))


def _bare(word: str) -> str | None:
    """A word without its quotes, in small letters; None: it is no name."""
    if word.startswith('"'):
        return word[1:].split("--")[0].split("/*")[0].strip().removesuffix('"').replace('""', '"').lower()
    found = _PLAIN.match(word)
    return found[0].lower() if found else None
