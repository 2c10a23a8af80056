"""The text of a JSON body to a tree, strictly; knows nothing of messages."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from sidecar.border import shown
from sidecar.errors import BodyError

MAX_NESTING = 32
"""Objects and lists inside each other. The deepest message of the protocol has 7."""


def tree_of(raw: bytes, limit: int) -> object:
    """The tree of a JSON text of at most `limit` bytes; an empty text is an empty object.

    Raises BodyError: `body_too_large` over the limit; `malformed_request` for what is not UTF-8 or not JSON, for a name
    given twice in one object, NaN and infinities, half characters (`\\ud800` alone), and what is nested too deep.
    """
    if len(raw) > limit:
        raise BodyError("body_too_large", f"the body is {len(raw)} bytes long, the limit is {limit}")
    if not raw.strip():
        return {}
    try:
        text = raw.decode("utf-8")
        tree = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\u" in raw:
            # half a character, which only an escape can bring in, is not text
            json.dumps(tree, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise BodyError("malformed_request", "the body is not valid UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise BodyError("malformed_request", f"the body is not valid JSON: {_reason(error)}") from None
    if raw.count(b"{") + raw.count(b"[") > MAX_NESTING:
        _refuse_deep(tree)
    return tree


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """SECURITY: of two fields of one name, the reader here and another one might each take another."""
    tree = dict(pairs)
    if len(tree) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BodyError("malformed_request", f"the field {shown(name)} is given twice")
            seen.add(name)
    return tree


def _refuse_constant(name: str) -> NoReturn:
    raise BodyError("malformed_request", f"`{name}` is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise BodyError("malformed_request", f"the number {shown(text)} is too large")
    return number


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} (line {error.lineno}, column {error.colno})"
    return "a number has too many digits"


def _refuse_deep(tree: object) -> None:
    layer = [tree]
    for _ in range(MAX_NESTING):
        inner: list[object] = []
        for part in layer:
            if isinstance(part, dict):
                inner.extend(value for value in part.values() if isinstance(value, dict | list))
            elif isinstance(part, list):
                inner.extend(value for value in part if isinstance(value, dict | list))
        if not inner:
            return
        layer = inner
    raise _too_deep()


def _too_deep() -> BodyError:
    return BodyError("malformed_request", f"the body is nested deeper than {MAX_NESTING} levels")
