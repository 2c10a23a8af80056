"""The OpenAPI document: that it is one, that it lists what the door takes and answers, and that it is made and not written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from sidecar.allowance import allowance
from sidecar.cancelling.account import Emptying, NotCancelled
from sidecar.cancelling.canceller import Run, Why, Wish
from sidecar.grants import Grant
from sidecar.intents.model import TrdEnv
from sidecar.listener_settings import RestListener as RestSettings
from sidecar.listeners.openapi import document as openapi
from sidecar.listeners.openapi import schemas as openapi_schemas
from sidecar.listeners.openapi import words as openapi_words
from sidecar.listeners.refusals import NATIVE
from sidecar.listeners.rest.listener import RestListener
from sidecar.listeners.rest.routes import ROUTES, by_id
from sidecar.policy.decision import Code
from sidecar.policy.key import Key, Scope
from sidecar.policy.trading import ACTIVE
from sidecar.policy.usage import Account, Terms, Usage
from sidecar.settings import Limits
from sidecar.wire import catalog, dialect, packet_id
from sidecar.wire.catalog import CATALOG, Direction, Permission, Row
from sidecar.wire.dialect.enums import enum_of
from sidecar.wire.dialect.names import PACKET_ID, is_list
from sidecar.wire.messages import message_class

Operation = tuple[str, str, dict[str, Any]]


@cache
def document() -> dict[str, Any]:
    return openapi.document("1.2.3", metrics=True)


def operations() -> Iterator[Operation]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def asks_for(operation: dict[str, Any]) -> int | None:
    """The id of the request that an operation says it is."""
    found = re.match(r"OpenD's request `\w+` \((\d+)\)", operation["description"])
    return int(found.group(1)) if found else None


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Of a schema that refers to the document's components."""
    return Draft202012Validator({"allOf": [schema], "components": document()["components"]})


