"""What exchanges call the parts of a spot grid, in five languages: labels of a bot's page, months, zones, currencies.

KuCoin, Binance, OKX, Bybit, Bitget and Pionex; English, German, Spanish, Portuguese and Chinese. Words are matched
without capitals and accents, traditional characters as simplified ones, and a blank in them may be a hyphen or nothing.
"""

from __future__ import annotations

LABELS: dict[str, tuple[str, ...]] = {
    "range": (
        "price range", "grid price range", "grid range", "range", "price interval", "trading range",
        "lower and upper price", "lower upper price", "lowest and highest price",
        "preisspanne", "preisbereich", "kursbereich", "kursspanne", "preisintervall", "grid bereich", "bereich",
        "spanne",
        "rango de precios", "rango de precio", "rango del grid", "rango", "intervalo de precios",
        "faixa de preco", "faixa de precos", "intervalo de precos", "intervalo de preco", "faixa", "intervalo",
        "价格区间", "价格范围", "网格区间", "网格价格区间", "区间价格", "区间范围", "区间", "交易区间", "运行区间",
    ),
    "lower": (
        "lower price", "lower limit", "lower bound", "lowest price", "low price", "min price", "minimum price",
        "lower limit price", "price lower limit", "bottom price", "lower price limit", "lower range", "lower",
        "price range low", "range low", "min. price", "minimum limit", "lower boundary", "range lower limit",
        "untergrenze", "preisuntergrenze", "unterer preis", "niedrigster preis", "mindestpreis", "tiefster preis",
        "untere grenze", "unteres limit", "niedrigerer preis", "unterer grenzpreis", "min preis", "minimaler preis",
        "untere preisgrenze", "untere preisgrenze des grids", "minimalpreis",
        "precio inferior", "precio minimo", "limite inferior", "precio mas bajo", "limite inferior de precio",
        "precio limite inferior", "limite inferior del precio", "precio min", "minimo",
        "preco inferior", "preco minimo", "preco mais baixo", "limite inferior de preco", "preco limite inferior",
        "limite inferior do preco", "preco min",
        "最低价", "最低价格", "下限", "下限价", "下限价格", "价格下限", "区间下限", "区间最低价", "区间最低价格",
        "网格下限",
        "网格最低价", "最低价位", "网格最低价格", "最小价格", "区间下限价格", "区间最低",
    ),
    "upper": (
        "upper price", "upper limit", "upper bound", "highest price", "high price", "max price", "maximum price",
        "upper limit price", "price upper limit", "top price", "upper price limit", "upper range", "upper",
        "price range high", "range high", "max. price", "maximum limit", "upper boundary", "range upper limit",
        "obergrenze", "preisobergrenze", "oberer preis", "hochster preis", "hoechster preis", "hochstpreis",
        "obere grenze", "oberes limit", "hoherer preis", "oberer grenzpreis", "max preis", "maximaler preis",
        "obere preisgrenze", "obere preisgrenze des grids", "maximalpreis", "hoechstpreis",
        "precio superior", "precio maximo", "limite superior", "precio mas alto", "limite superior de precio",
        "precio limite superior", "limite superior del precio", "precio max", "maximo",
        "preco superior", "preco maximo", "preco mais alto", "limite superior de preco", "preco limite superior",
        "limite superior do preco", "preco max",
        "最高价", "最高价格", "上限", "上限价", "上限价格", "价格上限", "区间上限", "区间最高价", "区间最高价格",
        "网格上限",
        "网格最高价", "最高价位", "网格最高价格", "最大价格", "区间上限价格", "区间最高",
    ),
    "levels": (
        "number of grids", "grids", "grid number", "grid count", "number of grid", "grid quantity", "grid qty",
        "no. of grids", "no of grids", "grid levels", "number of levels", "levels", "number of intervals",
        "intervals",
        "# of grids", "grid numbers", "number of grid levels", "total grids", "grid amount", "number of grid lines",
        "number of grid intervals", "number of price levels", "price levels", "qty of grids", "quantity of grids",
        "anzahl der grids", "anzahl der gitter", "grid anzahl", "gitteranzahl", "anzahl grids", "anzahl gitter",
        "rasteranzahl", "anzahl der raster", "netzanzahl", "anzahl der netze", "anzahl der stufen",
        "anzahl der rasterlinien",
        "anzahl an grids", "anzahl der intervalle", "anzahl von grids", "rasterzahl", "anzahl raster",
        "numero de grids", "numero de cuadriculas", "numero de rejillas", "cantidad de grids",
        "cantidad de cuadriculas",
        "n.o de grids", "no de grids", "cuadriculas", "rejillas", "numero de redes", "numero de niveles",
        "cantidad de rejillas", "numero de intervalos", "n de grids", "no. de grids",
        "numero de grades", "quantidade de grades", "quantidade de grids", "grades", "qtd. de grades", "qtd de grids",
        "numero de grelhas", "n de grades", "no de grades", "quantidade de redes",
        "网格数量", "网格数", "格数", "网格个数", "网格总数", "网格数目", "网格格数", "区间数量",
    ),
    "stop": (
        "stop loss", "stop loss price", "sl", "stop price", "stop loss trigger price", "stop lower price", "sl price",
        "lower stop price", "stop lower limit", "stop loss trigger", "stop loss at", "termination price low", "stop",
        "stop loss limit", "lower stop loss price", "stop loss (sl)", "stop lower limit price",
        "stop loss preis", "stopp loss", "stopp", "stopp preis", "verlustbegrenzung", "stop preis", "stop kurs",
        "stopp loss preis", "stop loss kurs", "stop loss ausloserpreis",
        "precio de stop loss", "stop de perdida", "limitar perdidas", "detener perdida", "precio de stop",
        "precio stop loss", "precio de limite de perdidas", "limite de perdidas", "parada de perdidas",
        "parar perda", "preco de stop", "preco de stop loss", "preco stop loss", "preco do stop loss",
        "limite de perda",
        "stop de perda", "limitar perda",
        "止损", "止损价", "止损价格", "止损触发价", "止损触发价格", "终止最低价", "止损位", "止损线",
    ),
    "take_and_stop": (
        "tp/sl", "tp / sl", "take profit/stop loss", "take profit / stop loss", "take profit & stop loss",
        "止盈/止损",
        "止盈止损",
        "止盈/止损价", "止盈/止损价格",
    ),
    "capital": (
        "investment", "investment amount", "total investment", "invested", "initial investment", "capital",
        "invested amount", "amount invested", "principal", "total invested", "actual investment", "invested capital",
        "total investment amount", "initial capital", "invested funds", "investment (quote)", "funds invested",
        "investition", "investitionsbetrag", "investiert", "gesamtinvestition", "anlagebetrag", "investierter betrag",
        "kapital", "einsatz", "startkapital", "investitionssumme", "anlagesumme", "gesamtinvestment",
        "inversion", "inversion total", "monto de inversion", "importe de la inversion", "cantidad invertida",
        "importe invertido", "monto invertido", "monto de la inversion", "inversion inicial", "capital invertido",
        "importe de inversion", "total invertido", "cantidad de inversion",
        "investimento", "investimento total", "valor investido", "valor do investimento", "montante investido",
        "quantia investida", "investimento inicial", "capital investido", "total investido",
        "quantia de investimento",
        "投资额", "投资金额", "投入金额", "总投资", "总投资额", "投资", "投入", "本金", "初始投资", "实际投资",
        "投入本金",
        "投资总额", "投入资金", "总投入", "总投资金额", "投资本金", "投资数量", "实际投资额", "初始投资额",
        "投资资金",
    ),
    "activated_at": (
        "created", "created at", "created on", "creation time", "time created", "create time", "start time",
        "started",
        "started at", "started on", "activated", "activated at", "activated on", "activation time", "running since",
        "launched", "launched at", "date created", "creation date", "bot created", "created time", "start date",
        "time of creation", "opened at", "opened on", "active since", "bot start time", "creation time and date",
        "erstellt", "erstellt am", "erstellungszeit", "erstellungsdatum", "gestartet", "gestartet am", "startzeit",
        "aktiviert", "aktiviert am", "lauft seit", "laeuft seit", "erstellungszeitpunkt", "startzeitpunkt",
        "erstellt um",
        "startdatum", "angelegt am", "zeitpunkt der erstellung",
        "creado", "creado el", "fecha de creacion", "hora de creacion", "iniciado", "iniciado el", "hora de inicio",
        "fecha de inicio", "inicio", "tiempo de creacion", "creado a las", "activado el", "fecha y hora de creacion",
        "criado em", "criado", "data de criacao", "hora de criacao", "iniciado em", "hora de inicio",
        "data de inicio",
        "horario de criacao", "tempo de criacao", "ativado em", "data e hora de criacao", "criada em",
        "创建时间", "创建于", "创建日期", "开始时间", "启动时间", "开启时间", "激活时间", "开单时间", "策略创建时间",
        "生效时间", "建立时间", "创立时间",
    ),
    "fee": (
        "maker fee", "maker fee rate", "fee rate", "trading fee rate", "trading fee", "maker", "fee", "maker rate",
        "maker gebuhr", "handelsgebuhr", "gebuhrensatz", "gebuhr", "maker gebuehr", "handelsgebuehr",
        "comision", "comision maker", "tarifa de trading", "comision de trading", "tasa maker",
        "taxa maker", "taxa de negociacao", "taxa de trading",
        "手续费率", "挂单手续费", "挂单费率", "交易手续费率", "maker手续费", "maker费率",
    ),
    "spacing": (
        "grid mode", "mode", "grid type", "type", "spacing", "grid spacing", "price mode", "grid interval type",
        "grid modus", "modus", "gittermodus", "grid typ", "rastermodus", "gittertyp",
        "modo", "modo de grid", "modo de cuadricula", "tipo de grid", "tipo de cuadricula", "modo de rejilla", "tipo",
        "modo de grade", "modo da grade", "tipo de grade", "modo do grid",
        "网格模式", "网格类型", "模式", "间距类型", "网格方式",
    ),
    "symbol": (
        "trading pair", "pair", "symbol", "market", "trading pairs", "token pair", "spot pair", "instrument",
        "handelspaar", "paar", "markt", "wahrungspaar",
        "par", "par de trading", "par de negociacion", "par de operaciones", "mercado",
        "par de negociacao", "simbolo",
        "交易对", "币对", "交易币对", "交易品种", "币种",
    ),
    "price": (
        "current price", "last price", "latest price", "market price", "price now",
        "aktueller preis", "aktueller kurs", "letzter preis", "marktpreis",
        "precio actual", "ultimo precio", "precio de mercado",
        "preco atual", "ultimo preco", "preco de mercado",
        "当前价", "当前价格", "最新价", "最新价格", "现价", "市价",
    ),
    "zone": (
        "time zone", "timezone", "all times", "all times in", "times in", "zeitzone", "alle zeiten in",
        "zona horaria", "huso horario", "fuso horario", "时区",
    ),
    "other": (
        "take profit", "take profit price", "tp", "tp price", "stop upper price", "upper stop price",
        "stop upper limit",
        "profit per grid", "profit/grid", "grid profit", "total profit", "profit", "pnl", "total pnl",
        "unrealized pnl",
        "floating pnl", "floating profit", "unrealised pnl", "grid profits", "roi", "apr", "apy", "annualized yield",
        "annualized return", "total apr", "grid apr", "arbitrages", "matched orders", "matched trades",
        "number of trades",
        "24h low", "24h high", "24h low price", "24h high price", "24h volume", "24h change", "entry price",
        "trigger price", "start price", "starting price", "initial price", "average price", "average cost",
        "mark price",
        "break even price", "breakeven price", "quantity per grid", "qty per order", "amount per grid", "order size",
        "quantity per order", "amount per order", "investment per grid", "running time", "runtime", "duration",
        "uptime",
        "time running", "ended", "end time", "closed at", "stopped at", "stop time", "total assets", "equity",
        "balance",
        "current value", "total value", "status", "bot id", "id", "strategy id", "fees paid", "total fees",
        "taker fee",
        "transaction fee", "taker", "available", "reserved funds", "extra margin", "withdrawable profit", "holdings",
        "update time", "updated", "updated at", "last updated", "price difference", "grid step", "step", "exit price",
        "take profit preis", "gewinn pro grid", "gewinn pro raster", "gesamtgewinn", "grid gewinn", "gewinn",
        "laufzeit",
        "einstiegspreis", "ausloserpreis", "startpreis", "beendet am", "gesamtwert", "aktueller wert",
        "gewinnmitnahme",
        "menge pro grid", "gewinn pro gitter", "gitterabstand", "netzgewinn", "rendite",
        "ganancia por grid", "ganancia por cuadricula", "ganancia total", "ganancia", "beneficio por grid",
        "duracion",
        "tiempo de ejecucion", "precio de entrada", "precio de activacion", "toma de ganancias", "beneficio total",
        "beneficio", "valor actual", "tomar ganancias", "cantidad por grid", "cantidad por orden",
        "lucro por grade", "lucro total", "lucro", "lucro da grade", "tempo de execucao", "preco de entrada",
        "duracao",
        "preco de gatilho", "realizar lucro", "valor atual", "quantidade por grade", "lucro por grid",
        "止盈", "止盈价", "止盈价格", "每格利润", "单格利润", "每格收益", "网格利润", "总利润", "总收益", "浮动盈亏",
        "未实现盈亏",
        "年化", "年化收益率", "总年化", "套利次数", "运行时间", "运行时长", "触发价", "触发价格", "开仓价", "入场价",
        "成交次数",
        "每格数量", "单格数量", "每笔数量", "每单数量", "24h最低", "24h最高", "结束时间", "更新时间", "收益率",
        "盈亏", "手续费",
        "终止最高价", "单网格利润", "单网格收益率", "网格收益", "网格年化", "已配对次数", "单格投资额", "每格投资额",
        "单笔数量",
    ),
}  # fmt: skip
"""Labels by what stands beside them. `other` is known and not wanted; a `price` is the market's, to compare with."""

