"""What holds for every command: its help, its exit codes, --json, and that nobody is shown a traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from documents import PROJECT

from sidecar.cli.command import WrongUsage, settings_from
from sidecar.cli.main import main
from sidecar.errors import ConfigError


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        found.update(leaves(command, (*path, name)) if isinstance(command, click.Group) else {(*path, name): command})
    return found


COMMANDS = leaves(main)
EACH = pytest.mark.parametrize("words", list(COMMANDS), ids=" ".join)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, so that nothing of this machine's is found."""
    (tmp_path / "machine-id").write_text("this-machine\n")
    monkeypatch.setenv("SIDECAR_MACHINE_ID_FILE", str(tmp_path / "machine-id"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "Asia/Hong_Kong")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: object) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="opend-sidecar")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def told(*words: object, code: int = 0) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == code, result.output
    tree: dict[str, Any] = json.loads(result.stdout)
    return tree


# -- help ------------------------------------------------------------------------------------------------------------


@EACH
def test_the_help_of_a_command_has_what_it_does_its_exit_codes_and_examples_on_80_columns(
    words: tuple[str, ...],
) -> None:
    result = CliRunner().invoke(main, [*words, "--help"], prog_name="opend-sidecar", terminal_width=80)
    first, codes, examples = (
        result.output.splitlines()[2],
        *result.output.partition("Exit codes:")[2].split("Examples:"),
    )
    assert first.startswith("  ") and first.strip()
    assert re.search(r"^  0  ", codes, re.MULTILINE) and "  1  " in codes and "  2  wrong usage" in codes
    assert f"opend-sidecar {' '.join(words)}" in examples
    assert max(map(len, result.output.splitlines())) <= 80


@EACH
def test_the_options_in_the_examples_exist(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    lines = "\n".join(getattr(command, "examples", [])).replace("\\\n", " ").splitlines()
    assert lines
    for line in lines:
        typed = shlex.split(re.split(r" [|#]", line)[0])
        flags = {word for word in typed if word.startswith("-")}
        if " ".join(words) in line:
            assert flags <= known, line


@pytest.mark.parametrize("words", [(), ("audit",)])
def test_in_the_list_of_commands_no_line_is_cut(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*words, "--help"], prog_name="opend-sidecar", terminal_width=80)
    assert "..." not in result.output.partition("\n")[2]


# -- wrong usage: 2 --------------------------------------------------------------------------------------------------


@EACH
def test_an_unknown_option_is_wrong_usage(words: tuple[str, ...]) -> None:
    result = run(*words, "--no-such-option")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("opend-sidecar: no such option") and result.stderr.count("\n") == 1


KEYS = ("--keys-file", "keys.json")
GEN = ("gen-key", "--id", "bot", "--scopes", "qot:read", *KEYS)
BUY = ("explain", "--key", "bot", "--buy", "HK.00700", *KEYS)
WRONG = [
    ("no-such-command",),
    ("--no-such-option",),
    ("run", "--upstream", "nowhere"),
    ("run", "--upstream", "127.0.0.1:99999"),
    ("run", "--bind", "here"),
    ("run", "--tcp-port", "99999"),
    ("demo", "--tcp-port", "x"),
    ("demo", "--tcp-port", "4711", "--ws-port", "4711"),
    ("sandbox", "--port", "65536"),
    ("sandbox", "--fault", "disconect"),
    ("sandbox", "--market-state", "HK=SHUT"),
    ("doctor", "--upstream", "nowhere"),
    ("gen-key", "--id", "bot", *KEYS),
    ("gen-key", "--id", "a b", "--scopes", "qot:read", *KEYS),
    ("gen-key", "--id", "bot", "--scopes", "qot:reed", *KEYS),
    (*GEN, "--max-order-value", "much"),
    (*GEN, "--max-orders-per-minute", "9" * 400),
    (*GEN, "--expires", "2001-01-01T00:00:00Z"),
    (*GEN, "--timezone", "Asia/Hong_Kong"),
    (*GEN, "--allowed-markets", "HK,,US"),
    (*GEN, "--note", "\udcff"),
    ("revoke-key",),
    ("revoke-key", "bot", "--admin", "nowhere", *KEYS),
    ("bind-key", "bot"),
    ("bind-key", "bot", "--clear", "--freeze"),
    ("bind-key", "bot", "--clear", "--replace"),
    ("machine-id", "--for-key", "a b"),
    ("mcp-stdio", "--url", "nowhere"),
    ("audit", "no-such-command"),
    ("audit", "tail", "-n", "-1"),
    ("audit", "tail", "--outcome", "perhaps"),
    ("audit", "search", "--since", "yesterday"),
    ("audit", "report", "--day", "today"),
    ("audit", "report", "--day", "2026-03-02", "--since", "09:30"),
    ("halt",),
    ("halt", "--reason", " ", "--state-dir", "."),
    ("halt", "--reason", "x" * 5000, "--state-dir", "."),
    ("resume", "--reason", "", "--state-dir", "."),
    ("explain", "--key", "bot"),
    (*BUY, "--cancel", "1"),
    (*BUY, "--qty", "many"),
    (*BUY, "--qty", "1", "--instrument", "thing,HKD"),
    (*BUY, "--qty", "1", "--from", "nowhere"),
    ("replay",),
    ("reload", "--watch"),
    ("status", "everything"),
]  # fmt: skip


