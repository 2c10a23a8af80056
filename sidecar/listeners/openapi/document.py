"""The OpenAPI 3.1 document of the REST door, made from its routes, the catalog and the messages of futu-api. Serves nothing.

INVARIANT: no request is listed here by hand: a route, a row or a field that is new is in the document as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor

from sidecar.listeners.openapi import answers, own, words
from sidecar.listeners.openapi.examples import example_of
from sidecar.listeners.openapi.schemas import Schema, Schemas, reference
from sidecar.listeners.rest.routes import BY_ID, ROUTES, Route
from sidecar.policy.permission import SCOPES
from sidecar.wire.catalog import CATALOG, Direction, Permission, Row
from sidecar.wire.dialect.names import snake
from sidecar.wire.messages import message_class

_INTRODUCTION = """\
Every request of OpenD as HTTP with JSON, in front of an OpenD that speaks only its own protocol.

**Key.** Send it as `Authorization: Bearer fc_…`. It may do what its record allows; `GET /api/key` tells what that is.

**Bodies.** `{"c2s": {…}}`, or what is in `c2s` alone; then the fields of `header` may stand beside the others. Names are
written in snake_case or as OpenD spells them. A security is `"HK.00700"`, or market and code. Enums are names or numbers,
64-bit integers are numbers or text. A field that is not known is refused.

**Answers.** `ret_type` 0 means that OpenD did it; its own no is an answer too, with `ret_type` -1 and the reason in
`ret_msg`. What the *sidecar* refuses has a status of its own, a stable `code`, and the id under which the audit has it.

**Orders.** With an `Idempotency-Key` an order can be sent again without being placed twice. `dry_run: true` tells what
would be decided, and sends nothing.
"""

_TAGS = {
    "system": "OpenD itself",
    "quotes": "market data",
    "accounts": "funds, positions, orders and fills",
    "trading": "what places or changes orders",
    "more-system": "requests without a route of their own, by OpenD's names",
    "more-quotes": "requests without a route of their own, by OpenD's names",
    "more-accounts": "requests without a route of their own, by OpenD's names",
    "more-trading": "requests without a route of their own, by OpenD's names",
    "sidecar": "the sidecar itself",
}


def requests() -> Iterator[Row]:
    """Every row of the catalog that can be asked for over REST: the requests whose messages are published."""
    for row in CATALOG.values():
        if row.direction is Direction.REQUEST and row.permission is not Permission.CONNECTION and row.request:
            yield row


def document(version: str, *, metrics: bool) -> dict[str, Any]:
    """The document; `version` is the sidecar's, `metrics` whether the door has `/metrics`.

    It takes a tenth of a second and some megabytes to make; whoever serves it keeps it as bytes.
    """
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    routed = {route.proto_id for route in ROUTES.values()}
    for route in ROUTES.values():
        row = CATALOG[route.proto_id]
        paths[route.path] = {"post": _by_route(schemas, row, route)}
        if route.get:
            paths[route.path]["get"] = _by_query(schemas, row, route)
    for row in requests():
        if row.id not in routed:
            paths[BY_ID.format(name=row.name)] = {"post": _by_name(schemas, row)}
    paths |= own.operations(metrics=metrics)
    schemas.components |= answers.schemas() | own.schemas()
    used = {tag for path in paths.values() for operation in path.values() for tag in operation["tags"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "opend-sidecar", "version": version, "description": _INTRODUCTION},
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items() if name in used],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": answers.refusals(),
            "parameters": own.parameters(),
            "headers": answers.headers(),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "a key of the sidecar's: `fc_` and 64 hexadecimal digits",
                }
            },
        },
    }


def _by_route(schemas: Schemas, row: Row, route: Route) -> dict[str, Any]:
    heading = words.of_route(route.path) if route.fixed else words.sentence(row.name)
    return _operation(schemas, row, _camel(route.path), route.group, heading, route)


def _by_name(schemas: Schemas, row: Row) -> dict[str, Any]:
    operation_id = row.name.replace("_", "")  # Swagger UI takes an underscore in its links for a space
    return _operation(schemas, row, operation_id, f"more-{_group(row)}", words.sentence(row.name), None)


def _by_query(schemas: Schemas, row: Row, route: Route) -> dict[str, Any]:
    made = _by_route(schemas, row, route)
    del made["requestBody"]
    c2s = _c2s(row)
    parameters = [] if c2s is None else schemas.query(c2s, (*route.assumed, *route.fixed))
    return {
        **made,
        "operationId": _camel(f"get-{route.path.removeprefix('/api/')}"),
        "parameters": parameters,
        "responses": answers.responses(_reply(schemas, row), body=False, trading=False),
    }


def _operation(
    schemas: Schemas, row: Row, operation_id: str, tag: str, heading: str, route: Route | None
) -> dict[str, Any]:
    answer = _reply(schemas, row)
    rehearsed = row.permission is Permission.TRADE and not (route and route.fixed)
    if rehearsed:
        answer = {"anyOf": [answer, reference("DryRun")]}
    made: dict[str, Any] = {
        "operationId": operation_id,
        "tags": [tag],
        "summary": heading,
        "description": _description(row, route),
        "requestBody": _request_body(schemas, row, operation_id, route, rehearsed=rehearsed),
        "responses": answers.responses(answer, body=True, trading=row.permission is Permission.TRADE),
    }
    if row.permission is Permission.TRADE:
        made["parameters"] = [{"$ref": "#/components/parameters/IdempotencyKey"}]
    return made


def _request_body(
    schemas: Schemas, row: Row, operation_id: str, route: Route | None, *, rehearsed: bool
) -> dict[str, Any]:
    """Both forms of the body. They are components: of the route where the route narrows them, else of the message."""
    message = _c2s(row) or _descriptor(row.request)
    fixed = frozenset(route.fixed) if route else frozenset()
    optional = frozenset(route.assumed) if route else frozenset()
    also: dict[str, Schema] = {}
    if rehearsed:
        also["dry_run"] = {"type": "boolean", "description": "tell what would be decided; nothing is sent"}
    name = f"{row.request}.{operation_id}" if fixed or optional else row.request or ""
    flat = schemas.body(f"{name}.Flat", message, absent=fixed, optional=optional, flat=True, also=also)
    schemas.components[f"{name}.Flat"]["title"] = "fields alone"
    forms = [flat]
    given = {snake(name) for name in fixed}
    example = {name: value for name, value in example_of(row).items() if name not in given}
    if _c2s(row) is not None:
        whole = {
            "title": "fields in c2s",
            "type": "object",
            "properties": {"c2s": schemas.body(f"{name}.C2S", message, absent=fixed, optional=optional), **also},
            "required": ["c2s"],
            "additionalProperties": False,
        }
        forms.insert(0, whole)
        example = {"c2s": example}
    return {
        "required": "required" in schemas.components[f"{name}.Flat"],
        "content": {"application/json": {"schema": {"anyOf": forms} if len(forms) > 1 else flat, "example": example}},
    }


def _reply(schemas: Schemas, row: Row) -> Schema:
    """OpenD's answer, as the component `<response>.Answer`."""
    response = _descriptor(row.response)
    name = f"{response.full_name}.Answer"
    schemas.components[name] = answers.envelope(schemas, response)
    return reference(name)


