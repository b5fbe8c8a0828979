"""The loop with real models: a tiny BERT on masked words, and its distillation."""

import numpy as np
import pytest

from minidistil.config import BertConfig
from minidistil.data.batches import Batching, MaskedText
from minidistil.distill import DistillConfig, student_from
from minidistil.model.pretrained import from_config
from minidistil.train import AdamW, Run, TrainConfig, train
from minidistil.train.training_objectives import Distillation, Supervised

CONFIG = BertConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=32, max_position_embeddings=16,
)  # fmt: skip
OPTIONS = {"steps": 6, "accumulate": 2, "lr": 5e-3, "checkpoint_every": 2, "log_every": 1}


class Words:
    """A corpus and its tokenizer in one: sentences that go round four of forty words."""

    vocab_size, pad_id, mask_id, special_ids, token_types = 40, 0, 4, (0, 1, 2, 3, 4), False

    def __init__(self):
        rng = np.random.default_rng(3)
        self.lengths = rng.integers(4, 16, 60)
        self.sequences = [5 + (rng.integers(4) + np.arange(n)) % 4 for n in self.lengths]
        self.counts = np.bincount(np.concatenate(self.sequences), minlength=40)

    def __getitem__(self, i):
        return self.sequences[i]


def words():
    corpus = Words()
    return MaskedText(corpus, np.arange(60), corpus, Batching(64, seed=1))


def pretrain(run=None, resume=False, objective=Supervised):
    model = from_config(CONFIG, seed=0)
    train(objective(model), words(), TrainConfig(**OPTIONS), run=run, resume=resume)
    return model.params


def test_a_tiny_bert_learns_which_words_there_are():
    model = from_config(CONFIG, seed=0)
    before = model.gradients(words().collate(np.arange(9), step=0)).loss
    summary = train(model, words(), TrainConfig(steps=40, lr=1e-2))
    assert before > 3.5 and summary["loss"] < 1.6  # ln 40 = 3.7, ln 4 = 1.4


def test_a_resumed_tiny_bert_has_the_same_bits(tmp_path):
    class Crashing(Supervised):
        def gradients(self, batch, *, step, **place):
            if step == 3:
                raise RuntimeError("power cut")
            return super().gradients(batch, step=step, **place)

    expected = pretrain()
    with pytest.raises(RuntimeError, match="power cut"):
        pretrain(tmp_path / "run", objective=Crashing)
    mine = pretrain(tmp_path / "run", resume=True)
    assert all(np.array_equal(mine[name], expected[name]) for name in expected)


