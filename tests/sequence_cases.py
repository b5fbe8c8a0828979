"""Two encoder–decoders, and what learning word by word is in PyTorch."""

import warnings

import pair_cases
from distill_cases import weighted
from model_cases import torch_inputs
from pair_cases import CASES, LARGE, SMALL, exact, fields, torch_model

import minidistil as md

# Narrow: every weight is stored. Encoders of two families, decoders of one width.
TEACHER = CASES["pair-bert"]._replace(widths=(6, 6))
STUDENT = CASES["pair-distilbert"]._replace(widths=(4, 6))
LESSONS = {
    "default": {"alpha_cos": 0.0},
    "all": {"temperature": 1.5, "alpha_ce": 2.0, "alpha_mse": 0.3, "alpha_cos": 0.7,
            "alpha_hard": 0.5},
    "hard": {"alpha_ce": 0.0, "alpha_cos": 0.0, "alpha_hard": 1.0},
}  # fmt: skip
HOLES = "all"  # its targets have a mask of their own
__all__ = ["LARGE", "SMALL", "exact"]


def config_of(name):
    return md.DistillConfig(**LESSONS[name])


def sizes(size):
    """The teacher's and the student's."""
    return size | {"L": 2}, size | {"L": 1}


def pair(name, size=LARGE):
    """A teacher, and a student of fewer layers with other weights."""
    return tuple(
        pair_cases.model_of(case, depth, seed=seed)
        for case, depth, seed in zip((TEACHER, STUDENT), sizes(size), (1, 2), strict=True)
    )


def batch_of(name, size=LARGE):
    return pair_cases.batch_of(STUDENT._replace(holes=name == HOLES), size)


def torch_numbers(name, teacher, student, batch, size, dtype):
    """{"loss", "part.NAME", "grad.NAME": array}: the original distiller's losses, of the words
    that a target asks for, where cos is of every word that the decoder hears; hard is
    transformers' own loss."""
    import torch
    from torch import nn

    theirs, mine = (
        torch_model(m, fields(case, depth), dtype)
        for m, case, depth in zip((teacher, student), (TEACHER, STUDENT), sizes(size), strict=True)
    )
    inputs, tau = torch_inputs(batch, dtype), config_of(name).temperature
    with warnings.catch_warnings(action="ignore"):  # how the loss is made has been different
        with torch.no_grad():
            t = theirs(**inputs, output_hidden_states=True)
        s = mine(**inputs, output_hidden_states=True)
    words = inputs["labels"] != -100
    heard = nn.functional.pad(words[:, :-1], (1, 0), value=True)  # the start, then every label
    heard = inputs["decoder_attention_mask"].bool() if name == HOLES else heard
    z, q = s.logits[words], t.logits[words]
    h_s, h_t = (out.decoder_hidden_states[-1][heard] for out in (s, t))
    kl = nn.KLDivLoss(reduction="batchmean")
    parts = {
        "ce": kl(torch.log_softmax(z / tau, -1), torch.softmax(q / tau, -1)) * tau**2,
        "hard": s.loss,
        "mse": nn.MSELoss(reduction="sum")(z, q) / len(z),
        "cos": nn.CosineEmbeddingLoss()(h_s, h_t, h_s.new_ones(len(h_s))),
    }
    return weighted(parts, config_of(name), mine)
