"""Read the header of a GGUF file: metadata and the size of each tensor. Bytes in, values out.

The format: github.com/ggml-org/ggml docs/gguf.md, versions 1 to 3. Read here and not by the `gguf` package, which
brings requests, PyYAML and tqdm along and decodes every token of the vocabulary; a test holds both to each other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

from swarm_predict.errors import UnknownModel

Buffer = bytes | bytearray | memoryview

MAGIC: Final = b"GGUF"
MAX_TENSORS: Final = 1_000_000
MAX_ENTRIES: Final = 1_000_000
MAX_DIMS: Final = 8
KEPT_ARRAY: Final = 100_000  # longer ones are vocabularies

# tensor type → elements of a block, its bytes (gguf-py constants.py, GGML_QUANT_SIZES)
BLOCK_SIZES: Final[dict[int, tuple[int, int]]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18),
}  # fmt: skip
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    dims: tuple[int, ...]  # the length of a row first
    kind: int
    offset: int  # from where the data begin

    @property
    def elements(self) -> int:
        count = 1
        for size in self.dims:
            count *= size
        return count

    @property
    def size_bytes(self) -> int:
        per_block, block_bytes = BLOCK_SIZES[self.kind]
        rows = self.elements // self.dims[0] if self.dims and self.dims[0] else 0
        return rows * (-(-self.dims[0] // per_block)) * block_bytes if self.dims else block_bytes


@dataclass(frozen=True, slots=True)
class Header:
    metadata: dict[str, Any]  # arrays longer than any of a layer's are counted: "tokenizer.ggml.tokens" → its length
    tensors: tuple[Tensor, ...]
    needs_bytes: int  # how long the file has to be


def read_header(data: Buffer, name: str) -> Header:
    """Read a header. Raises UnknownModel for anything that is not a GGUF file."""
    try:
        return _Reader(memoryview(data), name).header()
    except (struct.error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise UnknownModel(f"{name} is not a complete GGUF file ({error}); download it anew") from None


class _Reader:
    def __init__(self, data: memoryview, name: str) -> None:
        self._data, self._name, self._at = data, name, 4
        if bytes(data[:4]) != MAGIC:
            raise UnknownModel(f"{name} is not a GGUF file: it does not begin with GGUF")
        self._order = "<"
        self._version = self._number("I")
        if self._version > 0xFFFF:  # written on a big-endian machine
            self._order, self._at = ">", 4
            self._version = self._number("I")
        if not 1 <= self._version <= 3:
            raise UnknownModel(f"{name} is GGUF version {self._version}; 1 to 3 are understood")
        self._length = "I" if self._version == 1 else "Q"

    def header(self) -> Header:
        tensors, entries = self._number(self._length), self._number(self._length)
        if tensors > MAX_TENSORS or entries > MAX_ENTRIES:
            raise UnknownModel(f"{self._name} claims {tensors} tensors and {entries} entries; it is damaged")
        metadata = {}
        for _ in range(entries):
            key = self._string()
            metadata[key] = self._value(self._number("I"))
        found = tuple(self._tensor() for _ in range(tensors))
        align = metadata.get("general.alignment", 32)
        align = align if isinstance(align, int) and align > 0 else 32
        begin = -(-self._at // align) * align
        needs = begin + max((t.offset + t.size_bytes for t in found), default=0)
        return Header(metadata, found, needs)

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack_from(self._order + code, self._data, self._at)
        self._at += struct.calcsize(self._order + code)
        return value

    def _skip(self, count: int) -> int:
        """Return where the skipped bytes began."""
        begin = self._at
        if count > len(self._data) - begin:
            raise struct.error(f"{count} bytes wanted at {begin} of {len(self._data)}")
        self._at += count
        return begin

    def _string(self) -> str:
        length = self._number(self._length)
        begin = self._skip(length)
        return bytes(self._data[begin : self._at]).decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise UnknownModel(f"{self._name} has a value of type {kind}, which GGUF has not; it is damaged")
        inner, count = self._number("I"), self._number(self._length)
        if inner in _SCALARS:
            code = _SCALARS[inner]
            begin = self._skip(count * struct.calcsize(self._order + code))
            if count > KEPT_ARRAY:
                return count
            return list(struct.unpack_from(f"{self._order}{count}{code}", self._data, begin))
        if inner != _STRING:
            raise UnknownModel(f"{self._name} has an array of type {inner}, which is not understood")
        for _ in range(count):
            self._skip(self._number(self._length))
        return count

    def _tensor(self) -> Tensor:
        name, dims = self._string(), self._number("I")
        if dims > MAX_DIMS:
            raise UnknownModel(f"{self._name}: tensor {name[:60]} has {dims} dimensions; the file is damaged")
        sizes = tuple(self._number(self._length) for _ in range(dims))
        kind = self._number("I")
        offset = self._number("Q")
        if kind not in BLOCK_SIZES:
            raise UnknownModel(f"{self._name}: tensor {name[:60]} is of type {kind}, whose size is not known")
        return Tensor(name, sizes, kind, offset)
