"""Models from folders, from names on the Hugging Face hub, and from configs."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np

from minidistil.config import PROBLEM_TYPES, EncoderDecoderConfig, read_config
from minidistil.config.base import BaseConfig
from minidistil.config.generation_config import NAME as GENERATION
from minidistil.config.generation_config import read_generation
from minidistil.config.sentence_folder import body_of, modules_around
from minidistil.config.vit import VISION
from minidistil.io.arguments import one_of, path_like, whole
from minidistil.io.files import MissingFileError
from minidistil.io.limits import several, short
from minidistil.model.checkpoint import CONFIG, INDEX, is_quantized, misfit, stored_in, with_scales
from minidistil.model.generation.generation_options import ends_of
from minidistil.model.heads import LAST, WORDS, heads_of, task_of, tasks_of, with_outputs
from minidistil.model.model import Model
from minidistil.model.names import BODY, BUFFERS, TIED, checkpoint_name
from minidistil.model.parameter_table import HALVES, first_values, layout
from minidistil.model.params import (
    LARGEST,
    body_shapes,
    check_size,
    head_shapes,
    initialise,
    shapes,
)
from minidistil.model.sentence.pooling import OLD, SENTENCE_FILES, Pooling
from minidistil.model.sentence.sentence_model import SENTENCES, SentenceModel
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder
from minidistil.model.vision.vision_model import fresh, loaded
from minidistil.ops import backend as load_backend

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt",
             "special_tokens_map.json")  # fmt: skip
PIXELS = "preprocessor_config.json"  # how a ViT's images are scaled
FILES = (CONFIG, GENERATION, INDEX, "*.safetensors", PIXELS, *TOKENIZER, *SENTENCE_FILES)
FILES += tuple(f"{OLD}/{name}" for name in FILES)
MODELS = {"encoder-decoder": EncoderDecoder}  # the others are one `Model`
OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # how the first BERT checkpoints call LayerNorm's


def from_config(config, task=None, seed=0, backend="cpu", dtype="float32", max_bytes=LARGEST):
    """A model with fresh parameters, drawn from `seed` as the originals initialise them.

    config: BertConfig, DistilBertConfig … task: None for what config.architectures says or, where
    it says nothing, the family's first: fill-mask, for GPT-2 text-generation. dtype: see
    `minidistil.backend`. Raises ValueError for a task the family lacks, and before it allocates
    more than max_bytes (8 GiB) for parameters.
    """
    if not isinstance(config, BaseConfig | EncoderDecoderConfig):
        raise TypeError(
            f"config must be a config of a family, such as BertConfig, not {short(config)}; "
            f"BertConfig.from_dict makes one of a config.json's fields"
        )
    seed, max_bytes = whole("seed", seed), whole("max_bytes", max_bytes, 1)
    _check_task(task)
    if config.model_type in VISION:
        return fresh(config, task, seed, load_backend(backend, dtype), max_bytes)
    task = task or task_of(config)
    heads_of(config, task)
    config = with_outputs(config, task)
    kind = MODELS.get(config.model_type, Model)
    wanted, ops = layout(config, task)[0], load_backend(backend, dtype)
    params = first_values(config, wanted, seed, max_bytes)
    return (
        SentenceModel(config, params, ops) if task == SENTENCES else kind(config, task, params, ops)
    )


def from_pretrained(folder_or_hub_id, task=None, backend="cpu", dtype=None, num_labels=None,
                    problem_type=None, seed=0):  # fmt: skip
    """A model from a Hugging Face folder, or from the hub when no such folder exists.

    A path that is absolute or starts with a dot is never looked up on the hub. task: one of those
    the family has (`heads.tasks_of`), or None for what config["architectures"] says. The body must
    match exactly; heads the task does not use are dropped, and a head the folder lacks, or whose
    number of labels `num_labels` or another task changes, is initialised from `seed`; both are said
    in a warning.
    dtype: what computes, see `minidistil.backend`; None: int8 for a folder that `minidistil
    quantize` wrote, float32 for any other. `params` are float32 in any case.
    Raises MissingFileError or ValueError, one line that says what is wrong.
    """
    seed = whole("seed", seed)
    _check_task(task)
    if num_labels is not None:
        num_labels = whole("num_labels", num_labels, 1)
    if problem_type is not None:
        one_of("problem_type", problem_type, PROBLEM_TYPES)
    load_backend(backend, "float32" if dtype is None else dtype)
    folder = resolve(folder_or_hub_id)
    config = read_config(folder / CONFIG)
    if num_labels is not None and num_labels != config.num_labels:
        config = config.with_labels(num_labels, problem_type or config.problem_type)
    elif problem_type is not None:
        config = dataclasses.replace(config, problem_type=problem_type)
    if config.model_type in VISION:
        ops = load_backend(backend, dtype or "float32")
        return loaded(folder, config, task, seed, ops, num_labels is not None)
    task = task or task_of(config)
    heads_of(config, task)
    relabelled = num_labels is not None or task != _stored_task(config)
    config = with_outputs(config, task)
    stored = stored_in(folder)
    ops = load_backend(backend, dtype or ("int8" if is_quantized(stored) else "float32"))
    tensors = with_scales(folder, stored)
    if config.model_type in MODELS:
        params = _match_halves(folder, config, task, tensors, seed)
        return _writer(MODELS[config.model_type](config, task, params, ops), folder)
    params = _match(folder, config, task, tensors, relabelled, seed)
    if task == SENTENCES:
        return SentenceModel(config, params, ops, Pooling.read(folder))
    model = Model(config, task, params, ops)
    return _writer(model, folder) if task == "text-generation" else model


def _writer(model, folder):
    """The model, which writes as its folder says. Raises ValueError for an end that is no word."""
    model.generation = read_generation(folder)
    ends, V = ends_of(model), model.config.vocab_size
    said = model.generation.eos_token_id is not None
    for end in (ends if isinstance(ends, tuple) else (ends,)) if said else ():
        if end >= V:
            raise ValueError(
                f"{folder / GENERATION}: eos_token_id {end} is none of the model's {V} words"
            )
    return model


def _check_task(task):
    if not isinstance(task, str | None):
        raise TypeError(f"task must be a name or None, not {short(task)}")


def _stored_task(config):
    """The task that the folder was saved for, None where this version does not know it."""
    try:
        return task_of(config)
    except ValueError:
        return None


def task_in(folder):
    """What a folder's model is for: sentence vectors, where a bare body has sentence-transformers'
    files beside it; else what its config says."""
    task = task_of(read_config(Path(folder) / CONFIG))
    pooled = task == "feature-extraction" and modules_around(folder) is not None
    return SENTENCES if pooled else task


def resolve(name):
    """The folder that `name` is, or a snapshot of the hub's repository of that name; of a folder
    that keeps its model in a folder within, that one."""
    path = Path(path_like("the folder", name)).expanduser()
    if path.is_dir():
        return body_of(path)
    if path.is_absolute() or str(name).startswith(".") or path.exists():
        raise MissingFileError(f"{name} is not a folder; give one that holds {CONFIG}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return body_of(snapshot_download(str(name), allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise MissingFileError(
            f"{name} is neither a folder nor a repository the hub hands out ({reason}); "
            f"check the name or the connection, or give a folder that holds {CONFIG}"
        ) from None


def _match(folder, config, task, tensors, relabelled, seed):
    """Tensors under whatever names the folder uses  ->  canonical parameters, all of them.

    tensors: {name: Stored or Scaled}, read once their names and shapes have been compared with the
    config's.
    """
    kind, prefix = config.model_type, BODY[config.model_type][0]
    body = body_shapes(config.architecture)
    every_head, tied = {}, dataclasses.replace(config, tie_word_embeddings=True)
    for other in tasks_of(config):
        every_head.update(head_shapes(tied, other))
    canonical = {}
    for c in body | every_head:
        name = checkpoint_name(c, config)
        canonical[name] = canonical[name.removeprefix(prefix)] = c

    found, dropped, problems = {}, [], []
    for name, entry in tensors.items():
        stem, _, last = name.rpartition(".")
        modern = f"{stem}.{OLD_NAMES.get(last, last)}"
        bare = modern.removeprefix(prefix)
        if BUFFERS.fullmatch(bare) or (name in TIED[kind] and config.tie_word_embeddings):
            continue
        c = canonical.get(modern)
        if c in found:
            problems.append(f"{name} is there twice, under two names")
        elif c:
            found[c] = entry
        elif name.startswith((prefix, "embeddings.", "encoder.", "transformer.", "h.")):
            problems.append(f"surplus {name} {entry.shape}")
        else:
            dropped.append(name)
    copies = TIED[kind] if config.tie_word_embeddings else {}
    for name, c in copies.items():  # some writers keep the copy and leave out the original
        if name in tensors:
            found.setdefault(c, tensors[name])
    wanted, values, fresh = shapes(config, task), {}, {}
    for c, shape in wanted.items():
        name = checkpoint_name(c, config)
        if c not in found:
            if c in body:
                problems.append(f"missing {name} {shape}")
            else:
                fresh[c] = shape
        elif found[c].shape != shape:
            if relabelled and c.startswith(LAST):
                fresh[c] = shape
            else:
                problems.append(f"{name} is {found[c].shape}, expected {shape}")
        else:
            values[c] = found[c].read()
            if not np.isfinite(values[c]).all():
                problems.append(f"{name} holds NaN or infinity")
    if set(WORDS) & set(heads_of(config, task)):
        problems += _untied(tensors, values, config)
    if problems:
        raise misfit(folder, problems)
    check_size(fresh)
    dropped += [checkpoint_name(c, config) for c in found if c not in wanted]
    if dropped:
        warnings.warn(f"task {task!r} does not use {several(sorted(dropped))}", stacklevel=3)
    if fresh:
        names = several(checkpoint_name(c, config) for c in fresh)
        warnings.warn(f"initialised from seed {seed}, to be trained: {names}", stacklevel=3)
    return values | initialise(config, fresh, seed)


def _match_halves(folder, config, task, tensors, seed):
    """The same for an encoder and a decoder, each under its name, and what joins them."""
    given = {half: {} for half in (*HALVES, "")}
    for name, entry in tensors.items():
        half, _, rest = name.partition(".")
        half, rest = (half, rest) if half in HALVES else ("", name)
        given[half][rest] = entry
    bridge, found = given.pop(""), {}
    wanted, _ = layout(config, task)
    for name, shape in wanted.items():
        if name.partition(".")[0] in HALVES:
            continue
        if name not in bridge or bridge[name].shape != shape:
            raise misfit(folder, [f"{name} must be there, {shape}"])
        found[name] = bridge[name].read()
        if not np.isfinite(found[name]).all():
            raise misfit(folder, [f"{name} holds NaN or infinity"])
    surplus = sorted(set(bridge) - set(wanted))
    if surplus:
        raise misfit(folder, [f"surplus {name}" for name in surplus])
    for half, inner_task in HALVES.items():
        inner, place = getattr(config, half), f"{folder}, {half},"
        part = _match(place, inner, inner_task, given[half], False, seed)
        found |= {f"{half}.{c}": array for c, array in part.items()}
    return found


def _alike(entry, array):
    return entry.shape == array.shape and np.array_equal(entry.read(), array)


def _untied(tensors, found, config):
    """A copy of a tied parameter must be a copy: another value would be lost silently."""
    return [
        f"{name} differs from {checkpoint_name(c, config)}, to which it is tied"
        for name, c in TIED[config.model_type].items()
        if name in tensors and c in found and not _alike(tensors[name], found[c])
    ]
