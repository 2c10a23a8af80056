"""The exceptions of the project: broken bytes, a broken link, broken configuration. A denial is a value, never an exception."""

from __future__ import annotations


class SidecarError(Exception):
    """What a person may read as it is: what happened, with which value, what to do."""


class WireError(SidecarError):
    """Bytes that are not the protocol; the connection that sent them cannot go on."""


class BodyError(SidecarError):
    """One request whose body cannot be read; the connection goes on, the request is answered with `code`.

    `code` is one of the stable codes `malformed_request`, `unknown_field`, `body_too_large`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UpstreamError(SidecarError):
    """OpenD cannot be reached, did not answer in time, or has no room. `code` is `upstream_unavailable` or `upstream_full`."""

    def __init__(self, message: str, code: str = "upstream_unavailable") -> None:
        super().__init__(message)
        self.code = code


class RecordError(SidecarError):
    """A decision could not be made durable. `code` is `ledger_unavailable` or `audit_unavailable`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConfigError(SidecarError):
    """A setting, a key file or the machine's surroundings do not allow starting or reloading."""
