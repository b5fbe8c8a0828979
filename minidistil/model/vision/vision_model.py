"""Public class of vision models: converts images (B,channels,S,S) to rows, checkpoint names to
internal names."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidistil.io.arguments import path_like, real, whole
from minidistil.io.limits import several
from minidistil.model import task_loss
from minidistil.model.checkpoint import mismatch_error, stored_in, with_scales, write_folder
from minidistil.model.context import Context, plus
from minidistil.model.finite import answer
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.network import Result
from minidistil.model.output import FetchedArrays, Kept, Output, SharedArraysCopy, Step, kept_by
from minidistil.model.params import LARGEST, check_size, checked_arrays, initialise
from minidistil.model.rows import LARGEST_KEY, DropoutState, given_in
from minidistil.model.vision import vision_encoder
from minidistil.model.vision.vision_encoder import (
    BODY,
    CLASSES,
    HEADS,
    IMAGES,
    Places,
    VisionStates,
    patches,
    task_named,
)
from minidistil.model.vision.vision_names import flat, layout
from minidistil.ops import DTYPES, frugal

Batch = Mapping[str, np.ndarray]


class VisionModel(SharedArraysCopy):
    """ViT or DeiT with the heads of one task; `params` and the methods are as those of `Model`."""

    def __init__(self, config, task, params, ops):
        self.config, self.task, self.ops, self.dtype = config, task, ops, ops.dtype
        self.layout = layout(config, task)
        self.shapes = {n: s for parts in self.layout.values() for n, s in parts.items()}
        self._params, self._canonical = {}, None
        self.update(params)

    @property
    def params(self) -> Mapping[str, np.ndarray]:
        return FetchedArrays(self._params, self.ops.place)

    def update(self, arrays: Mapping[str, np.ndarray]) -> None:
        """As `Model.update`."""
        for name, array in checked_arrays(arrays, self.shapes).items():
            self._params[name] = self.ops.place.freeze(array)
        self._canonical = None

    def canonical(self) -> dict[str, Any]:
        """The parameters under canonical names, in the computing dtype and the ops' shapes."""
        if self._canonical is None:
            place, found = self.ops.place, {}
            for c, parts in self.layout.items():
                arrays = [flat(c, place.fetch(self._params[name])) for name in parts]
                found[c] = place.send(np.concatenate(arrays) if arrays[1:] else arrays[0])
            self._canonical = found
        return self._canonical

    def with_ops(self, ops: Any) -> "VisionModel":
        """The same parameters behind another backend."""
        return VisionModel(self.config, self.task, dict(self.params), ops)

    @property
    def names(self) -> dict[str, str]:
        """{canonical name: the checkpoint's names}."""
        return {c: ", ".join(parts) for c, parts in self.layout.items()}

    @property
    def logits_head(self) -> str | None:
        """The text classifier's head, as the losses are the same; None for a bare body."""
        return "classifier" if self.task == IMAGES else None

    # ------------------------------------------------------------ forward

    def pack_batch(self, batch: Batch) -> tuple[Any, Places]:
        """A batch's pixel_values (B,channels,S,S)  ->  flat patches (B·n,V), Places."""
        c = self.config
        pixels = real("pixel_values", given_in(batch, "pixel_values"))
        wanted = (c.num_channels, c.image_size, c.image_size)
        if pixels.ndim != 4 or pixels.shape[1:] != wanted or not len(pixels):
            raise ValueError(f"pixel_values must be (B,{str(wanted)[1:-1]}), not {pixels.shape}")
        places = Places.of(len(pixels), c.architecture.P, c.specials)
        flat = patches(pixels.astype(DTYPES[self.dtype]), c.patch_size)
        return self.ops.place.send(flat), places

    def see(self, batch: Batch, train: bool = False, seed: int = 0, step: int = 0,
            first_sequence: int = 0, keep: bool = True):  # fmt: skip
        """Images  ->  VisionStates, their cache, Places."""
        flat, places = self.pack_batch(batch)
        dropout_state = None
        if train:
            first = whole("first_sequence", first_sequence, 0, LARGEST_KEY)
            key = whole("seed", seed, 0, LARGEST_KEY), whole("step", step, 0, LARGEST_KEY)
            dropout_state = DropoutState(*key, places.sequence + first, places.column)
        seen, cache = self._through(flat, places, dropout_state, keep)
        return seen, cache, places

    def infer(self, packed: tuple, select=None, checked: bool = True) -> Result:
        """The result of `pack_batch`  ->  network.Result in evaluation, whose last hidden state is
        after the final norm. select: not used, there is no vocabulary. checked: as `Model.infer`.
        """

        def run(model):
            return model._through(*packed, None, False)

        seen, _ = answer(self, run, _numbers) if checked else run(self)
        logits = vision_encoder.mean(seen.answers, self.ops) if self.task == IMAGES else None
        return Result((*seen.hidden[:-1], seen.last), logits=logits)

    def _through(self, flat, places, dropout_state, keep):
        c = self.config
        context = Context(c.architecture, places.bounds, self.ops, dropout_state, keep)
        heads = HEADS[c.model_type, self.task]
        return vision_encoder.forward(self.canonical(), flat, places, heads, context)

    def forward(self, pixel_values: np.ndarray, labels: np.ndarray | None = None, *,
                hidden_states: bool = False, train: bool = False, seed: int = 0, step: int = 0,
                keep: bool = True, first_sequence: int = 0) -> Output:  # fmt: skip
        """pixel_values (B,channels,S,S) floats, labels (B,)  ->  Output.

        The loss is that of the logits; for DeiT the mean of the losses of its two classifiers, both
        on the labels. The last of hidden_states is before the final norm, as in transformers' ViT;
        last_hidden_state is after it. Raises ValueError for a wrong shape.
        """
        batch = {"pixel_values": pixel_values}

        def run(model):
            seen, cache, places = model.see(batch, train, seed, step, first_sequence, keep)
            return seen, (cache, places)

        seen, (cache, places) = answer(self, run, _numbers)
        B, fetch = len(places.bounds) - 1, self.ops.place.fetch
        answers = {head: fetch(z) for head, z in seen.answers.items()}
        loss, gradient = None, None
        if labels is not None:
            loss, gradient = self.loss(seen, labels)
        return Output(
            logits=fetch(vision_encoder.mean(seen.answers, self.ops)) if self.task == IMAGES else
            None, cls_logits=answers.get("cls_classifier"),
            distillation_logits=answers.get("distillation_classifier"),
            pooler_output=answers.get("pooler"),
            last_hidden_state=fetch(seen.last).reshape(B, -1, seen.last.shape[1]),
            hidden_states=tuple(fetch(h).reshape(B, -1, h.shape[1]) for h in seen.hidden)
            if hidden_states else None,
            loss=None if loss is None else self.ops.place.number(loss),
            kept=Kept(places, seen, cache, gradient) if keep else None,
        )  # fmt: skip

    def loss(self, seen: VisionStates, labels: np.ndarray, counting: Counting = PLAIN):
        """loss, {head: gradient}: the mean of the heads' losses on the labels."""
        if self.task != IMAGES:
            raise ValueError(f"task {self.task!r} has no loss; leave labels out")
        total, d = 0.0, {}
        for head, z in seen.answers.items():
            weight = counting.shares["labels"] / len(seen.answers)
            loss, d[head] = task_loss.classification(
                z, labels, self.config, self.ops, weight, counting
            )
            total += weight * self.ops.place.number(loss)
        return total, d

    # ------------------------------------------------------------ backward

    def backward(self, out: Output, dlogits=None, dlast_hidden_state=None, dpooler_output=None,
                 dcls_logits=None, ddistillation_logits=None) -> dict[str, np.ndarray]:  # fmt: skip
        """Gradients of the loss, or along the cotangents given, with the keys of `params`.

        Raises ValueError after keep=False, without a cotangent or a loss, or for a wrong shape.
        """
        if kept_by(out) is None:
            raise ValueError("nothing was kept for backward: call forward with keep=True")
        _, seen, cache, danswers = out.kept
        dh = None
        heads = {
            "cls_classifier": ("dcls_logits", dcls_logits, out.cls_logits),
            "distillation_classifier":
                ("ddistillation_logits", ddistillation_logits, out.distillation_logits),
            "pooler": ("dpooler_output", dpooler_output, out.pooler_output),
        }  # fmt: skip
        heads = {head: given for head, given in heads.items() if given[1] is not None}
        if heads or dlogits is not None or dlast_hidden_state is not None:
            danswers = {}
            if dlogits is not None:
                share = real("dlogits", dlogits) / len(seen.answers)
                danswers = {h: self._cotangent("dlogits", share, out.logits) for h in seen.answers}
            for head, given in heads.items():
                danswers[head] = plus(danswers.get(head), self._cotangent(*given), self.ops)
            if dlast_hidden_state is not None:
                dh = self._cotangent(
                    "dlast_hidden_state", dlast_hidden_state, out.last_hidden_state, seen.last.shape
                )
        elif danswers is None:
            raise ValueError("backward needs a cotangent, such as dlogits, or labels in forward")
        return self.public(vision_encoder.backward(dh, danswers, cache, self.ops))

    def _cotangent(self, name, dy, like, shape=None):
        if like is None:
            raise ValueError(f"{name}: task {self.task!r} has no such output")
        if np.shape(dy) != like.shape:
            raise ValueError(f"{name} must be {like.shape}, not {np.shape(dy)}")
        dy = real(name, dy).astype(DTYPES[self.dtype])
        return self.ops.place.send(dy.reshape(shape or like.shape))

    def public(self, grads: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Gradients under canonical names  ->  one for every parameter, under its name in
        `params`."""
        found = {}
        for c, parts in self.layout.items():
            g = self.ops.place.fetch(grads[c]) if c in grads else None
            for i, (name, shape) in enumerate(parts.items()):
                if g is None:
                    found[name] = np.zeros(shape, DTYPES[self.dtype])
                else:
                    size = len(g) // len(parts)
                    found[name] = g[i * size : (i + 1) * size].reshape(shape)
        return found

    def counts(self, batch: Batch, counting: Counting = PLAIN) -> dict[str, float]:
        """The number of labels that the mean of `gradients` is over."""
        return task_loss.label_counts(batch, self.config, self.logits_head, counting)

    @frugal()
    def gradients(self, batch: Batch, train: bool = False, seed: int = 0, step: int = 0,
                  first_sequence: int = 0, counting: Counting = PLAIN) -> Step:  # fmt: skip
        """The loss on a batch of pixel_values and labels  ->  Step."""
        seen, cache, _ = self.see(batch, train, seed, step, first_sequence)
        loss, d = self.loss(seen, batch["labels"], counting)
        return Step(loss, {}, self.public(vision_encoder.backward(None, d, cache, self.ops)))

    def save_pretrained(self, folder: str | Path, dtype: str = "float32") -> None:
        """Write config.json and model.safetensors, as `Model.save_pretrained`."""
        path_like("folder", folder)
        config = self.config.to_dict()
        config["architectures"] = [CLASSES[self.config.model_type, self.task]]
        write_folder(folder, config, self.params, dtype)


def _numbers(done):
    seen, _ = done
    return seen.last, *seen.answers.values()


# ---------------------------------------------------------------- made or read


def fresh(config, task: str | None, seed: int, ops, max_bytes=LARGEST) -> VisionModel:
    """A model with random parameters. Raises ValueError for more than max_bytes of them."""
    task = task_named(config, task)
    parts = layout(config, task)
    check_size({n: s for names in parts.values() for n, s in names.items()}, max_bytes)
    return VisionModel(config, task, _drawn(config, parts, seed), ops)


def _drawn(config, parts, seed):
    """Initial values of the parameters in parts, {canonical name: {name: shape}}."""
    wanted = {}
    for c, names in parts.items():
        norm = c.endswith("norm.weight")
        wanted.update({f"{n}{'.norm.weight' if norm else ''}": s for n, s in names.items()})
    drawn = initialise(config, wanted, seed)
    return {name.removesuffix(".norm.weight"): x for name, x in drawn.items()}


def loaded(folder: Path, config, task: str | None, seed: int, ops,
           relabelled: bool) -> VisionModel:  # fmt: skip
    """The folder's model; missing heads, and those with other labels, are initialised from seed."""
    task = task_named(config, task)
    body = layout(config, BODY)
    prefix, inner = f"{config.model_type}.", "" if task == BODY else f"{config.model_type}."
    bodies = {n for c, names in body.items() if c.split(".")[0] != "pooler" for n in names}
    stored = {}
    for name, x in with_scales(folder, stored_in(folder)).items():
        bare = name.removeprefix(prefix)
        stored[inner + bare if bare in bodies else bare] = x
    parts = layout(config, task)
    shapes = {n: s for names in parts.values() for n, s in names.items()}
    problems, drawn, found = [], [], {}
    for name, shape in shapes.items():
        is_body = name.removeprefix(prefix) in bodies
        if name in stored and stored[name].shape == shape:
            found[name] = stored[name].read()
            if not np.isfinite(found[name]).all():
                problems.append(f"{name} holds NaN or infinity")
        elif name in stored and (is_body or not relabelled):
            problems.append(f"{name} is {stored[name].shape}, expected {shape}")
        elif is_body:
            problems.append(f"missing {name} {shape}")
        else:
            drawn.append(name)
    unused = sorted(set(stored) - set(shapes))
    problems += [f"surplus {n}" for n in unused if n.startswith((prefix, "embeddings", "encoder"))]
    if problems:
        raise mismatch_error(folder, problems)
    check_size({n: shapes[n] for n in drawn})
    if unused:
        warnings.warn(f"task {task!r} does not use {several(unused)}", stacklevel=3)
    if drawn:
        warnings.warn(f"initialised from seed {seed}, to be trained: {several(drawn)}",
                      stacklevel=3)  # fmt: skip
    missing = {c: {n: s for n, s in names.items() if n in drawn} for c, names in parts.items()}
    return VisionModel(config, task, found | _drawn(config, missing, seed), ops)
