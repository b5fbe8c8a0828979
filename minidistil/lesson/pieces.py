"""Grades the functions of `my_distilbert.py`: each alone, then the whole file.

A function is run among the right ones, so that a mistake is named where it is; a backward gets the
cache of the learner's own forward. The whole file is compared with the library: loss, every
gradient, and a short training.
"""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

import minidistil as md
from minidistil import distilbert
from minidistil.io.counts import counted
from minidistil.lesson.capstone import CHAPTER, FILE, PIECES, OwnFileError, function, is_blank, read
from minidistil.lesson.exercise import Exercise, MistakeError, rng
from minidistil.lesson.grading import grade
from minidistil.lesson.piece_mistakes import MISTAKES

H, RATE, EPS = 3, 0.3, 0.1
MASK = np.array([[True, False, True, True], [True, True, True, False]])  # a hole, and padding


def normal(*shape, seed=0):
    return rng(seed).standard_normal(shape)


def result(answer):
    """y and cache of an op."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise MistakeError("an op returns a tuple of two: y and its cache")
    return answer


def y(answer):
    return result(answer)[0]


def cache(answer):
    return result(answer)[1]


def dropout(page):
    """With a mask, with rate 0, and in evaluation."""
    options = (RATE, rng(1)), (0.0, rng(1)), (RATE, None)
    return tuple(y(page.dropout(normal(5, 4), *option)) for option in options)


def dropout_backward(page):
    kept, evaluated = (cache(page.dropout(normal(5, 4), RATE, draw)) for draw in (rng(1), None))
    dy = normal(5, 4, seed=2)
    return page.dropout_backward(dy, kept), page.dropout_backward(dy, evaluated)


def linear(page):
    return page.linear(normal(2, 3, 4), normal(5, 4), normal(5))


def layernorm(page):
    return page.layernorm(normal(2, 3, 4), 1 + 0.3 * normal(4, seed=1), normal(4), EPS)


def heads(seed):
    return normal(2, H, 4, 2, seed=seed)


def attention(page):
    config = distilbert.Config(1, H, RATE)
    return page.attention(*normal(3, 2, 4, 6), MASK, config, rng(1))


def block(page):
    """A block with dropout, whose parameters are among those of another block."""
    C, F, draw, params = 6, 8, rng(3), {}
    for i in (0, 1):
        shapes = {**dict.fromkeys(("q", "k", "v", "out"), (C, C)), "lin1": (F, C), "lin2": (C, F),
                  "attention_norm": (C,), "output_norm": (C,)}  # fmt: skip
        for name, shape in shapes.items():
            params[f"layer.{i}.{name}.weight"] = draw.standard_normal(shape)
            params[f"layer.{i}.{name}.bias"] = draw.standard_normal(shape[0])
    config = distilbert.Config(2, H, RATE)
    return page.block(normal(2, 4, C), MASK, params, 1, config, rng(1))


def by_name(grads, wanted):
    """Gradients in the order of their names."""
    if not isinstance(grads, dict) or set(grads) != set(wanted):
        raise MistakeError(f"the gradients are a dict with the names {', '.join(sorted(wanted))}")
    return tuple(grads[name] for name in sorted(wanted))


BLOCK = [f"{layer}.{part}" for layer in ("q", "k", "v", "out", "lin1", "lin2", "attention_norm",
         "output_norm") for part in ("weight", "bias")]  # fmt: skip


def block_backward(page):
    """dx, and the gradients in the order of their names."""
    answer = page.block_backward(normal(2, 4, 6, seed=5), cache(block(page)))
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise MistakeError("block_backward returns dx and the gradients {name: array}")
    return answer[0], *by_name(answer[1], BLOCK)


def adamw(page):
    """Three steps for a matrix and a bias; ε is as large as √v."""
    params, state = {"w.weight": normal(3, 2), "w.bias": normal(3)}, {}
    for step in range(3):
        grads = {name: normal(*p.shape, seed=step) for name, p in params.items()}
        page.adamw(params, grads, state, 0.1, (0.9, 0.99), 0.3, 0.2)
    return tuple(params.values())


def distill_step(page):
    """The loss, its parts and all gradients, with dropout, τ ≠ 1 and four different weights."""
    student, teacher, batch = world()[2:]
    weights = distilbert.Weights(3.0, 0.7, 1.3, 2.1)
    loss, parts, grads = page.distill_step(student, teacher, batch, weights, rng(1))
    return loss, *by_name(parts, ("ce", "mlm", "cos")), *by_name(grads, student[0])


TOKENS = np.array([[2, 0, 2], [4, 2, 5]])
TINY = 1e-6 * normal(1, 6)  # beside the ε of the cosine
PROBES: dict[str, Callable] = {  # from functions to values that are compared
    "log_softmax": lambda page: page.log_softmax(np.array([[1000.0, 1001, 3], [0.1, -2, 0.3]])),
    "dropout": dropout,
    "dropout_backward": dropout_backward,
    "linear": lambda page: y(linear(page)),
    "linear_backward": lambda page: page.linear_backward(normal(2, 3, 5), cache(linear(page))),
    "gelu": lambda page: y(page.gelu(2 * normal(3, 4))),
    "gelu_backward": lambda page: page.gelu_backward(normal(3, 4, seed=1),
                                                     cache(page.gelu(2 * normal(3, 4)))),
    "layernorm": lambda page: y(layernorm(page)),
    "layernorm_backward": lambda page: page.layernorm_backward(normal(2, 3, 4, seed=1),
                                                               cache(layernorm(page))),
    "softmax": lambda page: page.softmax(np.array([[1000.0, 1001, -np.inf], [0.1, -2, 0.3]])),
    "softmax_backward": lambda page: page.softmax_backward(
        normal(2, 3, 4, 4), distilbert.softmax(normal(2, 3, 4, 4, seed=1))),
    "attention_scores": lambda page: page.attention_scores(heads(0), heads(1)),
    "attention_weights": lambda page: page.attention_weights(normal(2, H, 4, 4), MASK),
    "attention": lambda page: y(attention(page)),
    "attention_backward": lambda page: page.attention_backward(normal(2, 4, 6, seed=1),
                                                               cache(attention(page))),
    "block": lambda page: y(block(page)),
    "block_backward": block_backward,
    "embedding": lambda page: y(page.embedding(normal(7, 3), TOKENS)),
    "embedding_backward": lambda page: page.embedding_backward(
        normal(2, 3, 3), cache(page.embedding(normal(7, 3), TOKENS))),
    "kl_divergence": lambda page: page.kl_divergence(normal(5, 11), normal(5, 11, seed=1), 3.0),
    "cross_entropy": lambda page: (*page.cross_entropy(normal(5, 11), np.array([3, 0, 9, 3, 1])),
                                   page.cross_entropy(normal(0, 11), np.zeros(0, int))[0]),
    "cosine": lambda page: page.cosine(np.concatenate([normal(4, 6), TINY]), normal(5, 6, seed=1)),
    "adamw": adamw,
    "distill_step": distill_step,
}  # fmt: skip

RETURNS = {  # names of the compared values
    "dropout": ("with a mask, y", "with rate 0, y", "in evaluation, y"),
    "dropout_backward": ("with a mask, dx", "in evaluation, dx"),
    "linear_backward": ("dx", "dW", "db"),
    "layernorm_backward": ("dx", "dγ", "dβ"),
    "attention_backward": ("dq", "dk", "dv"),
    "block_backward": ("dx", *(f"the gradient of {name}" for name in sorted(BLOCK))),
    "kl_divergence": ("the loss", "dz_s"),
    "cross_entropy": ("the loss", "dz", "the loss without labels"),
    "cosine": ("the loss", "dh_s"),
    "adamw": ("the matrix", "the bias"),
}


def check_chapter(chapter: int, path: str | Path = FILE) -> None:
    """Grade the functions that a chapter fills in, and print a line or two for each; in the last
    chapter, the whole file as well, unless one of them is wrong."""
    if chapter not in PIECES:
        raise ValueError(
            f"chapters 1 to {max(PIECES)} have a blank in {path}, {chapter!r} has none"
        )
    try:
        text = read(path)
        verdicts = [grade_piece(text, name, path) for name in PIECES[chapter]]
        print("\n".join(verdicts))
        if chapter == max(PIECES) and not any(verdict.startswith("✗") for verdict in verdicts):
            print(grade_whole(text, path))
    except OwnFileError as error:
        print(f"○ {error}")


def grade_piece(text: str, name: str, path: str | Path = FILE) -> str:
    """The line about one function of the learner's file, and its diagnosis."""
    if is_blank(function(text, name, path)):
        return f"○ {name} is still empty: write it in {path}, then run this cell again"
    forward = name.removesuffix("_backward")
    waits = forward not in (name, "softmax")  # softmax's backward reads p, and no cache
    if waits and not grade_piece(text, forward, path).startswith("✓"):
        return f"○ {name} waits for {forward}, whose cache it reads"
    mine = load(text, path)
    for other in set(CHAPTER) - {name, forward}:
        setattr(mine, other, getattr(distilbert, other))
    return grade(piece(name), mine)