SAYS_INTERVALS = ("intervals", "intervalle", "intervalos", "区间数量")
SAYS_PRICES = ("price levels", "number of levels", "number of grid lines", "rasterlinien", "numero de niveles")
COUNTS_INTERVALS = ("kucoin", "okx", "bybit", "欧易", "okex", "库币")
"""Exchanges of which it is known that their number of grids counts the intervals between prices."""

ARITHMETIC = ("arithmetic", "arithmetisch", "arithmetische", "aritmetico", "aritmetica", "等差", "equal difference")
GEOMETRIC = ("geometric", "geometrisch", "geometrische", "geometrico", "geometrica", "等比", "equal ratio")

NO_SPOT_GRID = (
    "futures grid", "future grid", "futures bot", "contract grid", "leverage", "leveraged", "perpetual", "perp",
    "perps", "swap", "short", "liquidation price", "liq. price", "margin mode", "isolated margin", "cross margin",
    "infinity grid", "reverse grid", "martingale", "dca bot", "margin grid", "isolated", "position size", "usdⓢ-m",
    "usd-m", "coin-m", "usdt-m", "moon grid", "funding fee", "funding rate", "futures", "liquidation",
    "hebel", "perpetuals", "liquidationspreis", "terminkontrakt", "ewiger kontrakt", "futures raster", "hebelwirkung",
    "apalancamiento", "perpetuo", "perpetuos", "futuros", "precio de liquidacion", "en corto",
    "alavancagem", "perpetua", "preco de liquidacao", "posicao vendida",
    "合约网格", "合约", "杠杆", "做空", "做多", "永续", "强平价", "强平价格", "无限网格", "反向网格", "马丁格尔",
    "天地网格", "保证金", "开空", "开多", "空头",
    "u本位", "币本位",
)  # fmt: skip
"""Words by which a text is that of another bot: with leverage, on a contract, without bounds, or no grid."""
ONLY_MENUS = ("futures", "futuros", "swap")
"""Those of them that stand in a page's menu as well: alone on a line of a text that says spot they say nothing."""
SPOT = ("spot", "现货")