def test_a_tiny_bert_learns_in_bfloat16_as_in_float32():
    """The same seeds: other bits, and the same loss in the end."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        model = from_config(CONFIG, seed=0, dtype=dtype)
        found[dtype] = train(model, words(), TrainConfig(steps=40, lr=1e-2))["loss"]
        assert all(x.dtype == np.float32 for x in model.params.values())
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.05)


def test_a_resumed_run_keeps_its_dtype(tmp_path):
    def once(steps, dtype, **run):
        model = from_config(CONFIG, seed=0, dtype=dtype)
        train(model, words(), TrainConfig(**OPTIONS | {"steps": steps}), **run)
        return model.params

    class Crashing(Supervised):
        def gradients(self, batch, *, step, **place):
            if step == 3:
                raise RuntimeError("power cut")
            return super().gradients(batch, step=step, **place)

    expected, out = once(6, "bfloat16"), tmp_path / "run"
    with pytest.raises(RuntimeError, match="power cut"):
        model = from_config(CONFIG, seed=0, dtype="bfloat16")
        train(Crashing(model), words(), TrainConfig(**OPTIONS), run=out)
    with pytest.raises(ValueError, match="dtype 'bfloat16', now 'float32'"):
        once(6, "float32", run=out, resume=True)
    mine = once(6, "bfloat16", run=out, resume=True)
    assert all(np.array_equal(mine[name], expected[name]) for name in expected)


def test_the_optimiser_follows_the_model():
    model = from_config(CONFIG, seed=0)
    optimizer = AdamW(model.params, lr=1.0, weight_decay=0.0)
    name = "bert.embeddings.LayerNorm.bias"
    model.update({name: np.full(16, 5, np.float32)})
    model.update(optimizer.step({name: np.ones(16, np.float32)}))
    np.testing.assert_allclose(model.params[name], 4, rtol=1e-6)


def test_a_pair_is_distilled(tmp_path):
    teacher = from_config(CONFIG, seed=0)
    student = student_from(teacher, layers=(0,), seed=1)
    before, taught = dict(student.params), dict(teacher.params)
    run = Run(tmp_path / "run")
    distill = DistillConfig(alpha_mse=0.5)
    summary = train((student, teacher), words(), TrainConfig(**OPTIONS), distill=distill, run=run)
    assert {"loss", "ce", "mlm", "cos", "mse"} <= summary.keys()
    total = 5 * summary["ce"] + 2 * summary["mlm"] + summary["cos"] + 0.5 * summary["mse"]
    assert summary["loss"] == pytest.approx(total)
    assert all(not np.array_equal(student.params[name], before[name]) for name in before)
    assert all(teacher.params[name] is taught[name] for name in taught)


def test_wrong_pairs_are_refused():
    model = from_config(CONFIG, seed=0)
    with pytest.raises(ValueError, match="distill options need a pair"):
        train(model, words(), TrainConfig(steps=1), distill=DistillConfig())
    with pytest.raises(ValueError, match=r"the pair \(student, teacher\), not 3 models"):
        train((model,) * 3, words(), TrainConfig(steps=1))


# ------------------------------------------------------- the op that broke

LAYER = "bert.encoder.layer.1."
SPOILT = [  # parameters made so large that float32 overflows, and where it first shows
    (
        [f"{LAYER}intermediate.dense.weight"],
        3e38,
        f"linear_gelu.forward with {LAYER}intermediate.dense.weight, "
        f"{LAYER}intermediate.dense.bias",
    ),
    (
        [f"{LAYER}attention.self.query.weight", f"{LAYER}attention.self.key.weight"],
        1e25,
        f"attention.forward, after the op with {LAYER}attention.self.value.weight, "
        f"{LAYER}attention.self.value.bias",
    ),
]


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize(("names", "factor", "place"), SPOILT)
def test_the_first_op_that_overflows_is_named(names, factor, place, backend):
    model = from_config(CONFIG, seed=0, backend=backend)
    model.update({n: np.sign(model.params[n]) * np.float32(factor) for n in names})
    before = dict(model.params)
    with pytest.raises(FloatingPointError) as caught:
        train(model, words(), TrainConfig(steps=3))
    assert f"the first number that is not finite came out of {place};" in str(caught.value)
    assert all(model.params[n] is before[n] for n in before)


def test_a_spoilt_teacher_and_a_backward_are_named():
    teacher = from_config(CONFIG, seed=0)
    student = student_from(teacher, layers=(0,), seed=1)
    (name,), factor, _ = SPOILT[0]
    teacher.update({name: np.sign(teacher.params[name]) * np.float32(factor)})
    with pytest.raises(FloatingPointError, match=f"the teacher's linear_gelu.forward with {name}"):
        train((student, teacher), words(), TrainConfig(steps=1))

    teacher = from_config(CONFIG, seed=0)
    tiny = {n: p * np.float32(1e-9) for n, p in student.params.items() if "output_layer_norm" in n}
    student.update(tiny)  # cosine's gradient grows as 1/|h|
    objective = Distillation(student, teacher, DistillConfig(alpha_cos=1e38))
    with pytest.raises(FloatingPointError, match=r"came out of cosine\.backward"):
        train(objective, words(), TrainConfig(steps=1))

    name = next(iter(student.params))
    student.update({name: np.full_like(student.params[name], np.nan)})
    with pytest.raises(FloatingPointError, match=f"parameter {name} is not finite"):
        train((student, teacher), words(), TrainConfig(steps=1))
