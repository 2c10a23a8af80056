"""The messages come from the installed futu-api, and only they do."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from sidecar.errors import ConfigError
from sidecar.wire import messages


def test_loading_messages_pulls_in_neither_the_sdk_nor_pandas() -> None:
    script = (
        "import sys\n"
        "from sidecar.wire.messages import message_class\n"
        "message_class('Trd_PlaceOrder.Request')\n"
        "print(sorted({'futu', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_class_is_looked_up_by_module_and_message() -> None:
    cls = messages.message_class("Trd_PlaceOrder.C2S")
    assert cls.DESCRIPTOR.full_name == "Trd_PlaceOrder.C2S"
    assert messages.message_class("Trd_PlaceOrder.C2S") is cls


def test_a_missing_futu_api_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    messages.pb_folder.cache_clear()
    try:
        with pytest.raises(ConfigError, match="pip install futu-api"):
            messages.pb_folder()
    finally:
        messages.pb_folder.cache_clear()
