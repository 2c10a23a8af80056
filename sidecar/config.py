"""Settings from a YAML file and the flags of `run`, or every problem they have. Their defaults are in `settings`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from sidecar.border import closest, shown
from sidecar.errors import ConfigError
from sidecar.listener_settings import address_of
from sidecar.setting_values import is_off, socket_path, stays_here
from sidecar.settings import Settings, surface

LARGEST_FILE = 1024 * 1024
_FLAGS = {
    "keys_file": "keys.file",
    "state_dir": "state_dir",
    "audit_log": "audit.file",
    "ws_port": "listeners.websocket.port",
    "rest_port": "listeners.rest.port",
    "grpc_port": "listeners.grpc.port",
    "mcp_port": "listeners.mcp.port",
    "admin_port": "listeners.admin.port",
}
"""Flags of `run` that are one setting each; `upstream`, `bind` and `tcp_port` mean more and are applied below."""
_SINGLE = ("websocket", "rest", "grpc", "mcp", "admin")
"""Listeners of which there is one at most."""
_SETTINGS = TypeAdapter(Settings)


def load_settings(path: Path | None, overrides: Mapping[str, object], *, empty: bool = True) -> Settings:
    """The settings of a YAML file (`path` None: the defaults), with `overrides` put over them.

    `empty` False: a file without any setting is refused, for those that are read while they may be written over.

    `overrides` are flags by their parameter names (`upstream` "HOST:PORT", `keys_file`, `state_dir`, `audit_log`,
    `bind`, `tcp_port`, `ws_port`, `rest_port`, `grpc_port`, `mcp_port`, `admin_port`) or settings
    by their dotted names (`policy.facts_timeout`); None = not given.
    Raises ConfigError that names every problem, one a line, each with the setting, its value and what to do.
    """
    tree = {} if path is None else _read(path)
    if path is not None and not tree and not empty:
        raise ConfigError(f"settings `{path}` are empty; write what you want, or delete a section to have its defaults")
    for name, value in overrides.items():
        if value is not None:
            _override(tree, name, value)
    problems = [f"setting {shown(where)}: {text}" for where, text in _unknown(tree, surface(), "")]
    try:
        settings = _SETTINGS.validate_python(_opened(tree))
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems += [_problem(one) for one in found if one["type"] != "unexpected_keyword_argument"]
    if problems:
        source = "the flags have" if path is None else f"settings `{path}` have"
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"{source} {count}:\n{lines}")
    return settings


def warnings_of(settings: Settings) -> tuple[str, ...]:
    """What is allowed and may yet be a mistake, as prose for the operator."""
    found: list[str] = []
    for door in settings.listeners.tcp:
        if not (door.rsa_key or door.rsa_keys or door.key or door.tls.on) and not stays_here(door.bind):
            address = address_of(door)
            found.append(
                f"listener {address} takes keys in clear from the network; set tls or rsa_keys, or use a tunnel"
            )
    for name in ("websocket", "rest", "grpc", "mcp"):
        single = getattr(settings.listeners, name)
        if single is not None and not single.tls.on and not stays_here(single.bind):
            found.append(
                f"the {name} listener {address_of(single)} takes keys in clear from the network; "
                "set tls, or put a proxy with TLS or a tunnel before it"
            )
    admin = settings.listeners.admin
    if admin is not None and not stays_here(admin.bind) and admin.tls.client_ca is None:
        found.append(f"the admin listener {address_of(admin)} asks for no key; keep it on a private network")
    places = [(door.bind, door.socket_mode) for door in settings.listeners.tcp]
    places += [] if admin is None else [(admin.bind, admin.socket_mode)]
    for bind, mode in places:
        if socket_path(bind) is not None and mode & 0o002:
            found.append(f"every user of this machine may connect to {bind} (socket_mode {mode:04o})")
    return tuple(found)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"settings `{path}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"settings `{path}` are over {LARGEST_FILE // 1024} KiB; is it the right file?")
    try:
        node = yaml.compose(data, Loader=yaml.SafeLoader)
        twice = next(_repeated(node, set()), None) if node is not None else None
        if twice is not None:
            raise ConfigError(f"settings `{path}`, {twice}; keep one of them")
        tree = _without_nulls(yaml.safe_load(data))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ConfigError(f"settings `{path}` are not YAML: {where}{error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"settings `{path}` are not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"settings `{path}` are nested too deeply") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"settings `{path}` must be `name: value` lines, not {shown(tree)}")
    return tree


def _repeated(node: yaml.Node, seen: set[int]) -> Iterator[str]:
    """Names written twice in one mapping, of which YAML would silently take the last."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                if name.value in names:
                    yield f"line {name.start_mark.line + 1}: {shown(name.value)} is written twice"
                names.add(name.value)
            yield from _repeated(value, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated(value, seen)


def _without_nulls(value: Any) -> Any:
    """null means absent: a section whose every line is commented out keeps its defaults."""
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [{} if one is None else _without_nulls(one) for one in value]
    return value


def _override(tree: dict[str, Any], name: str, value: object) -> None:
    flag = f"--{name.replace('_', '-')}"
    match name:
        case "upstream":
            host, colon, port = str(value).rpartition(":")
            if not colon or not port.isascii() or not port.isdigit():
                raise ConfigError(f"{flag} {shown(value)} is not HOST:PORT; write e.g. `127.0.0.1:11111`")
            section = _section(tree, "upstream")
            section["host"] = host.removeprefix("[").removesuffix("]")
            section["port"] = int(port)
        case "bind":
            try:
                ipaddress.ip_address(str(value))
            except ValueError:
                text = f"{flag} {shown(value)} is not an IP address to listen on; write e.g. `127.0.0.1` or `0.0.0.0`"
                raise ConfigError(text) from None
            for listener in _tcp_listeners(tree):
                if not str(listener.get("bind", "")).startswith("unix:"):  # a socket stays where it is
                    listener["bind"] = value
            for kind in _SINGLE:
                section = _section(tree, "listeners")
                if kind != "admin" and not is_off(section.get(kind)):
                    _section(section, kind)["bind"] = value
        case "tcp_port":
            _override_tcp_port(tree, flag, value)
        case _:
            *sections, leaf = _FLAGS.get(name, name).split(".")
            section = tree
            for one in sections:
                section = _section(section, one)
            section[leaf] = _port(flag, value) if leaf == "port" else value


def _override_tcp_port(tree: dict[str, Any], flag: str, value: object) -> None:
    port = _port(flag, value)
    if port is False:
        _section(tree, "listeners")["tcp"] = []
        return
    listeners = _tcp_listeners(tree)
    if not listeners:
        listeners.append({})
    if len(listeners) > 1:
        raise ConfigError(
            f"{flag} {shown(value)} could mean any of {len(listeners)} listeners; set the ports in listeners.tcp"
        )
    listeners[0]["port"] = port


def _tcp_listeners(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The list in the tree, made of the default where there is none. What is no list is left to validation."""
    section = _section(tree, "listeners")
    if is_off(section.get("tcp")):
        section["tcp"] = []
    listeners = section.setdefault("tcp", [{}])
    return listeners if isinstance(listeners, list) and all(isinstance(one, dict) for one in listeners) else []


def _section(tree: dict[str, Any], name: str) -> dict[str, Any]:
    if is_off(tree.get(name)):
        tree[name] = {}
    section = tree.setdefault(name, {})
    if not isinstance(section, dict):
        raise ConfigError(
            f"setting `{name}`: {shown(section)} is not a group of settings; write `name: value` lines below it"
        )
    return section


def _port(flag: str, value: object) -> int | bool:
    """A port number, or False for `off`."""
    if is_off(value):
        return False
    text = str(value)
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise ConfigError(f"{flag} {shown(value)} is not a port; write a number up to 65535, or `off`")
    return int(text)


def _opened(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree without the listeners that are `off`."""
    listeners = tree.get("listeners")
    if not isinstance(listeners, dict):
        return tree
    opened = dict(listeners)
    tcp = opened.get("tcp")
    if is_off(tcp):
        opened["tcp"] = []
    elif isinstance(tcp, list):
        opened["tcp"] = [one for one in tcp if not (isinstance(one, dict) and is_off(one.get("port")))]
    for kind in _SINGLE:
        single = opened.get(kind)
        if is_off(single) or (isinstance(single, dict) and is_off(single.get("port"))):
            opened[kind] = None
    return {**tree, "listeners": opened}


def _unknown(tree: Mapping[Any, Any], known: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """(dotted name, text) of every setting that does not exist. INVARIANT: an unknown setting refuses to start."""
    for name, value in tree.items():
        where = f"{prefix}{name}"
        if name not in known:
            yield where, f"unknown setting{_meant(str(name), known, prefix)}"
        elif isinstance(known[name], Mapping):
            for number, one in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(one, Mapping):
                    inside = f"{where}[{number}]." if isinstance(value, list) else f"{where}."
                    yield from _unknown(one, known[name], inside)


def _meant(name: str, known: Iterable[str], prefix: str) -> str:
    near = closest(name, known)
    if near:
        return near
    elsewhere = [full for full in _names(surface(), "") if full.rpartition(".")[2] == name]
    if elsewhere:
        return f"; did you mean `{elsewhere[0]}`?"
    return closest(prefix + name, _names(surface(), "")) or "; remove it"


def _names(known: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, below in known.items():
        if isinstance(below, Mapping):
            yield from _names(below, f"{prefix}{name}.")
        else:
            yield prefix + name


def _problem(error: ErrorDetails) -> str:
    where = ""
    for part in error["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else part
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            text = str(context["error"])
        case "int_type" | "int_from_float":
            text = f"{shown(error['input'])} is not a whole number; write e.g. 10"
        case "float_type":
            text = f"{shown(error['input'])} is not a number; write seconds, e.g. 2.5"
        case "bool_type":
            text = f"{shown(error['input'])} is not a yes or no; write true or false"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal" | "finite_number":
            text = f"{shown(error['input'])} {error['msg'].replace('Input should be', 'must be').lower()}"
        case "literal_error":
            text = f"{shown(error['input'])} is not one of {context['expected']}"
        case "dataclass_type":
            text = f"{shown(error['input'])} is not a group of settings; write `name: value` lines below it"
        case _:
            text = f"{shown(error['input'])}: {error['msg'].lower()}"
    return f"setting {shown(where or 'settings')}: {text}"
