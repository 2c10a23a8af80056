"""Every row of the catalog is proven against the message definitions of the installed futu-api."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import catalog
from sidecar.wire.catalog import CATALOG, PUSH_IDS, Direction, Permission, Row, by_name
from sidecar.wire.messages import message_class, module, pb_folder

WITHOUT_MESSAGES = {1, 2, 1009, 3200}
INT32, UINT64 = FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT64
STRING, BOOL = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL

ROWS = list(CATALOG.values())


def subject(row: Row) -> Any:
    """The definition of the message in which the row's paths are paths; None where there is none."""
    name = row.request if row.direction is Direction.REQUEST else row.response
    return message_class(name).DESCRIPTOR if name else None


def repeated(field: Any) -> bool:
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED)


def resolve(root: Any, path: str) -> Any:
    """The field at the end of a path; every `[]` must stand where the definition has a list, and nowhere else."""
    here, field = root, None
    for step in path.split("."):
        assert here is not None, f"{path}: nothing inside `{field.name if field else ''}`"
        name = step.removesuffix("[]")
        assert name in here.fields_by_name, f"{path}: `{name}` is not a field of {here.full_name}"
        field = here.fields_by_name[name]
        assert repeated(field) == step.endswith("[]"), f"{path}: `{name}` is or is not a list"
        here = field.message_type
    return field