def _camel(path: str) -> str:
    """`/api/cancel-all-order` → `cancelAllOrder`."""
    first, *others = path.removeprefix("/api/").split("-")
    return first + "".join(word.capitalize() for word in others)


def _description(row: Row, route: Route | None) -> str:
    parts = [f"OpenD's request `{row.name}` ({row.id})" + (f": {row.note}." if row.note else ".")]
    if route is not None and route.fixed:
        parts.append("Set by the route: " + ", ".join(f"`{name}`" for name in route.fixed) + ".")
    parts.append(_needs(row))
    return "\n\n".join(parts)


def _needs(row: Row) -> str:
    if row.permission is Permission.TRADE:
        return (
            "Scope: that of the account's environment, `trade:simulate` or `trade:real`; `trade:cancel` only cancels."
        )
    ways = [sorted(scope.value for scope in needed) for needed in SCOPES[row.permission]]
    if [] in ways:
        return "Scope: none, any key."
    said = " or ".join(" and ".join(f"`{scope}`" for scope in way) for way in ways)
    return f"Scope: {said}."


def _group(row: Row) -> str:
    if row.permission in (Permission.TRADE, Permission.UNLOCK):
        return "trading"
    return "accounts" if row.acc_id_path is not None else "system" if row.id < 2000 else "quotes"


def _descriptor(name: str | None) -> Descriptor:
    descriptor: Any = message_class(name or "").DESCRIPTOR
    found: Descriptor = descriptor
    return found


def _c2s(row: Row) -> Descriptor | None:
    """The message of what is asked; None for the requests that have none."""
    field = _descriptor(row.request).fields_by_name.get("c2s")
    return None if field is None else field.message_type
