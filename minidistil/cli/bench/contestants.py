"""The contestants of the benchmark: minidistil and its peers, with the same weights and words."""

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from minidistil.cli.bench.workloads import HEADS, KERNELS, batch_of, configs_of, operands_of
from minidistil.distill import DistillConfig, distill_step
from minidistil.model.heads import family_of
from minidistil.model.pretrained import from_config, from_pretrained
from minidistil.ops import Workspace, backend
from minidistil.ops.runtime import amx
from minidistil.train.optimizer import AdamW, clip_factor, global_norm

OURS, ALONE = "minidistil", "one thread"
# numpy: minidistil, but NumPy's BLAS computes its matrix products.
PEERS = {
    "torch-eager": ("torch", "transformers"),
    "torch-sdpa": ("torch", "transformers"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "numpy": ("numpy",),
}  # and the packages that each needs
TORCH = ("torch-eager", "torch-sdpa")
BODY, WORDS = "feature-extraction", "fill-mask"
# As Hugging Face's DistilBERT was trained: the losses' weights, the optimiser, the clip.
SETTINGS = {
    "temperature": 2.0, "alpha_ce": 5.0, "alpha_mlm": 2.0, "alpha_cos": 1.0, "lr": 5e-4,
    "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.0, "max_grad_norm": 5.0,
}  # fmt: skip


@dataclass(frozen=True)
class TimedRun:
    """The answer that is compared and the call that is timed, functions without arguments.

    answer: the hidden states (N,C) of the real tokens; or loss and gradient norm of two steps
    without dropout, the second of which shows the first one's update.
    """

    answer: Any
    timed: Any


def missing(peers):
    """{peer: the first package it lacks}."""
    lacks = {peer: [p for p in PEERS[peer] if find_spec(p) is None] for peer in peers}
    return {peer: packages[0] for peer, packages in lacks.items() if packages}


class Contestants:
    """`with Contestants(…) as them: them.make(name, row)` -> TimedRun, or a line that says why not.

    size: of the models with random weights; model: a folder or hub name, whose weights are used
    instead. threads: of every contestant. backend: minidistil's.
    """

    def __init__(self, size, model, threads, backend):
        self.model, self.threads, self.backend, self.models = model, threads, backend, {}
        self.configs = configs_of(size)
        if model is not None:
            config = from_pretrained(model, BODY).config
            family_of(config)
            self.configs = {config.model_type: config}

    def __enter__(self):
        self._scratch = tempfile.TemporaryDirectory()
        return self

    def __exit__(self, *error):
        self._scratch.cleanup()

    def names(self, row, peers):
        """The contestants of a row, minidistil first."""
        return [OURS, ALONE] if "threads" in row.groups else [OURS, *peers]

    def make(self, name, row):
        """The contestant's TimedRun of a row, or the reason why there is none."""
        if reason := self._refusal(name, row):
            return reason
        if name in (OURS, ALONE, "numpy"):
            made = {"inference": self._ours, "step": self._our_step}.get(row.work, self._our_op)
            run = made(row)
            return TimedRun(*(self._around(name, row, f) for f in (run.answer, run.timed)))
        made = {"inference": self._theirs, "step": self._their_step}
        return made.get(row.work, self._their_op)(name, row)

    @contextmanager
    def watched(self, name):
        """`with contestants.watched(name) as told:` it computes; told() -> the instructions of its
        matrix products, such as "AMX" or "AMX/AVX-512"; None where a peer does not say."""
        from minidistil.check import peer_instructions

        if name in TORCH:
            with peer_instructions.torch_products() as told:
                yield told
        elif name == "numpy" or (name == OURS and self.backend == "numpy"):
            yield peer_instructions.numpy_products
        elif name == "onnxruntime" or self.backend == "cuda":
            yield lambda: None
        else:
            with amx.observed() as used:
                yield lambda: "/".join(sorted(used)) or amx.vectors()

    def reference(self, row):
        """The reference answer: ours in float32."""
        exact = replace(row, dtype="float32", trained="float32", groups=())
        return self.make(OURS, exact).answer()

    def forget(self):
        """Drop our models; the running contestant has its own."""
        self.models.clear()

    def _refusal(self, name, row):
        from minidistil.ops.runtime.cpu import cores

        if name == "onnxruntime" and row.work == "step":
            return "ONNX Runtime trains only in a package of its own"
        if name == "onnxruntime" and row.dtype == "bfloat16":
            return "ONNX Runtime has no bfloat16 products on processors"
        if name == "numpy" and row.dtype != "float32":
            return f"NumPy has no {row.dtype} products"
        if self.backend == "cuda" and row.work in ("linear", "attention"):
            return f"on cuda, --rows {KERNELS} has single ops"
        if name != OURS and self.backend == "cuda":
            return "compared on the processor only"
        if name == "numpy" and row.work == "attention":
            return "its products are inside the kernel"
        if name in ("numpy", ALONE) and self.backend != "cpu":
            return f"backend {self.backend} does not compute its products here"
        if "threads" in row.groups and cores() == 1:
            return "there is one core only"
        try:
            backend(self.backend, row.dtype)
        except ValueError as error:  # the processor lacks the instructions
            return str(error)
        return None

    def _around(self, name, row, run):
        """The run with its contestant's number of threads and matrix products."""
        from minidistil.ops.kernels import matmul
        from minidistil.ops.runtime import cpu

        def on(context, *args):
            def inside():
                with context(*args):
                    return run()

            return inside

        if name == "numpy":
            return on(matmul.product, "numpy")
        if name == ALONE:
            return on(cpu.threads, 1)
        return on(cpu.threads, cpu.cores()) if "threads" in row.groups else run

    def _model(self, kind, task):
        """Our model, and the folder from which the peers read it."""
        if (kind, task) not in self.models:
            made = from_pretrained(self.model, task) if self.model else _random(
                self.configs[kind], task
            )  # fmt: skip
            folder = Path(self._scratch.name) / f"{kind}-{task}"
            made.save_pretrained(folder)
            self.models[kind, task] = made, folder
        return self.models[kind, task]

    # --------------------------------------------------- inference

    def _ours(self, row):
        model = self._model(row.model, BODY)[0].with_ops(backend(self.backend, row.dtype))
        batch, workspace = batch_of(row, model.config.vocab_size), Workspace()
        real = batch["attention_mask"] == 1

        def run():
            with workspace:
                return model.forward(**batch, keep=False).last_hidden_state

        return TimedRun(lambda: run()[real], run)

    def _theirs(self, name, row):
        model, folder = self._model(row.model, BODY)
        if name == "onnxruntime":
            from minidistil.check import onnx_peer

            encoder = onnx_peer.encoder(model, folder, self.threads, row.dtype)
        else:
            from minidistil.check import torch_peer

            torch_peer.pin(self.threads)
            encoder = torch_peer.encoder(folder, name.removeprefix("torch-"), row.dtype)
        batch = batch_of(row, model.config.vocab_size)
        real = batch["attention_mask"] == 1
        run = partial(encoder, batch["input_ids"], batch["attention_mask"])
        return TimedRun(lambda: run()[real], run)

    # --------------------------------------------------- single ops

    def _our_op(self, row):
        op = getattr(backend(self.backend, row.dtype), row.work).forward
        operands, fixed, workspace = operands_of(row), {}, Workspace()
        if row.work == "linear":
            operands[1].flags.writeable = False  # a model's weights are, and are packed once
        else:
            bounds = np.concatenate([[0], np.cumsum(row.lengths)])
            fixed = {"bounds": bounds, "n_heads": HEADS, "keep": False}

        def run():
            with workspace:
                return op(*operands, **fixed)[0]

        return TimedRun(run, run)

    def _their_op(self, name, row):
        from minidistil.check import single_op_peers, torch_peer

        operands, path = operands_of(row), Path(self._scratch.name) / f"{row.name}.onnx"
        if name == "onnxruntime":
            if row.work == "linear":
                run = single_op_peers.onnx_linear(*operands, path, self.threads, row.dtype)
            else:
                run = single_op_peers.onnx_attention(
                    *operands, row.lengths, HEADS, path, self.threads
                )
        else:
            torch_peer.pin(self.threads)
            if row.work == "linear":
                run = single_op_peers.torch_linear(*operands, row.dtype)
            else:
                style = name.removeprefix("torch-"), row.dtype
                run = single_op_peers.torch_attention(*operands, row.lengths, HEADS, style)
        return TimedRun(run, run)

    # --------------------------------------------------- distillation

    def _our_step(self, row):
        student = self._model("distilbert", WORDS)[0].with_ops(backend(self.backend, row.trained))
        teacher = self._model("bert", WORDS)[0].with_ops(backend(self.backend, row.dtype))
        return _twice(_our_step(student, teacher, batch_of(row, student.config.vocab_size)))

    def _their_step(self, name, row):
        from minidistil.check import torch_peer

        torch_peer.pin(self.threads)
        folders = [self._model(kind, WORDS)[1] for kind in ("distilbert", "bert")]
        attention, V = name.removeprefix("torch-"), self.configs["distilbert"].vocab_size
        dtypes = row.dtype, row.trained
        step = torch_peer.TorchDistillation(*folders, attention, SETTINGS, dtypes)
        return _twice(partial(step, batch_of(row, V)))


def _random(config, task):
    """A model with random parameters, none at a value that would hide a fault: no γ is 1."""
    model, rng = from_config(config, task), np.random.default_rng(1)
    model.update({name: p + rng.normal(0, 0.1, p.shape).astype(np.float32)
                  for name, p in model.params.items() if p.ndim == 1})  # fmt: skip
    return model


def _twice(step):
    """step(train=…)  ->  a TimedRun: two steps without dropout to compare, one with it to time."""
    return TimedRun(lambda: np.concatenate([step(train=False) for _ in range(2)]),
               partial(step, train=True))  # fmt: skip


def _our_step(student, teacher, batch):
    """A function that takes one step as the training loop does: gradients, clip, AdamW."""
    s, workspace = SETTINGS, Workspace()
    losses = DistillConfig(**{k: s[k] for k in s if k == "temperature" or k.startswith("alpha")})
    optimizer = AdamW(student.params, s["lr"], s["betas"], s["eps"], s["weight_decay"],
                      backend=student.ops.name)  # fmt: skip

    def step(train):
        with workspace:
            done = distill_step(student, teacher, batch, losses, train=train, step=optimizer.t)
            norm = global_norm(done.grads.values(), student.ops.name)
            scale = clip_factor(norm, s["max_grad_norm"])
            for name, new in optimizer.steps(done.grads, scale=scale):
                student.update({name: new})
        return np.array([done.loss, norm])

    return step
