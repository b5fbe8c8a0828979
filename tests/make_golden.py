"""What PyTorch and transformers say, stored for machines that have neither.

    python tests/make_golden.py

writes `tests/golden/`. Each file holds everything a comparison needs: inputs, weights, and every
number that came out.
"""

from pathlib import Path

import numpy as np
from model_cases import CASES, SMALL, batch_of, cotangents, fields, model_of, torch_numbers

GOLDEN = Path(__file__).parent / "golden"


def save(name, groups):
    """groups: {kind: {name: array}}, stored as "kind:name"."""
    arrays = {f"{kind}:{key}": x for kind, group in groups.items() for key, x in group.items()}
    np.savez_compressed(GOLDEN / f"{name}.npz", **arrays)


def models():
    """Every case of `model_cases`, in its small size."""
    for name, case in CASES.items():
        model, batch, d = model_of(case, SMALL), batch_of(case, SMALL), cotangents(case, SMALL)
        out = torch_numbers(model, fields(case, SMALL), batch, d)
        save(name, {"in": batch, "cotangent": d, "weight": model.params, "out": out})


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    models()
