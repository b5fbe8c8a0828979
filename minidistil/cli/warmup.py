"""Compile the kernels ahead of time, so that later commands start at once.

A kernel is compiled when it is first called, and stored in the user's cache folder or in
NUMBA_CACHE_DIR. This command trains and uses tiny models in float32; the kernels of bfloat16 and
int8, and those of rarer losses and optimisers, are compiled when they are first called.
"""

import time
from dataclasses import replace

import numpy as np

from minidistil.config import PROBLEM_TYPES, BertConfig, DistilBertConfig
from minidistil.distill import DistillConfig, distill_step
from minidistil.io.console import Answer
from minidistil.io.counts import counted
from minidistil.model.pretrained import from_config
from minidistil.train.optimizer import AdamW, clip

EXAMPLE = ""
V, C = 40, 64
BERT = BertConfig(V, C, num_hidden_layers=1, num_attention_heads=2, intermediate_size=C)
DISTILBERT = DistilBertConfig(V, dim=C, n_layers=1, n_heads=2, hidden_dim=C)
# (B,T): small enough for one thread, large enough for several, long enough for attention on AMX
SIZES = ((1, 2), (16, 16), (1, 192))
ALL_LOSSES = DistillConfig(alpha_mse=1.0, terms=("attention", "feature-maps"))


def add_options(parser):
    pass


def run(args):
    from minidistil.ops.runtime.cpu import compilations

    started, before = time.perf_counter(), compilations.count
    warm_up()
    compiled, seconds = compilations.count - before, time.perf_counter() - started
    found = {"compiled": compiled, "seconds": seconds}
    if not compiled:
        return Answer(found, "these kernels were compiled already")
    return Answer(found, f"{counted(compiled, 'kernel')} compiled in {seconds:.0f} s")


def warm_up():
    """Train and use models of every kind for a step."""
    rng = np.random.default_rng(0)
    for shape in SIZES:
        ids = rng.integers(1, V, shape)
        batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": ids}
        for activation in ("gelu", "gelu_new", "relu"):
            _learn(replace(BERT, hidden_act=activation), batch)
            _distill(replace(DISTILBERT, activation=activation), "fill-mask", batch)
        classes, numbers = rng.integers(0, 2, len(ids)), rng.normal(size=(len(ids), 2))
        for problem, labels in zip(PROBLEM_TYPES, (classes, numbers > 0, numbers), strict=True):
            for config in (BERT, DISTILBERT):
                config = config.with_labels(2, problem)
                _learn(config, batch | {"labels": labels * 1}, "text-classification")
        batch["labels"] = classes
        _distill(DISTILBERT, "text-classification", batch)


def _learn(config, batch, task="fill-mask"):
    model = from_config(config, task)
    for train in (True, False):
        model.gradients(batch, train=train)
    model.backward(model.forward(**batch))


def _distill(config, task, batch):
    teacher, student = (from_config(config, task, seed) for seed in (0, 1))
    for train in (True, False):
        grads = distill_step(student, teacher, batch, ALL_LOSSES, train=train).grads
    clip(grads, 1e-9)
    student.update(AdamW(student.params).step(grads))
    student.forward(batch["input_ids"], keep=False)
