"""What the arguments of a tool may be: one type each for its JSON Schema and its strict reading. Knows no tool and no request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from sidecar.border import shown
from sidecar.errors import BodyError
from sidecar.wire import symbols

Schema = dict[str, Any]

_CODE = re.compile(r"[!-~]{1,60}")
_DATE = r"\d{4}-\d{2}-\d{2}( \d{2}:\d{2}:\d{2}(\.\d{1,6})?)?"
_DIGITS = re.compile(r"[0-9]{1,20}")
_MOST_SYMBOLS = 400
"""As many securities as OpenD answers in one request."""


class Argument:
    """One named argument. `into`: the field of c2s it fills, dotted (`header.accID`); "" where the tool sees to it itself."""

    __slots__ = ("_adapter", "aliases", "description", "into", "name", "required", "schema")

    def __init__(
        self, name: str, kind: Any, into: str, description: str, *, required: bool = True, aliases: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.into = into
        self.description = description
        self.required = required
        self.aliases = aliases
        """Other names it is understood by; they are not in the schema."""
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self.schema: Schema = {**self._adapter.json_schema(), "description": description}

    def read(self, value: object) -> Any:
        """The value as the request has it. Raises BodyError `malformed_request`, naming the argument."""
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            said = str(first.get("ctx", {}).get("error", "")) or first["msg"][:1].lower() + first["msg"][1:]
            raise BodyError(
                "malformed_request", f"argument `{self.name}`: {shown(first['input'])} {_prose(said)}"
            ) from None


def _prose(said: str) -> str:
    return said if said.startswith("is ") else f"cannot be used: {said}"


def _symbol(value: str) -> str:
    parts = symbols.split(value)
    if parts is None or not _CODE.fullmatch(parts[1]):
        raise ValueError("is not a symbol; write market and code, e.g. `HK.00700`, `US.AAPL`, `SH.600519`")
    return value


def _date(value: str) -> str:
    if not re.fullmatch(_DATE, value):
        raise ValueError("is not a date; write e.g. `2026-11-20` or `2026-11-20 09:30:00`")
    return value


def _number_as_text(value: object) -> str:
    """An id of up to 64 bits: text keeps all its digits where a client's numbers would not."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not _DIGITS.fullmatch(text):
        raise ValueError('is not an id; write its digits as text, e.g. "281756455983234027"')
    return text


def word(words: Mapping[str, int], says: str = "") -> Any:
    """One of OpenD's numbers, by its name or as the number."""

    def read(value: object) -> int:
        if isinstance(value, str) and value in words:
            return words[value]
        if type(value) is int and value in words.values():
            return value
        raise ValueError(f"is none of {', '.join(words)}" + (f"; {says}" if says else ""))

    choices: list[Any] = [*words, *dict.fromkeys(words.values())]
    return Annotated[int, PlainValidator(read), WithJsonSchema({"enum": choices})]


Symbol: Any = Annotated[
    str, StringConstraints(strict=True), AfterValidator(_symbol), Field(examples=["HK.00700", "US.AAPL"])
]
Symbols: Any = Annotated[list[Symbol], Field(strict=True, min_length=1, max_length=_MOST_SYMBOLS)]
BigId: Any = Annotated[str, PlainValidator(_number_as_text), WithJsonSchema({"type": ["string", "integer"]})]
Number: Any = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag: Any = Annotated[bool, Field(strict=True)]
Text: Any = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=255)]
Texts: Any = Annotated[list[Text], Field(strict=True, min_length=1, max_length=_MOST_SYMBOLS)]
Date: Any = Annotated[
    str,
    StringConstraints(strict=True),
    AfterValidator(_date),
    WithJsonSchema({"type": "string", "pattern": f"^{_DATE}$", "examples": ["2026-11-20", "2026-11-20 09:30:00"]}),
]


def whole(least: int, most: int) -> Any:
    """A whole number between two bounds, both included."""
    return Annotated[int, Field(strict=True, ge=least, le=most)]


def words(choices: Mapping[str, int]) -> Any:
    """A list of `word`s."""
    one = word(choices)
    return Annotated[list[one], Field(strict=True, min_length=1, max_length=50)]  # type: ignore[valid-type]  # made at run time