def body_schema(operation: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["schema"]
    return schema


def follow(reference: dict[str, Any]) -> dict[str, Any]:
    found: Any = document()
    for step in reference["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


# -- it is one --------------------------------------------------------------------------------------------------------


def test_the_document_is_valid_openapi_3_1() -> None:
    assert document()["openapi"].startswith("3.1")
    assert [error.message for error in OpenAPIV31SpecValidator(document()).iter_errors()] == []


def test_every_schema_is_a_valid_json_schema() -> None:
    for schema in document()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere() -> None:
    def references(tree: Any) -> Iterator[str]:
        for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            if name == "$ref":
                yield value
            elif isinstance(value, dict | list):
                yield from references(value)

    found = set(references(document()))
    assert len(found) > 500
    for reference in found:
        follow({"$ref": reference})


def test_operations_have_names_of_their_own_and_known_tags() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in document()["tags"]}
    assert {tag for _, _, operation in operations() for tag in operation["tags"]} == tags


# -- it lists what there is -------------------------------------------------------------------------------------------


def test_it_lists_exactly_the_requests_of_the_catalog() -> None:
    listed = {number for _, _, operation in operations() if (number := asks_for(operation)) is not None}
    carried = {
        row.id
        for row in CATALOG.values()
        if row.direction is Direction.REQUEST and row.permission is not Permission.CONNECTION and row.request
    }
    assert listed == carried
    assert len(listed) > 150


def test_every_route_is_listed_with_each_of_its_methods() -> None:
    for route in ROUTES.values():
        methods = document()["paths"][route.path]
        assert set(methods) == ({"post", "get"} if route.get else {"post"}), route.path
        assert all(asks_for(operation) == route.proto_id for operation in methods.values())


def test_requests_with_a_route_are_not_listed_twice() -> None:
    routed = {route.proto_id for route in ROUTES.values()}
    by_name = {asks_for(operation) for path, _, operation in operations() if path.startswith("/api/proto/")}
    assert not by_name & routed


def test_what_the_door_serves_is_what_is_listed() -> None:
    nothing: Any = SimpleNamespace(gate=SimpleNamespace(metrics=None), halt=None, resume=None)
    door = RestListener(RestSettings(docs=False), Limits(), desks=nothing, switch=nothing, readiness=lambda: ())
    served = {
        (route.resource.canonical, route.method.lower())
        for route in door._application().router.routes()
        if route.resource is not None and route.method not in ("HEAD", "*")  # HEAD comes with GET, * answers 404
    }
    by_name = {path: asks_for(operation) for path, _, operation in operations() if re.match(r"/api/proto/\w", path)}
    assert served == {(path, method) for path, method, _ in operations() if path not in by_name}
    for path, number in by_name.items():
        route = by_id(path.removeprefix("/api/proto/"))
        assert route is not None
        assert route.proto_id == number


def test_metrics_are_listed_only_where_the_door_has_them() -> None:
    assert "/metrics" in document()["paths"]
    assert "/metrics" not in openapi.document("1.2.3", metrics=False)["paths"]


def test_every_code_has_a_status_that_is_documented() -> None:
    answered = {NATIVE[code].http for code in Code} - {499}  # nobody is there to read 499
    documented = {int(status) for _, _, operation in operations() for status in operation["responses"]}
    assert answered <= documented
    refusal = document()["components"]["schemas"]["Refusal"]
    assert set(refusal["properties"]["code"]["enum"]) == {*(code.value for code in Code), None}


def test_trading_takes_an_idempotency_key_and_may_conflict() -> None:
    for path, method, operation in operations():
        number = asks_for(operation)
        trading = number is not None and CATALOG[number].permission is Permission.TRADE
        references = [parameter.get("$ref", "") for parameter in operation.get("parameters", [])]
        anything = path == "/api/proto/{name}"
        assert any("IdempotencyKey" in each for each in references) == (trading or anything), (path, method)
        assert ("409" in operation["responses"]) == (trading or anything), (path, method)


def test_orders_can_be_rehearsed_but_not_where_the_route_is_already_a_cancel() -> None:
    order, cancel = document()["paths"]["/api/order"]["post"], document()["paths"]["/api/cancel-order"]["post"]
    body = {**order["requestBody"]["content"]["application/json"]["example"], "dry_run": True}
    assert validator(body_schema(order)).is_valid(body)
    cancelled = {**cancel["requestBody"]["content"]["application/json"]["example"], "dry_run": True}
    assert not validator(body_schema(cancel)).is_valid(cancelled)


def test_a_fixed_field_is_not_among_the_fields_and_an_assumed_one_need_not_be_given() -> None:
    fields = follow(body_schema(document()["paths"]["/api/cancel-order"]["post"])["anyOf"][1])
    assert "modify_order_op" not in fields["properties"]
    assert "order_id" in fields["properties"]
    assert "order_id" not in fields["required"]


def test_scopes_are_told() -> None:
    def said(path: str, method: str = "post") -> str:
        text: str = document()["paths"][path][method]["description"]
        return text.rpartition("\n")[2]

    assert said("/api/quote") == "Scope: `qot:read`."
    assert said("/api/user-security") == "Scope: `acc:read` and `qot:read`."
    assert said("/api/orders") == "Scope: `acc:read` or `trade:simulate` or `trade:real` or `trade:cancel`."
    assert said("/api/global-state", "get") == "Scope: none, any key."


def test_what_asks_for_no_key_says_so_and_everything_else_asks_for_one() -> None:
    assert document()["security"] == [{"key": []}]
    public = {path for path, _, operation in operations() if operation.get("security") == []}
    assert public == {"/health", "/readyz", "/metrics"}


def test_every_operation_is_told_in_words() -> None:
    for path, _, operation in operations():
        assert re.fullmatch(r"[A-Z][A-Za-z ,']+", operation["summary"]), (path, operation["summary"])
    known = {row.name for row in CATALOG.values()} | set(ROUTES)
    assert set(openapi_words.WHOLE) <= known


# -- it is true -------------------------------------------------------------------------------------------------------


def with_examples() -> list[Operation]:
    return [each for each in operations() if asks_for(each[2]) is not None and "requestBody" in each[2]]


@pytest.mark.parametrize("operation", with_examples(), ids=lambda each: each[0])
def test_its_example_is_as_its_schema_says_and_is_read_by_the_door(operation: Operation) -> None:
    path, _, described = operation
    body = described["requestBody"]["content"]["application/json"]["example"]
    assert [error.message for error in validator(body_schema(described)).iter_errors(body)] == []
    route, number = ROUTES.get(path), asks_for(described)
    assert number is not None
    more: dict[str, Any] = {"fixed": route.fixed, "assumed": route.assumed} if route else {}
    assert dialect.read(CATALOG[number], body, packet_id.lend, **more).IsInitialized()


def full(descriptor: Any, *, of_enums: bool) -> dict[str, Any]:
    """What the constructor of a message takes to have every field set but the packetID."""
    fields: dict[str, Any] = {}
    for field in descriptor.fields:
        enum = enum_of(field)
        if field.message_type is not None:
            if field.message_type.full_name == PACKET_ID and of_enums:
                continue
            one: Any = full(field.message_type, of_enums=of_enums)
        elif enum is not None:
            one = enum.values[-1].number
        elif field.cpp_type == field.CPPTYPE_BOOL:
            one = True
        elif field.cpp_type == field.CPPTYPE_STRING:
            one = b"\x00\xff" if field.type == field.TYPE_BYTES else "text"
        elif field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
            one = 0.5
        else:
            one = {field.CPPTYPE_INT64: -(2**63), field.CPPTYPE_UINT64: 2**64 - 1}.get(field.cpp_type, 7)
        fields[field.name] = [one] if is_list(field) else one
    return fields


def by_request() -> list[tuple[Row, dict[str, Any]]]:
    found = {
        asks_for(operation): operation
        for path, _, operation in with_examples()
        if not (path in ROUTES and ROUTES[path].fixed)
    }
    return [(CATALOG[number], operation) for number, operation in found.items() if number is not None]


@pytest.mark.parametrize(
    ("row", "operation"), by_request(), ids=lambda each: each.name if isinstance(each, Row) else ""
)
def test_every_field_of_a_request_can_be_sent_as_its_schema_says(row: Row, operation: dict[str, Any]) -> None:
    cls: Any = message_class(row.request or "")
    message = cls(**full(cls.DESCRIPTOR, of_enums=True))
    body = dialect.write(message)
    assert [error.message for error in validator(body_schema(operation)).iter_errors(body)] == []
    packet_id.lend(message)
    assert dialect.read(row, body, packet_id.lend) == message


@pytest.mark.parametrize(
    ("row", "operation"), by_request(), ids=lambda each: each.name if isinstance(each, Row) else ""
)
def test_every_field_of_an_answer_is_as_its_schema_says(row: Row, operation: dict[str, Any]) -> None:
    cls: Any = message_class(row.response or "")
    tree = dialect.envelope(cls(**full(cls.DESCRIPTOR, of_enums=False)))
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert [error.message for error in validator(schema).iter_errors(tree)] == []
    answer = follow(schema if "$ref" in schema else schema["anyOf"][0])
    s2c = answer["properties"]["s2c"]["anyOf"][0]
    assert set(tree["s2c"]) == set((follow(s2c) if "$ref" in s2c else s2c)["properties"])


def test_an_unknown_field_is_against_the_schema() -> None:
    operation = document()["paths"]["/api/quote"]["post"]
    assert validator(body_schema(operation)).is_valid({"security_list": ["HK.00700"]})
    assert not validator(body_schema(operation)).is_valid({"security_list": ["HK.00700"], "nonsense": 1})
    assert not validator(body_schema(operation)).is_valid({"security_list": ["00700"]})


@pytest.mark.parametrize(
    "field", [{"acc_id": 1001001}, {"acc_id": "1001001"}, {"trd_side": "Buy"}, {"trd_side": 1}, {"code": "HK.00700"}]
)
def test_the_forms_of_one_value_are_all_in_the_schema(field: dict[str, Any]) -> None:
    flat = {
        "trd_env": "Simulate", "acc_id": 1001001, "trd_market": "HK", "trd_side": "Sell", "order_type": "Normal",
        "code": "00700", "qty": 100, "price": 300,
    }  # fmt: skip
    operation = document()["paths"]["/api/order"]["post"]
    assert validator(body_schema(operation)).is_valid(flat | field)
    assert not validator(body_schema(operation)).is_valid(flat | {name: [] for name in field})


def test_what_a_key_is_told_of_itself_is_described_whole() -> None:
    key = Key("bot", frozenset({Scope.QOT_READ}))
    told = allowance(
        Grant(key, frozenset(), frozenset(), frozenset()),
        Usage(),
        datetime(2026, 1, 5, tzinfo=UTC),
        ACTIVE,
        Terms(),
    )
    schema = document()["components"]["schemas"]["Allowance"]
    assert set(told) == set(schema["properties"])
    assert [error.message for error in validator(schema).iter_errors(told)] == []


def test_what_is_told_of_cancels_is_described_whole() -> None:
    run = Run(Wish("bot", Why.HALT, "key `ops`"))
    account = Account(1001, TrdEnv.REAL, frozenset({1}))
    emptying = Emptying(account, None, lambda listed: True, None)  # type: ignore[arg-type]
    emptying.not_cancelled = (NotCancelled(1001, "X7", "HK.00700", "filled before it could be cancelled"),)
    emptying.finished, emptying.problem = True, "OpenD does not list them"
    run.accounts.append(emptying)
    schema = document()["components"]["schemas"]["Cancelling"]
    told = run.tree()
    assert set(told) == set(schema["properties"])
    for name in ("accounts", "not_cancelled"):
        assert set(told[name][0]) == set(schema["properties"][name]["items"]["properties"])
    assert [error.message for error in validator(schema).iter_errors(told)] == []


# -- it is made -------------------------------------------------------------------------------------------------------


def grown(name: str, inner: str, number: int) -> Any:
    """The class of a message of futu-api as a newer release might have it: with the field `brandNew` in `inner`."""
    pool = descriptor_pool.DescriptorPool()

    def add(file: Any) -> None:
        for needed in file.dependencies:
            add(needed)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        for message in proto.message_type:
            if f"{proto.package}.{message.name}" == inner:
                message.field.add(name="brandNew", number=number, type=13, label=1)
        pool.Add(proto)

    old: Any = message_class(name).DESCRIPTOR
    add(old.file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def test_a_field_that_is_new_in_the_messages_is_in_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = grown("Qot_GetKL.Request", "Qot_GetKL.C2S", 999)
    monkeypatch.setattr(
        openapi, "message_class", lambda name: newer if name == "Qot_GetKL.Request" else message_class(name)
    )
    made = openapi.document("1.2.3", metrics=True)
    assert "brand_new" in made["components"]["schemas"]["Qot_GetKL.Request.C2S"]["properties"]
    assert "brand_new" not in document()["components"]["schemas"]["Qot_GetKL.Request.C2S"]["properties"]


def test_a_row_that_is_new_in_the_catalog_is_in_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(3999, "Qot_Brand_New", Direction.REQUEST, Permission.QUOTES, "Qot_GetKL.Request", "Qot_GetKL.Response")
    monkeypatch.setattr(openapi, "CATALOG", {**catalog.CATALOG, row.id: row})
    made = openapi.document("1.2.3", metrics=True)
    assert set(made["paths"]) - set(document()["paths"]) == {"/api/proto/Qot_Brand_New"}


def test_a_message_that_contained_itself_would_be_described_all_the_same() -> None:
    schemas = openapi_schemas.Schemas()
    proto = descriptor_pb2.FileDescriptorProto(name="self.proto", package="Self")
    tree = proto.message_type.add(name="Tree")
    tree.field.add(name="branches", number=1, type=11, label=3, type_name=".Self.Tree")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    schemas.request(pool.FindMessageTypeByName("Self.Tree"))
    branches = schemas.components["Self.Tree"]["properties"]["branches"]
    assert branches == {"type": "array", "items": {"$ref": "#/components/schemas/Self.Tree"}}
