"""A pickle machine that executes nothing: every value it can build is inert.

It knows the few opcodes a state dict needs, and builds only tuples, lists, dictionaries and the
descriptions below. Any other opcode, and any global but a handful, is refused by name. Its memory
is bounded by the size of the pickle and the number of steps: no step builds more than a few dozen
bytes, and nothing it builds is ever written out or walked through whole.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from selfee_cli.weights.bounds import is_count, is_shape, shown

MAX_STEPS = 500_000
"""Opcodes; the largest LLaMA needs a twentieth of it."""

_STORAGES = {
    "HalfStorage": "F16", "BFloat16Storage": "BF16", "FloatStorage": "F32", "DoubleStorage": "F64",
    "ByteStorage": "U8", "CharStorage": "I8", "ShortStorage": "I16", "IntStorage": "I32",
    "LongStorage": "I64", "BoolStorage": "BOOL", "ComplexFloatStorage": "C64",
}  # fmt: skip
_ORDERED_DICT = "collections.OrderedDict"
_REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_KNOWN = {_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER} | {
    f"torch.{name}" for name in _STORAGES
}


@dataclass(frozen=True, kw_only=True)
class _Global:
    name: str


@dataclass(frozen=True, kw_only=True)
class StorageKey:
    """A storage the pickle names: a safetensors type name, an archive key, a size in elements."""

    dtype: str
    key: str
    size: int  # elements


@dataclass(frozen=True, kw_only=True)
class TensorView:
    """A tensor the pickle describes: offset and strides in elements of its storage."""

    storage: StorageKey
    offset: int  # elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Refusal(Exception):  # noqa: N818
    """Why a file is refused; it goes to the one place that knows the file's name."""


class PickleMachine:
    """A pickle machine whose every value is inert."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, StorageKey] = {}

    def run(self, data: bytes) -> Any:
        """Step through a pickle and give what it describes."""
        try:
            for count, (name, argument) in enumerate(_opcodes(data)):
                if count >= MAX_STEPS:
                    raise Refusal(f"its pickle has more than {MAX_STEPS:,} steps")
                if name == "STOP":
                    return self._stack.pop()
                self._step(name, argument)
        except (ValueError, IndexError, KeyError, TypeError):
            raise Refusal("its pickle is damaged") from None
        raise Refusal("its pickle is damaged: it does not end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _ARGUMENTS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_global(*argument))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_global(module, attribute))
        elif name in _ACTIONS:
            _ACTIONS[name](self)

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _tuple(self, count: int) -> None:
        if count > len(self._stack):
            raise Refusal("its pickle is damaged")
        items = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self._stack.append(items)

    def _marked_tuple(self) -> None:
        items = tuple(self._since_mark())
        self._stack.append(items)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._store(key, value)

    def _set_items(self) -> None:
        items = self._since_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._store(key, value)

    def _store(self, key: Any, value: Any) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or not isinstance(key, str):
            raise Refusal("its state dict has a key that is no text")
        if key in target:
            raise Refusal(f"{shown(key)} stands in it twice")
        target[key] = value

    def _append(self) -> None:
        self._extend([self._stack.pop()])

    def _appends(self) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise Refusal("its pickle appends to what is no list")
        target.extend(items)

    def _build(self) -> None:
        self._stack.pop()  # attributes of the state dict (its _metadata): not needed
        if not isinstance(self._stack[-1], dict):
            raise Refusal("its pickle sets attributes of an object")

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise Refusal("its pickle calls what is no function")
        self._stack.append(_call(function.name, arguments))

    def _persistent(self) -> None:
        kind, storage, key, _device, size = self._stack.pop()
        name = storage.name.removeprefix("torch.") if isinstance(storage, _Global) else ""
        if kind != "storage" or name not in _STORAGES or not isinstance(key, str):
            raise Refusal("its pickle has a storage of an unknown kind")
        if not is_count(size):
            raise Refusal("its pickle has a storage without a size")
        found = StorageKey(dtype=_STORAGES[name], key=key, size=size)
        # torch would read the second as the first
        if self._storages.setdefault(key, found) != found:
            raise Refusal(f"its storage {shown(key)} is of two kinds")
        self._stack.append(found)


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_LIST": list,
}  # fmt: skip
_ARGUMENTS = {
    "BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINSTRING", "SHORT_BINSTRING", "BINUNICODE8",
}  # fmt: skip
_ACTIONS: dict[str, Callable[[PickleMachine], None]] = {
    "MARK": PickleMachine._mark,
    "TUPLE": PickleMachine._marked_tuple, "TUPLE1": lambda machine: machine._tuple(1),
    "TUPLE2": lambda machine: machine._tuple(2), "TUPLE3": lambda machine: machine._tuple(3),
    "SETITEM": PickleMachine._set_item, "SETITEMS": PickleMachine._set_items,
    "APPEND": PickleMachine._append, "APPENDS": PickleMachine._appends,
    "BUILD": PickleMachine._build, "REDUCE": PickleMachine._reduce,
    "BINPERSID": PickleMachine._persistent,
}  # fmt: skip


_OTHERS = {
    "PROTO", "FRAME", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL",
    "STACK_GLOBAL", "STOP",
}  # fmt: skip
_USED = _OTHERS | _CONSTANTS.keys() | _ARGUMENTS | _ACTIONS.keys()
_BY_CODE = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}


def _opcodes(data: bytes) -> Iterator[tuple[str, Any]]:
    """Give name and argument of each opcode; no argument is read of one that is refused."""
    stream = io.BytesIO(data)
    while code := stream.read(1):
        opcode = _BY_CODE.get(code)
        if opcode is None:
            raise ValueError
        if opcode.name not in _USED:
            raise Refusal(f"its pickle uses {opcode.name}, which no state dict needs")
        if opcode.name == "GLOBAL":
            yield opcode.name, (_text_line(stream), _text_line(stream))
        elif opcode.arg is None:
            yield opcode.name, None
        else:
            argument = opcode.arg.reader(stream)
            if opcode.name in ("BINSTRING", "SHORT_BINSTRING"):  # bytes, given as Latin-1
                argument = argument.encode("latin-1").decode("utf-8")
            yield opcode.name, argument


def _text_line(stream: io.BytesIO) -> str:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError
    return line[:-1].decode("utf-8")


def _global(module: object, attribute: object) -> _Global:
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise Refusal("its pickle asks for a global that has no name")
    name = f"{module}.{attribute}"
    if name not in _KNOWN:
        raise Refusal(f"it asks for {shown(name)}, which no weights need; nothing was executed")
    return _Global(name=name)


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    if name == _ORDERED_DICT and not arguments:
        return {}
    if name == _REBUILD_PARAMETER and len(arguments) == 3 and isinstance(arguments[0], TensorView):
        return arguments[0]
    if name == _REBUILD_TENSOR and len(arguments) in (6, 7):
        storage, offset, shape, stride = arguments[:4]
        if len(arguments) == 7 and arguments[6] not in (None, {}):
            raise Refusal("it holds a conjugated or negated view; save it resolved")
        sizes_are_sound = is_count(offset) and is_shape(shape, tuple) and is_shape(stride, tuple)
        if isinstance(storage, StorageKey) and sizes_are_sound:
            return TensorView(storage=storage, offset=offset, shape=shape, stride=stride)
    raise Refusal(f"it calls {name} with arguments that describe no tensor")
