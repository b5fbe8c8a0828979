"""The tiny models that parity is tested on, and what PyTorch says about them.

`torch_numbers` asks transformers; the tests compare with it live where it is installed, and
`make_golden.py` stores its answers for everywhere else.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

import minidistil as md
from minidistil.config import FAMILIES
from minidistil.model.heads import architecture_name
from minidistil.model.model import Model
from minidistil.testing import compare, rms

# A large ε, for it decides how much of a gradient's rounding an update inherits: g/(√v + ε) turns
# the last digits of a gradient that is almost zero into a whole step.
ADAMW = {"lr": 2e-3, "betas": (0.9, 0.98), "eps": 1e-3, "weight_decay": 0.05}
STEPS = 10


class Case(NamedTuple):
    """A family and a task, the fields of its config beyond the size, and how a batch looks."""

    family: str
    task: str
    extra: dict = {}  # noqa: RUF012
    left: bool = False  # padding on the left as well


CASES = {
    "bert-mlm": Case("bert", "fill-mask", left=True),
    "bert-pretraining": Case(
        "bert", "pretraining", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5}
    ),
    "bert-body": Case("bert", "feature-extraction"),
    "bert-single": Case("bert", "text-classification", {"labels": 3}),
    "roberta-mlm": Case("roberta", "fill-mask", {"hidden_act": "relu"}, left=True),
    "roberta-body": Case("roberta", "feature-extraction"),
    "roberta-single": Case("roberta", "text-classification", {"labels": 3}),
    "albert-mlm": Case("albert", "fill-mask", {"num_hidden_groups": 2}, left=True),
    "albert-pretraining": Case("albert", "pretraining", {"inner_group_num": 2}),
    "albert-body": Case("albert", "feature-extraction", {"hidden_act": "relu"}),
    "albert-single": Case("albert", "text-classification", {"labels": 3}),
    "distilbert-mlm": Case("distilbert", "fill-mask", left=True),
    "distilbert-body": Case("distilbert", "feature-extraction", {"activation": "relu"}, left=True),
    "distilbert-single": Case("distilbert", "text-classification", {"labels": 2}),
    "distilbert-multi": Case("distilbert", "text-classification",
                             {"labels": 4, "problem_type": "multi_label_classification"}),
    "distilbert-regression": Case("distilbert", "text-classification",
                                  {"labels": 1, "problem_type": "regression"}),
    "bert-tokens": Case("bert", "token-classification", {"labels": 5}, left=True),
    "distilbert-tokens": Case("distilbert", "token-classification", {"labels": 4}, left=True),
    "bert-spans": Case("bert", "question-answering", left=True),
    "distilbert-spans": Case("distilbert", "question-answering", left=True),
    "bert-choice": Case("bert", "multiple-choice"),
    "roberta-tokens": Case("roberta", "token-classification", {"labels": 3}, left=True),
    "roberta-spans": Case("roberta", "question-answering", left=True),
    "roberta-choice": Case("roberta", "multiple-choice"),
    "albert-tokens": Case("albert", "token-classification", {"labels": 3}, left=True),
    "albert-spans": Case("albert", "question-answering", left=True),
    "albert-choice": Case("albert", "multiple-choice"),
    "distilbert-choice": Case("distilbert", "multiple-choice"),
}  # fmt: skip
CASES |= {
    "gpt2-words": Case("gpt2", "text-generation", {"resid_pdrop": 0.2}, left=True),
    "gpt2-body": Case("gpt2", "feature-extraction", {"activation_function": "relu"}, left=True),
}
HEADS = ("tokens", "spans", "choice")  # stored once: a head is the same for all families
STORED = [n for n in CASES if n.startswith("distilbert") or not n.endswith(HEADS)]
CHOICES = 2
SMALL = {"V": 23, "C": 9, "H": 3, "L": 2, "F": 14, "P": 11}  # what is stored
LARGE = {"V": 83, "C": 32, "H": 4, "L": 3, "F": 48, "P": 24}


def fields(case, size):
    """The config as config.json holds it."""
    extra = dict(case.extra)
    if "labels" in extra:
        extra["id2label"] = {str(k): f"kind {k}" for k in range(extra.pop("labels"))}
        extra["label2id"] = {name: int(k) for k, name in extra["id2label"].items()}
    V, C, H, L, F, P = (size[letter] for letter in "VCHLFP")
    common = {"model_type": case.family, "vocab_size": V, "max_position_embeddings": P, **extra}
    if case.family == "gpt2":
        return {"model_type": "gpt2", "vocab_size": V, "n_positions": P, "n_embd": C, "n_head": H,
                "n_layer": L, "n_inner": F, "bos_token_id": 0, "eos_token_id": 0,
                **extra}  # fmt: skip
    if case.family == "roberta":
        common = {"type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5, **common}
    if case.family == "albert":
        common = {"embedding_size": C // 2, **common}
    if case.family != "distilbert":
        return {"hidden_size": C, "num_hidden_layers": L, "num_attention_heads": H,
                "intermediate_size": F, "type_vocab_size": 2, **common}  # fmt: skip
    return {"dim": C, "n_layers": L, "n_heads": H, "hidden_dim": F, **common}


def model_of(case, size=LARGE, seed=0, backend="cpu"):
    """A model whose parameters are all away from their special values: no γ is 1, no bias 0."""
    config = FAMILIES[case.family].from_dict(fields(case, size))
    model = md.from_config(config, case.task, seed=seed, backend=backend)
    rng = np.random.default_rng(seed + 1)
    scale = {1: 0.2, 2: 0.25}
    model.update({n: p + rng.normal(0, scale[p.ndim], p.shape) for n, p in model.params.items()})
    return model


class Exact(Model):
    """A model that keeps its parameters, too, in float64: a yardstick for whole trajectories."""

    def update(self, arrays):
        canonical = {public: c for c, public in self.names.items()}
        for name, array in arrays.items():
            self._params[name], c = np.asarray(array, np.float64), canonical[name]
            self._canonical[c] = self._transposed(c, self._params[name])


def exact(model):
    """The same parameters in float64 behind the NumPy specification."""
    ops = md.backend("numpy", "float64")
    return Exact(model.config, model.task, model.named_by_role(), ops)


def batch_of(case, size=LARGE, seed=2, B=4, pad=False, mask=None):
    """A batch of uneven lengths with holes in the mask; labels as the task has them.

    pad: the padding id is among the real tokens too; its embedding is looked up but not trained.
    mask: another one (B,T), whose first row begins with five tokens.
    """
    rng = np.random.default_rng(seed)
    T, V = size["P"] - 2, size["V"]
    ids = rng.integers(1, V, (B, T))
    config = FAMILIES[case.family].from_dict(fields(case, size))
    padding = config.pad_token_id or 0
    ids[ids == padding] = V - 1
    ids[0, 4] = padding if pad else ids[0, 4]
    mask = usual_mask(B, T, case.left) if mask is None else mask
    ids[1, mask[1] == 0] = padding  # the other sequences are hidden without being padding
    batch = {"input_ids": ids, "attention_mask": mask}
    if case.family in ("bert", "albert"):
        batch["token_type_ids"] = rng.integers(0, 2, (B, T))
    K = config.num_labels
    if case.task in ("fill-mask", "pretraining"):
        batch["labels"] = np.where((rng.random((B, T)) < 0.5) & (mask == 1), ids, -100)
        batch["labels"][0, 1] = ids[0, 1]
    if case.task == "text-generation":  # transformers lets the padding predict a word, too
        before = np.pad(mask, ((0, 0), (1, 0)))[:, :-1] == 1
        batch["labels"] = np.where((mask == 1) & before & (rng.random((B, T)) < 0.7), ids, -100)
        batch["labels"][0, 3] = ids[0, 3]
    if case.task == "pretraining":
        name = "next_sentence_label" if case.family == "bert" else "sentence_order_label"
        batch[name] = rng.integers(0, 2, B)
    if case.task == "token-classification":
        batch["labels"] = np.where(mask == 1, rng.integers(0, K, (B, T)), -100)
        batch["labels"][0, 2:5] = -100
    if case.task == "question-answering":
        last = [T - 1 - row[::-1].argmax() for row in mask]
        batch["start_positions"] = np.array([1, T + 7, last[2], row_start(mask[3])])
        batch["end_positions"] = np.array([4, T, last[2], row_start(mask[3])])
    if case.task == "multiple-choice":
        batch = {name: x.reshape(B // CHOICES, CHOICES, T) for name, x in batch.items()}
        batch["labels"] = rng.integers(0, CHOICES, B // CHOICES)
    if case.task == "text-classification":
        batch["labels"] = {
            None: lambda: rng.integers(0, K, B),
            "multi_label_classification": lambda: rng.integers(0, 2, (B, K)).astype(np.float32),
            "regression": lambda: rng.normal(size=B).astype(np.float32),
        }[config.problem_type]()
    return batch


def usual_mask(B, T, left):
    """(B,T): a whole text, half a text, one with a hole, one of a single token."""
    mask = np.ones((B, T), np.int64)
    mask[1, T // 2 :] = 0
    mask[2, 3:5] = 0
    mask[3, 1:] = 0
    if left:
        mask[2, 0] = mask[1, :2] = 0
    return mask


def row_start(row):
    """The first column that the mask shows."""
    return int(row.argmax())


def cotangents(case, size=LARGE, seed=3, B=4):
    """What a body without a loss is differentiated along: {name of an output: array}."""
    if case.task != "feature-extraction":
        return {}
    rng = np.random.default_rng(seed)
    d = {"last_hidden_state": rng.normal(size=(B, size["P"] - 2, size["C"]))}
    if case.family not in ("distilbert", "gpt2"):
        d["pooler_output"] = rng.normal(size=(B, size["C"]))
    return {name: x.astype(np.float32) for name, x in d.items()}


# ---------------------------------------------------------------- comparing

FEW = 64  # fewer numbers than that have no steady rms: luck makes the reference's error tiny


def compare_array(name, mine, reference, truth, scale=None):
    """`compare`, with ten times the floor for a handful of numbers."""
    scale = rms(truth) if scale is None else scale
    compare(name, mine, reference, truth, scale=10 * scale if np.size(truth) < FEW else scale)


def compare_gradients(mine, reference, truth):
    """Every gradient of ours; one that PyTorch lacks must be zero."""
    largest = max(rms(g) for g in truth.values())
    for name, g in mine.items():
        if name in reference:
            compare_array(name, g, reference[name], truth[name], largest)
        else:
            assert not g.any(), name


def assert_same_formula(name, mine, truth, scale=None):
    """Two float64 answers, ours and PyTorch's, may differ by little more than their rounding.

    Against our own float64 alone, a fault that it shares would look like a bad PyTorch.
    """
    scale = max(rms(truth), scale or 0)
    difference = rms(np.asarray(mine) - truth)
    assert difference <= 1e-9 * scale, f"{name}: {difference:.1e} apart, size {scale:.1e}"


# ---------------------------------------------------------------- what PyTorch says


def torch_model(model, fields_, dtype="float32"):
    """transformers' own model with our parameters, found by name."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(**fields_)
    config._attn_implementation = "eager"  # the one that hands out its weights
    theirs = getattr(transformers, architecture_name(model.config, model.task))(config).eval()
    state = {name: torch.tensor(np.array(p)) for name, p in model.params.items()}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    tied = ("decoder", "vocab_projector", "lm_head")
    assert all(name.split(".")[-2] in tied for name in missing), missing
    return theirs.to(getattr(torch, dtype))


