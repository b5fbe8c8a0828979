"""ViT and DeiT: transformers' numbers, and a backward that is the forward's transpose."""

import numpy as np
import pytest
from image_cases import (
    CASES,
    SIZE,
    batch_of,
    cotangents,
    exact,
    model_of,
    numbers,
    torch_numbers,
)
from model_cases import assert_same_formula, compare_array, compare_gradients, read, unpack

import minidistil as md
from minidistil.config import FAMILIES
from minidistil.testing import rms


@pytest.mark.parametrize(("family", "task"), CASES)
def test_live(family, task, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = model_of(family, task)
    model.save_pretrained(tmp_path)
    d = cotangents(model.forward(batch_of()["pixel_values"]))
    reference, truth = (torch_numbers(tmp_path, model, d, t) for t in ("float32", "float64"))
    largest = max(rms(x) for n, x in truth.items() if n.startswith("grad."))
    for name, x in numbers(exact(model), d).items():
        assert_same_formula(name, x, truth[name], largest if name.startswith("grad.") else None)
    check(model, d, reference, truth)


@pytest.mark.parametrize(("family", "task"), CASES)
def test_stored(family, task):
    kinds, model = read(f"{family}-{task}"), model_of(family, task)
    model.update(unpack(kinds["weight"])[0])
    check(model, kinds["cotangent"], *unpack(kinds["out"]))


def check(model, d, reference, truth):
    for backend in ("numpy", "cpu"):
        mine = numbers(model.with_ops(md.backend(backend)), d)
        grads = [{n: x for n, x in them.items() if n.startswith("grad.")}
                 for them in (mine, reference, truth)]  # fmt: skip
        compare_gradients(*grads)
        for name in set(mine) - set(grads[0]):
            compare_array(name, mine[name], reference[name], truth[name])


@pytest.mark.parametrize("family", ["vit", "deit"])
@pytest.mark.parametrize("dropped", [False, True])
def test_backward_of_the_loss(family, dropped):
    model, batch, eps = exact(model_of(family, "image-classification")), batch_of(), 1e-6
    rng = np.random.default_rng(4)
    v = {n: rng.normal(size=p.shape) for n, p in model.params.items()}
    start = {n: p.copy() for n, p in model.params.items()}
    if dropped:
        fields = SIZE | {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}
        model.config = FAMILIES[family].from_dict(fields)
    how = {"train": dropped, "seed": 5, "step": 7}

    def loss(sign):
        model.update({n: p + sign * eps * v[n] for n, p in start.items()})
        return model.forward(**batch, **how).loss

    numeric = (loss(1) - loss(-1)) / (2 * eps)
    model.update(start)
    grads = model.gradients(batch, **how).grads
    assert sum(np.vdot(g, v[n]) for n, g in grads.items()) == pytest.approx(numeric, rel=1e-6)


def test_a_body_without_a_pooler_loads_and_one_short_of_a_parameter_does_not(tmp_path):
    model = model_of("vit", "image-classification")
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning) as said:
        body = md.from_pretrained(tmp_path, task="feature-extraction")
    assert "pooler.dense" in "".join(str(w.message) for w in said)
    pixels = batch_of()["pixel_values"]
    assert np.array_equal(
        body.forward(pixels).last_hidden_state, model.forward(pixels).last_hidden_state
    )
    with pytest.raises(ValueError, match="pixel_values must be"):
        model.forward(pixels[:, :1])
    one_head = SIZE | {"architectures": ["DeiTForImageClassification"]}  # and no teacher's
    with pytest.raises(ValueError, match="'DeiTForImageClassification', which this version does n"):
        md.from_config(FAMILIES["deit"].from_dict(one_head))
    with pytest.raises(ValueError, match="does not split into patches"):
        FAMILIES["vit"].from_dict(SIZE | {"image_size": 7})
