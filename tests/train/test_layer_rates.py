"""Layer-wise decay of the learning rate, and frozen parts: by name, and against PyTorch."""

from collections import Counter

import numpy as np
import pytest
from test_train_models import CONFIG, words

import minidistil as md
from minidistil.config import (
    AlbertConfig,
    BertConfig,
    DeitConfig,
    DistilBertConfig,
    Gpt2Config,
    RobertaConfig,
    VitConfig,
)
from minidistil.distill import student_from
from minidistil.model.frozen_parts import frozen_up_to
from minidistil.model.pretrained import from_config
from minidistil.train import Run, TrainConfig, train
from minidistil.train.bert_optimizers import BertAdam, Lamb
from minidistil.train.layer_rates import (
    EMBEDDINGS,
    frozen_bottom,
    layer_rates,
    part_of,
    parts,
)
from minidistil.train.loop import run_loop
from minidistil.train.optimizer import AdamW
from minidistil.train.training_objectives import Distillation, Supervised

BERT = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 16}  # fmt: skip
IMAGE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
         "intermediate_size": 32, "image_size": 8, "patch_size": 4, "num_channels": 1}  # fmt: skip
FAMILIES = {  # a config, its task, and how many parameters its embeddings have
    "bert": (BertConfig(**BERT), "fill-mask", 5),
    "distilbert": (DistilBertConfig(vocab_size=40, dim=16, n_layers=3, n_heads=2, hidden_dim=32,
                                       max_position_embeddings=16), "text-classification", 4),
    "roberta": (RobertaConfig(**BERT), "token-classification", 5),
    "gpt2": (Gpt2Config(vocab_size=40, n_embd=16, n_layer=3, n_head=2, n_positions=16),
             "text-generation", 2),
    "vit": (VitConfig(**IMAGE), "image-classification", 4),
    "deit": (DeitConfig(**IMAGE), "image-classification", 5),
}  # fmt: skip

ALBERT = AlbertConfig(**BERT, embedding_size=8, num_hidden_groups=2)  # layers 0, 1 and layer 2


def decay(X=1.0, freeze=(), **more):
    return TrainConfig(steps=1, layer_decay=X, freeze=freeze, **more)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_the_rate_of_its_part(family):
    config, task, embeddings = FAMILIES[family]
    model = from_config(config, task)
    rates = layer_rates(model, decay(0.5))
    counts = Counter(rates.values())
    assert list(rates) == list(model.params) and counts[0.5**4] == embeddings
    assert counts[0.5] == counts[0.25] == counts[0.125] > 10 and counts[1.0] >= 2
    assert sum(counts.values()) == len(rates)
    names = [n for n in rates if f".{1}." in n]
    assert {rates[n] for n in names} == {0.25} and len(names) == counts[0.25]
    frozen = set(rates) - set(layer_rates(model, decay(freeze=(EMBEDDINGS, 2))))
    assert frozen == {n for n, rate in rates.items() if rate in (0.5**4, 0.5)}


def test_a_layer_of_albert_is_a_group_of_layers():
    model = from_config(ALBERT, "fill-mask")
    rates = layer_rates(model, decay(0.5))
    assert set(rates.values()) == {1.0, 0.5, 0.25, 0.125}
    assert rates["albert.encoder.embedding_hidden_mapping_in.weight"] == 0.125
    found = {part_of(name) for name in layer_rates(model, decay(freeze=(1,)))}
    assert found == {EMBEDDINGS, 0, None}


def test_parts_that_are_not_there():
    model = from_config(FAMILIES["distilbert"][0], "feature-extraction")
    for freeze in ((3,), ("embedding",), (EMBEDDINGS, -1)):
        with pytest.raises(ValueError, match=f"layers from 0 to 2 .* not {freeze[-1]!r}; give"):
            layer_rates(model, decay(freeze=freeze))
    with pytest.raises(ValueError, match="freeze leaves nothing to train of 3 layers"):
        layer_rates(model, decay(freeze=(EMBEDDINGS, 0, 1, 2)))
    small = from_config(BertConfig(**BERT), "fill-mask")
    pair = md.encoder_decoder_from(small, small, start=2, eos=3)
    for config in (decay(0.9), decay(freeze=(EMBEDDINGS,))):
        with pytest.raises(ValueError, match="an encoder-decoder has two; leave them out"):
            layer_rates(pair, config)
    assert set(layer_rates(pair, decay()).values()) == {1.0}


