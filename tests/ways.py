"""The three ways the official SDK can speak to a sidecar, each set up whole: in clear, RSA with AES-CBC, JSON bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from live import LiveSandbox, LiveSidecar, Stage, new_rsa_key
from official_sdk import SdkProcess
from real_parts import json_sdk_python

WAYS = ("in_clear", "rsa_and_aes", "json")


@dataclass(frozen=True)
class Scene:
    """A sandbox, a sidecar before it, and a process with the SDK whose contexts may each have a key of their own."""

    sandbox: LiveSandbox
    sidecar: LiveSidecar
    bot: SdkProcess


def set_up(stage: Stage, way: str, key: str | None = None, **sandbox_settings: Any) -> Scene:
    """Start all three. `rsa_and_aes` encrypts both halves of the way: the SDK's, and the sidecar's to the sandbox."""
    if way == "rsa_and_aes":
        ours, opends = new_rsa_key(stage.folder / "ours.pem"), new_rsa_key(stage.folder / "opends.pem")
        sandbox = stage.sandbox(rsa_key=str(opends), **sandbox_settings)
        door = {"port": 0, "rsa_key": str(ours)}
        sidecar = stage.sidecar(sandbox.port, upstream={"rsa_key": str(opends)}, listeners={"tcp": [door]})
        return Scene(sandbox, sidecar, stage.sdk(sidecar.port, key, rsa=ours))
    options = {"as_json": True, "python": json_sdk_python()} if way == "json" else {}
    sandbox = stage.sandbox(**sandbox_settings)
    sidecar = stage.sidecar(sandbox.port)
    return Scene(sandbox, sidecar, stage.sdk(sidecar.port, key, **options))
