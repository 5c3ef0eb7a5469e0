"""With `mode: off` nothing that could place an order is even loaded, and two modules alone name what could."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mm_dagster
from mm_dagster.market import grid_bots_bybit

ORDERS = (
    "mm_dagster.execution.machine", "mm_dagster.execution.drive", "mm_dagster.execution.journal",
    "mm_dagster.execution.locks", "mm_dagster.execution.paper", "mm_dagster.market.order_venue",
    "mm_dagster.market.orders", "mm_dagster.market.bots", "mm_dagster.pipeline.exit_account",
    "mm_dagster.pipeline.exit_ledger", "mm_dagster.pipeline.exit_refusals", "mm_dagster.pipeline.exits",
    "mm_dagster.pipeline.paper",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "doors",
    [
        "import mm_dagster.cli, mm_dagster.cli.leave; mm_dagster.cli.main",
        "import mm_dagster.definitions; mm_dagster.definitions.defs()",
        "import mm_dagster.api.app, mm_dagster.pages.live, mm_dagster.pages.gather",
    ],
    ids=["command line", "Dagster", "page and API"],
)
def test_no_door_loads_what_could_place_an_order(doors: str) -> None:
    shown = f"import sys; {doors}; print(sorted(set({ORDERS!r}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert found.stdout.strip().splitlines()[-1] == "[]"


# names of what changes something at an exchange ----------------------------------------------------------------------

PACKAGE = Path(mm_dagster.__file__).parent
CHANGES = re.compile(
    # ccxt's methods for all exchanges, in both of its spellings
    r"^(create|edit|cancel|close)_?\w*(order|position)\w*$|^(withdraw|transfer|borrow|repay)\w*$"
    r"|^(create|fetch)_?deposit_?address\w*$|^set_?sandbox_?mode$"
    # its methods of an exchange's own paths, and the one that asks any of them
    r"|^\w*private\w*(post|put|patch|delete)\w*$|^fetch2$"
    # and the paths themselves
    r"|/orders?$|addorder|cancelorder|cancel-order|batch-orders|stop-order-algo|close-bot|close-grid",
    re.IGNORECASE,
)
PLACES = {"market/orders.py": "places and cancels orders", "market/bots.py": "stops a bot of OKX's"}


def named(source: str) -> Iterator[str]:
    """Every attribute and name that a module uses, and every text in it that is not prose."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name):
                yield name
            case ast.Call(args=[_, ast.Constant(value=str() as name), *_], func=ast.Name(id="getattr")):
                yield name
            case ast.Constant(value=str() as text) if re.fullmatch(r"\S*[a-z](?=[A-Z_/-])\S*", text):
                # Not a plain word.
                yield text


def of_exchanges(path: Path) -> bool:
    """Whether a module may have a client of an exchange in its hands."""
    return path.relative_to(PACKAGE).parts[0] == "market"


def test_only_two_modules_name_what_changes_something_at_an_exchange() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    found = {
        str(path.relative_to(PACKAGE)): sorted({name for name in named(path.read_text()) if CHANGES.search(name)})
        for path in files
        if of_exchanges(path)
    }
    assert {name for name, names in found.items() if names} == set(PLACES), found


@pytest.mark.parametrize(
    "code",
    [
        "client.create_order('SOL/USDT')", "client.createOrders([])", "client.edit_order('1')",
        "client.cancel_all_orders()", "client.privatePostHfOrders({})", "client.private_delete_hf_orders({})",
        "getattr(client, 'createOrder')", "client.privateUtaPostV3TradeGridCloseBot({})", "client.withdraw('SOL')",
        "path = '/api/v1/hf/orders'", "client.sapiPrivatePutOrder({})", "client.create_limit_sell_order(1, 2)",
        "client.transfer('SOL', 1)", "client.close_position('SOL/USDT')", "path = 'trade/batch-orders'",
    ],
)  # fmt: skip
def test_such_names_are_seen(code: str) -> None:
    assert any(CHANGES.search(name) for name in named(code))


def test_one_module_alone_asks_for_a_path_by_its_name() -> None:
    askers = {
        path.name: [ast.unparse(node.args[0]) for node in ast.walk(tree) if _is_request(node)]
        for path in sorted((PACKAGE / "market").rglob("*.py"))
        for tree in [ast.parse(path.read_text())]
        if any(_is_request(node) for node in ast.walk(tree))
    }
    assert askers == {"grid_bots_bybit.py": ["_PATH"]}
    assert grid_bots_bybit._PATH == "v5/grid/query-grid-detail"


def _is_request(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "request"


def test_a_client_of_an_exchange_is_in_nobody_elses_hands() -> None:
    """Whoever does not import ccxt, or what does, cannot call it: rooms above get rows, not clients."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if of_exchanges(path):
            continue
        imported = {
            f"{node.module}.{name.name}" if isinstance(node, ast.ImportFrom) else name.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in node.names
        }
        held = {one for one in imported if re.match(r"ccxt\b|mm_dagster\.market\.(trading|\w+\.Connection$)", one)}
        assert not held, f"{path}: {held}"


def test_nothing_there_buys_or_moves_funds() -> None:
    for name in PLACES:
        words = set(named((PACKAGE / name).read_text()))
        assert not {word for word in words if re.search(r"withdraw\w*\(|transfer\w*\(|buy_|_buy|market_?order", word)}
    orders = ast.parse((PACKAGE / "market/orders.py").read_text())
    sides = [
        value
        for node in ast.walk(orders)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value in ("side", "type") and not _is_limit(value)
    ]
    assert [ast.unparse(value) for value in sides] == ["_SELL"] * 3
    (sell,) = (
        node.value for node in orders.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_SELL"
    )
    assert ast.literal_eval(sell) == "sell"


def _is_limit(value: ast.expr) -> bool:
    """Whether it says `limit` or a kind of account, as the word `type` does in KuCoin's."""
    return ast.unparse(value) in ("'limit'", "self._ACCOUNT")
