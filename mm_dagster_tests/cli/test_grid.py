# ruff: noqa: E501 - what is typed is easier to read in one line
"""From a bot's page to a watched grid, as a person or a script does it, on a simulated market."""

from __future__ import annotations

import json
import os
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from mm_dagster.bars import iso
from mm_dagster.config.load import load
from mm_dagster.market.venue import UNKNOWN_MARKET, VenueError
from mm_dagster.pipeline import grid_market, grids
from mm_dagster.pipeline.project import Project
from mm_dagster_tests.cli.given_grids import GRID, MARKETS, PAGE, QUIETLY, SOL, Call, bytes_of
from mm_dagster_tests.cli.terminal import on_terminal


def grid_of(folder: Path, name: str) -> object:
    return next(one for one in load(folder / "configuration").grids if one.id == name)


# add ------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_grid_is_added_by_flags_with_its_market_and_judged_since_its_activation(mm: Call, folder: Path) -> None:
    price = grid_market.price_of(project(folder), load(folder / "configuration"), "ETH-USDT", ask=True)
    assert price is not None
    bounds = [f"{price.price * share:.2f}" for share in (0.8, 1.2, 0.7)]
    code, out, err = mm(
        "add", "--symbol", "ADA-USDT", "--lower", bounds[0], "--upper", bounds[1], "--stop", bounds[2], "--levels", "10",
        "--capital", "500", "--activated", "2025-06-20T00:00Z", "--yes",
    )  # fmt: skip
    assert code != 0, "the price of another market is far away"
    own = grid_market.price_of(project(folder), with_ada(folder), "ADA-USDT", ask=True)
    assert own is not None
    bounds = [f"{own.price * share:.4f}" for share in (0.8, 1.2, 0.7)]
    code, out, err = mm(
        "add", "--symbol", "ADA-USDT", "--lower", bounds[0], "--upper", bounds[1], "--stop", bounds[2], "--levels", "10",
        "--capital", "500", "--activated", iso(datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)), "--yes",
    )  # fmt: skip
    assert code == 0, err
    assert "SIMULATED" in out
    assert "earns" in out
    assert "within the grid" in out
    assert "ada-1  ADA-USDT" in out, "its page"
    assert "stands at" in out or "modelled" in out
    rows = project(folder).lake.read("grid_risk", grids=["ada-1"])
    assert rows.filter(pl.col("total_pnl").is_not_null()).height
    assert "taken as usual: --convention intervals, --spacing arithmetic, --fee 0.1%" in err


def project(folder: Path) -> Project:
    return Project(str(folder / "configuration"), str(folder / "data"), says_troubles=False)


def with_ada(folder: Path) -> object:
    config = load(folder / "configuration")
    markets = config.markets.model_copy(
        update={
            "markets": [*config.markets.markets, config.markets.markets[0].model_copy(update={"symbol": "ADA-USDT"})]
        }
    )
    return config.model_copy(update={"markets": markets})


def test_the_files_say_what_was_given_and_every_comment_stays(mm: Call, folder: Path) -> None:
    code, out, _ = mm("add", *SOL, "--id", "mine", "--fee", "0.08%", "--spacing", "geometric", *QUIETLY, "--json")
    assert code == 0
    (said,) = json.loads(out)
    written = grid_of(folder, "mine")
    assert {**written.model_dump(mode="json"), "file": said["file"]} == said  # type: ignore[attr-defined]
    assert (said["lower"], said["fees"]["maker"], said["spacing"]) == (120.5, 0.0008, "geometric")
    text = (folder / "configuration" / "grids" / "mine.yaml").read_text()
    assert re.search(r"capital: 769.02 +# USDT that was put in", text)
    assert (folder / "configuration" / "markets.yaml").read_text() == MARKETS.replace(
        "    venue: main\n# The end", "    venue: main\n  - {symbol: SOL-USDT, venue: main}\n# The end"
    )
    assert bytes_of(folder)["grids/eth.yaml"] == GRID.encode()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["file", "stdin"])