CURRENCIES = (
    "usdt", "usdc", "fdusd", "tusd", "busd", "dai", "eur", "usd", "jpy", "gbp", "try", "brl", "idr", "krw", "btc",
    "eth",
    "bnb", "chf", "aud", "cny", "usde", "pyusd",
)  # fmt: skip
SIGNS = {"$": "usd", "€": "eur", "£": "gbp", "₮": "usdt"}
"""¥ and R$ are left out: two currencies have the one, and the other is Brazilian only where it is written whole."""
QUOTES = (
    "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "DAI", "EUR", "USD", "JPY", "GBP", "TRY", "BRL", "IDR", "KRW", "BTC",
    "ETH", "BNB", "CHF", "AUD",
)  # fmt: skip
NO_COINS = (
    "PRICE", "AMOUNT", "PROFIT", "FEE", "FEES", "TOTAL", "VALUE", "PNL", "INVESTMENT", "PREIS", "PRECIO", "QTY", "GRID",
    "COST", "LOWER", "UPPER", "STOP", "RANGE", "BALANCE", "BETRAG", "VOL", "VOLUME",
)  # fmt: skip
"""Words that stand before a currency as a coin does: PRICE/USDT."""
STABLE = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD")
"""Quotes that no coin's own name ends with: by them a pair without a separator can be cut."""

