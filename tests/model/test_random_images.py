"""ViTs and DeiTs as transformers has them: sizes, patches, channels and classes by lot."""

import numpy as np
import pytest
from image_cases import CASES, batch_of, cotangents, exact, model_of, numbers, torch_numbers
from test_random_parity import check

LOTS = [(*case, lot) for case in [*CASES, ("deit", "feature-extraction")] for lot in range(2)]


def drawn_size(rng):
    """A config as config.json holds it."""
    H, patch = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    return {
        "hidden_size": H * int(rng.integers(3, 9)), "num_hidden_layers": int(rng.integers(1, 4)),
        "num_attention_heads": H, "intermediate_size": int(rng.integers(5, 40)),
        "patch_size": patch, "image_size": patch * int(rng.integers(1, 5)),
        "num_channels": int(rng.integers(1, 4)),
        "hidden_act": str(rng.choice(["gelu", "relu", "gelu_new"])),
        "layer_norm_eps": float(rng.choice([1e-12, 1e-5, 1e-3])),
        "id2label": {str(k): f"kind {k}" for k in range(int(rng.integers(2, 7)))},
    }  # fmt: skip


@pytest.mark.parametrize(("family", "task", "lot"), LOTS)
def test_as_transformers(family, task, lot, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    size = drawn_size(np.random.default_rng(LOTS.index((family, task, lot))))
    model = model_of(family, task, size=size)
    model.save_pretrained(tmp_path)
    d = cotangents(model.forward(batch_of(size=size)["pixel_values"]))
    truth = torch_numbers(tmp_path, model, d, "float64", size)
    check(lambda who: numbers(who, d, size), model, exact(model), truth)
