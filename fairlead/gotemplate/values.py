# SPDX-License-Identifier: Apache-2.0
"""Go's values in Python, and Go's types for function parameters (specs/go-template.md §1, §4).

Carriers: `str` (bytes that are no UTF-8 as surrogate escapes), `int`, `float`, `bool`, `None`
(a nil inside something), `list` ([]any), `dict` (map[string]any), `bytes` ([]byte). What Go
types more finely is a subclass with a `GO_TYPE`: a slice of strings is `Strings`, a uint16 is
`Uint16`, a struct derives from `Struct`. `MISSING` is no value at all: a key that a map lacks,
dot at the top. `bool` is an `int` in Python, so everything here looks at `type(value)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeAlias

from fairlead.gotemplate.errors import Fail

Value: TypeAlias = Any  # what a template meets is known only when it meets it


class Missing:
    """The type of MISSING."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<no value>"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()


class Slice(list[Any]):
    """A slice of anything but `any`.

    Attributes:
        TEXT: fields that are a string in every element, "" for the element itself; a promise of
            whoever makes such a slice.
    """

    GO_TYPE: ClassVar[str]
    ELEM: ClassVar[str]
    TEXT: ClassVar[frozenset[str]] = frozenset()


class Strings(Slice):
    """[]string."""

    GO_TYPE = "[]string"
    ELEM = "string"
    TEXT = frozenset(("",))


class Ints(Slice):
    """[]int."""

    GO_TYPE = "[]int"
    ELEM = "int"


class Mapped(dict[Any, Any]):
    """A map of anything but string → any; `ZERO` is what `index` gives for an absent key."""

    GO_TYPE: ClassVar[str]
    KEY: ClassVar[str]
    ZERO: ClassVar[Value]


class StringMap(Mapped):
    """map[string]string."""

    GO_TYPE = "map[string]string"
    KEY = "string"
    ZERO = ""


class IntMap(Mapped):
    """map[int]string."""

    GO_TYPE = "map[int]string"
    KEY = "int"
    ZERO = ""


class Whole(int):
    """An integer that is no `int`; `KIND` says whether it is signed."""

    GO_TYPE: ClassVar[str]
    KIND: ClassVar[str]


class Uint8(Whole):
    """uint8: a byte of a string."""

    GO_TYPE = "uint8"
    KIND = "uint"


class Uint16(Whole):
    """uint16: a port."""

    GO_TYPE = "uint16"
    KIND = "uint"


class Int64(Whole):
    """int64: a Unix time."""

    GO_TYPE = "int64"
    KIND = "int"


class Struct:
    """A Go struct; fields are attributes under Go's names.

    Attributes:
        GO_TYPE: the type's name, with a `*` when values are pointers.
        FIELDS: exported fields in order.
        METHODS: name → function that takes the receiver first.
    """

    __slots__ = ()
    GO_TYPE: ClassVar[str]
    FIELDS: ClassVar[tuple[str, ...]] = ()
    METHODS: ClassVar[Mapping[str, Func]] = {}


@dataclass(frozen=True, slots=True)
class Type:
    """A parameter's type.

    Attributes:
        name: Go's name of it, for messages.
        accepts: the carriers that are of this type.
        literal: which literals fit: "string", "int", "float", "bool", "any" or "" for none.
        zero: makes the nil of this type; None where the type has none.
    """

    name: str
    accepts: frozenset[type]
    literal: str = ""
    zero: Callable[[], Value] | None = None


STRING: Final = Type("string", frozenset((str,)), "string")
INT: Final = Type("int", frozenset((int,)), "int")
FLOAT: Final = Type("float64", frozenset((float,)), "float")
BOOL: Final = Type("bool", frozenset((bool,)), "bool")
ANY: Final = Type("interface {}", frozenset(), "any", lambda: None)
RAW: Final = Type("reflect.Value", frozenset(), "any", lambda: MISSING)  # the builtins' own
STRINGS: Final = Type("[]string", frozenset((Strings,)), zero=Strings)
INTS: Final = Type("[]int", frozenset((Ints,)), zero=Ints)
ANY_LIST: Final = Type("[]interface {}", frozenset((list,)), zero=list)
ANY_MAP: Final = Type("map[string]interface {}", frozenset((dict,)), zero=dict)


@dataclass(frozen=True, slots=True)
class Func:
    """A template function.

    Attributes:
        call: takes the converted arguments; raises CallError to refuse.
        params: types of the fixed parameters.
        rest: type of further parameters; None where the function is not variadic.
        go_type: what `%T` shows for it as a value.
    """

    call: Callable[..., Value]
    params: tuple[Type, ...] = ()
    rest: Type | None = None
    go_type: str = field(default="func()", compare=False)


_TYPES: Final[dict[type, str]] = {
    str: "string",
    int: "int",
    float: "float64",
    bool: "bool",
    complex: "complex128",
    bytes: "[]uint8",
    list: "[]interface {}",
    dict: "map[string]interface {}",
    type(None): "<nil>",
    Missing: "<nil>",
}
_KINDS: Final[dict[type, str]] = {
    str: "string",
    int: "int",
    float: "float",
    bool: "bool",
    complex: "complex",
}


def go_type(value: Value) -> str:
    """Return the Go name of a value's type."""
    name = _TYPES.get(type(value))
    if name is not None:
        return name
    if isinstance(value, Func):
        return value.go_type
    return str(value.GO_TYPE)


def kind(value: Value) -> str:
    """Return the basic kind (string, int, uint, float, bool, complex) or ""."""
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    return value.KIND if isinstance(value, Whole) else ""


def is_nothing(value: Value) -> bool:
    """Say whether a value is nil or no value at all."""
    return value is None or value is MISSING


def truth(value: Value) -> bool:
    """Say whether a value counts as true: not zero, not empty, not nil (§5)."""
    if isinstance(value, Struct | Func):
        return True
    return bool(value)


def convert(value: Value, want: Type) -> Value:
    """Return `value` as a parameter of type `want` takes it.

    Raises:
        Fail: the types differ; nothing is converted implicitly.
    """
    if want is ANY:
        return None if value is MISSING else value
    if want is RAW or type(value) in want.accepts:
        return value
    if value is MISSING:
        if want.zero is not None:
            return want.zero()
        raise Fail(f"invalid value; expected {want.name}")
    shown = "interface {}" if value is None else go_type(value)
    raise Fail(f"wrong type for value; expected {want.name}; got {shown}")


def text_length(text: str) -> int:
    """Return the length of a string in bytes, as Go counts."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def to_bytes(text: str) -> bytes:
    """Return the bytes a string stands for."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    """Return bytes as the string that stands for them."""
    return data.decode("utf-8", "surrogateescape")


def wrap64(number: int) -> int:
    """Return `number` as a 64-bit signed integer that has overflowed."""
    return ((number + 2**63) & (2**64 - 1)) - 2**63


def sorted_keys(mapping: Mapping[Any, Any]) -> list[Any]:
    """Return a map's keys in Go's order: strings by byte, which is by code point."""
    keys = list(mapping)
    try:
        keys.sort()
    except TypeError:  # keys of several types never come from Go's own maps
        keys.sort(key=lambda key: (type(key).__name__, str(key)))
    return keys
