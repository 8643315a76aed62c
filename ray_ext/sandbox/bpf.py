"""A small assembler for the classic BPF programs that seccomp runs (Linux ``seccomp(2)``, ``struct seccomp_data``).

A program is a list of instructions in which every path ends in a return; blocks are put together by
:func:`match_arguments` and :func:`dispatch`, which hold the only two shapes of jump that we need.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = [
    "ARCHITECTURE",
    "SYSCALL",
    "Argument",
    "Instruction",
    "assemble",
    "dispatch",
    "give",
    "load",
    "match_arguments",
    "skip_if_equal",
]

_LOAD_WORD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP: Final = 0x05  # BPF_JMP | BPF_JA
_JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

SYSCALL: Final = 0
"""Offset of the system call's number in ``struct seccomp_data``."""
ARCHITECTURE: Final = 4
"""Offset of the AUDIT_ARCH value in ``struct seccomp_data``."""
_ARGUMENTS: Final = 16

_FARTHEST: Final = 255  # conditional jumps hold their distance in one byte


class Instruction(NamedTuple):
    """One ``struct sock_filter``; jump distances count from the next instruction."""

    code: int
    if_true: int
    if_false: int
    operand: int


@dataclass(frozen=True)
class Argument:
    """A condition on one argument: ``argument & mask`` is one of ``values``.

    Only the lower 32 bits are looked at, unless ``is_pointer``: that is right for every argument that the kernel
    declares as an int, and wrong for a pointer, whose upper half must be compared as well.
    """

    index: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    is_pointer: bool = False


def load(offset: int) -> Instruction:
    """Read the word at ``offset`` of ``struct seccomp_data``."""
    return Instruction(_LOAD_WORD, 0, 0, offset)


def give(verdict: int) -> Instruction:
    """End the program with this verdict."""
    return Instruction(_RETURN, 0, 0, verdict)


def skip_if_equal(value: int) -> Instruction:
    """Leave out the next instruction when the loaded word is ``value``."""
    return Instruction(_JUMP_EQUAL, 1, 0, value)


def match_arguments(conditions: Sequence[Argument], met: int, otherwise: int) -> list[Instruction]:
    """A block that gives ``met`` when every condition holds, and ``otherwise`` when one does not."""
    block = [give(met), give(otherwise)]
    for condition in reversed(conditions):
        offset = _ARGUMENTS + 8 * condition.index
        if condition.is_pointer:
            block = [
                *_compare(offset + 4, 0xFFFFFFFF, tuple(v >> 32 for v in condition.values), len(block) - 1),
                *block,
            ]
        block = [*_compare(offset, condition.mask, condition.values, len(block) - 1), *block]
    return block


def _compare(offset: int, mask: int, values: tuple[int, ...], distance: int) -> list[Instruction]:
    """Fall through when the word is one of ``values``, else jump ``distance`` instructions further."""
    masked = [] if mask == 0xFFFFFFFF else [Instruction(_AND, 0, 0, mask)]
    after = range(len(values) - 1, -1, -1)
    tests = [
        Instruction(_JUMP_EQUAL, left, 0 if left else distance, value & 0xFFFFFFFF)
        for left, value in zip(after, values, strict=True)
    ]
    return [load(offset), *masked, *tests]


def dispatch(blocks: Sequence[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """A binary search on the loaded word: run the block with the highest start that is not above it.

    ``blocks`` are sorted by start, and the first starts at 0. Neighbours with equal instructions become one.
    """
    merged: list[tuple[int, list[Instruction]]] = []
    for start, block in blocks:
        if not merged or merged[-1][1] != block:
            merged.append((start, block))
    return _search(merged)


def _search(blocks: Sequence[tuple[int, list[Instruction]]]) -> list[Instruction]:
    if len(blocks) == 1:
        return blocks[0][1]
    middle = len(blocks) // 2
    below, above = _search(blocks[:middle]), _search(blocks[middle:])
    pivot = blocks[middle][0]
    if len(below) <= _FARTHEST:
        return [Instruction(_JUMP_AT_LEAST, len(below), 0, pivot), *below, *above]
    return [Instruction(_JUMP_AT_LEAST, 0, 1, pivot), Instruction(_JUMP, 0, 0, len(below)), *below, *above]


def assemble(program: Sequence[Instruction]) -> bytes:
    """The bytes of ``struct sock_filter[]``, in this machine's byte order."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
