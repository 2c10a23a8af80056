"""The example of firewall rules, loaded by a real nft in a network of its own: who reaches OpenD's port on the same machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from engine import PROJECT
from real_parts import need, need_program

pytestmark = pytest.mark.real_part

RULES = PROJECT / "deploy/nftables/opend.nft"


def test_only_the_sidecars_user_reaches_opends_port(tmp_path: Path) -> None:
    need("root", os.geteuid() == 0)
    need_program("nft")
    named = re.search(r"(?m)^define sidecar = (\d+)$", RULES.read_text())
    assert named is not None
    sidecar, bot = named.group(1), "1000"
    driver = Path(__file__).with_name("firewall_driver.py")
    done = subprocess.run(
        [need_program("unshare"), "--net", sys.executable, str(driver), str(RULES), "11111", "0", bot, sidecar],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    opend_and_another_port = json.loads(done.stdout)
    assert opend_and_another_port == {"0": [False, True], bot: [False, True], sidecar: [True, True]}