def test_a_grid_is_added_by_its_pasted_page(mm: Call, folder: Path, source: str) -> None:
    (folder / "page.txt").write_text(PAGE)
    name = str(folder / "page.txt") if source == "file" else "-"
    code, out, err = mm("add", "--paste", name, *QUIETLY, "--json", pipes=PAGE if source == "stdin" else None)
    assert code == 0, err
    (said,) = json.loads(out)
    assert {name: said[name] for name in ("id", "symbol", "lower", "upper", "levels", "stop", "capital")} == {
        "id": "sol-1", "symbol": "SOL-USDT", "lower": 120.5, "upper": 140.0, "levels": 6, "stop": 112.0, "capital": 769.02,
    }  # fmt: skip
    assert said["activated_at"] == "2025-01-10T01:00:00Z"
    assert "read: symbol SOL-USDT, lower 120.5" in err


def test_a_flag_wins_over_the_page_and_a_zone_is_echoed(mm: Call, folder: Path) -> None:
    (folder / "configuration" / "alerts.yaml").write_text("timezone: Europe/Berlin\n")
    code, out, err = mm("add", "--paste", "-", "--stop", "110", *QUIETLY, "--json", pipes=PAGE)
    assert code == 0, err
    (said,) = json.loads(out)
    assert (said["stop"], said["activated_at"]) == (110.0, "2025-01-10T00:00:00Z")
    assert "activated_at: read in Europe/Berlin: 2025-01-10T00:00:00Z" in err


def test_what_the_page_leaves_open_is_asked_and_what_is_in_doubt_is_shown(mm: Call, folder: Path) -> None:
    page = PAGE.replace("Stop loss 112.00\n", "").replace("2025-01-10 01:00", "01/10/2025 01:00")
    (folder / "page.txt").write_text(page)
    # convention, spacing, stop (once wrong), activation, fee, and whether this is the grid.
    typed = "\n\n1,12\n112\n2025-01-10 01:00Z\n\ny\n"
    code, out, err = mm("add", "--paste", str(folder / "page.txt"), "--no-fetch", types=typed)
    assert code == 0, err
    assert "not sure of activated_at: '01/10/2025 01:00' may be" in err
    assert "stop: '1,12' is no number; write 1.12" in err
    assert "Is this your grid?" in err
    assert "The smallest step is" in out
    assert "Where the price" in out or "The price is" in out
    assert grid_of(folder, "sol-1").stop == 112  # type: ignore[attr-defined]


def test_all_is_asked_in_the_order_of_a_page(mm: Call, folder: Path) -> None:
    typed = "SOL-USDT\n120.5\n140\n6\n\ngeo\n112\n769.02\n2025-01-10T00:00Z\n0.08%\ny\n"
    code, _, err = mm("add", "--no-fetch", types=typed)
    assert code == 0, err
    asked = [
        err.index(words)
        for words in ("Trading pair", "Lower", "Upper", "Number of grids", "Stop", "Investment", "When")
    ]
    assert asked == sorted(asked)
    assert grid_of(folder, "sol-1").spacing == "geometric"  # type: ignore[attr-defined]


def test_who_says_no_changes_nothing(mm: Call, folder: Path) -> None:
    before = bytes_of(folder)
    code, _, err = mm("add", *SOL, "--convention", "intervals", "--spacing", "arithmetic", "--fee", "0.1%", types="n\n")
    assert (code, bytes_of(folder)) == (1, before)
    assert "nothing was written" in err


