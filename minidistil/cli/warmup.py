"""Compile the kernels ahead of time, so that no later command waits for it.

Numba compiles a kernel when it is first called and keeps the result in its cache folder (set
NUMBA_CACHE_DIR to choose one). This command calls every kernel once, on tiny models.
"""

import time

import numpy as np

from minidistil.cli.common import Answer
from minidistil.config import PROBLEM_TYPES, BertConfig, DistilBertConfig
from minidistil.distill import DistillConfig, distill_step
from minidistil.model.pretrained import from_config
from minidistil.train.optimizer import AdamW, clip

EXAMPLE = ""
SMALL = {"vocab_size": 40, "max_position_embeddings": 16}
BERT = SMALL | {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 32}  # fmt: skip
DISTILBERT = SMALL | {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
ALL_LOSSES = DistillConfig(alpha_mse=1.0)


def add_options(parser):
    pass


def run(args):
    from minidistil.ops._cpu import compilations

    started, before = time.perf_counter(), compilations.count
    warm_up()
    compiled, seconds = compilations.count - before, time.perf_counter() - started
    found = {"compiled": compiled, "seconds": seconds}
    if not compiled:
        return Answer(found, "every kernel was in Numba's cache already")
    return Answer(found, f"{compiled} kernels compiled in {seconds:.0f} s")


def warm_up():
    """Train and use models of every kind for a step."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 40, (3, 8))
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": ids}
    for activation in ("gelu", "gelu_new", "relu"):
        teacher = from_config(BertConfig(**BERT, hidden_act=activation))
        student = from_config(DistilBertConfig(**DISTILBERT, activation=activation))
        for train in (True, False):
            grads = distill_step(student, teacher, batch, ALL_LOSSES, train=train).grads
        clip(grads, 1e-9)
        student.update(AdamW(student.params).step(grads))
        student.forward(ids, keep=False)
        _learn(teacher, batch)
    classes, numbers = rng.integers(0, 2, 3), rng.normal(size=(3, 2))
    for family, sizes in ((BertConfig, BERT), (DistilBertConfig, DISTILBERT)):
        for problem, labels in zip(PROBLEM_TYPES, (classes, numbers > 0, numbers), strict=True):
            config = family(**sizes, num_labels=2, problem_type=problem)
            _learn(from_config(config, "text-classification"), batch | {"labels": labels * 1})


def _learn(model, batch):
    for train in (True, False):
        model.gradients(batch, train=train)
    model.backward(model.forward(**batch))