BETWEEN = (
    "is", "at", "is at", "ist", "bei", "es", "en", "em", "on", "am", "um", "el", "a las", "as", "de", "为", "是",
    "in",
)  # fmt: skip
"""What may stand between a label and its value."""
BEFORE = (
    "grid", "bot", "spot", "my", "the", "your", "der", "die", "das", "mein", "el", "la", "o", "a", "os", "las", "los",
    "spot grid", "and", "und",
    "y", "e", "with", "mit", "con", "com", "grids", "gitter", "raster", "网格", "设置", "per",
)  # fmt: skip
"""What may stand before a label and changes nothing of what it means."""
AFTER = (
    "grids", "grid", "gitter", "raster", "netze", "cuadriculas", "rejillas", "grades", "格", "个", "个网格", "edit",
    "copy",
    "modify", "bearbeiten", "kopieren", "editar", "copiar", "modificar", "修改", "编辑", "复制", "levels",
    "intervals",
    "uhr", "intervalle", "stufen", "niveles", "intervalos", "条",
)  # fmt: skip
"""What may stand behind a value and changes nothing of it."""
NOT_SET = (
    "not set", "none", "off", "n/a", "nicht gesetzt", "keine", "no establecido", "nao definido", "未设置", "无", "--",
    "-",
)  # fmt: skip

