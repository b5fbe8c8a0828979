"""Tiny encoder–decoders, and what transformers says about them; see `model_cases`."""

import warnings
from typing import NamedTuple

import model_cases
import numpy as np
from model_cases import ADAMW, STEPS, torch_inputs

import minidistil as md
from minidistil.config import EncoderDecoderConfig
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder

START, END = 2, 3


class Case(NamedTuple):
    """The encoder's family, the two widths, and whether the target has holes in its mask."""

    family: str
    widths: tuple
    holes: bool = False


CASES = {
    "pair-distilbert": Case("distilbert", (8, 12)),
    "pair-bert": Case("bert", (12, 12), holes=True),
}
SMALL = {"V": 19, "L": 1, "P": 9}
LARGE = {"V": 61, "L": 2, "P": 17}


def fields(case, size):
    """The config as config.json holds it."""
    V, L, P = (size[letter] for letter in "VLP")
    C, D = case.widths

    def bert(width):
        return {
            "model_type": "bert", "vocab_size": V, "hidden_size": width, "num_hidden_layers": L,
            "num_attention_heads": 2, "intermediate_size": 14, "max_position_embeddings": P,
            "type_vocab_size": 2, "pad_token_id": 0,
        }  # fmt: skip

    encoder = bert(C) if case.family == "bert" else {
        "model_type": "distilbert", "vocab_size": V, "dim": C, "n_layers": L, "n_heads": 2,
        "hidden_dim": 14, "max_position_embeddings": P, "pad_token_id": 0,
    }  # fmt: skip
    return {
        "model_type": "encoder-decoder", "encoder": encoder,
        "decoder": bert(D) | {"is_decoder": True, "add_cross_attention": True},
        "decoder_start_token_id": START, "eos_token_id": END, "pad_token_id": 0,
    }  # fmt: skip


def model_of(case, size=LARGE, seed=0, backend="cpu"):
    """The model of a case; see `model_from`."""
    return model_from(fields(case, size), seed, backend)


def model_from(fields_, seed=0, backend="cpu"):
    """A model whose parameters are all away from their special values."""
    config = EncoderDecoderConfig.from_dict(fields_)
    model = md.from_config(config, "translation", seed=seed, backend=backend)
    rng = np.random.default_rng(seed + 1)
    scale = {1: 0.2, 2: 0.25}
    model.update({n: p + rng.normal(0, scale[p.ndim], p.shape) for n, p in model.params.items()})
    return model


class Exact(EncoderDecoder, model_cases.Exact):
    """The same, its parameters in float64."""


def exact(model):
    """The same parameters in float64 behind the NumPy specification."""
    ops = md.backend("numpy", "float64")
    return Exact(model.config, model.task, model.named_by_role(), ops)


def batch_of(case, size=LARGE, seed=2, B=4):
    """Sources of uneven lengths with holes; targets are labels, or have their own mask."""
    rng = np.random.default_rng(seed)
    T, U, V = size["P"] - 2, size["P"] - 4, size["V"]
    mask = np.ones((B, T), np.int64)
    mask[0, 2:4] = mask[1, T // 2 :] = mask[3, 1:] = mask[2, 0] = 0
    labels = rng.integers(4, V, (B, U))
    labels[1, 2:] = labels[2, 1:] = labels[3, -1:] = -100
    batch = {"input_ids": rng.integers(4, V, (B, T)), "attention_mask": mask, "labels": labels}
    if case.holes:
        heard = np.ones((B, U), np.int64)
        heard[0, 1] = heard[3, :2] = heard[1, 3:] = 0
        batch["decoder_input_ids"] = rng.integers(1, V, (B, U))
        batch["decoder_attention_mask"] = heard
        batch["labels"] = np.where(heard == 1, labels, -100)
    return batch


def torch_model(model, fields_, dtype="float32"):
    """transformers' own model with our parameters, found by name."""
    import torch
    from transformers import EncoderDecoderConfig, EncoderDecoderModel

    config = EncoderDecoderConfig(**{k: v for k, v in fields_.items() if k != "model_type"})
    config._attn_implementation = "eager"
    theirs = EncoderDecoderModel(config=config).eval()
    state = {name: torch.tensor(np.array(p)) for name, p in model.params.items()}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(".predictions.decoder." in name for name in missing), missing
    return theirs.to(getattr(torch, dtype))


def torch_numbers(model, fields_, batch, dtype="float32"):
    """{name: array}: outputs, loss, gradients, and the parameters after ten steps of AdamW."""
    import torch

    theirs, inputs = torch_model(model, fields_, dtype), torch_inputs(batch, dtype)
    named = dict(theirs.named_parameters())
    groups = [
        {"params": [p for p in named.values() if p.ndim > 1]},
        {"params": [p for p in named.values() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, **ADAMW)

    def run():
        optimizer.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # how the loss is made has once been different
            out = theirs(**inputs, output_hidden_states=True)
        out.loss.backward()
        for p in named.values():  # the pooler, which nothing reads: decayed by ours, too
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        return out

    out = run()
    numbers = {"loss": out.loss, "logits": out.logits,
               "encoder_last_hidden_state": out.encoder_last_hidden_state}  # fmt: skip
    for name in ("encoder_hidden_states", "decoder_hidden_states"):
        numbers |= {f"{name}.{i}": x for i, x in enumerate(out[name])}
    numbers |= {f"grad.{name}": p.grad for name, p in named.items()}
    numbers = {name: x.detach().numpy().copy() for name, x in numbers.items()}
    for i in range(STEPS):
        if i:
            run()
        optimizer.step()
    return numbers | {f"after.{name}": p.detach().numpy().copy() for name, p in named.items()}
