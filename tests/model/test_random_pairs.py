"""Encoder–decoders as transformers has them: sizes, activations, masks and targets by lot."""

import numpy as np
import pair_cases
import pytest
from pair_cases import Case, exact, fields, model_from, torch_numbers
from test_encoder_decoder import numbers, real
from test_random_parity import check

LOTS = range(6)


def drawn_fields(lot, rng):
    """The config of a pair as config.json holds it, and the case and sizes behind it."""
    H, P = int(rng.integers(1, 4)), int(rng.integers(9, 15))
    widths = tuple(2 * H * int(rng.integers(2, 6)) for _ in range(2))
    if rng.random() < 0.5:
        widths = widths[:1] * 2  # no projection between the halves
    case = Case(("bert", "distilbert")[lot % 2], widths, holes=lot % 3 == 0)
    size = {"V": int(rng.integers(20, 60)), "L": 1, "P": P}
    found = fields(case, size)
    for half in ("encoder", "decoder"):
        drawn = {
            "num_attention_heads": H * int(rng.integers(1, 3)),
            "num_hidden_layers": int(rng.integers(1, 4)),
            "intermediate_size": int(rng.integers(5, 30)),
            "hidden_act": str(rng.choice(["gelu", "relu", "gelu_new"])),
            "layer_norm_eps": float(rng.choice([1e-12, 1e-5, 1e-3])),
        }
        if found[half]["model_type"] == "distilbert":
            drawn.pop("layer_norm_eps")
            drawn = {DISTILBERT[name]: x for name, x in drawn.items()}
        found[half] |= drawn
    return found, case, size


DISTILBERT = {
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
}


def drawn_batch(case, size, rng):
    """As `pair_cases.batch_of`; a token of a source is hidden with a chance of its text's own."""
    batch = pair_cases.batch_of(case, size, seed=int(rng.integers(99)))
    B, T = batch["input_ids"].shape
    mask = (rng.random((B, T)) < rng.uniform(0.2, 1, (B, 1))).astype(np.int64)
    mask[mask.sum(axis=1) == 0, T // 2] = 1
    return batch | {"attention_mask": mask}


@pytest.mark.parametrize("lot", LOTS)
def test_as_transformers(lot):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    rng = np.random.default_rng(lot)
    fields_, case, size = drawn_fields(lot, rng)
    batch, model = drawn_batch(case, size, rng), model_from(fields_)
    truth = real(torch_numbers(model, fields_, batch, "float64"), batch)
    check(lambda who: real(numbers(who, batch), batch), model, exact(model), truth)
