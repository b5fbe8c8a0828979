"""The rows of the benchmark: their models, batches, and the operations that they need at least."""

import math
from dataclasses import dataclass

import numpy as np

from minidistil.config import BertConfig, DistilBertConfig
from minidistil.io.limits import several
from minidistil.model.params import count, shapes

# Tokens of 32 random sentences from SST-2's development set, BERT's own word pieces.
SENTENCES = (11, 46, 31, 24, 30, 31, 16, 23, 25, 19, 32, 21, 40, 29, 33, 25,
             14, 20, 36, 20, 9, 30, 18, 19, 12, 24, 40, 11, 33, 14, 31, 26)  # fmt: skip
# The same of eight introductions of Wikipedia articles, cut at 128 tokens.
PARAGRAPHS = (100, 128, 128, 89, 125, 32, 128, 128)
SIZES = {  # V, C, H, F, layers of the teacher, of the student
    "base": (30522, 768, 12, 3072, 12, 6),
    "small": (8000, 256, 4, 1024, 6, 3),
    "tiny": (300, 32, 2, 64, 2, 1),
}
TITLES = {"distilbert": "DistilBERT", "bert": "BERT"}
# Linear layers of the base size: rows, channels in, channels out. The last is the vocabulary's.
LINEAR = ((16, 768, 768), (128, 768, 768), (1024, 768, 768), (1024, 768, 3072), (1024, 3072, 768),
          (1024, 768, 30522))  # fmt: skip
HEADS, CHANNELS = 12, 768  # of attention alone
SHAPES = ((1, 16), (1, 128), (8, 128), (1, 512))
BATCHES = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (16, 32, 64, 128, 256, 512)
MEMORY, QUICK, KERNELS = "memory", "quick", "kernels"
QUICK_LABELS = {"distilbert": ("1x16", "8x128", "32 sentences"), "bert": ("8x128",)}
MASKED = 0.15
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class Workload:
    """One line of the table: a model, the lengths of its batch, a number format."""

    name: str
    groups: tuple  # the names besides its own under which it can be asked for; the first says what
    section: str  # the part of the table that it stands in, and its name there
    label: str
    model: str  # "distilbert" or "bert"; the student in a step; "" where there is none
    lengths: tuple
    dtype: str = "float32"  # in a step, the teacher's
    work: str = "inference"  # or "step" (of distillation), "linear", "attention"
    trained: str = "float32"  # in a step, the format of the student's products
    channels: tuple = ()  # of a linear layer: in and out


def _inference():
    for model, title in TITLES.items():
        section = f"{title}, float32"
        for B, T in SHAPES:
            shape = f"{B}x{T}"
            groups = ("inference", *("scaling",) * (model == "distilbert"), *_quick(model, shape))
            yield Workload(f"{model}-{shape}", groups, section, shape, model, (T,) * B)
        label = "32 sentences"
        groups = ("inference", "sentences", *_quick(model, label))
        yield Workload(f"{model}-sentences", groups, section, label, model, SENTENCES)
    for dtype in ("bfloat16", "int8"):
        for label, lengths in (("8x128", (128,) * 8), ("32 sentences", SENTENCES)):
            name = f"distilbert-{label.removeprefix('32 ')}-{dtype}"
            section = f"DistilBERT, {dtype}"
            yield Workload(name, (dtype,), section, label, "distilbert", lengths, dtype)


def _quick(model, label):
    return (QUICK,) * (label in QUICK_LABELS[model])


def _scaling():
    shapes = {(B, 128) for B in BATCHES} | {(1, T) for T in LENGTHS}
    for B, T in sorted(shapes - set(SHAPES)):
        label = f"{B}x{T}"
        yield Workload(f"distilbert-{label}", ("scaling",), "DistilBERT, sizes", label,
                  "distilbert", (T,) * B)  # fmt: skip


def _steps():
    for name, label, dtype, trained in (
        ("step", "float32 teacher", "float32", "float32"),
        ("step-bfloat16", "bfloat16 teacher", "bfloat16", "float32"),
        ("step-bfloat16-training", "bfloat16 both", "bfloat16", "bfloat16"),
    ):
        groups = ("distillation", *(QUICK,) * (dtype == "float32"))
        yield Workload(name, groups, "distillation step", label, "distilbert", PARAGRAPHS, dtype,
                       "step", trained)  # fmt: skip


def _single_ops():
    for dtype in ("float32", "bfloat16", "int8"):
        for N, I, O in LINEAR:
            shape = f"{N}x{I}x{O}"
            yield Workload(f"linear-{shape}-{dtype}", ("linear",), f"linear, {dtype}", shape, "",
                           (N,), dtype, "linear", channels=(I, O))  # fmt: skip
    for dtype in ("float32", "bfloat16"):
        for B, T in ((8, 128), (1, 512)):
            yield Workload(f"attention-{B}x{T}-{dtype}", ("attention",), f"attention, {dtype}",
                           f"{B}x{T}", "", (T,) * B, dtype, "attention")  # fmt: skip


