"""Object code → functions of this process: a loader for ELF files on x86-64.

It does for compiled kernels what a dynamic linker does for libraries, so that they can
be kept in files and run without compiling again. Refused is what kernels do not have:
data that is written, thread-local storage, other machines.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from seqdsl.backends.mlir.errors import KernelError

_ALLOCATED, _WRITABLE, _LOCAL_THREAD = 0x2, 0x1, 0x400
_NO_BITS, _SYMBOLS, _RELOCATIONS = 8, 2, 4
_STUB = b"\xff\x25\x00\x00\x00\x00"
"""Jumps to the address that stands behind it."""


class _Kind(IntEnum):
    """Kinds of relocations, as the ABI of x86-64 numbers them."""

    ABSOLUTE = 1
    PC32 = 2
    PLT32 = 4
    GOTPCREL = 9
    PC64 = 24
    GOTOFF64 = 25
    GOT64 = 27
    GOTPC64 = 29
    PLTOFF64 = 31
    GOTPCRELX = 41
    REX_GOTPCRELX = 42


def loadable() -> bool:
    """Whether object code made here can be loaded here."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


@dataclass(frozen=True)
class Loaded:
    """Addresses of the functions of an object; valid as long as `memory` lives."""

    functions: Mapping[str, int]
    memory: object = field(repr=False)


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    info: int
    align: int


@dataclass(frozen=True)
class _Symbol:
    name: str
    section: int
    value: int


def load_object(data: bytes) -> Loaded:
    """The functions of an object file; raises `KernelError` for what it cannot load."""
    try:
        return _Loader(data).run()
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise KernelError(f"this is no object code of a kernel: {error}") from error


class _Loader:
    def __init__(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", data, 18) != (
            62,
        ):
            raise KernelError("this is no object code for x86-64")
        self.data = data
        self.sections = self._sections()
        self.symbols = self._symbols()
        self.place: dict[int, int] = {}
        self.slots: dict[int, int] = {}

    # ---- Tables

    def _sections(self) -> list[_Section]:
        (start,) = struct.unpack_from("<Q", self.data, 40)
        size, count, names = struct.unpack_from("<HHH", self.data, 58)
        raw = [
            struct.unpack_from("<IIQQQQIIQQ", self.data, start + i * size)
            for i in range(count)
        ]
        text = raw[names][4]
        return [
            _Section(self._text(text + r[0]), r[1], r[2], r[4], r[5], r[7], r[8])
            for r in raw
        ]

    def _text(self, at: int) -> str:
        return self.data[at : self.data.index(b"\0", at)].decode()

    def _symbols(self) -> list[_Symbol]:
        (table,) = (s for s in self.sections if s.kind == _SYMBOLS)
        (names,) = (s for s in self.sections if s.name == ".strtab")
        found: list[_Symbol] = []
        for at in range(table.offset, table.offset + table.size, 24):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", self.data, at)
            found.append(_Symbol(self._text(names.offset + name), section, value))
        return found

    # ---- Memory: sections, then addresses of symbols with a jump to each

    def run(self) -> Loaded:
        """Everything in place."""
        loaded = [
            (i, s)
            for i, s in enumerate(self.sections)
            if s.flags & _ALLOCATED and s.size and s.name != ".eh_frame"
        ]
        if any(s.flags & (_WRITABLE | _LOCAL_THREAD) for _, s in loaded):
            raise KernelError("the object code has data of its own")
        at = 0
        for number, section in loaded:
            at = -(-at // max(section.align, 64)) * max(section.align, 64)
            self.place[number] = at
            at += section.size
        self.table = -(-at // 64) * 64
        whole = self.table + 24 * len(self.symbols)
        self.memory = mmap.mmap(-1, whole)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for number, section in loaded:
            if section.kind != _NO_BITS:
                low = self.place[number]
                part = self.data[section.offset : section.offset + section.size]
                self.memory[low : low + section.size] = part
        self._relocate()
        _protect(self.base, whole)
        functions = {
            s.name: self.base + self.place[s.section] + s.value
            for s in self.symbols
            if s.name and s.section in self.place
        }
        return Loaded(functions, self.memory)

    def _address(self, number: int) -> int:
        """Where a symbol is."""
        symbol = self.symbols[number]
        if symbol.section in self.place:
            return self.base + self.place[symbol.section] + symbol.value
        if symbol.name == "_GLOBAL_OFFSET_TABLE_":
            return self.base + self.table
        return _outside(symbol.name)

    def _slot(self, number: int) -> int:
        """Where the address of a symbol stands, and behind it a jump there."""
        if number not in self.slots:
            at = self.table + 24 * len(self.slots)
            address = struct.pack("<Q", self._address(number))
            self.memory[at : at + 8] = address
            self.memory[at + 8 : at + 22] = _STUB + address
            self.slots[number] = self.base + at
        return self.slots[number]

    def _relocate(self) -> None:
        for section in self.sections:
            if section.kind == _RELOCATIONS and section.info in self.place:
                for at in range(section.offset, section.offset + section.size, 24):
                    offset, info, addend = struct.unpack_from("<QQq", self.data, at)
                    where = self.place[section.info] + offset
                    self._patch(where, info & 0xFFFFFFFF, info >> 32, addend)

    def _patch(self, where: int, kind: int, number: int, addend: int) -> None:
        here, table = self.base + where, self.base + self.table
        match kind:
            case _Kind.ABSOLUTE:
                self._write("<Q", where, self._address(number) + addend)
            case _Kind.PC32 | _Kind.PLT32:
                known = self.symbols[number].section in self.place
                to = self._address(number) if known else self._slot(number) + 8
                self._write("<i", where, to + addend - here)
            case _Kind.GOTPCREL | _Kind.GOTPCRELX | _Kind.REX_GOTPCRELX:
                self._write("<i", where, self._slot(number) + addend - here)
            case _Kind.PC64:
                self._write("<q", where, self._address(number) + addend - here)
            case _Kind.GOTOFF64:
                self._write("<q", where, self._address(number) + addend - table)
            case _Kind.GOT64:
                self._write("<q", where, self._slot(number) + addend - table)
            case _Kind.GOTPC64:
                self._write("<q", where, table + addend - here)
            case _Kind.PLTOFF64:
                self._write("<q", where, self._slot(number) + 8 + addend - table)
            case _:
                raise KernelError(f"the object code has relocations of kind {kind}")

    def _write(self, form: str, where: int, value: int) -> None:
        struct.pack_into(form, self.memory, where, value)


def _outside(name: str) -> int:
    """A function of the C library."""
    for library in (None, "libm.so.6"):
        try:
            found = getattr(ctypes.CDLL(library), name)
        except (AttributeError, OSError):
            continue
        return ctypes.cast(found, ctypes.c_void_p).value or 0
    raise KernelError(f"the object code calls `{name}`, which is not there")


def _protect(address: int, size: int) -> None:
    """From here on the memory can be run, and no longer written."""
    libc = ctypes.CDLL(None, use_errno=True)
    whole = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(whole), 0x5):
        raise KernelError("this system does not run code that was made at run time")
