"""Configuration: what is wrong is said with file, key, value and remedy, before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from mm_dagster.config.errors import ConfigError
from mm_dagster.config.grid import nearest_opposing
from mm_dagster.config.last_valid import load_or_last_valid
from mm_dagster.config.load import load
from mm_dagster.config.reference import reference
from mm_dagster.config.whole import Config
from mm_dagster.history.places import Bucket, Folder
from mm_dagster.pipeline.project import place_of
from mm_dagster_tests.conftest import PROJECT

MARKETS = """
venues:
  main: {kind: ccxt, exchange: kucoin}
markets:
  - {symbol: ETH-USDT, venue: main}
"""
GRID = """
id: eth-v3
symbol: ETH-USDT
enabled: true
activated_at: 2026-01-10T00:00:00Z
lower: 3070
upper: 3185
levels: 6
level_convention: intervals                 # 6 intervals, 7 prices
spacing: arithmetic                         # or geometric
stop: 2990
capital: 769.02                             # quote currency
fees: {maker: 0.001, taker: 0.001, paid_in: quote}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shape that every user edits."""
    (tmp_path / "grids").mkdir()
    (tmp_path / "markets.yaml").write_text(MARKETS)
    (tmp_path / "grids" / "eth-v3.yaml").write_text(GRID)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def hash_of(config: Config, table: str = "exit_state") -> str:
    return config.hash_of(table, "ETH-USDT", config.grids[0] if table in ("grid_risk", "exit_state") else None)


@pytest.mark.parametrize("name", ["demo", "kucoin"])
def test_the_shipped_configurations_are_valid(name: str) -> None:
    config = load(PROJECT / "configs" / name)
    assert config.grids


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("grids/eth-v3.yaml", "stop: 2990", "stop: 4000", ["stop", "4000", "not below lower"]),
        ("grids/eth-v3.yaml", "upper: 3185", "upper: 3000", ["upper", "3000", "not above lower"]),
        ("grids/eth-v3.yaml", "levels: 6", "levels: 60", ["levels", "60", "0.200 %", "fewer levels"]),
        ("grids/eth-v3.yaml", "symbol: ETH-USDT", "symbol: ETH-USD", ["symbol", "ETH-USD", "did you mean ETH-USDT?"]),
        ("grids/eth-v3.yaml", "lower: 3070", "lowr: 3070", ["lowr", "unknown key", "did you mean lower?"]),
        ("grids/eth-v3.yaml", "capital: 769.02", "capital: -1", ["capital", "-1", "greater than 0"]),
        ("grids/eth-v3.yaml", "capital: 769.02", "capital: .nan", ["capital", "nan", "finite"]),
        ("grids/eth-v3.yaml", "id: eth-v3", "id: eth-v3\nid: other", ["line", "'id'", "given twice"]),
        ("grids/eth-v3.yaml", "id: eth-v3", "id: [", ["not readable as YAML"]),
        ("grids/eth-v3.yaml", "2026-01-10T00:00:00Z", "2016-01-10T00:00:00Z", ["activated_at", "2017-01-01"]),
        ("markets.yaml", "venue: main", "venue: mian", ["markets.0.venue", "'mian'", "did you mean main?"]),
        ("markets.yaml", "kind: ccxt", "kind: cxt", ["venues.main", "'ccxt', 'recorded', 'simulated'"]),
        ("markets.yaml", "symbol: ETH-USDT", "symbol: ETH/USDT", ["markets.0.symbol", "ETH/USDT"]),
    ],
)
def test_an_error_names_file_key_value_and_remedy(folder: Path, file: str, old: str, new: str, said: list[str]) -> None:
    edit(folder / file, old, new)
    with pytest.raises(ConfigError) as caught:
        load(folder)
    message = str(caught.value)
    assert message.startswith(str(folder / file))
    assert "\n" not in message
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    "remote", ["https://me:pa55word@host/x.git", "https://t0ken@host/x.git", "ssh://me:pa55word@h/x"]
)
def test_an_address_with_a_login_is_refused_and_not_shown(folder: Path, remote: str) -> None:
    (folder / "history.yaml").write_text(f"mirror:\n  remote: {remote}\n")
    with pytest.raises(ConfigError, match=r"mirror.remote: .*://\*\*\*@.* an address with a login in it") as caught:
        load(folder)
    assert "pa55word" not in str(caught.value)
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path: s3://my-bucket", "data.path: 's3://my-bucket' is wrong: must be a bucket and a prefix in it"),
        ("path: my-bucket/grids", "like s3://my-bucket/grids"),
        ("path: s3://My_Bucket/grids", "the bucket of small letters, digits, -"),
        ("path: s3://my-bucket/grids of März", "the prefix of letters, digits, -, _, . and ="),
        ("path: s3://my-bucket/a/../b", "must be a bucket and a prefix in it"),
        ("path: s3://my-bucket/a*", "must be a bucket and a prefix in it"),
        ("path: s3://my-bucket/a", "must name the variables with key and secret: key_env and secret_env"),
        ("region: eu-central-1", "names a storage and no `path` in it"),
        ("endpoint: ftp://host", "data.endpoint: 'ftp://host' is wrong: must be a host"),
        ("endpoint: http://host/bucket", "without a path"),
        ("key_env: AKIAIOSFODNN7EXAMPLE", "must be the name of a variable of the environment"),
        ("retries: 99", "data.retries: 99 is wrong"),
        ("timeout: 0", "data.timeout: 0 is wrong"),
        ("keyenv: A", "data.keyenv: unknown key; did you mean key_env?"),
    ],
)
def test_a_wrong_key_of_the_object_storage_is_named(folder: Path, text: str, said: str) -> None:
    (folder / "history.yaml").write_text(f"data:\n  {text}\n")
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(folder / "history.yaml"))
    assert "AKIA" not in str(caught.value)


@pytest.mark.parametrize("text", ["null", "{}", "{path: null}"])
def test_without_a_path_the_files_are_local(folder: Path, tmp_path: Path, text: str) -> None:
    (folder / "history.yaml").write_text(f"data: {text}\n")
    assert place_of(load(folder).history, folder / "history.yaml", tmp_path) == Folder(tmp_path)


def test_the_keys_of_the_object_storage_come_from_the_variables_that_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said_in = folder / "history.yaml"
    said_in.write_text("data: {path: s3://my-bucket/a/, key_env: MM_KEY, secret_env: MM_SECRET, token_env: MM_TOKEN}\n")
    settings = load(folder).history
    for name, value in (("MM_KEY", "a key"), ("MM_SECRET", "a secret"), ("MM_TOKEN", "a token")):
        with pytest.raises(ConfigError, match=rf"^{said_in}: data\.\w+_env: {name} is not set; give it the "):
            place_of(settings, said_in, folder)
        monkeypatch.setenv(name, value)
    place = place_of(settings, said_in, folder)
    assert place == Bucket("s3://my-bucket/a", "a key", "a secret", "a token")
    assert "a secret" not in repr(place)


@pytest.mark.parametrize("remote", ["ssh://git@host/x.git", "git@host:x.git", "/srv/git/x.git", "https://host/x.git"])
def test_an_address_without_a_secret_is_taken(folder: Path, remote: str) -> None:
    (folder / "history.yaml").write_text(f"mirror:\n  remote: {remote}\n")
    assert load(folder).history.mirror.remote == remote


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("timezone: Europe/Berlino", "'Europe/Berlino' is no time zone; write it like Europe/Berlin"),
        ('quiet_hours: {start: "25:00", end: "07:00"}', "quiet_hours.start"),
        ("digest_at: 8 o'clock", "digest_at"),
        ("budget: {monthly: 100, reserve: 101}", "reserve: 101 is more than the 100 messages of a month"),
        ("budget: {per_hour: {WARNIG: 3}}", "'WARNIG' has no limit; did you mean WARNING?"),
        ("budget: {per_hour: {MANDATORY_EXIT: 3}}", "'MANDATORY_EXIT' has no limit"),
        ("people: {anna: 5, ben: 5}", "anna and ben have the same number 5; give each their own"),
        ("people: {anna b: 5}", "people"),
        ("link: 'https://[grids'", "'https://[grids' is no address; write it like https://grids.example.com"),
        ("link: ''", "'' is no address"),
        ("link: https://anna:secret@grids.example.com", "an address with a login in it would be kept and shown"),
        ("apprise: [{url: mailto://me:secret@example.com}]", "apprise.0.url: unknown key"),
    ],
)
def test_a_wrong_key_of_the_alerts_is_named(folder: Path, text: str, said: str) -> None:
    (folder / "alerts.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_grid_is_called_all(folder: Path) -> None:
    edit(folder / "grids" / "eth-v3.yaml", "id: eth-v3", "id: all")
    with pytest.raises(ConfigError, match="'all' names every grid together"):
        load(folder)


def test_how_far_a_check_looks_back_changes_no_hash(folder: Path) -> None:
    before = hash_of(load(folder), "grid_risk")
    (folder / "risk.yaml").write_text("calibration: {days: 30}")
    assert hash_of(load(folder), "grid_risk") == before
    (folder / "risk.yaml").write_text("giveback: {response_minutes: 30}")
    assert hash_of(load(folder), "grid_risk") != before


def test_a_misspelt_file_and_a_missing_folder_are_errors(folder: Path) -> None:
    (folder / "exits.yaml").write_text("policy: literal")
    with pytest.raises(ConfigError, match=r"exits\.yaml.*did you mean exit\.yaml\?"):
        load(folder)
    with pytest.raises(ConfigError, match="MM_CONFIG_DIR"):
        load(folder / "nowhere")


def test_the_hash_is_stable_under_reordering_and_comments(folder: Path) -> None:
    before = hash_of(load(folder))
    grid = yaml.safe_load(GRID)
    (folder / "grids" / "eth-v3.yaml").write_text(yaml.safe_dump(dict(reversed(grid.items()))) + "# a comment\n")
    assert hash_of(load(folder)) == before


def test_the_hash_covers_what_changes_a_table_and_nothing_else(folder: Path) -> None:
    before = load(folder)
    (folder / "exit.yaml").write_text("policy: literal")
    edit(folder / "markets.yaml", "exchange: kucoin", "exchange: kucoin, api_url: http://127.0.0.1:1")
    after = load(folder)
    assert hash_of(before, "exit_state") != hash_of(after, "exit_state")
    for table in ("candles", "regime_features", "regime_verdict", "grid_risk"):
        assert hash_of(before, table) == hash_of(after, table)


def test_an_invalid_edit_keeps_the_last_valid_configuration(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    before = load_or_last_valid(folder, kept)
    assert before.fault is None
    edit(folder / "grids" / "eth-v3.yaml", "stop: 2990", "stop: 4000")
    after = load_or_last_valid(folder, kept)
    assert after.config == before.config
    assert after.fault is not None
    assert "stop" in after.fault.line


def test_without_a_valid_one_before_an_invalid_configuration_stops(folder: Path, tmp_path: Path) -> None:
    edit(folder / "grids" / "eth-v3.yaml", "stop: 2990", "stop: 4000")
    with pytest.raises(ConfigError, match="stop"):
        load_or_last_valid(folder, tmp_path / "kept")


def test_a_nested_key_leaves_its_neighbours_at_their_defaults(folder: Path) -> None:
    (folder / "regime.yaml").write_text("trend: {adx: {midpoint: 30}}")
    adx = load(folder).regime.trend.adx
    assert (adx.midpoint, adx.weight, adx.scale) == (30.0, 0.20, 5.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("thresholds: {break_likely: {warning_off: 0.5}}", "warning_off: 0.5 is above warning_on"),
        ("blindness: {hold_minutes: 60}", "must rise in this order"),
        ("polcy: literal", "did you mean policy?"),
        ("confirm: {warnng: 0.3}", "did you mean warning?"),
    ],
)
def test_a_ladder_that_contradicts_itself_is_refused(folder: Path, text: str, said: str) -> None:
    (folder / "exit.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert said in str(caught.value)


def test_the_reference_in_the_documentation_is_current() -> None:
    assert (PROJECT / "docs" / "configuration.md").read_text() == reference(), "run `make docs`"


def test_on_and_off_are_words_and_true_is_not(tmp_path: Path) -> None:
    (tmp_path / "markets.yaml").write_text((PROJECT / "configs" / "demo" / "markets.yaml").read_text())
    (tmp_path / "exit.yaml").write_text("persist:\n  on: 3\n  off_warning: 9\n")
    (tmp_path / "history.yaml").write_text("mirror:\n  balances: true\n")
    loaded = load(tmp_path)
    assert (loaded.exit.persist.on, loaded.exit.persist.off_warning) == (3, 9)
    assert loaded.history.mirror.balances is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{ETHUSDT: 1}", "write ETH-USDT"),
        ("{ETH-USDX: 1}", "'ETH-USDX' is not in markets.yaml; did you mean ETH-USDT?"),
        ("{ETH-USDT: -1}", "half_spread_bp.ETH-USDT: -1 is wrong"),
    ],
)
def test_a_half_spread_of_no_market_or_no_size_is_refused(folder: Path, text: str, said: str) -> None:
    (folder / "risk.yaml").write_text(f"half_spread_bp: {text}\n")
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(folder)
    (folder / "risk.yaml").write_text("half_spread_bp: {ETH-USDT: 1.2}\n")
    assert load(folder).risk.half_spread("ETH-USDT") == pytest.approx(1.2e-4)


SECOND = (
    GRID.replace("id: eth-v3", "id: eth-low").replace("lower: 3070", "lower: 2900").replace("stop: 2990", "stop: 2800")
)


@pytest.mark.parametrize(
    ("upper", "levels", "refused"),
    [
        # 2,900 to 3,070 in 6: its highest level, at which it sells, is where the other grid buys.
        ("3070", "6", "its level 3,070 is 0.000 % from 3,070 of eth-v3"),
        ("3072", "6", "its level 3,072 is 0.065 % from 3,070 of eth-v3"),
        ("3066", "6", None),
        ("3060", "4", None),
    ],
)
def test_two_running_grids_of_which_one_would_buy_what_the_other_sells_are_refused(
    folder: Path, upper: str, levels: str, refused: str | None
) -> None:
    text = SECOND.replace("upper: 3185", f"upper: {upper}").replace("levels: 6", f"levels: {levels}")
    (folder / "grids" / "eth-low.yaml").write_text(text)
    if refused is None:
        assert len(load(folder).grids) == 2
        return
    with pytest.raises(ConfigError) as found:
        load(folder)
    line = str(found.value)
    assert "min_step_apart in portfolio.yaml" in line
    assert "eth-low" in line
    assert "eth-v3" in line
    assert "\n" not in line
    # One that waits has no orders, another market is another book, and who wants it so says so.
    (folder / "grids" / "eth-low.yaml").write_text(text.replace("enabled: true", "enabled: false"))
    assert len(load(folder).grids) == 2
    (folder / "grids" / "eth-low.yaml").write_text(text)
    (folder / "portfolio.yaml").write_text("limits: {min_step_apart: 0}\n")
    assert len(load(folder).grids) == 2


def test_the_nearest_opposing_levels_are_those_of_every_pair() -> None:
    generator = np.random.default_rng(5)
    for _ in range(200):
        one, other = (np.sort(generator.uniform(90, 110, generator.integers(3, 12))) for _ in range(2))
        buys_and_sells = [
            (abs(sell - buy) / min(sell, buy), *((buy, sell) if first else (sell, buy)))
            for buys, sells, first in ((one[:-1], other[1:], True), (other[:-1], one[1:], False))
            for buy in buys
            for sell in sells
        ]
        assert nearest_opposing(one, other) == pytest.approx(min(buys_and_sells))


def test_a_portfolio_is_refused_in_one_line_and_null_is_no_limit(folder: Path) -> None:
    for text, says in (
        ("equity: -5", "equity: -5 is wrong"),
        ("limits: {portfolio: 1.5}", "limits.portfolio: 1.5 is wrong"),
        ("limits: {postion: 0.2}", "limits.postion: unknown key; did you mean position?"),
        ("window_days: 7", "window_days: 7 is wrong"),
        ("drawdown: {mild: 0.3}", "must rise in this order"),
        ("equity: 10.000", "equity: 10.000 may be meant in thousands; write 10 or 10000"),
    ):
        (folder / "portfolio.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"portfolio\.yaml") as found:
            load(folder)
        assert says in str(found.value), str(found.value)
    (folder / "portfolio.yaml").write_text("limits: {portfolio: null, fills_per_day: null}\n")
    limits = load(folder).portfolio.limits
    assert (limits.portfolio, limits.fills_per_day, limits.pair) == (None, None, 0.2)


OKX = "\n  okx: {kind: ccxt, exchange: okx, account: {key_env: K, secret_env: S, passphrase_env: P}}"


def test_a_grid_that_is_no_bot_has_the_hash_of_before_there_were_any(folder: Path) -> None:
    before = {table: hash_of(load(folder), table) for table in ("grid_risk", "exit_state")}
    assert before == {"grid_risk": "8f24e227f064", "exit_state": "e439f01c82df"}
    edit(folder / "markets.yaml", "exchange: kucoin}", f"exchange: kucoin}}{OKX}")
    edit(folder / "grids" / "eth-v3.yaml", "capital:", "source: {exchange: okx, id: 448965992920907776}\ncapital:")
    source = load(folder).grids[0].source
    assert source is not None
    assert (source.exchange, source.id) == ("okx", "448965992920907776")
    assert hash_of(load(folder), "grid_risk") != before["grid_risk"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{exchange: okxx, id: 1}", r"source\.exchange: 'okxx' is no venue of markets\.yaml; did you mean okx\?"),
        ("{exchange: main, id: 1}", r"the bots of 'main' cannot be read, those of okx, .* can; take source out"),
        ("{exchange: keyless, id: 1}", r"markets\.yaml: venues\.keyless\.account: is missing; eth-v3\.yaml needs"),
        ("{exchange: okx, id: x7}", r"source\.id: 'x7' is wrong"),
        ("{exchange: okx, id: true}", r"source\.id: True is wrong"),
        ("{exchange: okx, id: 4.4e17}", r"source\.id: 4\.4e\+17 is wrong"),
        ("{exchange: okx}", r"source\.id: is missing"),
        ("{exchange: okx, id: 1, kind: spot}", r"source\.kind: unknown key"),
        ("448965992920907776", r"source: 448965992920907776 is wrong"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(folder: Path, source: str, says: str) -> None:
    keyless = "\n  keyless: {kind: ccxt, exchange: bybit}"
    edit(folder / "markets.yaml", "exchange: kucoin}", f"exchange: kucoin}}{OKX}{keyless}")
    edit(folder / "grids" / "eth-v3.yaml", "capital:", f"source: {source}\ncapital:")
    with pytest.raises(ConfigError, match=says):
        load(folder)


def test_two_running_grids_are_not_one_bot_and_a_bot_is_not_judged_by_made_up_candles(folder: Path) -> None:
    edit(folder / "markets.yaml", "exchange: kucoin}", f"exchange: kucoin}}{OKX}")
    file, other = folder / "grids" / "eth-v3.yaml", folder / "grids" / "other.yaml"
    edit(file, "capital:", "source: {exchange: okx, id: '7'}\ncapital:")
    other.write_text(
        file.read_text().replace("id: eth-v3", "id: other").replace("3070", "3170").replace("3185", "3290")
    )
    with pytest.raises(ConfigError, match=r"other\.yaml: source\.id: 7 is the bot of eth-v3\.yaml already"):
        load(folder)
    edit(other, "enabled: true", "enabled: false")
    assert len(load(folder).grids) == 2
    edit(folder / "markets.yaml", "kind: ccxt, exchange: kucoin", "kind: simulated")
    with pytest.raises(ConfigError, match="ETH-USDT is no market of an exchange here; take source out"):
        load(folder)
