"""The JSON dialect of REST and MCP: requests out of JSON trees, JSON trees out of replies. Judges nothing.

Text becomes a tree in `wire.json_text`, one value becomes a field's in `values`; fields are spelt as in `names`, numbers have the
names of `enums`.
"""

from sidecar.wire.dialect.body import read
from sidecar.wire.dialect.enums import enum_of
from sidecar.wire.dialect.names import FieldName, flat_header, names, snake
from sidecar.wire.dialect.write import envelope, write
from sidecar.wire.json_text import tree_of

__all__ = ["FieldName", "enum_of", "envelope", "flat_header", "names", "read", "snake", "tree_of", "write"]
