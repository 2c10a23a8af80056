"""Shell completion, as docs/cli.md says it is switched on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = "from sidecar.cli.main import main; main(prog_name='opend-sidecar')"


def completed(**environ: str) -> str:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])  # click asks bash for its version first
def test_a_shell_gets_the_script_that_completes(shell: str) -> None:
    assert "_OPEND_SIDECAR_COMPLETE" in completed(_OPEND_SIDECAR_COMPLETE=f"{shell}_source")


def test_commands_and_options_are_completed() -> None:
    asked = {"_OPEND_SIDECAR_COMPLETE": "bash_complete"}
    assert "plain,search" in completed(**asked, COMP_WORDS="opend-sidecar audit se", COMP_CWORD="2")
    assert "plain,--buy-back" in completed(**asked, COMP_WORDS="opend-sidecar explain --buy-", COMP_CWORD="2")
