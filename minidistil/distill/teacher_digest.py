"""A digest of a teacher: what its outputs depend on beside the text."""

from hashlib import blake2b

import numpy as np

from minidistil.distill.teachers import Teacher


def weights_of(teacher: Teacher) -> str:
    """A digest of a teacher's parameters, config and dtype."""
    digest = blake2b(digest_size=16)
    several = getattr(teacher, "teachers", None) or getattr(teacher, "members", ())
    for model in several:
        digest.update(weights_of(model).encode())
    if not several:
        digest.update(f"{teacher.dtype} {teacher.config}".encode())
        for name, p in teacher.params.items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(p).tobytes())
    digest.update(str(getattr(teacher, "weights", None)).encode())
    return digest.hexdigest()
