# SPDX-License-Identifier: Apache-2.0
"""Loads and stores at raw addresses for numba, with the memory order the ring buffer's protocol needs.

numba has no atomics. These intrinsics emit LLVM's `load atomic … acquire` and `store atomic … release`: plain moves
on x86-64, `ldar`/`stlr` on arm64, and on both a barrier for the compiler.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _pointer(builder: Any, address: Any, bits: int) -> Any:
    return builder.inttoptr(address, ir.IntType(bits).as_pointer())


@intrinsic
def load_acquire_u64(typing_context: Any, address: Any) -> Any:
    """The u64 at `address`; no later load is done before it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(builder, arguments[0], 64), "acquire", 8)

    return types.uint64(types.uint64), generate


@intrinsic
def load_acquire_u32(typing_context: Any, address: Any) -> Any:
    """The u32 at `address`; no later load is done before it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(builder, arguments[0], 32), "acquire", 4)

    return types.uint32(types.uint64), generate


@intrinsic
def store_release_u64(typing_context: Any, address: Any, value: Any) -> Any:
    """Stores a u64 at `address`; every earlier load and store is done before it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], _pointer(builder, arguments[0], 64), "release", 8)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), generate


@intrinsic
def load_u64(typing_context: Any, address: Any) -> Any:
    """The u64 at `address`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(builder, arguments[0], 64))

    return types.uint64(types.uint64), generate