def walk(descriptor: Any, path: str = "", above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every field anywhere below, with its path; what contains itself is entered once."""
    for field in descriptor.fields:
        here = f"{path}.{field.name}" if path else field.name
        here += "[]" if repeated(field) else ""
        yield here, field
        inner = field.message_type
        if inner is not None and inner.full_name not in above:
            yield from walk(inner, here, (*above, inner.full_name))


def named(row: Row) -> Iterator[str]:
    yield from (path for path in (row.env_path, row.acc_id_path, row.all_connections_path) if path)
    yield from row.trd_market_paths + row.market_paths + row.security_paths + row.code_paths + row.order_id_paths


def case(row: Row) -> str:
    return f"{row.id}-{row.name}"


each_row = pytest.mark.parametrize("row", ROWS, ids=case)


def ids_with(permission: Permission) -> set[int]:
    return {row.id for row in ROWS if row.permission is permission}


# --- the table as such


def test_there_are_185_ids_each_once_and_each_name_once() -> None:
    assert len(CATALOG) == len(catalog._ROWS) == 185
    assert len({row.name for row in ROWS}) == 185
    assert all(number == row.id for number, row in CATALOG.items())


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CATALOG[9999] = CATALOG[2202]  # type: ignore[index]  # the refusal is what is tested
    with pytest.raises(FrozenInstanceError):
        CATALOG[2202].permission = Permission.ANY_KEY  # type: ignore[misc]  # the refusal is what is tested


@given(st.integers())
def test_an_id_outside_the_table_has_no_row(number: int) -> None:
    assert (CATALOG.get(number) is None) == (number not in {row.id for row in ROWS})


def test_a_row_is_found_by_its_name_and_only_by_it() -> None:
    assert all(by_name(row.name) is row for row in ROWS)
    assert by_name("Trd_Withdraw") is None
    assert by_name("trd_placeorder") is None


def test_every_named_id_is_in_the_table() -> None:
    constants = {name: value for name, value in vars(catalog).items() if name.isupper() and isinstance(value, int)}
    assert constants["PLACE_ORDER"] == 2202
    assert set(constants.values()) <= set(CATALOG)
    assert len(set(constants.values())) == len(constants)
    for name, value in constants.items():
        letters = name.replace("_", "").lower()
        assert letters.removeprefix("qot") in CATALOG[value].name.replace("_", "").lower() or value == 2


def test_the_set_of_pushes_is_the_tables() -> None:
    assert {number for number, row in CATALOG.items() if row.direction is Direction.PUSH} == PUSH_IDS
    assert all((row.request is None) for row in ROWS if row.direction is Direction.PUSH)
    assert len(PUSH_IDS) == 17


# --- against the SDK's own list of ids


def sdk_ids() -> tuple[dict[str, int], set[str]]:
    """The constants of `ProtoId` and the names in its list of pushes, read as source (importing needs pandas)."""
    source = (pb_folder().parent / "constant.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "ProtoId").body
    ids: dict[str, int] = {}
    pushes: set[str] = set()
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, int):
                ids[node.targets[0].id] = node.value.value
            elif isinstance(node.value, ast.List):
                pushes = {item.id for item in node.value.elts if isinstance(item, ast.Name)}
    return ids, pushes


def test_no_id_of_the_official_sdk_is_missing() -> None:
    ids, _ = sdk_ids()
    assert len(ids) > 150
    assert {name: number for name, number in ids.items() if number not in CATALOG} == {}


def test_ids_have_the_official_sdks_names() -> None:
    ids, _ = sdk_ids()
    assert {name: CATALOG[number].name for name, number in ids.items() if CATALOG[number].name != name} == {}


def test_pushes_are_the_official_sdks_and_the_two_it_does_not_know() -> None:
    ids, pushes = sdk_ids()
    assert {ids[name] for name in pushes} | {catalog.WEBSOCKET_OPEND_LOST, catalog.TRD_NOTIFY} == PUSH_IDS


def test_no_request_of_the_installed_package_is_missing() -> None:
    names = {path.stem.removesuffix("_pb2") for path in pb_folder().glob("*_pb2.py")}
    asked = {name for name in names if hasattr(module(name), "Request")}
    assert len(asked) > 150
    # UsedQuota is defined, but no id is known under which it could be asked
    assert {name for name in asked if by_name(name) is None} == {"UsedQuota"}


# --- every row against its messages


@each_row
def test_the_messages_of_a_row_exist(row: Row) -> None:
    assert (subject(row) is None) == (row.id in WITHOUT_MESSAGES)
    for name in (row.request, row.response):
        if name is not None:
            assert message_class(name).DESCRIPTOR.full_name == name
    if row.id not in WITHOUT_MESSAGES:
        assert row.response is not None
        assert (row.request is None) == (row.direction is Direction.PUSH)


@pytest.mark.parametrize("name", ["InitWebSocket", "InitQuantMode", "Qot_GetTradeDate"])
def test_a_message_said_to_be_unpublished_really_is(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        module(name)
    row = by_name(name)
    assert row is not None and row.id in WITHOUT_MESSAGES


@each_row
def test_every_path_of_a_row_exists_and_has_the_right_type(row: Row) -> None:
    root = subject(row)
    if root is None:
        assert list(named(row)) == []
        return
    expected: list[tuple[str, set[int]]] = [(path, {INT32}) for path in row.trd_market_paths + row.market_paths]
    expected += [(path, {STRING}) for path in row.code_paths]
    expected += [(path, {STRING, UINT64}) for path in row.order_id_paths]
    if row.env_path:
        expected.append((row.env_path, {INT32}))
    if row.acc_id_path:
        expected.append((row.acc_id_path, {UINT64}))
    if row.all_connections_path:
        expected.append((row.all_connections_path, {BOOL}))
    for path, types in expected:
        assert resolve(root, path).type in types, path
    for path in row.security_paths:
        assert resolve(root, path).message_type.full_name == "Qot_Common.Security", path


@each_row
def test_every_account_in_a_message_is_named_by_its_row(row: Row) -> None:
    root = subject(row)
    if root is None:
        return
    found = {path for path, field in walk(root) if "accid" in field.name.lower() or "acc_id" in field.name.lower()}
    assert found == ({row.acc_id_path} if row.acc_id_path else set())
    environments = {path for path, field in walk(root) if field.name == "trdEnv"}
    assert environments == ({row.env_path} if row.env_path else set())
    headers = {path for path, field in walk(root) if _is(field, "Trd_Common.TrdHeader")}
    assert headers == ({row.acc_id_path.rpartition(".")[0]} if row.env_path and row.acc_id_path else set())


def _is(field: Any, name: str) -> bool:
    return field.message_type is not None and field.message_type.full_name == name


@each_row
def test_every_security_in_a_message_is_named_by_its_row(row: Row) -> None:
    root = subject(row)
    if root is not None:
        assert {path for path, field in walk(root) if _is(field, "Qot_Common.Security")} == set(row.security_paths)


@each_row
def test_every_market_and_code_in_a_message_of_an_account_is_named_by_its_row(row: Row) -> None:
    root = subject(row)
    if root is None or row.env_path is None:
        return
    inside = tuple(f"{path}." for path in row.security_paths)
    bare = [(path, field.name) for path, field in walk(root) if not path.startswith(inside or "\0")]
    assert {path for path, name in bare if name in ("trdMarket", "filterMarket")} == set(row.trd_market_paths)
    assert {path for path, name in bare if name in ("secMarket", "market")} == set(row.market_paths)
    assert {path for path, name in bare if name in ("code", "codeList")} == set(row.code_paths)


@each_row
def test_every_order_in_a_message_of_an_account_is_named_by_its_row(row: Row) -> None:
    root = subject(row)
    if root is None or row.env_path is None:
        return
    found = {path for path, field in walk(root) if field.name.lower().startswith("orderid")}
    by_id = {path for path in row.order_id_paths if path.endswith("idList[]")}  # its meaning differs from list to list
    assert found == set(row.order_id_paths) - by_id
    assert bool(by_id) == (row.id in {catalog.GET_ORDER_LIST, catalog.GET_HISTORY_ORDER_LIST})


@each_row
def test_a_flag_over_all_connections_is_named_by_its_row(row: Row) -> None:
    root = subject(row)
    if root is not None and row.direction is Direction.REQUEST:
        found = {path for path, field in walk(root) if "allconn" in field.name.lower()}
        assert found == ({row.all_connections_path} if row.all_connections_path else set())


# --- permissions


def test_who_may_use_what_is_exactly_this() -> None:
    assert ids_with(Permission.CONNECTION) == {1, 2, 1001}
    assert ids_with(Permission.ANY_KEY) == {1002, 1003, 1004}
    assert ids_with(Permission.ADMIN) == {1005, 1006, 1007, 1008, 1009, 2209, 3214, 3220, 3309}
    assert ids_with(Permission.ACCOUNT_LIST) == {2001, 2008}
    assert ids_with(Permission.UNLOCK) == {2005}
    assert ids_with(Permission.OWN_ORDERS) == {2201, 2211, 2207, 2208, 2218}
    assert ids_with(Permission.TRADE) == {2202, 2205, 2227}
    assert ids_with(Permission.PERSONAL) == {3213, 3221, 3222, 3308, 3019}
    assert ids_with(Permission.ACCOUNT) == {2101, 2102, 2111, 2112, 2221, 2222, 2223, 2225, 2226}


def test_quotes_are_the_rest_of_the_three_thousands_and_nothing_else() -> None:
    special = ids_with(Permission.ADMIN) | ids_with(Permission.PERSONAL)
    assert ids_with(Permission.QUOTES) == {number for number in CATALOG if 3000 <= number < 4000} - special


def test_what_names_an_account_is_never_open_to_quotes_or_to_any_key() -> None:
    open_to_all = {Permission.QUOTES, Permission.ANY_KEY, Permission.PERSONAL, Permission.CONNECTION}
    assert [row.id for row in ROWS if row.acc_id_path and row.permission in open_to_all] == []


def test_what_carries_a_replay_guard_is_a_trade_or_closed() -> None:
    writes = {
        row.id for row in ROWS if (root := subject(row)) and any(_is(f, "Common.PacketID") for _, f in walk(root))
    }
    assert writes == {2202, 2205, 2209, 2227}
    assert writes <= ids_with(Permission.TRADE) | ids_with(Permission.ADMIN)


def test_what_must_be_judged_on_its_contents_is_exactly_this() -> None:
    judged = {row.id for row in ROWS if row.judged}
    families = {number for number in CATALOG if 2000 <= number < 3000}
    assert judged == families | {catalog.GET_SUB_INFO}