@pytest.mark.parametrize("words", WRONG, ids=lambda words: " ".join(words)[:60].encode("ascii", "replace").decode())
def test_wrong_usage_is_exit_code_2_and_nothing_is_done(words: tuple[str, ...], home: Path) -> None:
    before = sorted(home.rglob("*"))
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.startswith("opend-sidecar: ") and "Traceback" not in result.stderr
    assert sorted(home.rglob("*")) == before


def test_with_json_wrong_usage_is_a_document_too() -> None:
    result = run("gen-key", "--id", "bot", "--json")
    assert result.exit_code == 2
    assert "missing option `--scopes`" in json.loads(result.stdout)["error"]
    assert "see `opend-sidecar gen-key --help`" in result.stderr


# -- it could not be done: 1 -----------------------------------------------------------------------------------------

LONG = "x" * 5000
CANNOT = [
    ("check-config", "--config", "none.yaml"),
    ("check-config", "--config", "."),
    ("check-config", "--config", "binary"),
    ("check-config", "--keys-file", "empty"),
    ("check-config", "--keys-file", LONG),
    ("run", "--config", "none.yaml"),
    ("run", "--keys-file", "."),
    ("sandbox", "--port", "0", "--rsa-key", "none.pem"),
    ("sandbox", "--port", "0", "--log", "."),
    (*GEN, "--keys-file", "."),
    (*GEN, "--keys-file", "binary"),
    (*GEN, "--keys-file", LONG),
    (*GEN, "--keys-file", "empty/keys.json"),
    (*GEN, "--client-certs", "none.pem"),
    ("list-keys", *KEYS),
    ("list-keys", "--keys-file", "binary"),
    ("list-keys", "--keys-file", "."),
    ("revoke-key", "bot", *KEYS),
    ("bind-key", "bot", "--clear", *KEYS),
    ("mcp-stdio",),
    ("mcp-stdio", "--key-file", "."),
    ("audit", "tail", "none.jsonl"),
    ("audit", "tail", "."),
    ("audit", "search", "."),
    ("audit", "search", LONG),
    ("audit", "report", "empty"),
    ("audit", "verify", "."),
    ("audit", "verify", "none.jsonl"),
    ("halt", "--reason", "drill", "--state-dir", "none"),
    ("halt", "--reason", "drill", "--state-dir", "empty"),
    ("halt", "--reason", "drill", "--state-dir", LONG),
    ("resume", "--reason", "drill", "--state-dir", "none"),
    ("status",),
    ("status", "--state-dir", "binary"),
    (*BUY, "--qty", "1", "--acc-id", "1", "--paper"),
    ("explain", "--key", "bot", "--body", "none.json"),
    ("explain", "--key", "bot", "--body", "."),
    ("explain", "--key", "bot", "--body", "binary"),
    ("replay", "--keys", "none.json"),
    ("replay", ".", "binary", "--keys", "keys"),
    ("reload",),
    ("reload", "--state-dir", LONG),
]  # fmt: skip