MONTHS: dict[str, int] = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar enero ene janeiro janner jaenner", "feb february februar febrero fevereiro fev",
            "mar march marz maerz marzo marco mrz", "apr april abril abr", "may mai mayo maio",
            "jun june juni junio junho", "jul july juli julio julho", "aug august agosto ago",
            "sep sept september septiembre setembro set", "oct october oktober okt octubre outubro out",
            "nov november noviembre novembro", "dec december dezember dez diciembre dic dezembro",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip

ZONES: dict[str, float] = {
    "z": 0, "utc": 0, "gmt": 0, "cet": 1, "cest": 2, "mez": 1, "mesz": 2, "wet": 0, "west": 1, "eet": 2, "eest": 3,
    "jst": 9, "kst": 9, "hkt": 8, "sgt": 8, "brt": -3, "msk": 3, "est": -5, "edt": -4, "pst": -8, "pdt": -7,
    "北京时间": 8,
}  # fmt: skip
"""Hours before UTC. CST, IST, BST and others that two countries use are left out."""

REGIONS: dict[str, str] = {
    "cet": "Europe/Berlin", "cest": "Europe/Berlin", "mez": "Europe/Berlin", "mesz": "Europe/Berlin",
    "wet": "Europe/Lisbon", "west": "Europe/Lisbon", "eet": "Europe/Athens", "eest": "Europe/Athens",
    "est": "America/New_York", "edt": "America/New_York", "pst": "America/Los_Angeles", "pdt": "America/Los_Angeles",
}  # fmt: skip
"""Where clocks show these: in summer some people write the winter's name all the same."""

SIMPLIFIED = str.maketrans(
    "價區間網數損資額創時運開啟動幣對現貨費總單筆觸發槓桿續約當範圍級"
    "層類義實際護設編輯複製無個條標進場倉結獲戶盈虧點買賣觀測線終觸建",
    "价区间网数损资额创时运开启动币对现货费总单笔触发杠杆续约当范围级"
    "层类义实际护设编辑复制无个条标进场仓结获户盈亏点买卖观测线终触建",
)
