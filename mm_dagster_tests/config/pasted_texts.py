# ruff: noqa: E501 - a text is easier to compare with what is read of it where both stand in a line
"""Texts of bots' pages as people paste them, and what is to be read of each: a table for test_pasted.py.

A field is expected as a value, as `UNSURE` (it is echoed and asked) or not at all (it is missing). Of the fields that
few texts have, convention, spacing and fee, what is not expected must not be read either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

UNSURE = "UNSURE"


@dataclass(frozen=True)
class Paste:
    """A text, and what is to be read of it.

    Attributes:
        name: what is hard about it.
        text: as it is pasted.
        says: the values that are to be read, or UNSURE; times as ISO 8601 UTC; a zone that is not named is
            Europe/Berlin.
        refused: a part of why it is no spot grid; None: it is one.
    """

    name: str
    text: str
    says: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None


ETH = {"symbol": "ETH-USDT", "lower": 3070.0, "upper": 3185.0, "levels": 6, "stop": 2990.0, "capital": 769.02}
AT = {"activated_at": "2026-01-10T00:00:00Z"}
"""01:00 in Berlin."""

TEXTS = (
    Paste("the issue's own, without a market",
          "Price range 3,070 - 3,185 USDT\nNumber of grids 6\nStop loss 2,990\nInvestment 769.02\nCreated 2026-01-10 01:00",
          {**ETH, **AT} | {"symbol": None}),
    Paste("KuCoin, English, labels above values",
          "ETH/USDT\nSpot Grid\nRunning\nInvestment (USDT)\n769.02\nTotal Profit (USDT)\n+12.31\nLower Price\n3,070\nUpper Price\n"
          "3,185\nNumber of Grids\n6\nStop Loss Price\n2,990\nTake Profit Price\n--\nCreated\n2026-01-10 01:00:00 (UTC+1)",
          {**ETH, **AT}),
    Paste("KuCoin, named, so its grids are intervals",
          "KuCoin Trading Bot\nTrading Pair: ETH-USDT\nPrice Range: 3070 - 3185\nGrids: 6\nStop Loss: 2990\nInvestment: 769.02 USDT\n"
          "Time Created: 2026/01/10 01:00:00",
          {**ETH, **AT, "convention": "intervals"}),
    Paste("Binance, English, one line each with arithmetic",
          "BTCUSDT\nSpot Grid\nLower Price: 58,000.00\nUpper Price: 64,500.00\nNumber of Grids: 20\nMode: Arithmetic\n"
          "Stop Loss: 55,000.00\nTotal Investment: 1,500.00 USDT\nCreation Time: 2026-01-10 01:00:00",
          {"symbol": "BTC-USDT", "lower": 58000.0, "upper": 64500.0, "levels": 20, "spacing": "arithmetic", "stop": 55000.0,
           "capital": 1500.0, **AT}),
    Paste("OKX, English, mode beside the number of grids",
          "OKX\nSpot grid\nETH/USDT\nPrice range\n3,070.00 ~ 3,185.00 USDT\nGrid quantity\n6 (Geometric)\nSL price\n2,990.00 USDT\n"
          "Invested amount\n769.02 USDT\nProfit per grid\n0.41%~0.42%\nCreated at\n01/10/2026, 01:00:00",
          {**ETH, "spacing": "geometric", "convention": "intervals", "activated_at": UNSURE}),
    Paste("Bybit, a day above 12 decides",
          "Bybit Spot Grid Bot ETH/USDT\nPrice Range: 3070.00 - 3185.00\nNumber of Grids: 6\nActual Investment: 769.02 USDT\n"
          "Stop Loss: 2990.00\nStart time 2026-01-13 08:00 UTC\nRunning time 3d 4h",
          {**ETH, "convention": "intervals", "activated_at": "2026-01-13T08:00:00Z"}),
    Paste("Bitget: what its number counts is not known",
          "Bitget\nETH/USDT Spot grid\nPrice range (USDT): 3070 - 3185\nGrid number: 6\nInvestment amount: 769.02 USDT\n"
          "Stop-loss price: 2990\nCreation time: 13/01/2026 01:00:00",
          {**ETH, "activated_at": "2026-01-13T00:00:00Z"}),
    Paste("Pionex, with a geometric mode",
          "Pionex\nETH/USDT Grid Trading Bot\nLower limit 3070 USDT\nUpper limit 3185 USDT\nGrids 6\nGeometric\nInvested 769.02 USDT\n"
          "Stop loss 2990\nBot created: Jan 10, 2026 01:00 AM GMT+1",
          {**ETH, "spacing": "geometric", **AT}),
    Paste("German, decimal comma",
          "ETH/USDT Spot-Grid\nPreisspanne: 3.070,00 – 3.185,00 USDT\nAnzahl der Grids: 6\nStop-Loss: 2.990,00 USDT\n"
          "Investition: 769,02 USDT\nErstellt am: 10.01.2026, 01:00 Uhr",
          {**ETH, **AT}),
    Paste("German, thousands without decimals follow the one that shows them",
          "ETH/USDT\nUntergrenze 3.070\nObergrenze 3.185\nAnzahl der Gitter 6\nStopp-Loss 2.990\nInvestitionsbetrag 769,02\n"
          "Gestartet am 10. Januar 2026 um 01:00",
          {**ETH, **AT}),
    Paste("German, umlauts written out and arithmetical",
          "Handelspaar: ETH-USDT\nUnterer Preis: 3070\nOberer Preis: 3185\nGrid-Anzahl: 6\nGrid-Modus: Arithmetisch\n"
          "Kapital: 769,02 USDT\nStop-Loss-Preis: 2990\nLaeuft seit: 10.01.2026 01:00 MEZ",
          {**ETH, **AT, "spacing": "arithmetic"}),
    Paste("Spanish, decimal comma",
          "ETH/USDT\nRango de precios: 3.070,50 - 3.185,00 USDT\nNúmero de cuadrículas: 6\nPrecio de stop loss: 2.990,00\n"
          "Inversión total: 769,02 USDT\nFecha de creación: 10 de enero de 2026, 01:00",
          {**ETH, "lower": 3070.5, **AT}),
    Paste("Spanish, without accents, geometric",
          "Par de trading: ETH/USDT\nPrecio minimo 3070\nPrecio maximo 3185\nCantidad de grids 6\nModo Geometrico\n"
          "Detener perdida 2990\nMonto de inversion 769.02 USDT\nCreado el 2026-01-10 a las 01:00",
          {**ETH, "spacing": "geometric", **AT}),
    Paste("Portuguese, decimal comma",
          "ETH/USDT\nFaixa de preço: 3.070,00 até 3.185,00 USDT\nNúmero de grades: 6\nParar perda: 2.990,00\n"
          "Valor investido: 769,02 USDT\nCriado em: 10/01/2026 01:00",
          {**ETH, "activated_at": UNSURE}),
    Paste("Portuguese, with Brazilian time",
          "Par: ETH/USDT\nPreço mínimo 3070\nPreço máximo 3185\nQuantidade de grids 6\nPreço de stop 2990\nInvestimento 769,02 USDT\n"
          "Data de criação 9 de janeiro de 2026 21:00 BRT",
          {**ETH, **AT}),
    Paste("Chinese, full width",
          "交易对：ETH/USDT\n价格区间：３，０７０ ～ ３，１８５ USDT\n网格数量：６\n止损价：２９９０\n投资额：769.02 USDT\n"
          "创建时间：2026年1月10日 08:00 (UTC+8)\n网格模式：等差",
          {**ETH, **AT, "spacing": "arithmetic"}),
    Paste("Chinese, OKX, values below",
          "欧易 现货网格\nETH/USDT\n区间下限\n3,070.00\n区间上限\n3,185.00\n网格数\n6\n等比\n止损触发价\n2,990.00\n投入金额\n769.02 USDT\n创建时间\n"
          "2026/01/10 01:00:00",
          {**ETH, **AT, "spacing": "geometric", "convention": "intervals"}),
    Paste("Chinese, traditional characters",
          "交易對 ETH/USDT\n最低價 3070\n最高價 3185\n網格數量 6\n止損價格 2990\n投資金額 769.02 USDT\n創建時間 2026-01-10 上午1:00",
          {**ETH, **AT}),
    Paste("Chinese, an unknown label is not the known one within it",
          "现货网格 ETH/USDT\n24小时最低价 3,001.5\n最低价 3,070.0\n最高价 3,185.0\n网格数量 6\n止损次数 2\n投资额 769.02",
          {**ETH, "stop": None, "activated_at": None}),
    Paste("ambiguous thousands, and nothing decides",
          "ETH/USDT\nLower price 3,070\nUpper price 3,185\nGrids 6\nStop loss 2,990\nInvestment 700 USDT",
          {**ETH, "lower": UNSURE, "upper": UNSURE, "stop": UNSURE, "capital": 700.0}),
    Paste("ambiguous thousands, decided by the current price",
          "ETH/USDT\nCurrent price 3102.5\nLower price 3,070\nUpper price 3,185\nGrids 6\nInvestment 700",
          {**ETH, "stop": None, "capital": 700.0}),
    Paste("an ambiguous bound, decided by the other",
          "ETH/USDT\nLower price 3.070\nUpper price 3185\nGrids 6\nStop loss 2.990\nInvestment 700 USDT",
          {**ETH, "capital": 700.0}),
    Paste("an ambiguous investment, which no price decides",
          "ETH/USDT\nLower price 3070\nUpper price 3185\nGrids 6\nStop loss 2990\nInvestment 1.000 USDT",
          {**ETH, "capital": UNSURE}),
    Paste("both marks are decimal somewhere",
          "ETH/USDT\nLower price 3070,5\nUpper price 3185.5\nGrids 6\nInvestment 1.000",
          {"symbol": "ETH-USDT", "lower": UNSURE, "upper": UNSURE, "levels": 6, "capital": UNSURE}),
    Paste("a market below one", "DOGE/USDT\nPrice range 0.1612 - 0.1890\nGrids 24\nStop loss 0.1500\nInvestment 500 USDT",
          {"symbol": "DOGE-USDT", "lower": 0.1612, "upper": 0.189, "levels": 24, "stop": 0.15, "capital": 500.0}),
    Paste("three decimals behind a zero are decimals",
          "ADA/USDT\nLower price 0,412\nUpper price 0,478\nGrids 10\nStop loss 0,390\nInvestment 1.250 USDT",
          {"symbol": "ADA-USDT", "lower": 0.412, "upper": 0.478, "levels": 10, "stop": 0.39, "capital": 1250.0}),
    Paste("a very small price", "PEPE/USDT\nPrice range: 0.00000912 - 0.00001130\nNumber of grids: 30\nInvestment: 300 USDT",
          {"symbol": "PEPE-USDT", "lower": 0.00000912, "upper": 0.0000113, "levels": 30, "capital": 300.0}),
    Paste("apostrophes and no-break blanks group",
          "BTC/USDT\nLower price 58'000.50\nUpper price 64\u202f500.00\nGrids 20\nInvestment 1\u00a0500.00 USDT",
          {"symbol": "BTC-USDT", "lower": 58000.5, "upper": 64500.0, "levels": 20, "capital": 1500.0}),
    Paste("blanks group", "BTC/USDT\nLower price 58 000,50 USDT\nUpper price 64 500,00 USDT\nGrids 20\nInvestment 1 500,00 USDT",
          {"symbol": "BTC-USDT", "lower": 58000.5, "upper": 64500.0, "levels": 20, "capital": 1500.0}),
    Paste("Indian groups", "BTC/USDT\nLower price 58,000.00\nUpper price 64,500.00\nGrids 20\nInvestment 1,50,000.00 USDT",
          {"symbol": "BTC-USDT", "lower": 58000.0, "upper": 64500.0, "levels": 20, "capital": 150000.0}),
    Paste("thousands as k", "BTC/USDT\nRange 58k - 64.5k\nGrids 20\nInvestment 1.5k USDT",
          {"symbol": "BTC-USDT", "lower": 58000.0, "upper": 64500.0, "levels": 20, "capital": 1500.0}),
    Paste("ten thousands in Chinese", "BTC/USDT\n价格区间 5.8万-6.45万\n网格数量 20\n投资额 1万 USDT",
          {"symbol": "BTC-USDT", "lower": 58000.0, "upper": 64500.0, "levels": 20, "capital": 10000.0}),
    Paste("in one line, with commas", "ETH/USDT spot grid, lower price 3070, upper price 3185, 6 grids, stop loss 2990, invested 769.02 USDT",
          ETH),
    Paste("labels in one line, values in the next",
          "Pair\tLower price\tUpper price\tGrids\tStop loss\tInvestment\nETH/USDT\t3070.0\t3185.0\t6\t2990.0\t769.02 USDT", ETH),
    Paste("a table of two columns", "| Pair | ETH/USDT |\n|---|---|\n| Lower price | 3070.0 |\n| Upper price | 3185.0 |\n| Grids | 6 |\n"
          "| Stop loss | 2990.0 |\n| Investment | 769.02 USDT |", ETH),
    Paste("lower and upper in one label", "ETH/USDT\nLower / Upper price: 3,070.0 / 3,185.0 USDT\nGrids: 6\nTP/SL: 3,300.0 / 2,990.0\n"
          "Investment: 769.02 USDT", ETH),
    Paste("the range turned round", "ETH/USDT\nPrice range 3185.0 - 3070.0\nGrids 6\nStop loss 2990.0\nInvestment 769.02", ETH),
    Paste("no stop set", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss --\nTake profit 3300\nInvestment 769.02", {**ETH, "stop": None}),
    Paste("a stop in percent", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 5%\nInvestment 769.02", {**ETH, "stop": None}),
    Paste("a stop with its distance", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990.0 USDT (-2.6%)\nInvestment 769.02", ETH),
    Paste("a stop above the lower bound", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 3100.0\nInvestment 769.02",
          {**ETH, "stop": UNSURE}),
    Paste("two investments", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInitial investment 500 USDT\nTotal investment 769.02 USDT",
          {**ETH, "capital": UNSURE}),
    Paste("invested in coins", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 0.25 ETH", {**ETH, "capital": UNSURE}),
    Paste("invested in both", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 400 USDT + 0.1 ETH", {**ETH, "capital": UNSURE}),
    Paste("invested in another currency", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment €700 (~769.02 USDT)",
          {**ETH, "capital": UNSURE}),
    Paste("dollars beside the quote", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 769.02 USDT (~$769.10)", ETH),
    Paste("hidden balances", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment ****", {**ETH, "capital": None}),
    Paste("cut off by the page", "ETH/USDT\nLower price 3070.…\nUpper price 3185.0\nGrids 6\nStop loss 2990\nInvestment 769.02", {**ETH, "lower": UNSURE}),
    Paste("values above their labels", "ETH/USDT\n3,070.0\nLower price\n3,185.0\nUpper price\n6\nGrids\n769.02\nInvestment",
          {"symbol": "ETH-USDT", "lower": UNSURE, "upper": UNSURE, "levels": UNSURE}),
    Paste("several markets in the ticker", "BTC/USDT 61,200.1  SOL/USDT 142.3\nLower price 3070\nUpper price 3185\nGrids 6\nInvestment 769.02",
          {**ETH, "symbol": UNSURE, "stop": None}),
    Paste("a labelled market among others", "BTC/USDT +1.2% SOL/USDT -0.4%\nTrading pair: ETH/USDT\nLower price 3070\nUpper price 3185\nGrids 6\nInvestment 769.02",
          {**ETH, "stop": None}),
    Paste("right-to-left marks and blanks that cannot be seen",
          "ETH/USDT\n\u200fLower\u00a0price\u200e: 3\u200b070.0\nUpper price:\u20093185.0\nGrids: 6\nStop\u2011loss: 2990.0\nInvestment: 769.02\ufeff", ETH),
    Paste("Arabic digits", "ETH/USDT\nLower price ٣٠٧٠\nUpper price ٣١٨٥\nGrids ٦\nStop loss ٢٩٩٠\nInvestment 769.02", ETH),
    Paste("a page with its menu and its figures",
          "Home\nMarkets\nTrade\nFutures\nEarn\nMy bots\nETH/USDT\nSpot Grid\nTotal profit 12.31 USDT (+1.60%)\nGrid profit 20.11\nFloating PnL -7.80\n"
          "Total APR 88.12%\nMatched orders 41\nPrice range 3,070.00 - 3,185.00 USDT\nNumber of grids 6\nProfit per grid 0.40% - 0.42%\n"
          "Quantity per order 0.0412 ETH\nEntry price 3,101.20\nTrigger price --\nStop loss 2,990.00\nTake profit --\nInvestment 769.02 USDT\n"
          "Running time 3d 4h 12m\nCreated 2026-01-10 01:00:00\nShare\nEnd bot", {**ETH, **AT}),
    Paste("maker's fee", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 769.02\nMaker fee 0.08%\nFees paid 0.52 USDT",
          {**ETH, "fee": 0.0008}),
    Paste("a date without a year", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 769.02\nCreated 01-10 01:00",
          {**ETH, "activated_at": UNSURE}),
    Paste("a date without a time", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 769.02\nCreated 10 Jan 2026",
          {**ETH, "activated_at": UNSURE}),
    Paste("how long ago", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 769.02\nCreated 3 days ago", ETH),
    Paste("a zone that two countries use", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 769.02\nCreated 2026-01-10 01:00 CST",
          {**ETH, "activated_at": UNSURE}),
    Paste("winter's zone in summer", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 769.02\nCreated 2025-07-10 01:00 CET",
          {**ETH, "activated_at": UNSURE}),
    Paste("afternoon, Chinese", "ETH/USDT\n价格区间 3070 - 3185\n网格数 6\n止损价 2990\n投资额 769.02\n创建时间(UTC+8) 2026年01月13日 下午1时05分",
          {**ETH, "activated_at": "2026-01-13T05:05:00Z"}),
    Paste("the day's range is none of the grid's", "ETH/USDT\n24 h range 3000 - 3100\nGrids 6\nStop loss 2990\nInvestment 769.02", {**ETH, "lower": None, "upper": None}),
    Paste("a zone elsewhere in the text", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 769.02\nCreated 2026-01-10 01:00\n"
          "12:31:04 (UTC+8)", {**ETH, "activated_at": UNSURE}),
    Paste("a zone by its label", "ETH/USDT\nTime zone: UTC+8\nPrice range 3070.0 - 3185.0\nGrids 6\nStop loss 2990\nInvestment 769.02\n"
          "Created 2026-01-10 08:00", {**ETH, **AT}),
    Paste("an hour that is twice", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nInvestment 769.02\nCreated 2025-10-26 02:30",
          {**ETH, "stop": None, "activated_at": UNSURE}),
    Paste("afternoon, American", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nInvestment 769.02\nCreated Jan 13, 2026, 1:05 PM EST",
          {**ETH, "stop": None, "activated_at": "2026-01-13T18:05:00Z"}),
    Paste("ISO with Z", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nInvestment 769.02\nCreated: 2026-01-10T00:00:00.000Z", {**ETH, "stop": None, **AT}),
    Paste("created and started differ", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nInvestment 769.02\nCreated 2026-01-10 01:00\nStarted 2026-01-11 05:00",
          {**ETH, "stop": None, "activated_at": UNSURE}),
    Paste("how many intervals", "ETH/USDT\nPrice range 3070.0 - 3185.0\nNumber of intervals 6\nInvestment 769.02", {**ETH, "stop": None, "convention": "intervals"}),
    Paste("both spacings are explained", "ETH/USDT\nPrice range 3070.0 - 3185.0\nGrids 6\nInvestment 769.02\n"
          "Arithmetic grids have equal differences, geometric grids equal ratios.", {**ETH, "stop": None, "spacing": UNSURE}),
    Paste("keys as in a file", "symbol: ETH-USDT\nlower: 3070\nupper: 3185\nlevels: 6\nstop: 2990\ncapital: 769.02\nactivated_at: 2026-01-10T00:00:00Z",
          {**ETH, **AT}),
    Paste("zeros that are counted below the line", "PEPE/USDT\nLower price 0.0₅912\nUpper price 0.00001130\nGrids 30\nInvestment 300 USDT",
          {"symbol": "PEPE-USDT", "lower": UNSURE, "upper": 0.0000113, "levels": 30, "capital": 300.0}),
    Paste("a bound in brackets behind another label", "ETH/USDT\nStop loss (lower price) 2990\nUpper price 3185\nGrids 6\nInvestment 769.02",
          {**ETH, "lower": None}),
    Paste("units that look like a market", "Lower price/USDT 3070\nUPPER PRICE/USDT 3185\nGrids 6\nAmount/USDT 41\nInvestment/USDT 769.02",
          {**ETH, "symbol": None, "stop": None}),
    Paste("words run into their values", "ETH/USDT\nPrice Range3,070.5 - 3,185 USDT\nNumber of Grids6\nStop Loss2,990\nInvestment769.02 USDT\nCreated2026-01-10 01:00",
          {**ETH, **AT, "lower": 3070.5}),
    Paste("several values beside one label", "ETH/USDT\nStop loss: when price falls to 2990\nLower price: 3070 (was 3000)\nUpper price: 3185 -> 3200\nGrids: 6-8\nInvestment: 769.02 + 100",
          {"symbol": "ETH-USDT", "lower": UNSURE, "upper": UNSURE, "levels": UNSURE, "capital": UNSURE}),
    Paste("a coin's quote is another coin", "Pair ETH/BTC\nRange 0.03412 - 0.03890\nGrids 8\nInvestment 0.25 BTC\nStop 0.031\nCreated Jan 3rd, 2026 at 9:05 pm UTC",
          {"symbol": "ETH-BTC", "lower": 0.03412, "upper": 0.0389, "levels": 8, "stop": 0.031, "capital": 0.25, "activated_at": "2026-01-03T21:05:00Z"}),
    Paste("far from the market's price", "ETH/USDT\nPrice range 3.070 - 3.185\nGrids 6\nInvestment 769.02\nCurrent price 3,102.5",
          {**ETH, "lower": UNSURE, "upper": UNSURE, "stop": None}),
    Paste("Binance, with a share below an amount",
          "Binance\nSpot Grid\nBTC/USDT\nArithmetic\nTime Created 2025-11-20 14:03:22\nTotal Profit (USDT)\n+35.20\n+2.34%\nGrid Profit\n20.11 USDT\n"
          "Unrealized PNL\n15.09 USDT\nTotal Investment\n1,500 USDT\nPrice Range\n58,000 - 64,500 USDT\nNumber of Grids\n20\nProfit/Grid\n0.45% - 0.52%\n"
          "Stop Loss (Lower)\n55,000 USDT\nStop Upper (Take Profit)\n--\nLast Price: 61,200.12",
          {"symbol": "BTC-USDT", "lower": 58000.0, "upper": 64500.0, "levels": 20, "stop": 55000.0, "capital": 1500.0, "spacing": "arithmetic",
           "activated_at": "2025-11-20T13:03:22Z"}),
    Paste("a list with semicolons", "Lower price;3070\nUpper price;3185\nGrids;6\nStop loss;2990\nInvestment;769,02\nPair;ETH/USDT", ETH),
    Paste("a grid on futures", "ETHUSDT Perpetual\nFutures Grid\nLong 3x\nPrice range 3070 - 3185\nGrids 6\nInvestment 769.02", refused="no spot grid"),
    Paste("leverage", "ETH/USDT\nPrice range 3070 - 3185\nGrids 6\nLeverage 3x\nInvestment 769.02", refused="no spot grid"),
    Paste("a short grid", "ETH/USDT grid\nShort\nPrice range 3070 - 3185\nGrids 6\nInvestment 769.02", refused="no spot grid"),
    Paste("futures in Chinese", "合约网格 ETH/USDT\n价格区间 3070-3185\n网格数量 6\n杠杆 3x", refused="no spot grid"),
    Paste("futures in German", "ETHUSDT\nHebel: 5x\nPreisspanne 3070 - 3185\nAnzahl der Grids 6", refused="no spot grid"),
    Paste("an article", "Ether traded within a price range of about 3,070 to 3,185 dollars this week, while the number of grids that traders "
          "opened rose by 6 percent. A stop loss below 2,990 is what analysts advise.", refused="nothing of a grid"),
    Paste("JSON of another thing", '{"symbol": "ETHUSDT", "price": "3102.50", "levels": 6}', refused="JSON"),
    Paste("nothing", "\n", refused="nothing of a grid"),
)  # fmt: skip
