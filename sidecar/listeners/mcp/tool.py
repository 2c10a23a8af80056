"""What a tool is: its name and request, and how its arguments are read and fill the request. Knows none by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from sidecar.border import closest, shown
from sidecar.errors import BodyError
from sidecar.listeners.mcp.arguments import Argument, Schema

Values = dict[str, Any]
Tree = dict[str, Any]
Effect = Literal["read", "subscription", "order", "cancel", "unlock"]

_NOTHING: Mapping[str, object] = MappingProxyType({})


def _nothing_more(values: Values, c2s: Tree) -> None:
    """Most arguments fill one field each."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `proto_id` 0: it is answered without a request to OpenD."""

    name: str
    proto_id: int
    says: str
    """What the model is told of it."""
    arguments: tuple[Argument, ...] = ()
    effect: Effect = "read"
    fixed: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    """Fields of c2s that make it what it is."""
    assumed: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    """Fields of c2s that it has where no argument fills them."""
    complete: Callable[[Values, Tree], None] = _nothing_more
    """Fills what takes more than one argument to know. Raises BodyError."""
    sub_type: Callable[[Values], int] | None = None
    """The Qot_Common.SubType its data come by: OpenD answers only what the connection has subscribed."""

    def schema(self) -> Schema:
        """The JSON Schema of its arguments."""
        return {
            "type": "object",
            "properties": {each.name: each.schema for each in self.arguments},
            "required": [each.name for each in self.arguments if each.required],
            "additionalProperties": False,
        }

    def read(self, arguments: Mapping[str, Any]) -> Values:
        """The arguments by name, each as the request has it; null is as good as absent. Raises BodyError."""
        known = {spelling: each for each in self.arguments for spelling in (each.name, *each.aliases)}
        values: Values = {}
        for name, value in arguments.items():
            argument = known.get(name)
            if argument is None:
                said = f"unknown argument {shown(name)}{closest(name, known)}; {self._takes()}"
                raise BodyError("unknown_field", said)
            if value is None:
                continue
            if argument.name in values:
                raise BodyError("malformed_request", f"argument `{argument.name}` is given twice, once as `{name}`")
            values[argument.name] = argument.read(value)
        missing = [each.name for each in self.arguments if each.required and each.name not in values]
        if missing:
            raise BodyError("malformed_request", f"argument {_listed(missing)} is missing; {self._takes()}")
        return values

    def c2s(self, values: Values) -> Tree:
        """The request's c2s as a tree of JSON values. Raises BodyError."""
        tree: Tree = {}
        for argument in self.arguments:
            if argument.into and argument.name in values:
                put(tree, argument.into, values[argument.name])
        self.complete(values, tree)
        return tree

    def _takes(self) -> str:
        if not self.arguments:
            return f"{self.name} takes none"
        return f"{self.name} takes {_listed(each.name for each in self.arguments)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def put(tree: Tree, path: str, value: Any) -> None:
    """Set a field by its dotted path."""
    *parents, name = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value