def _threads():
    section = "all cores against one"
    eight = (128,) * 8
    yield Workload("threads-8x128", ("threads",), section, "8x128", "distilbert", eight)
    yield Workload(
        "threads-sentences", ("threads",), section, "32 sentences", "distilbert", SENTENCES
    )
    yield Workload("threads-step", ("threads",), section, "distillation step", "distilbert",
              PARAGRAPHS, work="step")  # fmt: skip


ROWS = (*_inference(), *_single_ops(), *_steps(), *_threads(), *_scaling())


def chosen(names, configs):
    """Names of rows or of their groups, None for all  ->  those rows that the configs can run.

    Raises ValueError for a name that does not exist, or when nothing is left.
    """
    groups = dict.fromkeys(group for row in ROWS for group in row.groups)
    known = {row.name for row in ROWS} | set(groups)
    for name in names or ():
        if name not in known:
            raise ValueError(
                f"no row is called {name!r}; choose of {', '.join(groups)}, {MEMORY}, "
                f"or single rows: {several([row.name for row in ROWS], room=200)}"
            )
    wanted = [row for row in ROWS if names is None or {row.name, *row.groups} & set(names)]
    rows = [row for row in wanted if _fits(row, configs)]
    if wanted and not rows:
        raise ValueError(f"{', '.join(names or known)}: no such row fits the model of --model")
    return rows


def _fits(row, configs):
    """Whether the configs have the row's models. Single ops have none, and are left out with a
    model of one's own."""
    if row.work != "inference" and len(configs) < 2:
        return False
    if not row.model:
        return True
    return row.model in configs and max(row.lengths) <= configs[row.model].architecture.P


def configs_of(size):
    """{"bert": the teacher's config, "distilbert": the student's}."""
    V, C, H, F, teacher, student = SIZES[size]
    bert = BertConfig(vocab_size=V, hidden_size=C, num_attention_heads=H, intermediate_size=F,
                      num_hidden_layers=teacher)  # fmt: skip
    distilbert = DistilBertConfig(vocab_size=V, dim=C, n_heads=H, hidden_dim=F, n_layers=student)
    return {"bert": bert, "distilbert": distilbert}


def batch_of(row, V):
    """Random words, padded on the right to the longest: input_ids, attention_mask (B,T)."""
    rng, T = np.random.default_rng(2), max(row.lengths)
    mask = (np.arange(T) < np.array(row.lengths)[:, None]).astype(np.int64)
    ids = rng.integers(1, V, mask.shape) * mask
    batch = {"input_ids": ids, "attention_mask": mask}
    if row.work == "step":
        batch["labels"] = np.where((rng.random(ids.shape) < MASKED) & (mask == 1), ids, -100)
    return batch


def operands_of(row):
    """Random arrays of a single op: x (N,I), weight (O,I), bias (O,), or q, k, v (N,C)."""
    rng, N = np.random.default_rng(3), sum(row.lengths)
    shapes = [(N, CHANNELS)] * 3
    if row.work == "linear":
        I, O = row.channels
        shapes = [(N, I), (O, I), (O,)]
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


# ------------------------------------------------------- what a row needs at least


def operations(row, configs):
    """Multiplications and additions that the row's real tokens need, in products alone.

    A token costs 8C² + 4CF + 4TC a layer: four projections, two of the feed-forward, scores and
    context over the T tokens of its sequence. In a step the head's 2C² + 2CV come on top, and the
    student's backward costs two forwards.
    """
    if row.work == "linear":
        return 2 * sum(row.lengths) * math.prod(row.channels)
    if row.work == "attention":
        return 4 * CHANNELS * sum(T * T for T in row.lengths)
    a = configs[row.model].architecture
    layer = sum(T * (8 * a.C**2 + 4 * a.C * a.F + 4 * T * a.C) for T in row.lengths)
    if row.work == "inference":
        return a.L * layer
    head = sum(row.lengths) * (2 * a.C**2 + 2 * a.C * a.V)
    return (configs["bert"].architecture.L + 3 * a.L) * layer + 4 * head


def traffic(row, configs):
    """Bytes that the row has to move at least: each weight once in the row's number format, and
    what goes in and comes out in float32.

    linear      W, x and y                  attention   q, k, v and the context
    inference   the layers' weights, the embeddings of the tokens, the last hidden state
    step        the teacher's weights; the student's in forward and backward, its gradients, and for
                AdamW weights, gradients and two moments read, weights and moments written

    Activations between layers are not counted: a cache may hold them.
    """
    N, size = sum(row.lengths), BYTES[row.dtype]
    if row.work == "linear":
        I, O = row.channels
        return size * I * O + 4 * N * (I + O)
    if row.work == "attention":
        return 4 * 4 * N * CHANNELS
    a = configs[row.model].architecture
    if row.work == "inference":
        return size * a.L * (4 * a.C**2 + 2 * a.C * a.F) + 4 * 3 * N * a.C
    teacher, student = (count(shapes(configs[x], "fill-mask")) for x in ("bert", row.model))
    return size * teacher + (2 * BYTES[row.trained] + 4 + 4 * 7) * student
