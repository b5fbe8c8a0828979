"""Two models that make sentence vectors, and what the losses on these are in PyTorch."""

import model_cases
import numpy as np
from distill_cases import weighted
from model_cases import CASES, LARGE, SMALL, fields, torch_inputs, torch_model

import minidistil as md
from minidistil.model.sentence.sentence_model import (
    SENTENCES,
    Pooling,
    SentenceModel,
)

TEACHER, STUDENT = (CASES[f"{f}-body"]._replace(task=SENTENCES) for f in ("bert", "distilbert"))
QUIET = {"alpha_ce": 0.0, "alpha_cos": 0.0, "alpha_hard": 0.0, "alpha_mse": 3.0}
LESSONS = {  # how tokens become a vector, and the weights
    "mean": (Pooling("mean", True), QUIET),
    "mean-plain": (Pooling("mean", False), QUIET | {"alpha_hard": 1.5}),
    "cls": (Pooling("cls", True), QUIET | {"alpha_cos": 0.7}),
    "cls-plain": (Pooling("cls", False), QUIET | {"alpha_hard": 1.5, "alpha_cos": 0.7}),
}
SHALLOW = {"L": 1}
__all__ = ["LARGE", "SMALL"]


class Exact(SentenceModel, model_cases.Exact):
    """One whose parameters, too, are float64."""


def exact(model):
    ops = md.backend("numpy", "float64")
    return Exact(model.config, model.named_by_role(), ops, model.pooling)


def config_of(name):
    return md.DistillConfig(**LESSONS[name][1])


def pair(name, size=LARGE):
    """A teacher, and a student of another family and depth with other weights."""
    bodies = (model_cases.model_of(TEACHER, size, seed=1),
              model_cases.model_of(STUDENT, size | SHALLOW, seed=2))  # fmt: skip
    return tuple(SentenceModel(m.config, m.named_by_role(), m.ops, LESSONS[name][0])
                 for m in bodies)  # fmt: skip


def batch_of(name, size=LARGE):
    """Four pairs of texts of uneven lengths, one with a hole in its mask, and their likeness."""
    both = [model_cases.batch_of(TEACHER, size, seed=seed) for seed in (2, 3)]
    batch = {n: np.stack([one[n] for one in both], axis=1) for n in both[0]}
    return batch | {"labels": np.random.default_rng(4).random(4).astype(np.float32)}


def vectors(hidden, mask, pooling):
    """hidden (B,T,C), mask (B,T)  ->  (B,C), as sentence-transformers' modules make them."""
    from torch.nn.functional import normalize

    weights = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    v = {"mean": mean, "cls": hidden[:, 0]}[pooling.mode]
    return normalize(v, p=2, dim=1) if pooling.normalize else v


def torch_numbers(name, teacher, student, batch, size, dtype):
    """{"loss", "part.NAME", "grad.NAME": array}: sentence-transformers' MSELoss of the vectors,
    its CosineSimilarityLoss of the pairs, the original distiller's cosine of the tokens."""
    import torch
    from torch import nn

    theirs = torch_model(teacher, fields(TEACHER, size), dtype)
    mine = torch_model(student, fields(STUDENT, size | SHALLOW), dtype)
    inputs = torch_inputs(batch, dtype)
    labels = inputs.pop("labels")
    inputs = {n: x.flatten(0, 1) for n, x in inputs.items()}
    with torch.no_grad():
        h_t = theirs(**inputs).last_hidden_state
    inputs.pop("token_type_ids")
    h_s, mask = mine(**inputs).last_hidden_state, inputs["attention_mask"]
    v_s, v_t = (vectors(h, mask, LESSONS[name][0]) for h in (h_s, h_t))
    likeness = torch.cosine_similarity(v_s[0::2], v_s[1::2])
    real = mask.bool()
    parts = {
        "mse": nn.MSELoss()(v_s, v_t),
        "hard": nn.MSELoss()(likeness, labels),
        "cos": nn.CosineEmbeddingLoss()(h_s[real], h_t[real], h_s.new_ones(int(real.sum()))),
    }
    return weighted(parts, config_of(name), mine)