@pytest.mark.parametrize("words", CANNOT, ids=lambda words: " ".join(words)[:60].encode("ascii", "replace").decode())
def test_what_cannot_be_done_is_exit_code_1_and_says_why(words: tuple[str, ...], home: Path, monkeypatch: Any) -> None:
    (home / "empty").write_bytes(b"")
    (home / "binary").write_bytes(b"\xff\xfe\x00" * 50)
    for file in ("empty", "binary"):
        (home / file).chmod(0o600)
    for name in ("OPEND_SIDECAR_KEY", "FUTU_MCP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    result = run(*words)
    assert result.exit_code == 1, result.output
    assert result.stderr.strip() and "Traceback" not in result.output
    if words[0] not in ("mcp-stdio", "check-config"):  # MCP is JSON already; check-config tells it as one of its checks
        error = json.loads(run(*words, "--json").stdout)["error"]
        assert f"opend-sidecar: {error}" in result.stderr


def test_a_folder_that_may_not_be_entered_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", closed)
    result = run("halt", "--reason", "drill", "--state-dir", "/closed/state")
    assert (result.exit_code, result.stderr) == (
        1,
        "opend-sidecar: `/closed/state` cannot be used: permission denied\n",
    )


# -- --json ----------------------------------------------------------------------------------------------------------


@EACH
def test_every_command_takes_json_but_the_one_whose_output_is_json_anyway(words: tuple[str, ...]) -> None:
    has = any("--json" in option.opts for option in COMMANDS[words].params)
    assert has == (words != ("mcp-stdio",))


def test_a_key_as_json_from_its_making_to_its_end(home: Path) -> None:
    made = told(
        *GEN, "--max-order-value", "2500.50", "--hours-window", "09:30-16:00", "--allowed-order-types", "MARKET"
    )
    assert made["plaintext"].startswith("fc_") and json.dumps(made).count(made["plaintext"]) == 1
    assert (made["file"], made["tcp_port"]) == ("keys.json", 11110)

    listed = told("list-keys", *KEYS)
    (key,) = listed["keys"]
    assert {**made["key"], "expired": False, "frozen": False} == key
    assert (key["max_order_value"], key["hours_window"], key["timezone"]) == (
        "2500.5",
        ["09:30-16:00"],
        "Asia/Hong_Kong",
    )
    assert key["allowed_order_types"] == ["MARKET"]
    stored = json.loads((home / "keys.json").read_text())["keys"][0]
    assert stored["hash"].removeprefix("sha256:") not in json.dumps(listed)

    nobody = ("--admin", "127.0.0.1:1", *KEYS)
    mark = told("machine-id", "--for-key", "bot")["fingerprint"]
    assert told("bind-key", "bot", "--this-machine", *nobody)["allowed_machines"] == [mark]
    revoked = told("revoke-key", "bot", *nobody)
    assert (revoked["key"], revoked["saved"], revoked["in_force"]) == ("bot", True, None)
    assert told("list-keys", *KEYS)["keys"] == []
    assert told("machine-id") == {"machine_id": "this-machine"}


def test_check_config_as_json_has_every_check(home: Path) -> None:
    told(*GEN)
    good = told("check-config", *KEYS)
    assert good["ok"] and {one["check"] for one in good["checks"]} >= {"settings", "keys"} and good["running"] is None
    (home / "bad.yaml").write_text("upstrem: 1\n")
    bad = told("check-config", "--config", "bad.yaml", *KEYS, code=1)
    assert not bad["ok"]
    assert [one["check"] for one in bad["checks"] if one["verdict"] == "bad"] == ["settings"]


def test_halt_and_resume_as_json_where_none_runs(home: Path) -> None:
    state = home / "state"
    state.mkdir()
    where = ("--state-dir", state)
    halted = told("halt", "--reason", "drill", *where)
    assert (halted["state"], halted["changed"], halted["saved"], halted["running"]) == ("HALTED", True, True, False)
    assert told("halt", "--reason", "again", *where)["changed"] is False
    assert told("status", *where, code=1)["trading"]["state"] == "HALTED"
    resumed = told("resume", "--reason", "over", *where)
    assert (resumed["state"], resumed["changed"], resumed["still_halted"]) == ("ACTIVE", True, [])
    left = told("halt", "--cancel-orders", "--reason", "out", *where, code=1)
    assert left["state"] == "HALTED" and "NOTHING is cancelled yet" in left["error"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize(
    "words", [("machine-id",), ("machine-id", "--json"), ("list-keys", *KEYS), ("list-keys", "--help")]
)
def test_an_output_that_cannot_be_written_is_one_line(words: tuple[str, ...], home: Path) -> None:
    run(*GEN)
    command = [sys.executable, "-c", "from sidecar.cli.main import main; main(prog_name='opend-sidecar')", *words]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "opend-sidecar: the output could not be written: no space left on device\n"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("demo", "--any-ports"), {"host", "ports", "opend_port", "keys", "keys_file", "audit"}),
        (("sandbox", "--port", "0"), {"host", "port", "seed", "faults", "encrypted"}),
    ],
)
def test_what_runs_tells_where_it_listens_as_one_line_of_json(words: tuple[str, ...], names: set[str]) -> None:
    command = [sys.executable, "-c", "from sidecar.cli.main import main; main()", *words, "--json"]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
    ) as running:
        try:
            assert running.stdout is not None
            assert set(json.loads(running.stdout.readline())) == names
            running.terminate()
            rest, _ = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == 0
    assert all(json.loads(line) for line in rest.splitlines())


def test_a_flag_is_judged_together_with_the_file_it_goes_with(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text("listeners:\n  tcp: [{port: 12000}]\n")
    rest = settings_from(file, {"rest_port": "11110"}).listeners.rest  # the default of TCP, which the file moves away
    assert rest is not None and rest.port == 11110
    with pytest.raises(WrongUsage, match="two listeners have the address"):
        settings_from(file, {"rest_port": "12000"})
    file.write_text("listeners: 5\n")
    with pytest.raises(ConfigError) as caught:
        settings_from(file, {"rest_port": "x"})
    assert not isinstance(caught.value, WrongUsage)
