"""The owner stops trading: by command, by REST, by a file; at once, over restarts, and only the owner starts it again."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from live import PROJECT, LiveApp, LiveSandbox, LiveSidecar, Stage, eventually
from raw_client import PLACE_ORDER, RawClient, code_of
from rest_client import RestClient, order
from test_last_look import SlowDisk

from sidecar.cli.main import main
from sidecar.ledger import states_file

TRADER = ("qot:read", "acc:read", "trade:simulate")
Sidecar = LiveSidecar | LiveApp


def state_dir(sidecar: Sidecar) -> Path:
    return sidecar.folder / "state"


@dataclass(frozen=True)
class Told:
    returncode: int
    stdout: str
    stderr: str


def command(sidecar: Sidecar, *words: str) -> Told:
    """What `opend-sidecar WORDS` says, run in the tests' own process: it is over as soon as the sidecar has answered."""
    done = CliRunner().invoke(main, [*words, "--config", str(sidecar.config_file)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Told(done.exit_code, done.stdout, done.stderr)


def place(client: RawClient) -> str | None:
    """The code of the refusal of an order, None where OpenD took it."""
    reply = client.ask(PLACE_ORDER, client.order_request(price=300))
    return None if reply.retType == 0 else code_of(reply)


# -- by command -------------------------------------------------------------------------------------------------------


def test_a_halted_bot_of_the_official_sdk_is_told_why_still_cancels_and_goes_on_after_resume(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    sdk = stage.sdk(sidecar.port, key)
    sdk.open("trade", "trade")
    resting = [sdk.place("HK.00700", 300, 100) for _ in range(2)]
    assert [answer.ret for answer in resting] == [0, 0], resting
    before = len(sandbox.orders())

    halted = command(sidecar, "halt", "--reason", "fat finger")

    assert halted.returncode == 0, halted
    assert "all trading is halted: fat finger\nit holds in memory and on disk" in halted.stdout
    refused = sdk.place("HK.00700", 300, 100)
    assert refused.ret == -1
    assert "[sidecar:trading_halted] trading is halted since " in refused.data
    assert " UTC: fat finger; only the owner can resume it" in refused.data
    ids = [answer.data[0]["order_id"] for answer in resting]
    changed = sdk.call(
        "trade", "modify_order", modify_order_op="NORMAL", order_id=ids[0], qty=100, price=299, trd_env="SIMULATE"
    )
    assert "[sidecar:trading_halted]" in changed.data
    assert len(sandbox.orders()) == before
    cancelled = [sdk.cancel(order_id) for order_id in ids]
    assert [answer.ret for answer in cancelled] == [0, 0], cancelled
    listed = sdk.call("trade", "order_list_query", trd_env="SIMULATE")
    assert {one["order_status"] for one in listed.data if one["order_id"] in ids} <= {"CANCELLING_ALL", "CANCELLED_ALL"}
    assert command(sidecar, "resume", "--reason", "it was a drill").returncode == 0
    assert sdk.place("HK.00700", 300, 100).ret == 0
    told = [(line["endpoint"], line["message"]) for line in sidecar.audit(iface="admin", outcome="success")]
    assert told == [
        ("halt", "all trading, by the command line: fat finger"),
        ("resume", "all trading, by the command line: it was a drill"),
    ]


def test_a_halt_of_one_key_stops_no_other_and_is_told_to_no_other(stage: Stage, sandbox: LiveSandbox) -> None:
    bot, other = stage.keys.add("bot", *TRADER), stage.keys.add("other", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    one, two = RawClient(sidecar.port, bot), RawClient(sidecar.port, other)
    assert command(sidecar, "halt", "--key", "bot", "--reason", "runaway loop").returncode == 0
    assert (place(one), place(two)) == ("trading_halted", None)
    told = [RestClient(sidecar.doors["rest"], key).get("/api/key").s2c for key in (bot, other)]
    assert [one["state"] for one in told] == ["HALTED", "ACTIVE"]
    assert "trading under this key is halted since" in told[0]["halted"]
    assert "runaway" not in json.dumps(told[1])
    assert sidecar.metric("sidecar_trading_state", scope="key", key_id="bot") == 2
    assert sidecar.metric("sidecar_trading_state", scope="key", key_id="other") == 0
    assert sidecar.metric("sidecar_trading_state", scope="global") == 0
    ended = command(sidecar, "resume", "--reason", "wrong one")
    assert "all trading was not halted" in ended.stdout and "still halted: key `bot` is HALTED" in ended.stdout
    assert place(one) == "trading_halted"
    assert command(sidecar, "resume", "--key", "bot", "--reason", "mended").returncode == 0
    assert place(one) is None


def test_a_halt_survives_kill_9_and_removing_nothing_but_resume_ends_it(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    assert command(sidecar, "halt", "--reason", "fat finger").returncode == 0
    sidecar.kill()
    assert "all trading is HALTED" in command(sidecar, "status").stdout
    sidecar.start()
    assert place(RawClient(sidecar.port, key)) == "trading_halted"
    assert sidecar.stop() == 0
    sidecar.start()
    client = RawClient(sidecar.port, key)
    assert place(client) == "trading_halted"
    assert command(sidecar, "resume", "--reason", "well again").returncode == 0
    assert place(client) is None
    sidecar.kill()
    sidecar.start()
    assert place(RawClient(sidecar.port, key)) is None, "and a resume survives it too"


def test_where_no_sidecar_runs_the_next_one_starts_halted_and_records_it(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    sidecar.stop()
    halted = command(sidecar, "halt", "--key", "bot", "--reason", "not tonight")
    assert halted.returncode == 0
    assert "no sidecar runs with this state directory; the next one starts with it" in halted.stdout
    wrong = command(sidecar, "halt", "--key", "bott", "--reason", "not tonight")
    assert wrong.returncode == 1 and "did you mean `bot`?" in wrong.stderr
    shown = command(sidecar, "status")
    assert shown.returncode == 1 and "key `bot` is HALTED" in shown.stdout and "no sidecar runs" in shown.stdout
    sidecar.start()
    assert place(RawClient(sidecar.port, key)) == "trading_halted"
    line = sidecar.wait_audit(endpoint="halt")
    assert (line["iface"], line["message"]) == ("sidecar", "key `bot`, by the command line: not tonight")
    sidecar.stop()
    assert "is resumed" in command(sidecar, "resume", "--key", "bot", "--reason", "morning").stdout
    sidecar.start()
    assert place(RawClient(sidecar.port, key)) is None
    assert sidecar.wait_audit(endpoint="resume")["message"] == "key `bot`, by the command line: morning"
    assert len(sidecar.audit(endpoint="halt")) == 1, "each is recorded once"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("halt",), "missing option `--reason`"),
        (("resume",), "missing option `--reason`"),
        (("halt", "--reason", "  "), "`reason` is missing"),
        (("halt", "--reason", "x" * 201), "over 200 characters"),
        (("halt", "--reason", "x", "--key", "bott"), "there is no key `bott`; did you mean `bot`?"),
        (("resume", "--reason", "x", "--key", ""), "`key` must be the id of a key"),
        (("halt", "--reason", "x", "--state-dir", "/nonexistent"), "there is no state directory `/nonexistent`"),
    ],
)
def test_a_command_that_is_not_understood_changes_nothing(
    words: tuple[str, ...], says: str, stage: Stage, sandbox: LiveSandbox
) -> None:
    stage.keys.add("bot", *TRADER)
    sidecar = stage.app(sandbox.port)
    done = command(sidecar, *words)
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sidecar.app.states.overall.reason == "" and not sidecar.app.states.keys


def test_status_tells_what_is_halted_why_by_whom_and_whether_all_is_well(stage: Stage, sandbox: LiveSandbox) -> None:
    stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    well = command(sidecar, "status")
    assert well.returncode == 0
    assert "all trading is active" in well.stdout and "connected" in well.stdout
    assert sidecar.revision()[:12] in well.stdout
    assert json.loads(sidecar.get("/readyz")[1]) == {"ready": True, "problems": []}
    command(sidecar, "halt", "--reason", "fat finger")
    told = json.loads(command(sidecar, "status", "--json").stdout)
    assert told["trading"]["state"] == "HALTED" and told["trading"]["by"] == "the command line"
    assert told["ready"] and told["saved"] and told["upstream"]["up"] and told["pid"] == sidecar.pid
    status, text = sidecar.get("/readyz")
    assert status == 200, "a halted sidecar serves cancels, so it is ready"
    assert "trading is halted since" in json.loads(text)["halted"]


# -- who may ----------------------------------------------------------------------------------------------------------


def test_only_its_owner_may_open_the_socket_and_the_admin_port_changes_nothing(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    sidecar = stage.sidecar(sandbox.port)
    found = (state_dir(sidecar) / "admin.sock").stat()
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600
    port = RestClient(sidecar.admin_port)
    for path in ("/api/admin/halt", "/api/admin/resume", "/api/admin/status"):
        assert port.request("POST", path, {"reason": "x"}).status == 404
        assert port.get(path).status == 404
    sidecar.stop()
    assert not (state_dir(sidecar) / "admin.sock").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can try it as somebody else")
def test_another_user_of_the_machine_cannot_reach_the_socket(stage: Stage, sandbox: LiveSandbox) -> None:
    sidecar = stage.sidecar(sandbox.port)
    path = str(state_dir(sidecar) / "admin.sock")
    for folder in Path(path).parents:
        if folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o111)  # as though nothing but the socket's own mode stood in the way
        if folder == Path("/tmp"):
            break
    script = f"import os, socket; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect({path!r})"
    tried = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert "PermissionError" in tried.stderr


def test_a_state_directory_with_a_very_long_name_has_its_socket_too(stage: Stage, sandbox: LiveSandbox) -> None:
    deep = stage.folder / ("d" * 120)
    sidecar = stage.sidecar(sandbox.port, state_dir=str(deep))
    assert command(sidecar, "halt", "--reason", "fat finger").returncode == 0
    assert "HALTED" in command(sidecar, "status").stdout


def test_a_sidecar_whose_socket_is_gone_is_halted_by_the_file(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    (state_dir(sidecar) / "admin.sock").unlink()
    halted = command(sidecar, "halt", "--reason", "fat finger")
    assert halted.returncode == 1, "it is not confirmed"
    assert "halts within a second" in halted.stdout
    eventually(lambda: place(client) == "trading_halted", 1.5, "the halt")
    one = command(sidecar, "halt", "--key", "bot", "--reason", "loop")
    assert one.returncode == 1 and "in use by process" in one.stderr


# -- over REST --------------------------------------------------------------------------------------------------------


def test_a_key_with_the_scope_admin_halts_and_resumes_over_rest_and_is_named_in_the_audit(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    bot, ops = stage.keys.add("bot", *TRADER), stage.keys.add("ops", "admin")
    sidecar = stage.sidecar(sandbox.port)
    client, rest = RawClient(sidecar.port, bot), RestClient(sidecar.doors["rest"], ops)
    done = rest.post("/api/admin/halt", {"reason": "fat finger", "key": "bot"}).s2c
    assert (done["state"], done["key"], done["saved"], done["problem"]) == ("HALTED", "bot", True, None)
    assert place(client) == "trading_halted"
    status = rest.get("/api/admin/status").s2c
    assert status["keys"][0]["by"] == "key `ops`"
    assert rest.post("/api/admin/resume", {"reason": "drill", "key": "bot"}).s2c["state"] == "ACTIVE"
    assert place(client) is None
    for endpoint in ("halt", "resume"):
        line = sidecar.wait_audit(endpoint=endpoint)
        assert (line["iface"], line["key_id"], line["outcome"]) == ("rest", "ops", "success")


@pytest.mark.parametrize("scopes", [TRADER, ("qot:read", "acc:read", "trade:real", "trade:cancel", "trade:unlock")])
def test_without_the_scope_admin_nobody_halts_resumes_or_reads_the_status(
    scopes: tuple[str, ...], stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *scopes)
    sidecar = stage.app(sandbox.port)
    rest, nobody = RestClient(sidecar.doors["rest"], key), RestClient(sidecar.doors["rest"])
    for path in ("/api/admin/halt", "/api/admin/resume"):
        refused = rest.post(path, {"reason": "x"})
        assert (refused.status, refused.code) == (403, "scope")
        assert nobody.post(path, {"reason": "x"}).status == 401
    assert rest.get("/api/admin/status").status == 403
    assert nobody.get("/api/admin/status").status == 401
    assert sidecar.app.states.overall.reason == ""
    assert sidecar.wait_audit(endpoint="/api/admin/halt", outcome="reject", reason="scope")["key_id"] == "bot"


@pytest.mark.parametrize(
    "body",
    [None, [], "halt", {}, {"reason": ""}, {"reason": "   "}, {"reason": 5}, {"reason": "x" * 201}, {"reason": "x", "key": 5},
     {"reason": "x", "key": ""}, {"reason": "x", "keys": "bot"}, {"reason": "x", "key": "nobody"}, b"{", b'{"reason": "a", "reason": "b"}'],
    ids=repr,
)  # fmt: skip
def test_what_is_no_halt_is_refused_and_halts_nothing(body: object, stage: Stage, sandbox: LiveSandbox) -> None:
    sidecar = stage.app(sandbox.port)
    ops = stage.keys.add("ops", "admin")
    sidecar.wait_keys()
    answer = RestClient(sidecar.doors["rest"], ops).request("POST", "/api/admin/halt", body)
    assert (answer.status, answer.code) == (400, "malformed_request")
    assert sidecar.app.states.overall.reason == "" and not sidecar.app.states.keys


def test_an_admin_key_trades_nothing_and_a_key_in_a_reason_is_left_out(stage: Stage, sandbox: LiveSandbox) -> None:
    ops = stage.keys.add("ops", "admin")
    sidecar = stage.sidecar(sandbox.port)
    rest = RestClient(sidecar.doors["rest"], ops)
    assert rest.post("/api/order", order()).code == "scope"
    done = rest.post("/api/admin/halt", {"reason": f"{ops} leaked"}).s2c
    assert done["reason"] == "fc_(left out) leaked"
    sidecar.wait_audit(endpoint="halt")
    kept = [sidecar.audit_file.read_text(), (state_dir(sidecar) / "states.json").read_text(), sidecar.log_text()]
    assert not any(ops in text for text in kept)


# -- by the file HALT -------------------------------------------------------------------------------------------------


def test_the_file_halts_within_a_second_and_removing_it_alone_does_not_resume(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    assert place(client) is None
    file = state_dir(sidecar) / "HALT"
    started = time.monotonic()
    file.write_text("gone fishing\n")
    eventually(lambda: sidecar.metric("sidecar_trading_state", scope="global") == 2, 3, "the halt")
    assert time.monotonic() - started < 1.0
    reply = client.ask(PLACE_ORDER, client.order_request())
    assert ": gone fishing; only the owner" in reply.retMsg
    line = sidecar.wait_audit(endpoint="halt")
    assert (line["iface"], line["message"]) == ("sidecar", "all trading, by the file HALT: gone fishing")
    file.unlink()
    time.sleep(0.6)
    assert place(client) == "trading_halted"
    sidecar.kill()
    sidecar.start()
    client = RawClient(sidecar.port, key)
    assert place(client) == "trading_halted"
    file.touch()
    assert command(sidecar, "resume", "--reason", "back").returncode == 0
    assert not file.exists()
    assert place(client) is None
    time.sleep(0.6)
    assert place(client) is None


def test_a_sidecar_that_starts_beside_the_file_never_opens_a_door_unhalted(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port, start=False)
    state_dir(sidecar).mkdir(mode=0o700)
    (state_dir(sidecar) / "HALT").touch()
    sidecar.start()
    assert place(RawClient(sidecar.port, key)) == "trading_halted"
    assert sidecar.wait_audit(endpoint="halt")["message"].startswith("all trading, by the file HALT")
    assert any(line["event"] == "trading is halted" and line["level"] == "error" for line in sidecar.log())


# -- what fails -------------------------------------------------------------------------------------------------------


def test_a_halt_that_cannot_be_written_holds_in_memory_says_so_and_is_written_once_there_is_room(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    client = RawClient(sidecar.port, key)
    in_the_way = state_dir(sidecar) / ".states.json.new"
    in_the_way.mkdir()  # what cannot be opened for writing, as on a disk that is full or read-only
    halted = command(sidecar, "halt", "--reason", "fat finger")
    assert halted.returncode == 1
    assert "all trading is halted: fat finger" in halted.stdout
    assert "it holds in memory, but NOT on disk: states.json cannot be written" in halted.stderr
    assert place(client) == "trading_halted"
    assert "NOT ON DISK" in command(sidecar, "status").stdout
    assert sidecar.metric("sidecar_trading_states_saved") == 0
    assert any("hold in memory only" in line["event"] for line in sidecar.log())
    in_the_way.rmdir()
    eventually(lambda: sidecar.metric("sidecar_trading_states_saved") == 1, 5, "it to be written")
    sidecar.kill()
    sidecar.start()
    assert place(RawClient(sidecar.port, key)) == "trading_halted"


def test_a_broken_states_file_starts_halted_loudly_and_resume_mends_it(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.sidecar(sandbox.port)
    sidecar.stop()
    (state_dir(sidecar) / "states.json").write_text('{"version": 1, "all": {"state": "ACT')
    sidecar.start()
    client = RawClient(sidecar.port, key)
    assert place(client) == "trading_halted"
    assert any("the trading states cannot be read" in line["event"] for line in sidecar.log())
    assert "states.json could not be read" in sidecar.wait_audit(endpoint="halt")["message"]
    assert command(sidecar, "resume", "--reason", "looked into it").returncode == 0
    assert place(client) is None
    sidecar.kill()
    sidecar.start()
    assert place(RawClient(sidecar.port, key)) is None


def test_a_disk_that_hangs_over_a_halt_stops_no_cancel(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.app(sandbox.port)
    client = RawClient(sidecar.port, key)
    resting = client.ask(PLACE_ORDER, client.order_request(price=300)).s2c.orderIDEx
    write = states_file.write

    def hangs(folder: Path, document: states_file.Document) -> None:
        time.sleep(2.0)
        write(folder, document)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states_file, "write", hangs)
        asked = subprocess.Popen(
            [sys.executable, "-m", "sidecar.cli.main", "halt", "--reason", "x", "--config", str(sidecar.config_file)],
            cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        eventually(lambda: sidecar.app.states.overall.reason == "x", 10, "the halt")
        started = time.monotonic()
        assert place(client) == "trading_halted", "it holds before the disk has it"
        assert client.ask(2205, client.cancel_request(resting)).retType == 0
        assert time.monotonic() - started < 1.0
        assert asked.wait(20) == 0


# -- while orders wait ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", [None, "bot"], ids=["of all trading", "of the key"])
def test_a_halt_while_orders_wait_for_the_disk_sends_none_of_them_and_gives_their_caps_back(
    whose: str | None, stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER, max_daily_value=120000, max_orders_per_minute=3)
    sidecar = stage.app(sandbox.port)
    client = RawClient(sidecar.port, key)
    disk = SlowDisk(sidecar)
    waiting = [client.send(PLACE_ORDER, client.order_request()) for _ in range(3)]
    assert disk.waiting.wait(5)
    halted = command(sidecar, "halt", "--reason", "fat finger", *(() if whose is None else ("--key", whose)))
    assert halted.returncode == 0
    disk.release()
    assert [code_of(client.reply(serial)) for serial in waiting] == ["trading_halted"] * 3
    assert sandbox.orders() == []
    refused = sidecar.wait_audit(outcome="reject", reason="trading_halted")
    assert sidecar.wait_audit(outcome="allow", decision_id=refused["decision_id"])["seq"] < refused["seq"]
    assert sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit="max_daily_value") == 120000
    assert sidecar.metric("sidecar_ledger_headroom", key_id="bot", limit="max_orders_per_minute") == 3
    command(sidecar, "resume", "--reason", "drill", *(() if whose is None else ("--key", whose)))
    assert place(client) is None


def test_a_halt_while_an_order_waits_for_a_fact_stops_it(stage: Stage, sandbox: LiveSandbox) -> None:
    key = stage.keys.add("bot", *TRADER, max_daily_value=100000)
    sidecar = stage.sidecar(sandbox.port, policy={"facts_timeout": 10.0})
    client = RawClient(sidecar.port, key)
    sandbox.delays[3202] = 3.0
    serial = client.send(PLACE_ORDER, client.order_request())
    eventually(lambda: sandbox.received(3202), 3, "the look-up")
    assert command(sidecar, "halt", "--reason", "fat finger").returncode == 0
    assert code_of(client.reply(serial)) == "trading_halted"
    assert sandbox.orders() == []


def test_a_halt_in_the_midst_of_a_flood_of_orders_lets_none_through_that_comes_after_it(
    stage: Stage, sandbox: LiveSandbox
) -> None:
    key = stage.keys.add("bot", *TRADER)
    sidecar = stage.app(sandbox.port)
    clients = [RawClient(sidecar.port, key) for _ in range(4)]
    sent = [(client, client.send(PLACE_ORDER, client.order_request())) for _ in range(15) for client in clients]
    sidecar.do(sidecar.app.states.halt, None, "fat finger", "the owner")
    at_the_halt = sidecar.app.returns.unanswered + len(sandbox.orders())
    answers = [client.reply(serial) for client, serial in sent]
    taken = sum(answer.retType == 0 for answer in answers)
    assert taken == len(sandbox.orders()) <= at_the_halt + len(clients)
    assert {code_of(answer) for answer in answers if answer.retType} <= {"trading_halted"}


def test_a_socket_that_a_dead_sidecar_left_behind_is_in_nobodys_way(stage: Stage, sandbox: LiveSandbox) -> None:
    sidecar = stage.sidecar(sandbox.port)
    sidecar.kill()
    place_of_it = state_dir(sidecar) / "admin.sock"
    assert place_of_it.exists()
    with socket.socket(socket.AF_UNIX) as nobody, pytest.raises(ConnectionRefusedError):
        nobody.connect(str(place_of_it)[:107] if len(str(place_of_it)) > 107 else str(place_of_it))
    sidecar.start()
    assert command(sidecar, "status").returncode == 0
