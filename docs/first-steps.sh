#!/usr/bin/env bash
# A stranger's first ten minutes, from a fresh clone on: what is typed, and what comes. Writes docs/first-steps.md:
#
#     bash docs/first-steps.sh > docs/first-steps.md
#
# The folder is a temporary one; packages that are installed in the checkout are not installed again.
set -uo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
git clone --quiet "$checkout" "$place/mm_dagster"
cd "$place/mm_dagster" || exit 1
ln -s "$checkout/.venv" .venv
# A user who has no home yet.
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH=$PWD COLUMNS=120 LC_ALL=C.UTF-8 XDG_CONFIG_HOME=$place/.config
unset MM_HOME MM_CONFIG_DIR MM_DATA_DIR MM_DAGSTER_DIR DAGSTER_HOME PUSHOVER_TOKEN PUSHOVER_USER

# What is installed in the checkout is there: make must not install it again, which would lead the checkout astray.
make="make --old-file=.venv/runs"

show() {  # show COMMAND [LINES] [INSTEAD]: the command, what it prints (the last lines), its code if it is not 0
    echo '```text'
    echo "\$ $1" | sed -e "s#$place/#~/#g"
    local output code
    output=$(eval "${3:-$1}" 2>&1)
    code=$?
    echo "$output" | sed -e 's/\x1b\[[0-9;]*m//g' -e "s#$place/#~/#g" -e "s#$checkout/#~/mm_dagster/#g" -e 's/[[:space:]]*$//' -e 's/#[A-Z2-9-]\{19\}/#CODE/' | cat -s | tail -n "${2:-40}"
    [ $code -ne 0 ] && echo "[ends with $code]"
    echo '```'
    echo
}

cat <<'TEXT'
# First steps

A stranger's first ten minutes, as `bash docs/first-steps.sh` replays them in an empty folder: what is typed, and what comes. `mm` is `.venv/bin/mm`.

## The demo

`make demo` installs what is needed to run, once, and says so; then it computes 120 days of a **simulated** market and one tick.

TEXT
show 'make demo' 27 "$make demo"
cat <<'TEXT'
The demo stands in its own time: its clock starts when it is made, and runs on. Where neither a home nor `MM_CONFIG_DIR` and `MM_DATA_DIR` name anything else, a command shows it, and says so first.

TEXT
show 'mm status --grid sol-range' 40
show 'mm report --out demo.html'
show 'mm doctor' 40
cat <<'TEXT'
## The UI

`make up` runs until Ctrl-C: the UI on http://127.0.0.1:3000, the schedule, the alerts. It logs what happened, and nothing of what did not.

TEXT
show 'make up' 60 "timeout --signal INT 60 $make up PORT=${PORT:-3917} 2>&1 | sed -E 's,^(.{150}).*,\1,'"
cat <<'TEXT'
## Candles of your own

A folder with a configuration, and one with candles. This file was saved by a spreadsheet:

TEXT
mkdir -p mine/candles/ETH-USDT mine/grids
cat > mine/markets.yaml <<'YAML'
venues:
  files: {kind: recorded, path: candles, file: 15m.csv}
markets:
  - {symbol: ETH-USDT, venue: files}
YAML
cat > mine/grids/eth.yaml <<'YAML'
id: eth
symbol: ETH-USDT
activated_at: 25.06.2026 12:00
lower: 2550
upper: 2820
levels: 12
stop: 2480
capital: 1000
YAML
mm sql "SELECT open_time, open, high, low, close, volume FROM candles WHERE symbol = 'ETH-USDT' AND open_time >= '2026-05-01'" \
    --out right.csv 2> /dev/null
sed -E '2,$ s/,([0-9])([0-9]{3})(\.[0-9]+)?/,"\1,\2\3"/g' right.csv > mine/candles/ETH-USDT/15m.csv
show 'head -3 mine/candles/ETH-USDT/15m.csv'
show 'cat mine/markets.yaml mine/grids/eth.yaml'
export MM_CONFIG_DIR=mine MM_DATA_DIR=data/mine
echo 'With `export MM_CONFIG_DIR=mine MM_DATA_DIR=data/mine`:'
echo
show 'mm backfill --from 2026-06-27 --to 2026-06-27' 3
echo 'The file says which row is wrong, and how to write it. The right one:'
echo
cp right.csv mine/candles/ETH-USDT/15m.csv
show 'mm backfill --from 2026-06-27 --to 2026-06-27' 3
show 'mm tick' 14
show 'mm doctor' 40
unset MM_CONFIG_DIR MM_DATA_DIR
cat <<'TEXT'
## A home of your own

One folder for all of it, found from every terminal; without `--yes` six questions are asked, each with what is usual. `mm grid add`
puts a file for each grid into its `config/grids`, and `mm up` watches them.

TEXT
show "mm init $place/grids --yes" 5
show 'mm status' 20
show 'mm uninstall' 8
cat <<'TEXT'
## What goes wrong, and what is said

Each wrong input ends with a code that is not 0 and one sentence with the remedy (`python -m mm_dagster_tests.cli.test_bad_inputs`):

| wrong | command | code | the last line |
| --- | --- | --- | --- |
TEXT
python -m mm_dagster_tests.cli.test_bad_inputs 2> /dev/null