def torch_inputs(batch, dtype="float32"):
    """A batch, or other arrays, for PyTorch: what is not an integer in `dtype`."""
    import torch

    return {
        n: torch.tensor(x if x.dtype.kind == "i" else x.astype(dtype)) for n, x in batch.items()
    }


def torch_numbers(model, fields_, batch, d, dtype="float32", steps=STEPS):
    """{name: array}: outputs, loss, gradients, and the parameters after some steps of AdamW.

    d: the cotangents of a body that has no loss of its own.
    """
    import torch

    theirs = torch_model(model, fields_, dtype)
    inputs, d = torch_inputs(batch, dtype), torch_inputs(d, dtype)
    mask = inputs["attention_mask"][..., None]
    named = dict(theirs.named_parameters())
    groups = [
        {"params": [p for p in named.values() if p.ndim > 1]},
        {"params": [p for p in named.values() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, **ADAMW)

    def run():
        optimizer.zero_grad()
        out = theirs(**inputs, output_hidden_states=True, output_attentions=True)
        loss = span_loss(out, inputs) if "start_logits" in out else out.get("loss")
        if model.task == "text-generation":
            loss = next_word_loss(out, inputs)
        if loss is None:
            loss = (out.last_hidden_state * d["last_hidden_state"] * mask).sum()
            if "pooler_output" in d:
                loss = loss + (out.pooler_output * d["pooler_output"]).sum()
        loss.backward()
        return out, loss

    out, loss = run()
    numbers = {"loss": loss}
    for name in ("logits", "prediction_logits", "seq_relationship_logits", "last_hidden_state",
                 "sop_logits", "pooler_output", "start_logits", "end_logits"):  # fmt: skip
        if name in out:
            numbers[name.removeprefix("prediction_")] = out[name]
    for name in ("hidden_states", "attentions"):
        numbers |= {f"{name}.{i}": x for i, x in enumerate(out[name])}
    numbers |= {f"grad.{name}": p.grad for name, p in named.items() if p.grad is not None}
    numbers = {name: x.detach().numpy().copy() for name, x in numbers.items()}
    for i in range(steps):
        if i:
            run()
        optimizer.step()
    return numbers | {f"after.{name}": p.detach().numpy().copy() for name, p in named.items()}


def span_loss(out, inputs):
    """transformers' loss over the tokens alone: by itself it lets the padding be an answer."""
    from torch.nn.functional import cross_entropy

    losses = []
    for name in ("start", "end"):
        z = out[f"{name}_logits"].masked_fill(inputs["attention_mask"] == 0, -float("inf"))
        right = inputs[f"{name}_positions"].clamp(0, z.shape[1])
        losses.append(cross_entropy(z, right, ignore_index=z.shape[1]))
    return (losses[0] + losses[1]) / 2


def next_word_loss(out, inputs):
    """transformers' loss in the dtype of the logits: by itself it computes in float32."""
    import torch

    logits, labels = out.logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten()
    loss = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(loss.float(), out.loss.float())
    return loss


# ---------------------------------------------------------------- stored numbers

GOLDEN = Path(__file__).parent / "golden"
TINY = 2.0**-30


def read(name):
    """{kind: {name: array}} of a file that `make_golden.py` wrote."""
    kinds = {}
    with np.load(GOLDEN / f"{name}.npz") as file:
        for key in file.files:
            kind, _, rest = key.partition(":")
            kinds.setdefault(kind, {})[rest] = file[key]
    return kinds


def under(numbers, name):
    """Those called "NAME/rest", by their rest."""
    start = f"{name}/"
    return {n.removeprefix(start): x for n, x in numbers.items() if n.startswith(start)}


def pack(numbers, exact=None):
    """Few arrays instead of many: an index, and all numbers end to end in float32.

    exact: the same in float64, kept as differences, whose own first three digits are enough.
    """
    index = json.dumps({name: x.shape for name, x in numbers.items()})
    flat = np.concatenate([np.ravel(x) for x in numbers.values()])
    assert flat.dtype == np.float32
    packed = {"index": np.array(index), "numbers": flat}
    if exact is not None:
        truth = np.concatenate([np.ravel(exact[name]) for name in numbers])
        packed["rest"] = ((truth - flat) / TINY).astype(np.float16)
    return packed


def unpack(packed):
    """pack's numbers and, where it had them, the exact ones: two dicts."""
    index, flat = json.loads(str(packed["index"])), packed["numbers"]
    truth = flat + packed["rest"].astype(np.float64) * TINY if "rest" in packed else flat
    ends = np.cumsum([math.prod(shape) for shape in index.values()])[:-1]
    return tuple(
        {
            name: part.reshape(shape)
            for (name, shape), part in zip(index.items(), parts, strict=True)
        }
        for parts in (np.split(flat, ends), np.split(truth, ends))
    )
