"""What the machine can do at most, measured: arithmetic of each kind, and bytes that arrive."""

from minidistil.ops.runtime.amx import in_use, vectors

MEMORY, CACHE = "memory", "second-level cache"
PRODUCTS = {"highest": 6, "high": 3, "medium": 1}  # of bfloat16, for one of float32 on AMX


def roof_name(instructions, dtype):
    """The key of a ceiling: ("AMX", "int8") -> "AMX int8"."""
    return f"{instructions} {dtype}"


def measure(threads, precision, clock):
    """{"bandwidth": {MEMORY: bytes a second, …}, "arithmetic": {roof_name: operations a second}}.

    A multiply-add is two operations. float32 on AMX takes several products of bfloat16, so its
    ceiling is that of bfloat16 divided by their number.
    """
    from minidistil.ops.kernels import amx_peak, amx_tile, peak_cpu, peak_narrow

    arithmetic = {roof_name(vectors(), "float32"): peak_cpu.peak(threads, clock)}
    for dtype in ("bfloat16", "int8"):
        arithmetic[roof_name(vectors(), dtype)] = peak_narrow.peak(dtype, threads, clock)
    if in_use():
        bf16 = amx_peak.peak(amx_tile.BF16, threads, clock)
        arithmetic[roof_name("AMX", "float32")] = bf16 / PRODUCTS[precision]
        arithmetic[roof_name("AMX", "bfloat16")] = bf16
        arithmetic[roof_name("AMX", "int8")] = amx_peak.peak(amx_tile.INT8, threads, clock)
    bandwidth = {
        MEMORY: peak_cpu.bandwidth(peak_cpu.FAR, threads, clock),
        CACHE: peak_cpu.bandwidth(threads * peak_cpu.NEAR, threads, clock),
    }
    return {"bandwidth": bandwidth, "arithmetic": arithmetic}
