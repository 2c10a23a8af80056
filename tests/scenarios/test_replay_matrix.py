"""A day of everything the tables have, recorded, and replayed under the very keys it was recorded with: nothing differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from live import Stage
from scenarios.scenario_run import run
from scenarios.scenario_table import Scenario, scenarios
from scenarios.scenario_world import World, key_name, keys_of, make_world

from sidecar import recorder
from sidecar import writer as recorders_writer
from sidecar.cli.main import main
from sidecar.upstream import house

DOOR = "tcp"
TABLE = list(scenarios())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, Stage(tmp_path_factory.mktemp("replayed")) as stage:
        patch.setattr(recorder, "NOTE_DELAY", 0.001)
        patch.setattr(recorders_writer, "RETRY_DELAY", 0.02)
        patch.setattr(house, "RETRY_FIRST", 0.02)
        yield make_world(stage, keys_of(TABLE, [DOOR]))


async def test_the_same_keys_decide_a_recorded_day_no_differently(world: World, tmp_path: Path) -> None:
    # the keys as they were; some scenarios take theirs away. Written otherwise, so that it is not the same revision
    keys = tmp_path / "same-keys.json"
    keys.write_text(json.dumps({"keys": world.stage.keys.records, "version": 1}, indent=1))
    keys.chmod(0o600)
    for number, scenario in enumerate(TABLE):
        if scenario.expected(DOOR) is not None and not _changes_keys(scenario):
            await run(world, scenario, key_name(number, DOOR), DOOR)
    await world.settled()
    world.sidecar.write_settings()
    words = ["replay", str(world.sidecar.audit_file), "--keys", str(keys), "--config", str(world.sidecar.config_file)]
    result = CliRunner().invoke(main, [*words, "--json"])
    told: dict[str, Any] = json.loads(result.stdout)
    assert told["differences"] == [], json.dumps(told["differences"], indent=1)
    assert result.exit_code == 0
    assert told["decisions"] > 130, "it was a day"
    assert told["from_the_start"]
    reasons = [tally["refused_for_another_reason"] for tally in told["keys"].values()]
    assert sum(reasons) == 0, "and what is refused is refused for the same reason"
    same, untold = (sum(tally[name] for tally in told["keys"].values()) for name in ("same", "cannot_be_told"))
    assert same > 2 * untold, "most of it can be told"


def _changes_keys(scenario: Scenario) -> bool:
    """Refused for what its key became meanwhile, which no file of keys of one moment says."""
    return "key has been" in (scenario.before_it_connects or "") or "key is" in (scenario.meanwhile or "")
