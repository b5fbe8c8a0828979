"""The distillation loss of each code base in PyTorch, written down from its description.

A formula each on purpose, one after another and sharing nothing: they are what the one formula of
`minidistil.distill.conventions` has to be equal to.
"""

import warnings

import numpy as np

TAUS = (1.0, 2.0, 7.5)
SHAPES = ((1, 2), (5, 3), (4, 61))  # (N,V)


def logits(N, V, seed=0):
    """Student's and teacher's, float32."""
    return np.random.default_rng(seed).normal(0, 2, (2, N, V)).astype(np.float32)


def theirs(name, z, t, T):
    """The loss of the code base `name`, a tensor."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    log_s, p_t = F.log_softmax(z / T, dim=-1), F.softmax(t / T, dim=-1)
    if name == "huggingface":
        return nn.KLDivLoss(reduction="batchmean")(log_s, p_t) * T**2
    if name == "textbrewer":
        return -(p_t * log_s).sum(dim=-1).mean()
    if name == "torchdistill":
        return T**2 * F.kl_div(log_s, p_t, reduction="batchmean")
    if name == "torchdistill without labels":
        return F.kl_div(log_s, p_t, reduction="batchmean")
    if name == "tinybert":
        return (-p_t * log_s).mean()
    if name == "neural-compressor":
        return torch.mean(torch.sum(-p_t * log_s, dim=-1)) * T**2
    if name == "sentence-transformers":
        return nn.KLDivLoss(reduction="batchmean")(log_s, p_t) * (T * T)
    if name == "deit":
        log_t = F.log_softmax(t / T, dim=1)
        return F.kl_div(log_s, log_t, reduction="sum", log_target=True) * (T * T) / z.numel()
    assert name in ("pkd", "neural-compressor-kl")
    with warnings.catch_warnings(action="ignore"):  # PyTorch advises against its own "mean"
        return F.kl_div(log_s, p_t, reduction="mean") * T**2


def by_row(rule, z, t, T):
    """TextBrewer's temperature schedulers and its kd_ce_loss with what they give  ->  the rows'
    temperatures (N,), the loss."""
    import torch
    from torch.nn import functional as F

    name, beta, *gamma = rule.split(":")
    with torch.no_grad():
        if name == "flsw":
            a, b = (x / torch.norm(x, dim=-1, keepdim=True) for x in (z, t))
            w = torch.pow(1 - (a * b).sum(dim=-1), float(*gamma))
        else:
            w = 1 / (torch.softmax(z, dim=-1).max(dim=-1).values + 1e-3)
        taus = T + (w.mean() - w) * float(beta)
    soft_t, soft_z = t / taus[:, None], z / taus[:, None]
    return taus, -(F.softmax(soft_t, dim=-1) * F.log_softmax(soft_z, dim=-1)).sum(dim=-1).mean()


NAMES = (
    "huggingface", "textbrewer", "torchdistill", "torchdistill without labels", "tinybert", "pkd",
    "neural-compressor", "neural-compressor-kl", "sentence-transformers",
    "deit",
)  # fmt: skip


def torch_numbers(dtype):
    """{"NAME/τ/NxV/loss" and "…/grad": array} for everything above."""
    import torch

    numbers = {}
    for N, V in SHAPES:
        for tau in TAUS:
            for name in NAMES:
                z, t = (torch.tensor(x.astype(dtype)) for x in logits(N, V))
                z.requires_grad_()
                loss = theirs(name, z, t, tau)
                loss.backward()
                key = f"{name}/{tau}/{N}x{V}"
                numbers |= {f"{key}/loss": loss.detach().numpy(), f"{key}/grad": z.grad.numpy()}
    return numbers
