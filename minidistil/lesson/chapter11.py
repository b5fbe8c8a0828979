"""Chapter 11, the machine's peak: tiles, blocks, parts of a number, and the roofline."""

import numpy as np

from minidistil.lesson.exercise import exercise, rng
from minidistil.ops.kernels.number_formats import round_bf16

# ----------------------------------------------------------------------------- a tile


@exercise(
    cases=lambda: [(6.0, 16.0), (12.0, 8.0)],
    hint="2·m·n operations, and m + n numbers of 4 bytes.",
    remark="6×16: 2.18, 12×8: 2.4, 10×10: 2.5. By this count alone the squarer tile wins. But a row"
    "\nof B is loaded in vectors of eight floats and each entry of A on its own, so what counts is"
    "\nm + n/8 loads for m·n/8 multiply-adds: 8 against 13 loads for the same 12 vectors.",
)
def tile_intensity(m, n):
    return 2 * m * n / (4 * (m + n))


tile_intensity.right(lambda m, n: 0.5 / (1 / m + 1 / n))
tile_intensity.wrong("a float has 4 bytes")(lambda m, n: 2 * m * n / (m + n))
tile_intensity.wrong("a multiply-add is two operations")(lambda m, n: m * n / (4 * (m + n)))
tile_intensity.wrong("the sums stay in registers, they are not loaded")(
    lambda m, n: 2 * m * n / (4 * (m + n + m * n))
)
tile_intensity.wrong("bytes over operations: the other way round")(
    lambda m, n: 4 * (m + n) / (2 * m * n)
)
tile_intensity.wrong("a column of A and a row of B are m + n numbers, not m·n")(
    lambda m, n: 2 * m * n / (4 * m * n)
)

# ----------------------------------------------------------------------------- blocks


@exercise(
    cases=lambda: [(rng(1).standard_normal((4, 10)), rng(2).standard_normal((10, 3)), 4)],
    hint="for k in range(0, K, block): slices that run past the end are cut off.",
    remark="The order of the sum is part of the result, in the last digits: the library keeps it"
    "\nthe same on every machine and with every number of threads.",
)
def in_blocks(a, b, block):
    c = np.zeros((len(a), b.shape[1]))
    for k in range(0, a.shape[1], block):
        c += a[:, k : k + block] @ b[k : k + block]
    return c


in_blocks.right(lambda a, b, block: a @ b)


@in_blocks.wrong("each block replaces the sum: add to it")
def overwritten(a, b, block):
    last = (a.shape[1] - 1) // block * block
    return a[:, last:] @ b[last:]


@in_blocks.wrong("the last block is shorter, and is missing")
def cut_off(a, b, block):
    whole = a.shape[1] // block * block
    return a[:, :whole] @ b[:whole]


@in_blocks.wrong("blocks of k begin every `block` steps: these overlap")
def overlapping(a, b, block):
    return sum(a[:, k : k + block] @ b[k : k + block] for k in range(a.shape[1]))


in_blocks.wrong("only the first block is there")(lambda a, b, block: a[:, :block] @ b[:block])

# ----------------------------------------------------------------------------- three parts


@exercise(
    cases=lambda: [(rng(3).standard_normal(100).astype(np.float32),)],
    returns=("first", "second", "third"),
    hint="Round x; round what that leaves; the third part is what both leave.",
    remark="The third part needs no rounding: what is left after 8 and 8 of 24 bits has 8 at most."
    "\nBoth subtractions are exact. (The kernel multiplies by 2²⁴ first, because AMX takes"
    "\nsubnormal numbers for zero, and a part may be one where the number is not.)",
)
def three_parts(x):
    first = round_bf16(x)
    second = round_bf16(x - first)
    return first, second, x - first - second


@three_parts.right
def all_rounded(x):
    first = round_bf16(x)
    second = round_bf16(x - first)
    return first, second, round_bf16((x - first) - second)


three_parts.wrong("the second part comes from what the first leaves: subtract, then round")(
    lambda x: (round_bf16(x), round_bf16(x), round_bf16(x))
)
three_parts.wrong("the second part is to be a bfloat16 number, too: round what is left")(
    lambda x: (round_bf16(x), x - round_bf16(x), np.zeros_like(x))
)
three_parts.wrong("the third part is what both leave, and not only the first")(
    lambda x: (round_bf16(x), round_bf16(x - round_bf16(x)), x - round_bf16(x))
)
three_parts.wrong("the order is from the largest part to the smallest")(
    lambda x: three_parts(x)[::-1]
)
three_parts.wrong("the parts add up to x: these are thirds of it")(lambda x: (x / 3, x / 3, x / 3))

# ----------------------------------------------------------------------------- the edge


@exercise(
    cases=lambda: [(600e9, 12e9, 4)],
    hint="At the edge, intensity · bandwidth = peak; N tokens do 2·N operations with a weight.",
    remark="600 GFLOP/s and 12 GB/s meet at 50 operations a byte, which are 100 tokens in float32."
    "\nbfloat16 halves the bytes, but where its peak is six times as high, the edge is at 300"
    "\ntokens: the faster the arithmetic, the more tokens it takes to feed it.",
)
def tokens_at_the_edge(peak, bandwidth, size):
    intensity = peak / bandwidth  # where intensity · bandwidth = peak
    return intensity * size / 2  # a token is two operations for `size` bytes


@tokens_at_the_edge.right
def by_times(peak, bandwidth, size):
    return (size / bandwidth) / (2 / peak)  # reading a weight, over using it for one token


tokens_at_the_edge.wrong("a multiply-add is two operations")(
    lambda peak, bandwidth, size: peak * size / bandwidth
)
tokens_at_the_edge.wrong("a weight has several bytes")(
    lambda peak, bandwidth, size: peak / (2 * bandwidth)
)
tokens_at_the_edge.wrong("that is the edge in operations a byte, not in tokens")(
    lambda peak, bandwidth, size: peak / bandwidth
)
tokens_at_the_edge.wrong("bandwidth over peak: the other way round")(
    lambda peak, bandwidth, size: bandwidth * size / (2 * peak)
)