def test_options():
    assert parts("embeddings,0,12") == (EMBEDDINGS, 0, 12) and decay(freeze="0").freeze == ("0",)
    for X in (0, -1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="layer_decay must be"):
            decay(X)
    config = decay(0.5, (EMBEDDINGS, 0))
    assert TrainConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="rates name parameters that are not there: other"):
        AdamW({"own": np.zeros(2)}, rates={"other": 1.0})


# ------------------------------------------------------- the optimisers

SHAPES = {"low.weight": (7, 5), "low.bias": (7,), "high.weight": (4, 7), "fixed.weight": (3, 3)}
RATES = {"low.weight": 0.25, "low.bias": 0.25, "high.weight": 1.0}


def draw(rng, names=SHAPES):
    return {name: rng.normal(size=SHAPES[name]) for name in names}


def test_adamw_equals_parameter_groups_of_torch():
    """Five steps in float64, with a parameter that requires no gradient."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    params, how = draw(rng), {"betas": (0.8, 0.95), "eps": 1e-6}
    before = params["fixed.weight"].copy()
    optimizer = AdamW(params, weight_decay=0.1, backend="numpy", rates=RATES, **how)
    theirs = {name: torch.tensor(p, requires_grad=name in RATES) for name, p in params.items()}
    groups = [{"params": [theirs[n]], "weight_decay": 0.1 * (len(SHAPES[n]) > 1)} for n in RATES]
    reference = torch.optim.AdamW(groups, lr=0.0, **how)
    for step in range(5):
        lr, grads = 3e-3 * (1 - step / 8), draw(rng, RATES)
        params.update(optimizer.step(grads, lr=lr))
        for group, (name, rate) in zip(reference.param_groups, RATES.items(), strict=True):
            group["lr"], theirs[name].grad = lr * rate, torch.tensor(grads[name])
        reference.step()
    for name, p in params.items():
        np.testing.assert_allclose(p, theirs[name].detach().numpy(), rtol=1e-12, atol=1e-14)
    assert np.array_equal(params["fixed.weight"], before)
    assert optimizer.frozen == {"fixed.weight"} and set(optimizer.state()["m"]) == set(RATES)
    with pytest.raises(ValueError, match=r"'fixed\.weight' belongs to no parameter"):
        optimizer.step(draw(rng))


@pytest.mark.parametrize("optimizer", [AdamW, BertAdam, Lamb])
@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_rate_scales_the_update(optimizer, backend):
    """One step at rate r moves a parameter r times as far; at rate 1 it has the same bits."""
    rng = np.random.default_rng(1)
    params, grads = ({n: x.astype("float32") for n, x in draw(rng, RATES).items()} for _ in "pg")
    plain = optimizer(params, 1e-2, backend=backend).step(grads)
    mine = optimizer(params, 1e-2, backend=backend, rates=RATES).step(grads)
    for name, rate in RATES.items():
        moved = mine[name] - params[name]
        np.testing.assert_allclose(moved, rate * (plain[name] - params[name]), atol=2e-7)
    assert np.array_equal(mine["high.weight"], plain["high.weight"])


# ------------------------------------------------------- training


class Recorded(Supervised):
    """Keeps the parameters before each step, and the gradients of all of them."""

    def __init__(self, model):
        super().__init__(model)
        self.seen = []

    def gradients(self, batch, **place):
        parts, grads = super().gradients(batch, **place)
        params = {name: np.array(p) for name, p in self.model.params.items()}
        self.seen.append((params, {name: np.array(g) for name, g in grads.items()}))
        return parts, grads


def test_training_equals_torch_with_frozen_parameters():
    """The norm of clipping is that of the trained parameters; frozen ones keep their bits."""
    torch = pytest.importorskip("torch")
    config = TrainConfig(
        steps=4, lr=1e-2, max_grad_norm=0.1, layer_decay=0.5, freeze=(EMBEDDINGS, 1), warmup=0,
        schedule="constant", weight_decay=0.1,
    )  # fmt: skip
    objective = Recorded(from_config(CONFIG, seed=0))
    run_loop(objective, words(), config, progress=False)
    rates, (start, _) = layer_rates(objective.model, config), objective.seen[0]
    theirs = {n: torch.tensor(p, dtype=torch.float64) for n, p in start.items()}
    groups = [
        {"params": [theirs[name].requires_grad_()], "lr": config.lr * rate,
         "weight_decay": config.weight_decay * (theirs[name].ndim > 1)}
        for name, rate in rates.items()
    ]  # fmt: skip
    reference = torch.optim.AdamW(groups, betas=config.betas, eps=config.eps)
    for _, grads in objective.seen:
        for name in rates:
            theirs[name].grad = torch.tensor(grads[name], dtype=torch.float64)
        torch.nn.utils.clip_grad_norm_([theirs[name] for name in rates], config.max_grad_norm)
        reference.step()
    for name, p in objective.model.params.items():
        if name in rates:
            np.testing.assert_allclose(p, theirs[name].detach(), rtol=2e-5, atol=2e-6)
            assert not np.array_equal(p, start[name])
        else:
            assert np.array_equal(p, start[name])
    assert {part_of(name) for name in rates} == {0, None}


def batch_for(model, rng):
    """Two texts or images with labels."""
    if model.task == "image-classification":
        return {"pixel_values": rng.normal(size=(2, 1, 8, 8)), "labels": np.array([0, 1])}
    ids = rng.integers(5, 40, (2, 9))
    labels = np.array([0, 1]) if model.task == "text-classification" else ids % 2
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": labels}


@pytest.mark.parametrize("family", [*FAMILIES, "albert"])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_a_backward_ends_above_the_frozen_bottom(family, layers):
    """What is above has the same bits, what is below no gradient."""
    config, task = (ALBERT, "fill-mask") if family == "albert" else FAMILIES[family][:2]
    model, freeze = from_config(config, task), (EMBEDDINGS, *range(layers))
    batch = batch_for(model, np.random.default_rng(0))
    whole = model.gradients(batch, train=True).grads
    with frozen_up_to(frozen_bottom(freeze)):
        part = model.gradients(batch, train=True).grads
    assert part.keys() == whole.keys()
    for name, g in part.items():
        assert np.array_equal(g, 0 * g if part_of(name) in freeze else whole[name]), name
    again = model.gradients(batch, train=True).grads
    assert all(np.array_equal(again[name], g) for name, g in whole.items())


def test_the_frozen_bottom_ends_at_the_first_trained_part():
    assert [frozen_bottom(freeze) for freeze in (
        (), (0,), (EMBEDDINGS,), (EMBEDDINGS, 1), (1, EMBEDDINGS, 0), (EMBEDDINGS, 0, 1, 3)
    )] == [0, 0, 1, 1, 3, 3]  # fmt: skip


@pytest.mark.parametrize("optimizer", ["adamw", "bertadam", "lamb"])
def test_a_resumed_run_has_the_same_bits(tmp_path, optimizer):
    class Crashing(Supervised):
        def gradients(self, batch, *, step, **place):
            if step == 3:
                raise RuntimeError("power cut")
            return super().gradients(batch, step=step, **place)

    config = TrainConfig(steps=6, accumulate=2, lr=5e-3, checkpoint_every=2, optimizer=optimizer,
                         layer_decay=0.7, freeze=(EMBEDDINGS,))  # fmt: skip
    expected = from_config(CONFIG, seed=0)
    train(expected, words(), config)
    with pytest.raises(RuntimeError):
        train(Crashing(from_config(CONFIG, seed=0)), words(), config, run=tmp_path)
    again = from_config(CONFIG, seed=0)
    train(again, words(), config, run=Run(tmp_path, resume=True), resume=True)
    assert all(np.array_equal(again.params[n], p) for n, p in expected.params.items())


def test_a_student_with_frozen_embeddings_keeps_the_teachers():
    teacher = from_config(CONFIG, seed=0)
    student = student_from(teacher, (0,))
    data, config = words(), TrainConfig(steps=2, freeze=(EMBEDDINGS,))
    run_loop(Distillation(student, teacher), data, config, progress=False)
    word = "embeddings.word_embeddings.weight"
    assert np.array_equal(student.params[f"distilbert.{word}"], teacher.params[f"bert.{word}"])
    start = student_from(teacher, (0,)).params
    moved = {part_of(n) for n, p in student.params.items() if not np.array_equal(p, start[n])}
    assert moved == {0, None}
