"""Machine code whose results depend on the source alone, and that runs in any thread or process.

Numba links the functions that a kernel calls, including the body of its parallel loop, into the
kernel's own module and optimises the whole module once more. `reassoc` can then sum in another
order: the copy inside the kernel rounds differently from the function compiled before. Both have
one name, of which the linker of the process keeps the first: the function if it was compiled in
this process, the copy if the kernel came from the cache. `Library` therefore makes every copy
private. A kernel runs its own copies only, so its results depend only on its object code, which is
what the cache holds. For the same reason a function that runs both on one thread and on several
must be called through one kernel.

A parallel loop ends in a call of Numba's `numba_parallel_for`, which distributes its parts among
threads. That call ends the process in the child of a fork, which has no threads, or, on Numba's own
threads ("workqueue"), if two threads make it at once. In a `Library` it is redirected to `TEAM`:

    one part only, or threads that are busy or missing  →  the parts one after another, here
    otherwise                                           →  numba_parallel_for

The parts are the same, and so are the results.
"""

import ctypes
import functools
import os

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import codegen, compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.np.ufunc import parallel

TEAM, LAYER = "minidistil_parallel_for", "numba_parallel_for"
SHARED = (llvm.Linkage.linkonce_odr, llvm.Linkage.weak_odr)  # Numba's linkage of copies

BYTES, SIZE, FLAG = ir.IntType(8).as_pointer(), ir.IntType(64), ir.IntType(32)
PART = ir.FunctionType(ir.VoidType(), [BYTES] * 4)  # arguments, dimensions, steps, data
LOOP = ir.FunctionType(ir.VoidType(), [BYTES] * 5 + [SIZE] * 3)  # part, its four, sizes, threads


class Library(codegen.JITCodeLibrary):
    """The module of one kernel; every function that it calls is private."""

    def _optimize_final_module(self):
        if any(function.name == LAYER for function in self._final_module.functions):
            team_flag()
            self._final_module.link_in(llvm.parse_assembly(_detour()))
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage in SHARED:
                function.linkage = "internal"
        super()._optimize_final_module()

    def _get_module_for_linking(self):
        if self._shared_module is None:  # through bytes, as the cache returns it
            module = super()._get_module_for_linking()
            self._shared_module = llvm.parse_bitcode(module.as_bitcode())
        return self._shared_module


class Pipeline(compiler.Compiler):
    """Numba's compiler with `Library` as the result."""

    def __init__(self, typingctx, targetctx, library, *args):
        if library is None:
            library = Library(targetctx.codegen(), "kernel")
            library.enable_object_caching()
        super().__init__(typingctx, targetctx, library, *args)


@functools.cache
def team_flag() -> ctypes.c_int32:
    """Compiles TEAM; returns its flag: 1 while the threads work, or if there are none."""
    parallel._launch_threads()
    library = cpu_target.target_context.codegen().create_library(TEAM)
    module = library.create_ir_module(TEAM)
    busy = ir.GlobalVariable(module, FLAG, f"{TEAM}_busy")
    busy.initializer = FLAG(0)
    _emit_team(module, busy)
    with global_compiler_lock:
        library.add_ir_module(module)
        library.finalize()
    address = library.codegen._engine.get_global_value_address(busy.name)
    flag = ctypes.c_int32.from_address(address)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=functools.partial(_leave_alone, flag))
    return flag


def _leave_alone(flag):
    """Runs in the child of a fork: it lacks its parent's threads, and Numba cannot start others."""
    flag.value = 1


def _detour():
    """The text of a module in which LAYER calls TEAM."""
    module = ir.Module()
    layer = ir.Function(module, LOOP, LAYER)
    layer.linkage = "linkonce_odr"
    builder = ir.IRBuilder(layer.append_basic_block())
    builder.call(ir.Function(module, LOOP, TEAM), layer.args)
    builder.ret_void()
    return str(module)


def _emit_team(module, busy):
    team = ir.Function(module, LOOP, TEAM)
    layer = ir.Function(module, LOOP, LAYER)
    part, *own, _, _, threads = team.args
    names = "entry", "several", "alone", "together"
    entry, several, alone, together = (team.append_basic_block(name) for name in names)

    builder = ir.IRBuilder(entry)
    builder.cbranch(builder.icmp_signed(">", threads, SIZE(1)), several, alone)

    builder.position_at_end(several)
    taken = builder.cmpxchg(busy, FLAG(0), FLAG(1), "acquire", "acquire")
    builder.cbranch(builder.extract_value(taken, 1), together, alone)

    builder.position_at_end(alone)
    builder.call(builder.bitcast(part, PART.as_pointer()), own)
    builder.ret_void()

    builder.position_at_end(together)
    builder.call(layer, team.args)
    builder.store_atomic(FLAG(0), busy, "release", 4)
    builder.ret_void()
