"""Digests of a run's data, teacher and installation.

A resumed run is refused if its data or teacher has changed, a run on several ranks if they differ
in anything.
"""

from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import numpy as np

from minidistil.distill.teacher_digest import weights_of
from minidistil.ops import instructions

PACKAGE = Path(__file__).parent.parent


def inputs_of(objective, data) -> dict[str, str]:
    """{name: digest} of the data and, if there is one, of the teacher.

    Of the data: the order of its first epoch, and the arrays of its first and last batch. The
    commands add a digest of every file (`minidistil.cli.input_files`).
    """
    found = {"the data": _of_data(data)}
    teacher = getattr(objective, "teacher", None)
    teacher = getattr(teacher, "teacher", teacher)  # of a CachedTeacher
    if hasattr(teacher, "params") or hasattr(teacher, "teachers"):
        found["the teacher"] = weights_of(teacher)
    return found


def _of_data(data):
    digest, batches = blake2b(digest_size=16), data.batches(0)
    for indices in batches:
        digest.update(f"{len(indices)} ".encode() + np.ascontiguousarray(indices).tobytes())
    for indices in (*batches[:1], *batches[-1:]):
        batch = data.collate(indices, step=0, first_sequence=0)
        for name, x in sorted(batch.items()):
            if isinstance(x, np.ndarray) and x.dtype != object:
                digest.update(f"{name} {x.shape} {x.dtype}".encode())
                digest.update(np.ascontiguousarray(x).tobytes())
    return digest.hexdigest()


def installation(backend: str) -> dict[str, str]:
    """{name: version} of what the bits of a step depend on; of minidistil a digest of its files."""
    digest = blake2b(digest_size=16)
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return {
        "minidistil": digest.hexdigest(),
        "numpy": np.__version__,
        "numba": version("numba"),
        "instructions of matrix products": instructions(backend),
    }
