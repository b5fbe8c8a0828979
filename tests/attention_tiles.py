"""The kernel of `amx_attention.py` in Python, on AMX tiles in NumPy, for machines without AMX."""

from minidistil.ops.kernels import amx_attention, amx_reference
from minidistil.ops.runtime import amx


def tiles_in_numpy(monkeypatch):
    """The loops of the kernel in Python, on tiles in NumPy."""
    monkeypatch.setattr(amx_attention, "block", amx_reference.run_block)
    monkeypatch.setattr(amx_attention, "configure", lambda address: None)
    monkeypatch.setattr(amx_attention, "release", lambda: None)
    monkeypatch.setattr(amx_attention, "_strip", amx_attention._strip.py_func)

    def run(workers, job):
        for w in range(workers):
            amx_attention.compute.py_func(w, workers, job)

    monkeypatch.setattr(amx_attention, "run", run)
    monkeypatch.setattr(amx, "in_use", lambda: True)
