"""Before anything imports Numba: where compiled kernels are kept, and two threads at least.

Numba's cache does not notice an edit in a helper of another module, so the folder's name holds a
hash of all of ops/.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from hypothesis import settings

OPS = Path(__file__).parent.parent / "minidistil" / "ops"


def _cache_folder():
    digest = hashlib.sha256()
    for file in sorted(OPS.glob("*.py")):
        digest.update(file.read_bytes())
    return Path(tempfile.gettempdir()) / f"minidistil-{os.getuid()}-{digest.hexdigest()[:16]}"


os.environ.setdefault("NUMBA_CACHE_DIR", str(_cache_folder()))
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 2)))

# Kernels compile at their first call, which no deadline should punish; the same examples each time,
# so that a failure is one for everybody; no folder of examples in the checkout.
settings.register_profile(
    "minidistil", deadline=None, derandomize=True, database=None, max_examples=50
)
settings.load_profile("minidistil")
