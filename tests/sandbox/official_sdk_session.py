"""Run by the tests in a process of its own: the official SDK, unmodified, against a sandbox. Prints one JSON object.

Arguments: port, and optionally the RSA key file (then everything is encrypted) or `json` (then bodies are JSON).
"""

from __future__ import annotations

import json
import os
import sys
import time

import futu as ft


def main() -> dict[str, object]:
    port = int(sys.argv[1])
    mode = sys.argv[2] if len(sys.argv) > 2 else ""
    if mode == "json":
        ft.SysConfig.set_proto_fmt(ft.ProtoFMT.Json)
    elif mode:
        ft.SysConfig.set_init_rsa_file(mode)
        ft.SysConfig.enable_proto_encrypt(True)
    ft.SysConfig.set_client_info("official", 300)
    seen: dict[str, object] = {}
    pushes: dict[str, list[object]] = {"quote": [], "order": [], "deal": []}

    class Quote(ft.StockQuoteHandlerBase):
        def on_recv_rsp(self, rsp_pb):
            ret, data = super().on_recv_rsp(rsp_pb)
            pushes["quote"].append(float(data["last_price"][0]) if ret == ft.RET_OK else data)
            return ret, data

    class Order(ft.TradeOrderHandlerBase):
        def on_recv_rsp(self, rsp_pb):
            ret, data = super().on_recv_rsp(rsp_pb)
            pushes["order"].append([data["order_status"][0], data["remark"][0]] if ret == ft.RET_OK else data)
            return ret, data

    class Deal(ft.TradeDealHandlerBase):
        def on_recv_rsp(self, rsp_pb):
            ret, data = super().on_recv_rsp(rsp_pb)
            pushes["deal"].append(float(data["qty"][0]) if ret == ft.RET_OK else data)
            return ret, data

    def ok(name: str, answer) -> object:
        ret, data = answer[0], answer[1]
        if ret != ft.RET_OK:
            raise SystemExit(f"{name}: {data}")
        seen[name] = len(data) if hasattr(data, "__len__") else 1
        return data

    quotes = ft.OpenQuoteContext(host="127.0.0.1", port=port)
    quotes.set_handler(Quote())
    ok("state", quotes.get_global_state())
    ok("basic info", quotes.get_stock_basicinfo(ft.Market.HK, ft.SecurityType.STOCK))
    ok("snapshot", quotes.get_market_snapshot(["HK.00700", "US.AAPL", "HK.HSImain", "HK.21901", "HK.800000"]))
    types = [
        ft.SubType.QUOTE,
        ft.SubType.ORDER_BOOK,
        ft.SubType.TICKER,
        ft.SubType.RT_DATA,
        ft.SubType.K_DAY,
        ft.SubType.K_1M,
        ft.SubType.BROKER,
    ]
    ok("subscribe", (*quotes.subscribe(["HK.00700"], types)[:1], "x"))
    ok("quote", quotes.get_stock_quote(["HK.00700"]))
    ok("book", quotes.get_order_book("HK.00700"))
    ok("ticker", quotes.get_rt_ticker("HK.00700", 10))
    ok("intraday", quotes.get_rt_data("HK.00700"))
    ok("bars", quotes.get_cur_kline("HK.00700", 10))
    ok("brokers", quotes.get_broker_queue("HK.00700"))
    # in JSON the SDK cannot read the page key, a bytes field, and waits for ever: one page for all
    ok("history", quotes.request_history_kline("US.AAPL", max_count=1000 if mode == "json" else 50))
    ok("chain", quotes.get_option_chain("US.AAPL"))
    ok("expirations", quotes.get_option_expiration_date("US.AAPL"))
    ok("futures", quotes.get_future_info(["HK.HSImain"]))
    ok("market state", quotes.get_market_state(["HK.00700"]))
    ok("trading days", quotes.request_trading_days(ft.Market.HK))
    ok("plates", quotes.get_plate_list(ft.Market.HK, ft.Plate.ALL))
    ok("subscriptions", quotes.query_subscription())

    trade = ft.OpenSecTradeContext(filter_trdmarket=ft.TrdMarket.HK, host="127.0.0.1", port=port)
    trade.set_handler(Order())
    trade.set_handler(Deal())
    paper = {"trd_env": ft.TrdEnv.SIMULATE}
    ok("accounts", trade.get_acc_list())
    ok("funds", trade.accinfo_query(**paper))
    ok("positions", trade.position_list_query(**paper))
    placed = ok("place", trade.place_order(400.0, 100, "HK.00700", ft.TrdSide.BUY, remark="first", **paper))
    order_id = placed["order_id"][0]
    time.sleep(0.2)
    ok("modify", trade.modify_order(ft.ModifyOrderOp.NORMAL, order_id, 200, 401.0, **paper))
    time.sleep(0.2)
    ok("cancel", trade.modify_order(ft.ModifyOrderOp.CANCEL, order_id, 0, 0, **paper))
    time.sleep(0.2)
    orders = ok("orders", trade.order_list_query(**paper))
    seen["order"] = [orders["order_status"][0], float(orders["qty"][0]), orders["remark"][0]]
    seen["locked"] = trade.place_order(500.0, 100, "HK.00700", ft.TrdSide.BUY)[1]
    time.sleep(0.1)  # OpenD wants 20 ms between orders
    ok("unlock", (*trade.unlock_trade("123456")[:1], "x"))
    ok("place real", trade.place_order(500.0, 100, "HK.00700", ft.TrdSide.BUY))
    time.sleep(0.5)
    ok("deals", trade.deal_list_query())
    ok("limits", trade.acctradinginfo_query(ft.OrderType.NORMAL, "HK.00700", 480.0))
    ok("history orders", trade.history_order_list_query())

    american = ft.OpenSecTradeContext(filter_trdmarket=ft.TrdMarket.US, host="127.0.0.1", port=port)
    year = time.localtime().tm_year
    chain = quotes.get_option_chain("US.AAPL", start=time.strftime("%Y-%m-%d"), end=f"{year + 1}-12-28")[1]
    bought, sold = ft.ComboLeg(), ft.ComboLeg()
    pair = list(chain[chain["option_type"] == "CALL"].sort_values(["strike_time", "strike_price"])["code"][:2])
    bought.code, bought.trd_side, bought.qty_ratio = pair[0], ft.TrdSide.BUY, 1
    sold.code, sold.trd_side, sold.qty_ratio = pair[1], ft.TrdSide.SELL, 1
    combo = ok("place combo", american.place_combo_order([bought, sold], -3.0, 2))
    seen["combo"] = [combo["strategy_type"][0], combo["price"][0], [leg.code for leg in combo["combo_legs"][0]] == pair]
    time.sleep(0.1)
    ok("cancel combo", american.modify_order(ft.ModifyOrderOp.CANCEL, combo["order_id"][0], 0, 0))
    american.close()

    future = ft.OpenFutureTradeContext(host="127.0.0.1", port=port)
    ok("place future", future.place_order(23000, 1, "HK.HSImain", ft.TrdSide.BUY, **paper))
    for context in (quotes, trade, future):
        context.close()
    return {**seen, "pushes": pushes}


if __name__ == "__main__":
    code = 1
    try:
        result = json.dumps(main(), default=str)
        os.write(1, f"\nRESULT {result}\n".encode())  # in one piece: the SDK's threads print as well
        code = 0
    except BaseException as error:
        print(f"failed: {error!r}", flush=True)
    os._exit(code)  # the SDK's threads would keep the process alive
