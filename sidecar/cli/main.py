"""The command line: one group, its commands each in a file of their own; turns expected errors into one line for people."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from sidecar.cli.command import NOT_DONE, WRONG_USAGE, WrongUsage
from sidecar.errors import SidecarError

_COMMANDS = {
    "To run": {
        "run": "sidecar.cli.run:run",
        "check-config": "sidecar.cli.check_config:check_config",
        "reload": "sidecar.cli.reload:reload",
        "doctor": "sidecar.cli.doctor:doctor",
        "mcp-stdio": "sidecar.cli.mcp_stdio:mcp_stdio",
    },
    "Keys": {
        "gen-key": "sidecar.cli.keys:gen_key",
        "list-keys": "sidecar.cli.keys:list_keys",
        "revoke-key": "sidecar.cli.keys:revoke_key",
        "bind-key": "sidecar.cli.keys:bind_key",
        "machine-id": "sidecar.cli.keys:machine_id",
    },
    "While it runs": {
        "status": "sidecar.cli.status:status",
        "halt": "sidecar.cli.trading:halt",
        "resume": "sidecar.cli.trading:resume",
    },
    "Why and what if": {
        "explain": "sidecar.cli.explain:explain",
        "audit": "sidecar.cli.audit:audit",
        "replay": "sidecar.cli.replay:replay",
    },
    "To try it, without an account": {
        "demo": "sidecar.cli.demo:demo",
        "sandbox": "sidecar.cli.sandbox:sandbox",
    },
}
"""Where each command is, as module:function; none is imported before it is wanted, so that a halt does not wait for the rest."""
_PLACES = {name: place for commands in _COMMANDS.values() for name, place in commands.items()}
_AS_JSON = "sidecar.as_json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_HELP_INSTEAD: type[Exception] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""Since click 8.2: nothing was typed, so the help is shown."""


class _Commands(click.Group):
    """Shows what went wrong as one line on stderr, with --json also as a document on stdout; nobody is shown a traceback for
    something he typed, or for a file that cannot be used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module, _, name = _PLACES.get(cmd_name, "").partition(":")
        if not module:
            return None
        command: click.Command = getattr(import_module(module), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_AS_JSON] = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if isinstance(error, _HELP_INSTEAD):
                raise
            self._failed(ctx, _plain(error), WRONG_USAGE)

    def invoke(self, ctx: click.Context) -> Any:
        _write_anywhere()
        try:
            return super().invoke(ctx)
        except WrongUsage as error:
            self._failed(ctx, f"{error} (see `{error.command} --help`)", WRONG_USAGE)
        except SidecarError as error:
            self._failed(ctx, str(error), NOT_DONE)
        except click.UsageError as error:
            if isinstance(error, _HELP_INSTEAD):
                raise
            self._failed(ctx, _plain(error), WRONG_USAGE)
        except OSError as error:
            if error.filename is None and error.errno in _FULL:
                with contextlib.suppress(OSError, ValueError):  # what is left in the buffer has to go somewhere
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                ctx.meta[_AS_JSON] = False
                self._failed(ctx, f"the output could not be written: {(error.strerror or '').lower()}", NOT_DONE)
            if error.filename is None:  # a pipe that closed, or a mistake of ours
                raise
            self._failed(ctx, f"`{error.filename}` cannot be used: {(error.strerror or '').lower()}", NOT_DONE)

    def _failed(self, ctx: click.Context, text: str, code: int) -> NoReturn:
        if ctx.meta[_AS_JSON]:
            click.echo(json.dumps({"error": text}))
        click.echo(f"opend-sidecar: {text}", err=True)
        ctx.exit(code)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, _PLACES))
        for title, names in _COMMANDS.items():
            with formatter.section(title):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                width = formatter.width - 2 - longest
                formatter.write_dl(
                    [(name.ljust(longest), one.get_short_help_str(width)) for name, one in commands if one is not None]
                )


def _plain(error: click.UsageError) -> str:
    """In the manner of all messages: lower case, what was typed in backticks, no full stop."""
    text = re.sub(r"'([^']*)'", r"`\1`", error.format_message()).rstrip(".")
    text = re.sub(r"\. (?=[A-Z])", "; ", text)
    words = "; ".join(part[:1].lower() + part[1:] for part in text.split("; "))
    return words if error.ctx is None else f"{words} (see `{error.ctx.command_path} --help`)"


def _write_anywhere() -> None:
    """A terminal without ✓, or half a character that was typed, is no reason to end in the middle."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="opend-sidecar")
def main() -> None:
    """A reverse proxy in front of OpenD that gives every bot a key which can do only what it should.

    `opend-sidecar COMMAND --help` says what a command does, with its exit codes and examples. They are the same for all: 0 it
    is done, 1 it could not be done or something is wrong (a line on stderr says what), 2 wrong usage; explain and reload have
    a 3. With --json there is one JSON document on stdout (tail and search: one a line), also for an error: {"error": TEXT}.
    """


if __name__ == "__main__":
    main()
