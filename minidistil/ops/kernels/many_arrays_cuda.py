"""Many arrays in one launch.

A model has a hundred parameters, most of them short. With one kernel for each, the device would
wait for launches longer than it computes. Every array is therefore cut into pieces, one block
computes one piece, and a table holds the addresses of the pieces, one row a block:

    count │ tag │ address │ address │ …        of the first of `count` floats in each array

The pieces are the same in every run, and so is the order of every sum over them.
"""

import numpy as np

from minidistil.ops.runtime.cuda import SIMULATED, instruction, ir, to_device, types

PIECE = 64 if SIMULATED else 1 << 14  # floats
COUNT, TAG, FIRST = 0, 1, 2  # columns
GLOBAL = 1  # the address space of the device's memory


def table(groups, tags=None):
    """groups: a sequence of tuples of device arrays, alike in size within a tuple  ->  (pieces,
    2 + arrays in a tuple) int64, on the device.  tags: an integer for each tuple."""
    groups = list(groups)
    tags = [0] * len(groups) if tags is None else tags
    rows = []
    for tag, arrays in zip(tags, groups, strict=True):
        first = np.arange(0, arrays[0].size, PIECE)
        columns = [np.minimum(PIECE, arrays[0].size - first), np.full_like(first, tag)]
        columns += [_address(x) + 4 * first for x in arrays]
        rows.append(np.stack(columns, axis=1))
    return to_device(np.concatenate(rows))


def _address(x):
    return x.ctypes.data if SIMULATED else x.device_ctypes_pointer.value


def _cell(builder, address, i):
    F32 = ir.FloatType()
    base = builder.inttoptr(address, F32.as_pointer(GLOBAL))
    return builder.gep(base, [i])


@instruction("float_at")
def float_at(typingctx, address, i):
    def codegen(context, builder, sig, args):
        return builder.load(_cell(builder, *args))

    return types.float32(types.int64, types.int64), codegen


@instruction("put_float")
def put_float(typingctx, address, i, x):
    def codegen(context, builder, sig, args):
        builder.store(args[2], _cell(builder, *args[:2]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), codegen
