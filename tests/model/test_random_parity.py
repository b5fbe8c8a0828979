"""Every family with every head as transformers has it: configs, masks and labels by lot.

In float64 outputs, gradients and ten steps of AdamW are PyTorch's; the float32 kernels are near.
How near float32 must be is measured, for a few models, by `test_parity`.
"""

import numpy as np
import pytest
from model_cases import (
    Case,
    assert_same_formula,
    batch_of,
    cotangents,
    exact,
    fields,
    model_of,
    torch_numbers,
)
from precision import Errors
from test_parity import (
    after_training,
    assert_padding_holds_zeros,
    gradients,
    idle,
    numbers,
    real,
)

import minidistil as md
from minidistil.config import FAMILIES
from minidistil.model.heads import CLASSIFIED, EXTRACT
from minidistil.ops.runtime.cpu import threads
from minidistil.testing import rms

ENCODERS = ("bert", "roberta", "albert", "distilbert")
TASKS = ["fill-mask", "feature-extraction", *CLASSIFIED]
TASKS.remove(EXTRACT)  # the network of token-classification
KINDS = [(family, task) for family in ENCODERS for task in TASKS]
KINDS += [("bert", "pretraining"), ("albert", "pretraining"), ("gpt2", "text-generation"),
          ("gpt2", "feature-extraction")]  # fmt: skip
BATCHES = 5
NEAR = 1e-4  # float32, whatever the shape: a fault is far beyond


def drawn_case(family, task, rng):
    """A Case and the sizes of its model."""
    H, T = int(rng.integers(1, 5)), int(rng.integers(6, 14))
    size = {"V": int(rng.integers(30, 70)), "H": H, "C": H * int(rng.integers(2, 9)),
            "L": int(rng.integers(2, 5)), "F": int(rng.integers(5, 40)), "P": T + 2}  # fmt: skip
    act = str(rng.choice(["gelu", "relu", "gelu_new"]))
    key = {"distilbert": "activation", "gpt2": "activation_function"}.get(family, "hidden_act")
    extra = {key: act}
    if family not in ("distilbert", "gpt2"):
        extra["layer_norm_eps"] = float(rng.choice([1e-12, 1e-5, 1e-3]))
    if family == "albert":
        extra["num_hidden_groups"] = int(rng.integers(1, size["L"] + 1))
        extra["inner_group_num"] = int(rng.integers(1, 3))
        extra["embedding_size"] = int(rng.integers(2, 20))
    if task == "token-classification":
        extra["labels"] = int(rng.integers(2, 7))
    if task == "text-classification":
        several = {"labels": 5, "problem_type": "multi_label_classification"}
        number = {"labels": 1, "problem_type": "regression"}
        extra |= [{"labels": 3}, several, number, {"labels": 2}][ENCODERS.index(family)]
    return Case(family, task, extra), size


def drawn_mask(task, T, rng, B=4):
    """(B,T): each token is hidden with a chance of its text's own; a head's first column is not."""
    mask = (rng.random((B, T)) < rng.uniform(0.2, 1, (B, 1))).astype(np.int64)
    mask[0, :5] = 1
    mask[:, 0] |= task in ("feature-extraction", "text-classification", "multiple-choice",
                           "pretraining")  # fmt: skip
    mask[mask.sum(axis=1) == 0, T // 2] = 1
    return mask


@pytest.mark.parametrize(("family", "task"), KINDS)
def test_as_transformers(family, task):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    rng = np.random.default_rng(KINDS.index((family, task)))
    case, size = drawn_case(family, task, rng)
    mask = drawn_mask(task, size["P"] - 2, rng)
    batch, d = batch_of(case, size, mask=mask), cotangents(case, size)
    model = model_of(case, size)
    truth = torch_numbers(model, fields(case, size), batch, d, "float64")
    truth = {name: real(name, x, mask) for name, x in truth.items()}

    def ours(who):
        found = numbers(who, batch, d)
        assert_padding_holds_zeros(found, mask)
        found |= after_training(who, batch, d)
        return {name: real(name, x, mask) for name, x in found.items()}

    made_up = {"loss"} if d else set()  # a body has none of its own
    check(ours, model, exact(model), truth, made_up, idle(case))


def loud_model(case, size, rng, lot):
    """Weights with a deviation of up to 0.3: scores of attention in the tens."""
    spread = float(rng.choice([0.02, 0.1, 0.2, 0.3]))
    given = fields(case, size) | {"initializer_range": spread}
    model = md.from_config(FAMILIES[case.family].from_dict(given), case.task, seed=lot)
    vectors = {n: p for n, p in model.params.items() if p.ndim == 1}
    model.update({n: p + rng.normal(0, 0.2, p.shape) for n, p in vectors.items()})
    return model


@pytest.mark.parametrize("lot", range(4))
@pytest.mark.parametrize("family", [*ENCODERS, "gpt2"])
def test_gradients_are_as_precise_as_pytorchs(family, lot):
    """At most twice as far from float64 as PyTorch's float32, by the medians of several batches.

    Channels are not few: of two, LayerNorm makes ±1 whatever they are, and no gradient is left.
    """
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    rng = np.random.default_rng([lot, ENCODERS.index(family) if family != "gpt2" else 4])
    tasks = [task for of, task in KINDS if of == family]
    case, size = drawn_case(family, str(rng.choice(tasks)), rng)
    size |= {"C": size["H"] * int(rng.integers(8, 33)), "P": int(rng.integers(16, 40))}
    model, found = loud_model(case, size, rng, lot), Errors()
    for seed in range(BATCHES):
        batch = batch_of(case, size, seed, mask=drawn_mask(case.task, size["P"] - 2, rng))
        d = cotangents(case, size, seed)
        how = model, fields(case, size), batch, d
        theirs, exact = (gradients(torch_numbers(*how, t, steps=0)) for t in ("float32", "float64"))
        with threads(1):  # no bit depends on it
            mine = numbers(model, batch, d)
        never = {n.replace("after.", "grad.") for n in idle(case)}
        found.add(
            mine, *({n: x for n, x in of.items() if n not in never} for of in (theirs, exact))
        )
    found.check(f"{case} {size}")


def check(ours, model, precise, truth, made_up=(), idle=()):
    """Numbers of ours against PyTorch's float64: equal in float64, near in float32.

    made_up: what only PyTorch has; idle: what float32 cannot say.
    """
    largest = max(rms(g) for g in gradients(truth).values())
    mine = ours(precise)
    assert set(truth) - set(mine) == set(made_up)
    for name, x in mine.items():
        if name in truth:
            scale = largest if name.startswith("grad.") else None
            assert_same_formula(name, x, truth[name], scale)
        else:
            assert not name.startswith("grad.") or not x.any(), name
    for name, x in ours(model).items():
        if name in truth and name not in idle:
            scale = largest if name.startswith("grad.") else max(rms(truth[name]), 1)
            assert rms(x - truth[name]) <= NEAR * scale, name
