"""The page `minidistil/distilbert.py` and the library are one algorithm, in float64."""

import ast
import inspect
from types import SimpleNamespace

import numpy as np
import pytest

import minidistil as md
from minidistil import distilbert as page
from minidistil.testing import check_backward
from minidistil.train import schedule

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
ALPHAS = {"temperature": 3.0, "alpha_ce": 0.7, "alpha_mlm": 1.3, "alpha_cos": 2.1}


def perturbed(model, seed):
    """The same model, none of whose numbers is 0 or 1."""
    rng = np.random.default_rng(seed)
    model.update({n: p + rng.normal(0, 0.2, p.shape) for n, p in model.params.items()})
    return model


@pytest.fixture
def world():
    """A BERT and a DistilBERT of the library, the same two for the page, and a batch."""
    bert = md.BertConfig(
        vocab_size=31, hidden_size=12, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=20, max_position_embeddings=11,
    )  # fmt: skip
    exact = {"task": "fill-mask", "backend": "numpy", "dtype": "float64"}
    teacher = perturbed(md.from_config(bert, seed=1, **exact), 1)
    student = md.student_from(teacher, layers=(0, 2), vocab_transform=True, seed=2)
    student = perturbed(student, 2)
    rng = np.random.default_rng(3)
    ids = rng.integers(5, 31, (4, 7))
    mask = np.arange(7) < np.array([7, 1, 5, 3])[:, None]
    mask[0, 2] = False  # a hole
    labels = np.where(mask & (rng.random(mask.shape) < 0.5), rng.integers(0, 31, ids.shape), -100)
    batch = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "labels": labels}
    params = [{n: p.astype(np.float64) for n, p in m.named_by_role().items()}
              for m in (student, teacher)]  # fmt: skip
    pair = (params[0], page.Config(2, 3)), (params[1], page.Config(3, 3))
    return SimpleNamespace(student=student, teacher=teacher, batch=batch, pair=pair)


def by_role(model, grads):
    return {role: grads[public] for role, public in model.names.items()}


def same(mine, theirs):
    assert mine.keys() == theirs.keys()
    for name, x in theirs.items():
        np.testing.assert_allclose(mine[name], x, **CLOSE, err_msg=name)


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_logits_and_hidden_states(world, which):
    model, (params, config) = getattr(world, which), world.pair[which == "teacher"]
    ids, mask = world.batch["input_ids"], world.batch["attention_mask"]
    logits, hidden, _ = page.forward(params, config, ids, mask)
    theirs = model.forward(ids, mask, hidden_states=True)
    real = mask.astype(bool)
    np.testing.assert_allclose(logits[real], theirs.logits[real], **CLOSE)
    assert len(hidden) == len(theirs.hidden_states)
    for mine, their in zip(hidden, theirs.hidden_states, strict=True):
        np.testing.assert_allclose(mine[real], their[real], **CLOSE)


def test_losses_and_every_gradient(world):
    loss, parts, grads = page.distill_step(*world.pair, world.batch, page.Weights(*ALPHAS.values()))
    theirs = md.distill_step(world.student, world.teacher, world.batch, md.DistillConfig(**ALPHAS))
    assert loss == pytest.approx(theirs.loss, rel=1e-12)
    for name, part in parts.items():
        assert part == pytest.approx(theirs.parts[name], rel=1e-12)
    same(grads, by_role(world.student, theirs.grads))


def test_the_weights_are_those_of_the_library():
    config = md.DistillConfig()
    ours = page.Weights(config.temperature, config.alpha_ce, config.alpha_mlm, config.alpha_cos)
    assert page.Weights() == ours


def test_three_steps_of_adamw(world):
    """The library keeps parameters in float32, so the page starts each step from its."""
    optimizer = md.AdamW(
        {n: p.astype(np.float64) for n, p in world.student.params.items()}, lr=1e-2, backend="numpy"
    )
    params, state = {n: p.copy() for n, p in world.pair[0][0].items()}, {}
    exact = dict(optimizer.params)
    optimizer.params = exact
    for step in range(3):
        _, _, grads = page.distill_step((params, world.pair[0][1]), world.pair[1], world.batch)
        public = {world.student.names[role]: g for role, g in grads.items()}
        page.adamw(params, grads, state, 1e-2)
        exact.update(optimizer.step(public))
        same(params, {role: exact[name] for role, name in world.student.names.items()})
        assert state["step"] == step + 1


def test_the_schedule():
    for step in range(12):
        assert page.schedule(step, 3, 10) == schedule.linear(step, warmup=3, total=10)


def test_a_student_starts_as_the_librarys(world):
    params = world.pair[1][0]
    mine = page.student_from(params, (0, 2), np.random.default_rng(0))
    model = md.student_from(world.teacher, layers=(0, 2))
    theirs = model.named_by_role()
    assert mine.keys() == theirs.keys()
    for name, p in theirs.items():
        if name != "transform.weight":  # random in both
            np.testing.assert_array_equal(mine[name], p, err_msg=name)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_the_backward_is_the_transpose_of_the_forward(world, rate):
    """With dropout, too: the same draws at each call."""
    params, config = world.pair[0]
    names, ids = list(params), world.batch["input_ids"]
    config = config._replace(dropout=rate)

    def forward(*arrays):
        p = dict(zip(names, arrays, strict=True))
        rng = np.random.default_rng(0)
        logits, hidden, cache = page.forward(p, config, ids, world.batch["attention_mask"], rng)
        return np.concatenate([logits, hidden[-1]], axis=-1), cache

    def backward(dy, cache):
        V = dy.shape[-1] - hidden_size
        return [page.backward(dy[..., :V], dy[..., V:], cache)[n] for n in names]

    hidden_size = params["embeddings.word.weight"].shape[1]
    check_backward(forward, backward, list(params.values()), np.random.default_rng(1), eps=1e-5)


def test_masking_is_berts():
    rng = np.random.default_rng(0)
    ids, mask = rng.integers(5, 1000, (200, 100)), np.ones((200, 100), np.int64)
    ids[:, 0], mask[:, 90:] = 2, 0
    batch = page.mask_tokens(ids, mask, [2], 4, 1000, rng)
    asked = batch["labels"] != -100
    assert not asked[:, 0].any() and not asked[:, 90:].any()
    np.testing.assert_array_equal(batch["labels"][asked], ids[asked])
    np.testing.assert_array_equal(batch["input_ids"][~asked], ids[~asked])
    hidden, kept = (batch["input_ids"] == 4)[asked].mean(), (batch["input_ids"] == ids)[asked]
    assert abs(asked[:, 1:90].mean() - 0.15) < 0.01
    assert abs(hidden - 0.8) < 0.03 and abs(kept.mean() - 0.1) < 0.03


def test_a_student_learns(world):
    rng = np.random.default_rng(0)
    student, teacher = world.pair
    losses = [loss for loss, _ in page.train(
        student, teacher, iter([world.batch] * 30), 30, 1e-2, rng)]  # fmt: skip
    assert len(losses) == 30 and losses[-1] < 0.7 * losses[0]


def test_it_imports_numpy_alone_and_fits_a_page():
    source = inspect.getsource(page)
    top = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {a.name for node in top for a in node.names} | {
        node.module for node in top if isinstance(node, ast.ImportFrom)
    }
    assert names == {"math", "numpy", "typing", "NamedTuple"}
    assert len(source.splitlines()) <= 400
