"""The main job in small on the device: the specification's losses, step by step.

NUMBA_ENABLE_CUDASIM=1 pytest tests -m cuda
"""

import json

import numpy as np
import pytest
from distill_cases import pair
from model_cases import CASES, SMALL
from test_train_models import Words

from minidistil.config import BertConfig
from minidistil.data.batches import Batching, MaskedText
from minidistil.distill import DistillConfig, distill_step, student_from
from minidistil.model.pretrained import from_config, from_pretrained
from minidistil.ops import backend
from minidistil.testing import rms
from minidistil.train import AdamW, Run, TrainConfig, clip, train

pytestmark = pytest.mark.cuda
CONFIG = BertConfig(
    vocab_size=40, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=16,
)  # fmt: skip
OPTIONS = {"steps": 2, "accumulate": 2, "lr": 5e-3, "checkpoint_every": 1, "log_every": 1}


def distilled(folder, backend):
    """The losses of a distillation on one backend, and the student's parameters."""
    teacher = from_config(CONFIG, seed=0, backend=backend)
    student = student_from(teacher, layers=(0,), seed=1)
    run = Run(folder)
    config = TrainConfig(**OPTIONS, backend=backend)
    corpus = Words()
    data = MaskedText(corpus, np.arange(12), corpus, Batching(24, seed=1))
    train((student, teacher), data, config, run=run, distill=DistillConfig(alpha_mse=0.5))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line], student


def test_distillation_gives_the_losses_of_the_specification(tmp_path):
    losses, device = distilled(tmp_path / "cuda", "cuda")
    true, spec = distilled(tmp_path / "numpy", "numpy")
    assert len(losses) == 2 and losses == pytest.approx(true, rel=1e-5)
    for name, p in spec.params.items():
        np.testing.assert_allclose(device.params[name], p, rtol=1e-3, atol=2e-5, err_msg=name)
    device.save_pretrained(tmp_path / "saved")
    back = from_pretrained(tmp_path / "saved")
    assert all((back.params[name] == device.params[name]).all() for name in back.params)


def test_a_step_of_a_decoder_is_the_specification_s():
    words = CASES["gpt2-words"]
    teacher, student, batch = pair(words, words, SMALL, backend="numpy")
    batch = {name: x[:2] for name, x in batch.items()}  # the simulator is slow
    config = DistillConfig(alpha_clm=0.5, alpha_mse=0.1, restrict_ce_to_mask=True)
    place = {"train": True, "seed": 3, "step": 4}
    true = distill_step(student, teacher, batch, config, **place)
    there = [model.with_ops(backend("cuda")) for model in (student, teacher)]
    step = distill_step(*there, batch, config, **place)
    assert step.parts == pytest.approx(true.parts, rel=1e-5)
    scale = max(rms(g) for g in true.grads.values())
    for name, g in true.grads.items():
        mine = there[0].ops.place.fetch(step.grads[name])
        assert rms(mine - g) <= 2e-5 * scale, name


def test_the_optimiser_s_state_comes_and_goes():
    rng = np.random.default_rng(0)
    model = from_config(CONFIG, seed=0, backend="cuda")
    grads = {n: rng.normal(size=p.shape).astype(np.float32) for n, p in model.params.items()}
    host = AdamW(dict(model.params), backend="numpy")
    device = AdamW(model.params, backend="cuda")
    there = {name: model.ops.place.send(g) for name, g in grads.items()}
    assert clip(there, 1.0, "cuda") == pytest.approx(clip(grads, 1.0, "numpy"), rel=1e-5)
    host.step(grads)
    device.step(there)
    resumed = AdamW(model.params, backend="cuda")
    resumed.load(device.state())
    assert resumed.t == 1
    for kind in "mv":
        for name, array in host.state()[kind].items():
            np.testing.assert_allclose(resumed.state()[kind][name], array, rtol=1e-4, atol=1e-9)
