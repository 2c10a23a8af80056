"""Runs inside a process of its own: the official futu-api SDK, unmodified, told over a pipe what to do.

Each line in is one command in JSON, each line out its answer; commands run side by side, one thread each. It imports
`futu` and nothing of the project, so that it runs under any interpreter that has the SDK.

    driver.py '{"port": 11110, "key": "fc_...", "rsa": null, "encrypt": false, "json": false}'
"""

import json
import os
import sys
import threading
import time
import traceback

# the SDK prints to stdout; the answers get a descriptor of their own
_out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import futu  # noqa: E402

CONFIG = json.loads(sys.argv[1])
CONTEXTS = {}
PUSHES = []
_lock = threading.Lock()


def _pushed(kind, context, content):
    with _lock:
        PUSHES.append({"kind": kind, "context": context, "at": time.time(), "data": content})


def _handler(base, kind, context):
    class Handler(base):
        def on_recv_rsp(self, rsp_pb):
            answer = super().on_recv_rsp(rsp_pb)
            _pushed(kind if answer[0] == futu.RET_OK else f"{kind} error", context, list(answer[1:]))
            return answer

    return Handler()


HANDLERS = {
    "quote": {
        "quote": futu.StockQuoteHandlerBase,
        "book": futu.OrderBookHandlerBase,
        "ticker": futu.TickerHandlerBase,
        "rt": futu.RTDataHandlerBase,
        "kline": futu.CurKlineHandlerBase,
        "broker": futu.BrokerHandlerBase,
    },
    "trade": {"order": futu.TradeOrderHandlerBase, "deal": futu.TradeDealHandlerBase},
}


def do_open(name, kind, key=None, **options):
    """Make a context; returns once the SDK is connected. `key` replaces the process's key from here on."""
    if key:
        futu.SysConfig.set_client_info(key, 300)
    options = {"host": "127.0.0.1", "port": CONFIG["port"], **options}
    if CONFIG.get("encrypt"):
        options["is_encrypt"] = True
    if kind == "quote":
        context = futu.OpenQuoteContext(**options)
    elif kind == "future":
        context = futu.OpenFutureTradeContext(**options)
    else:
        options.setdefault("filter_trdmarket", futu.TrdMarket.HK)
        context = futu.OpenSecTradeContext(**options)
    for push, base in HANDLERS["quote" if kind == "quote" else "trade"].items():
        context.set_handler(_handler(base, push, name))
    CONTEXTS[name] = context
    return [0, None]


def do_call(context, method, args, kwargs):
    """Any method of a context, by name. Legs of a combo come as maps of their attributes."""
    if "combo_leg_list" in kwargs:
        kwargs["combo_leg_list"] = [_leg(each) for each in kwargs["combo_leg_list"]]
    return getattr(CONTEXTS[context], method)(*args, **kwargs)


def _leg(fields):
    made = futu.ComboLeg()
    made.__dict__.update(fields)
    return made


def do_raw(context, query, kwargs):
    """One of the SDK's own requests, packed and sent by the SDK, without what its methods check before."""
    asked = getattr(sys.modules["futu.trade.trade_query"], query)
    opened = CONTEXTS[context]
    send = opened._get_sync_query_processor(asked.pack_req, asked.unpack_rsp)
    return send(conn_id=opened.get_sync_conn_id(), **kwargs)


def do_together(calls):
    """Several calls at one moment, a thread each; the answers in their order."""
    start = threading.Barrier(len(calls))
    answers = [None] * len(calls)

    def one(number, call):
        start.wait()
        answers[number] = plain(do_call(**call))

    threads = [threading.Thread(target=one, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [0, answers]


def do_pushes():
    with _lock:
        taken = list(PUSHES)
        PUSHES.clear()
    return [0, taken]


def do_close(name):
    CONTEXTS.pop(name).close()
    return [0, None]


def plain(value):
    if hasattr(value, "to_dict") and hasattr(value, "iterrows"):
        return [{str(name): plain(cell) for name, cell in row.items()} for row in value.to_dict("records")]
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "item"):
        return value.item()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def run(command):
    number, name = command.pop("id"), command.pop("do")
    started = time.time()
    try:
        answer = globals()[f"do_{name}"](**command)
        reply = {"answer": plain(answer)}
    except Exception:
        reply = {"error": traceback.format_exc()}
    reply.update(id=number, seconds=time.time() - started)
    text = json.dumps(reply)
    with _lock:
        _out.write(text + "\n")


def main():
    futu.SysConfig.set_all_thread_daemon(True)
    if CONFIG.get("key"):
        futu.SysConfig.set_client_info(CONFIG["key"], 300)
    if CONFIG.get("rsa"):
        futu.SysConfig.set_init_rsa_file(CONFIG["rsa"])
    if CONFIG.get("json"):
        futu.SysConfig.set_proto_fmt(futu.ProtoFMT.Json)
    for line in sys.stdin:
        threading.Thread(target=run, args=(json.loads(line),), daemon=True).start()
    for context in list(CONTEXTS.values()):
        context.close()
    os._exit(0)


if __name__ == "__main__":
    main()
