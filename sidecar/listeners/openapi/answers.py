"""What the REST door's operations answer, in the words of OpenAPI: OpenD's envelope, and refusals by status. Makes no answer."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from google.protobuf.descriptor import Descriptor

from sidecar.listeners.openapi.schemas import Schema, Schemas, reference
from sidecar.listeners.refusals import NATIVE
from sidecar.policy.decision import Code

_ENVELOPE = ("retType", "retMsg", "errCode", "s2c")
_DECISION = "01M7YW884BE4CW9QNCM3NBB49B"
_NULL: Schema = {"type": "null"}

_MEANINGS: Mapping[int, str] = {
    400: "The request cannot be read without doubt; `ret_msg` says what is wrong with it, and where.",
    401: "No key in good standing.",
    403: "The key does not allow it, or what is needed to judge it is not known.",
    404: "There is no such request.",
    408: "The body did not come in time.",
    409: "The Idempotency-Key was used for another order.",
    413: "The body is too large.",
    415: "The body is not JSON, or is compressed.",
    429: "Too much, too fast; `Retry-After` says when to look again.",
    503: "It cannot be recorded, or OpenD is away. For an order: if the answer says that it was sent, look at the orders "
    "before sending it again.",
}
_BY_DOOR: Mapping[int, tuple[Code, ...]] = dict.fromkeys((408, 415), (Code.MALFORMED_REQUEST,))
"""Statuses in which HTTP is more exact than the code."""


def envelope(schemas: Schemas, response: Descriptor) -> Schema:
    """The schema of an answer whose protobuf message is `response`."""
    return enveloped(_content(schemas, response))


def enveloped(s2c: Schema) -> Schema:
    """The schema of an answer that holds `s2c`."""
    return {
        "type": "object",
        "properties": {
            "ret_type": {"type": "integer", "description": "0: done"},
            "ret_msg": {"type": ["string", "null"]},
            "err_code": {"type": ["integer", "null"]},
            "s2c": {"anyOf": [s2c, _NULL]},
        },
        "required": ["ret_type", "ret_msg", "err_code", "s2c"],
        "additionalProperties": False,
    }


def responses(answer: Schema, *, body: bool, trading: bool, unknown: bool = False) -> dict[str, Any]:
    """By status. `body`: the request may have one; `trading`: an Idempotency-Key; `unknown`: there may be no such request."""
    possible = [400, 401, 403, 429, 503]
    if body:
        possible += [408, 413, 415]
    if unknown:
        possible.append(404)
    if trading:
        possible.append(409)
    headers = {"X-Decision-Id": {"$ref": "#/components/headers/DecisionId"}}
    if trading:
        headers["Idempotency-Replayed"] = {"$ref": "#/components/headers/Replayed"}
    done = {
        "description": "OpenD's answer, its own no (`ret_type` -1) included.",
        "headers": headers,
        "content": {"application/json": {"schema": answer}},
    }
    return {"200": done} | refused(*possible)


def refused(*statuses: int) -> dict[str, Any]:
    """References to the refusals with these statuses."""
    return {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in sorted(statuses)}


def refusals() -> dict[str, Any]:
    """The components that `refused` refers to."""
    return {_name(status): _refusal(status) for status in _MEANINGS}


def schemas() -> dict[str, Schema]:
    """The components of this module."""
    return {
        "Refusal": {
            "type": "object",
            "description": "a no of the sidecar's",
            "properties": {
                "ret_type": {"const": -1},
                "ret_msg": {"type": "string", "examples": [f"[sidecar:rate] … (decision {_DECISION})"]},
                "err_code": _NULL,
                "s2c": _NULL,
                "code": {"type": ["string", "null"], "enum": [*(code.value for code in Code), None]},
                "decision_id": {"type": ["string", "null"], "description": "under which the audit has it"},
            },
            "required": ["ret_type", "ret_msg", "err_code", "s2c", "code", "decision_id"],
            "additionalProperties": False,
        },
        "DryRun": enveloped(
            {
                "type": "object",
                "description": "what would be decided; nothing was sent, reserved or used",
                "properties": {
                    "dry_run": {"const": True},
                    "allowed": {"type": "boolean"},
                    "code": {"type": ["string", "null"], "enum": [*(code.value for code in Code), None]},
                    "message": {"type": ["string", "null"]},
                    "value": {"type": ["string", "null"], "description": "what the order counts as, a decimal"},
                    "currency": {"type": ["string", "null"]},
                    "checks": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "check": {"type": "string"},
                                "passed": {"type": "boolean"},
                                "detail": {"type": "string"},
                            },
                            "required": ["check", "passed", "detail"],
                        },
                    },
                },
                "required": ["dry_run", "allowed", "code", "message", "value", "currency", "checks"],
            }
        ),
    }


def headers() -> dict[str, Any]:
    """The components of this module's headers."""
    return {
        "DecisionId": {"description": "under which the audit has it", "schema": {"type": "string"}},
        "Replayed": {
            "description": "this is the first answer to this Idempotency-Key; nothing was sent again",
            "schema": {"const": "true"},
        },
        "RetryAfter": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}},
        "Challenge": {"schema": {"type": "string", "examples": ["Bearer"]}},
    }


def _refusal(status: int) -> dict[str, Any]:
    codes = [code for code in Code if NATIVE[code].http == status] or list(_BY_DOOR.get(status, ()))
    made: dict[str, Any] = {
        "description": f"{_MEANINGS[status]} Codes: {', '.join(f'`{code.value}`' for code in codes)}.",
        "headers": {"X-Decision-Id": {"$ref": "#/components/headers/DecisionId"}},
        "content": {"application/json": {"schema": reference("Refusal"), "example": _example(codes[0])}},
    }
    if status == 401:
        made["headers"]["WWW-Authenticate"] = {"$ref": "#/components/headers/Challenge"}
    if status in (429, 503):
        made["headers"]["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    return made


def _example(code: Code) -> dict[str, Any]:
    text = f"[sidecar:{code.value}] … (decision {_DECISION})"
    return {
        "ret_type": -1,
        "ret_msg": text,
        "err_code": None,
        "s2c": None,
        "code": code.value,
        "decision_id": _DECISION,
    }


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")


def _content(schemas: Schemas, response: Descriptor) -> Schema:
    """What stands in `s2c`: the message's, or where it has none all that the envelope does not hold."""
    s2c = response.fields_by_name.get("s2c")
    if s2c is None or s2c.message_type is None:
        return schemas.rest_of_reply(response, _ENVELOPE)
    return schemas.reply(s2c.message_type)