def piece(name: str) -> Exercise:
    """The exercise whose attempts are whole files, of which one function is compared."""

    def run(page):
        with np.errstate(all="ignore"):
            return PROBES[name](page)

    returns = RETURNS.get(name, ())
    found = Exercise(distilbert, name=name, cases=lambda: [()], returns=returns, run=run)
    for sentence, change in MISTAKES[name].items():
        found.wrong(sentence)(changed(name, change))
    return found


def changed(name: str, change: Sequence[str]) -> SimpleNamespace:
    """`minidistil/distilbert.py` with other text in one function: pairs of right and wrong."""
    text = inspect.getsource(getattr(distilbert, name))
    for right, wrong in zip(change[::2], change[1::2], strict=True):
        if right not in text:
            raise ValueError(f"{name} has no text {right!r}")
        text = text.replace(right, wrong)
    page = dict(vars(distilbert))
    exec(text, page)
    return SimpleNamespace(**page)


def load(text: str, path: str | Path = FILE) -> ModuleType:
    """The learner's file as a module, run anew each time."""
    module = ModuleType(Path(path).stem)
    try:
        exec(compile(text, str(path), "exec"), vars(module))
    except Exception as error:  # the file may raise anything
        raise OwnFileError(f"{path} stopped with {type(error).__name__}: {error}") from error
    return module


