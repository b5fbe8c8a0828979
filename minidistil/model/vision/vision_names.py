"""Names and shapes of the parameters in checkpoints of ViT and DeiT.

As `names.py` for texts, where a canonical parameter is one tensor of the checkpoint. Here it may be
several: q, k and v are one canonical matrix and three tensors, DeiT's two special tokens are two
rows of one canonical table. The layout maps a canonical name to its tensors.
"""

import numpy as np

from minidistil.model.vision.vision_encoder import BODY, HEADS

PARTS = {  # of a block: {canonical name: the checkpoint's names}
    "attention_norm": ("layernorm_before",),
    "qkv": tuple(f"attention.attention.{name}" for name in ("query", "key", "value")),
    "out": ("attention.output.dense",),
    "ffn_norm": ("layernorm_after",),
    "lin1": ("intermediate.dense",),
    "lin2": ("output.dense",),
}


def layout(config, task: str) -> dict[str, dict]:
    """{canonical name: {checkpoint name: shape}}; the tensors of one canonical parameter are
    concatenated along its first axis."""
    a, kind = config.architecture, config.model_type
    before = "" if task == BODY else f"{kind}."
    tokens = ["cls_token", "distillation_token"][: config.specials]
    wide = (a.C, config.num_channels, config.patch_size, config.patch_size)
    patch = f"{before}embeddings.patch_embeddings.projection"
    s = {
        "embeddings.specials": {f"{before}embeddings.{t}": (1, 1, a.C) for t in tokens},
        "embeddings.position": {f"{before}embeddings.position_embeddings": (1, a.P, a.C)},
        "embeddings.patch.weight": {f"{patch}.weight": wide},
        "embeddings.patch.bias": {f"{patch}.bias": (a.C,)},
    }

    def add(canonical, names, *shape):
        s[f"{canonical}.weight"] = {f"{n}.weight": shape for n in names}
        s[f"{canonical}.bias"] = {f"{n}.bias": shape[:1] for n in names}

    sizes = {"lin1": (a.F, a.C), "lin2": (a.C, a.F), "qkv": (a.C, a.C), "out": (a.C, a.C)}
    for i in range(a.L):
        for part, names in PARTS.items():
            names = [f"{before}encoder.layer.{i}.{name}" for name in names]
            add(f"layer.{i}.{part}", names, *sizes.get(part, (a.C,)))
    add("final_norm", [f"{before}layernorm"], a.C)
    for head in HEADS[kind, task]:
        if head == "pooler":
            add(head, ["pooler.dense"], a.C, a.C)
        else:
            add(head, [head], config.num_labels, a.C)
    return s


def flat(canonical: str, x: np.ndarray) -> np.ndarray:
    """A tensor of a checkpoint  ->  the vector or the matrix of the ops."""
    if canonical in ("embeddings.specials", "embeddings.position"):
        return x.reshape(-1, x.shape[-1])
    return x.reshape(len(x), -1) if x.ndim > 1 else x