@pytest.mark.slow
def test_a_real_terminal_is_asked(folder: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MM_", "DAGSTER_", "PUSHOVER_"))}
    own |= {"MM_CONFIG_DIR": str(folder / "configuration"), "MM_DATA_DIR": str(folder / "data")}
    answers = [("levels", "\n"), ("geometric", "\n"), ("Fee", "\n"), ("your grid?", "y\n")]
    program = ["-c", "from mm_dagster.cli import main; main()", "grid", "add", *SOL, "--no-fetch"]
    code, said = on_terminal(program, answers, own=own, cwd=folder)
    assert code == 0, said
    assert grid_of(folder, "sol-1").capital == 769.02  # type: ignore[attr-defined]


def test_an_invalid_folder_stays_as_it_is(mm: Call, folder: Path) -> None:
    mm("list")
    (folder / "configuration" / "exit.yaml").write_text("polcy: literal\n")
    before = bytes_of(folder)
    code, _, err = mm("add", *SOL, *QUIETLY)
    assert (code, bytes_of(folder)) == (1, before)
    assert "mend it first" in err


def test_a_folder_that_cannot_be_written_to_is_said(mm: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bytes_of(folder)

    def refuses(*_: object, **__: object) -> tuple[int, str]:
        raise PermissionError(13, "Permission denied", str(folder / "configuration" / "grids"))

    monkeypatch.setattr("mm_dagster.config.put.tempfile.mkstemp", refuses)
    code, _, err = mm("add", *SOL, *QUIETLY)
    assert (code, bytes_of(folder)) == (1, before)
    assert "cannot be written: Permission denied; let the user who runs this write to it" in err


def test_a_crash_between_the_two_files_puts_the_first_back(
    mm: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bytes_of(folder)
    replace = Path.replace

    def breaks(path: Path, target: Path) -> Path:
        if target.name == "sol-1.yaml":
            raise OSError(28, "No space left on device", str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", breaks)
    code, _, err = mm("add", *SOL, *QUIETLY)
    assert (code, bytes_of(folder)) == (1, before)
    assert "No space left on device" in err


def test_two_adds_at_the_same_time_both_stay(folder: Path) -> None:
    config = load(folder / "configuration")
    made = [
        grids.grid_of(
            {"id": name, "symbol": symbol, "activated_at": "2025-06-01T00:00:00Z", "lower": 100, "upper": 140, "levels": 6,
             "stop": 90, "capital": 100}
        )
        for name, symbol in (("sol-1", "SOL-USDT"), ("ada-1", "ADA-USDT"), ("dot-1", "DOT-USDT"))
    ]  # fmt: skip
    failed: list[BaseException] = []

    def work(one: object) -> None:
        try:
            grids.add(project(folder), one, next(iter(config.markets.venues)))  # type: ignore[arg-type]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(one,)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    found = load(folder / "configuration")
    assert {grid.id for grid in found.grids} == {"eth", "sol-1", "ada-1", "dot-1"}
    assert len(found.symbols) == 5
    assert not list((folder / "configuration").rglob(".*")), "nothing is left behind"


def test_a_venue_that_fails_leaves_the_grid_written_and_says_why(mm: Call, folder: Path) -> None:
    venue = {"kind": "recorded", "path": "candles", "file": "15m.csv"}
    markets = {"venues": {"files": venue}, "markets": [{"symbol": "ETH-USDT", "venue": "files"}]}
    (folder / "configuration" / "markets.yaml").write_text(yaml.safe_dump(markets))
    code, _, err = mm("add", *SOL, "--yes")
    assert code == 1
    assert "sol-1 is written and watched, but not judged yet: " in err
    assert grid_of(folder, "sol-1")


def test_a_market_that_the_venue_does_not_have_is_refused(
    mm: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> object:
        raise VenueError(f"main: SLO-USDT {UNKNOWN_MARKET}; did you mean SOL-USDT?")

    monkeypatch.setattr(grid_market.Venues, "of", unknown)
    before = bytes_of(folder)
    code, _, err = mm("add", *SOL, "--symbol", "SLO-USDT", "--yes")
    assert (code, bytes_of(folder)) == (1, before)
    assert "did you mean SOL-USDT" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        MARKETS,
        "venues: {main: {kind: simulated}}\nmarkets: [{symbol: ETH-USDT, venue: main}]\n",
        "venues: {main: {kind: simulated}}\nmarkets: [\n  {symbol: ETH-USDT, venue: main},\n]\n",
        "markets:\n- {symbol: ETH-USDT, venue: main}\nvenues:\n  main:\n    kind: simulated",
        "venues:\n  main: {kind: simulated}\nmarkets:\n  - symbol: ETH-USDT   # one\n    venue: main",
        "{venues: {main: {kind: simulated}}, markets: [{symbol: ETH-USDT, venue: main}]}",
    ],
)
def test_a_market_is_added_however_the_file_is_written(mm: Call, folder: Path, text: str) -> None:
    (folder / "configuration" / "markets.yaml").write_text(text)
    code, _, err = mm("add", *SOL, *QUIETLY)
    assert code == 0, err
    assert "SOL-USDT" in load(folder / "configuration").symbols
    now = (folder / "configuration" / "markets.yaml").read_text()
    assert all(comment in now for comment in re.findall(r"#.*", text))


def test_kucoins_bots_are_said_first_to_be_out_of_reach(mm: Call, folder: Path) -> None:
    (folder / "configuration" / "markets.yaml").write_text(
        MARKETS.replace("{kind: simulated}", "{kind: ccxt, exchange: kucoin}")
    )
    code, _, err = mm("add", *SOL, *QUIETLY)
    assert code == 0, err
    assert err.startswith("KuCoin's bots cannot be read by any program")
    assert "you say by `mm grid stop`" in err


# list, edit, stop, start, remove --------------------------------------------------------------------------------------


def test_the_list_has_every_grid_and_its_file(mm: Call, folder: Path) -> None:
    code, out, _ = mm("list", "--json")
    (row,) = json.loads(out)
    assert (code, row["id"], Path(row["file"]).name) == (0, "eth", "eth.yaml")
    assert "2550 - 2820" in mm("list")[1]


def test_an_edit_is_a_new_episode_by_itself_and_comments_stay(mm: Call, folder: Path) -> None:
    code, out, err = mm("edit", "eth", "--stop", "2470.123456789", "--levels", "10", "--spacing", "geometric", *QUIETLY)
    assert code == 0, err
    assert re.search(r"stop +2480 +2470.123456789", out)
    after = grid_of(folder, "eth")
    assert (after.stop, after.levels, after.spacing) == (2470.123456789, 10, "geometric")  # type: ignore[attr-defined]
    assert after.activated_at.isoformat() > "2025-06-25"  # type: ignore[attr-defined]
    text = (folder / "configuration" / "grids" / "eth.yaml").read_text()
    assert re.search(r"activated_at: 2\S+Z   # a Tuesday", text)
    assert all(comment in text for comment in ("# My first grid.", "# intervals", "# never wider"))


def test_stop_writes_the_answer_and_the_file_and_twice_is_once(mm: Call, folder: Path) -> None:
    for times in range(2):
        code, _, err = mm("stop", "eth", "--note", "by hand")
        assert code == 0, err
        assert ("does not run" in err) == bool(times)
    answers = project(folder).lake.read("operator_response")
    assert answers.select("grid_id", "action", "note").rows() == [("eth", "stopped", "by hand")]
    assert not grid_of(folder, "eth").enabled  # type: ignore[attr-defined]
    assert "# never wider" in (folder / "configuration" / "grids" / "eth.yaml").read_text()


def test_a_crash_after_the_answer_is_finished_by_the_next_stop(
    mm: Call, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(grids, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert mm("stop", "eth")[0] == 130
    assert grid_of(folder, "eth").enabled  # type: ignore[attr-defined]
    assert project(folder).lake.read("operator_response").height == 1
    code, _, err = mm("stop", "eth")
    assert code == 0
    assert "was noted before" in err
    assert project(folder).lake.read("operator_response").height == 1
    assert not grid_of(folder, "eth").enabled  # type: ignore[attr-defined]


def test_a_start_begins_a_new_episode(mm: Call, folder: Path) -> None:
    mm("stop", "eth")
    code, _, err = mm("start", "eth", "--activated", "2025-07-01T10:00Z", *QUIETLY)
    assert code == 0, err
    after = grid_of(folder, "eth")
    assert after.enabled  # type: ignore[attr-defined]
    assert after.activated_at.isoformat() == "2025-07-01T10:00:00+00:00"  # type: ignore[attr-defined]


def test_a_removed_grid_is_kept_beside_the_data_and_nothing_stays_watched(mm: Call, folder: Path) -> None:
    before = bytes_of(folder)
    assert mm("remove", "eth", types="n\n")[0] == 1
    assert bytes_of(folder) == before
    code, _, err = mm("remove", "eth", "--yes")
    assert code == 0, err
    (kept,) = (folder / "data" / grids.REMOVED).iterdir()
    assert str(kept) in err
    assert "# never wider" in kept.read_text()
    assert "grids/eth.yaml" not in bytes_of(folder)
    assert project(folder).config.grids == ()
    assert project(folder).vanished == []