def world():
    """A student and a teacher of the library, the same two for a page, and a batch; in float64."""
    config = md.BertConfig(
        vocab_size=31, hidden_size=12, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=20, max_position_embeddings=8,
    )  # fmt: skip
    teacher = md.from_config(config, task="fill-mask", seed=1, backend="numpy", dtype="float64")
    teacher.update({n: p + rng(7).normal(0, 0.2, p.shape) for n, p in teacher.params.items()})
    student = md.student_from(teacher, layers=(0, 2), vocab_transform=True, seed=2)
    pair = [
        ({n: p.astype(np.float64) for n, p in model.named_by_role().items()},
         distilbert.Config(model.config.architecture.L, H))
        for model in (student, teacher)
    ]  # fmt: skip
    ids, mask = rng(8).integers(5, 31, (4, 6)), np.arange(6) < np.array([6, 2, 5, 3])[:, None]
    mask[0, 2] = False  # a hole
    labels = np.where(
        mask & (rng(9).random(mask.shape) < 0.5), rng(10).integers(0, 31, (4, 6)), -100
    )
    batch = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "labels": labels}
    return student, teacher, *pair, batch


def grade_whole(text: str, path: str | Path = FILE, steps: int = 30) -> str:
    """Loss and gradients of the whole file beside the library's, and a training with it."""
    left = [name for name in CHAPTER if is_blank(function(text, name, path))]
    if left:
        more = ", ".join(f"{name} (chapter {CHAPTER[name]})" for name in left[:4])
        more += ", …" if len(left) > 4 else ""
        return f"○ {path} has {counted(len(left), 'blank')} left: {more}"
    mine = load(text, path)
    library_student, library_teacher, student, teacher, batch = world()
    wanted = md.distill_step(library_student, library_teacher, batch, md.DistillConfig())
    grads = {role: wanted.grads[name] for role, name in library_student.names.items()}

    library = SimpleNamespace(distill_step=lambda *args: (wanted.loss, {}, grads))

    def run(page):
        loss, _, found = page.distill_step(student, teacher, batch)
        return loss, *by_name(found, grads)

    names = "the loss", *sorted(grads)
    whole = Exercise(library, name=str(path), cases=lambda: [()], returns=names, run=run)
    verdict = grade(whole, mine)
    if not verdict.startswith("✓"):
        return verdict
    losses = [loss for loss, _ in mine.train(student, teacher, [batch] * steps, steps, 3e-3, None)]
    counts = f"the loss {wanted.loss:.4f} and all {len(grads)} gradients are the library's"
    trained = f"{steps} steps of AdamW bring the loss to {losses[-1]:.4f}"
    return f"✓ {path}: {counts}; {trained}"
