"""Device functions of `flash_attention_cuda.py`: tiles in, products, dropout masks, tiles out.

A thread has the indices i and j: own rows i, i + down, … and other rows j, j + ACROSS, …
The pitch of a tile's rows is their length plus 4 floats.
"""

from minidistil.ops.kernels.flash_attention import HEAD_SHIFT
from minidistil.ops.kernels.philox import philox_cuda
from minidistil.ops.runtime.cuda import ALL, cuda, device_function, float32
from minidistil.ops.runtime.ptx import load4, load4_shared, store4_shared

OTHER = 32  # rows that a block reads at a time
ACROSS = OTHER // 4  # threads that share a row


@device_function
def my_tile(bounds, other_bounds, own):
    """The block's sequence: its first row and length, the tile's first row in it, and the first row
    and length on the other side.

    Tiles are counted along the sequences. A surplus block gets length 0.
    """
    tile, b = cuda.blockIdx.x, 0
    tiles = (bounds[1] - bounds[0] + own - 1) // own
    while tile >= tiles and b + 2 < len(bounds):
        tile, b = tile - tiles, b + 1
        tiles = (bounds[b + 1] - bounds[b] + own - 1) // own
    mine = bounds[b + 1] - bounds[b] if tile < tiles else 0
    others = other_bounds[b + 1] - other_bounds[b]
    return bounds[b], mine, tile * own, other_bounds[b], others


@device_function
def rows(x, first, count, c0, D, wide, scale, tile, lines, width, threads):
    """Fills lines × width floats of shared memory: `count` rows of x times scale, else zeros."""
    for item in range(cuda.threadIdx.x, lines * width // 4, threads):
        r, c = item // (width // 4), 4 * (item % (width // 4))
        at = r * (width + 4) + c
        if wide and r < count and c < D:
            four = load4(x, (first + r) * x.shape[1] + c0 + c)
            store4_shared(
                tile, at, four[0] * scale, four[1] * scale, four[2] * scale, four[3] * scale
            )
        else:
            for i in range(4):
                inside = r < count and c + i < D
                tile[at + i] = x[first + r, c0 + c + i] * scale if inside else float32(0)


@device_function
def scores(own, other, i, j, down, width, s):
    """s (4,4): own rows i, i + down, … times other rows j, j + ACROSS, …"""
    a = cuda.local.array((4, 4), float32)
    b = cuda.local.array((4, 4), float32)
    for p in range(4):
        for r in range(4):
            s[p, r] = float32(0)
    for c in range(0, width, 4):
        for p in range(4):
            a4 = load4_shared(own, (i + p * down) * (width + 4) + c)
            b4 = load4_shared(other, (j + p * ACROSS) * (width + 4) + c)
            for e in range(4):
                a[p, e], b[p, e] = a4[e], b4[e]
        for p in range(4):
            for r in range(4):
                for e in range(4):
                    s[p, r] += a[p, e] * b[r, e]


@device_function
def put(s, tile, i, j, down):
    """Stores the thread's weights to the tile."""
    for p in range(4):
        for r in range(4):
            tile[(i + p * down) * (OTHER + 4) + j + r * ACROSS] = s[p, r]


@device_function
def add_products(weights, other, i, j, down, width, sums):
    """sums (4,width/8) += the weights of own rows i, i + down, … times the other rows."""
    w = cuda.local.array((4, 4), float32)
    for o in range(0, OTHER, 4):
        for p in range(4):
            w4 = load4_shared(weights, (i + p * down) * (OTHER + 4) + o)
            for e in range(4):
                w[p, e] = w4[e]
        for e in range(4):
            for c in range(width // 32):
                x4 = load4_shared(other, (o + e) * (width + 4) + 32 * c + 4 * j)
                for p in range(4):
                    for f in range(4):
                        sums[p, 4 * c + f] += w[p, e] * x4[f]


@device_function
def write(sums, scale, x, first, count, c0, D, i, j, down, width):
    """Writes the thread's sums times scale (4,) to x."""
    for p in range(4):
        for c in range(width // 8):
            channel = c // 4 * 32 + 4 * j + c % 4
            if i + p * down < count and channel < D:
                x[first + i + p * down, c0 + channel] = sums[p, c] * scale[p]


@device_function
def draw(sequence, column, words, query0, queries, key, h, keys, query_step, key_step, threads,
         tile):  # fmt: skip
    """Dropout's m/(1−p) of a tile, at query·query_step + key·key_step. words: DropoutWords.

    Rows beyond the last one get zeros: their products are not kept, but must be finite.
    """
    for item in range(cuda.threadIdx.x, queries * keys // 4, threads):
        r, block = item // (keys // 4), item % (keys // 4)
        for e in range(4):
            tile[r * query_step + (4 * block + e) * key_step] = float32(0)
        if query0 + r < len(column):
            n = query0 + r
            counter = (h << HEAD_SHIFT) | (key // 4 + block)
            random = philox_cuda(
                words.site, sequence[n], column[n], counter, words.key0, words.key1
            )
            for e in range(4):
                at = r * query_step + (4 * block + e) * key_step
                tile[at] = words.scale if random[e] >= words.threshold else float32(0)


@device_function
def row_max(x):
    """The maximum over the eight threads of a row."""
    for step in (4, 2, 1):
        x = max(x, cuda.shfl_xor_sync(ALL, x, step))
    return x


@device_function
def row_sum(x):
    """The sum over the eight threads of a row."""
    for step in (4, 2, 1):
        x += cuda.shfl_xor_sync(ALL, x, step)
    return x
