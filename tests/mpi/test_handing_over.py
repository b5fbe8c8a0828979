"""Gradients are handed over layer by layer, from the last one, and do not change afterwards."""

import numpy as np
import pytest

from minidistil import AlbertConfig, BertConfig, DistilBertConfig, Gpt2Config, from_config
from minidistil.model.handing_over import receiving

SIZES = {"vocab_size": 30, "max_position_embeddings": 12}
BERT = {**SIZES, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 16}  # fmt: skip
CASES = {
    "bert": (BertConfig(**BERT), "fill-mask", 3),
    "distilbert": (
        DistilBertConfig(**SIZES, dim=8, n_layers=3, n_heads=2, hidden_dim=16), "fill-mask", 3,
    ),
    "classifier": (BertConfig(**BERT, num_labels=2), "text-classification", 3),
    "albert": (AlbertConfig(**BERT, embedding_size=4), "fill-mask", 1),  # one group of parameters
    "gpt2": (
        Gpt2Config(vocab_size=30, n_positions=12, n_embd=8, n_layer=3, n_head=2, n_inner=16),
        "text-generation", 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_layer_is_handed_over_once_and_last_first(name):
    config, task, groups = CASES[name]
    model = from_config(config, task, backend="numpy")
    ids = np.random.default_rng(0).integers(5, 30, (2, 7))
    labels = np.array([0, 1]) if task == "text-classification" else ids
    received = []

    def receive(grads):
        received.append({n: (g, g.copy()) for n, g in model.named(grads).items()})

    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": labels}
    with receiving(receive):
        grads = model.gradients(batch, train=True).grads
    names = [n for part in received for n in part]
    assert len(names) == len(set(names)), "each once"
    for part in received:
        for n, (now, then) in part.items():
            assert np.array_equal(grads[n], then) and np.array_equal(now, then), n
    inside = {n for n in grads if "embeddings" not in n and "wte" not in n and "wpe" not in n}
    assert set(names) == inside - {n for n in inside if "mapping" in n}, "all but embeddings"
    order = [{c.split(".")[1] for c in model.names if model.names[c] in part and "layer." in c}
             for part in received]  # fmt: skip
    layers = [int(*one) for one in order if one]
    assert layers == sorted(range(groups), reverse=True)


def test_without_a_receiver_nothing_changes():
    config, task, _ = CASES["bert"]
    model = from_config(config, task, backend="numpy")
    ids = np.arange(5, 15).reshape(2, 5)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": ids}
    with receiving(lambda grads: None):
        one = model.gradients(batch).grads
    other = model.gradients(batch).grads
    assert all(np.array_equal(one[n], other[n]) for n in one)
