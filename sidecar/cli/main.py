"""The command line: one group, its commands each in a file of their own; turns expected errors into one line for people."""

from __future__ import annotations

import sys
from typing import Any

import click

from sidecar.cli.audit import audit
from sidecar.cli.check_config import check_config
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


class _Commands(click.Group):
    """Shows what went wrong as one line, with exit code 1; nobody is shown a traceback for a wrong setting."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SidecarError as error:
            click.echo(f"opend-sidecar: {error}", err=True)
            sys.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="opend-sidecar")
def main() -> None:
    """A reverse proxy in front of OpenD that gives every bot a key which can do only what it should."""


for command in (
    run,
    demo,
    sandbox,
    check_config,
    doctor,
    gen_key,
    list_keys,
    revoke_key,
    bind_key,
    machine_id,
    mcp_stdio,
    audit,
    halt,
    resume,
    status,
    explain,
    replay,
    reload,
):
    main.add_command(command)

if __name__ == "__main__":
    main()
