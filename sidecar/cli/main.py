"""The command line: one group, its commands each in a file of their own; turns expected errors into one line for people."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import sys
from typing import Any, NoReturn

import click

from sidecar.cli.audit import audit
from sidecar.cli.check_config import check_config
from sidecar.cli.command import NOT_DONE, WRONG_USAGE, WrongUsage
from sidecar.cli.demo import demo
from sidecar.cli.doctor import doctor
from sidecar.cli.explain import explain
from sidecar.cli.keys import bind_key, gen_key, list_keys, machine_id, revoke_key
from sidecar.cli.mcp_stdio import mcp_stdio
from sidecar.cli.reload import reload
from sidecar.cli.replay import replay
from sidecar.cli.run import run
from sidecar.cli.sandbox import sandbox
from sidecar.cli.status import status
from sidecar.cli.trading import halt, resume
from sidecar.errors import SidecarError

_COMMANDS = {
    "To run": (run, check_config, reload, doctor, mcp_stdio),
    "Keys": (gen_key, list_keys, revoke_key, bind_key, machine_id),
    "While it runs": (status, halt, resume),
    "Why and what if": (explain, audit, replay),
    "To try it, without an account": (demo, sandbox),
}
_AS_JSON = "sidecar.as_json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_HELP_INSTEAD: type[Exception] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""Since click 8.2: nothing was typed, so the help is shown."""


class _Commands(click.Group):
    """Shows what went wrong as one line on stderr, with --json also as a document on stdout; nobody is shown a traceback for
    something he typed, or for a file that cannot be used."""

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
        for title, commands in _COMMANDS.items():
            with formatter.section(title):
                width = formatter.width - 2 - max(map(len, self.commands))
                rows = [
                    (str(one.name).ljust(max(map(len, self.commands))), one.get_short_help_str(width))
                    for one in commands
                ]
                formatter.write_dl(rows)


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


for commands in _COMMANDS.values():
    for command in commands:
        main.add_command(command)

if __name__ == "__main__":
    main()
