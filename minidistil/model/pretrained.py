"""Models from folders, from repositories of the Hugging Face hub, and from configs."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np

from minidistil.config import PROBLEM_TYPES, EncoderDecoderConfig, read_config
from minidistil.config.base import BaseConfig
from minidistil.config.generation_config import GENERATION, read_generation
from minidistil.config.sentence_folder import body_of, modules_around
from minidistil.config.vit import VISION
from minidistil.io.arguments import one_of, path_like, whole
from minidistil.io.files import MissingFileError
from minidistil.io.limits import several, short
from minidistil.model.checkpoint import (
    CONFIG,
    INDEX,
    is_quantized,
    mismatch_error,
    stored_in,
    with_scales,
)
from minidistil.model.generation.generation_options import eos_of
from minidistil.model.heads import (
    CLASSIFIER_PREFIXES,
    VOCABULARY_HEADS,
    heads_of,
    task_of,
    tasks_of,
    with_outputs,
)
from minidistil.model.model import Model
from minidistil.model.names import BODY, BUFFERS, TIED, checkpoint_name
from minidistil.model.parameter_table import HALVES, initial_values, layout
from minidistil.model.params import (
    LARGEST,
    body_shapes,
    check_size,
    head_shapes,
    initialise,
    shapes,
)
from minidistil.model.sentence.pooling import LEGACY_FOLDER, SENTENCE_FILES, Pooling
from minidistil.model.sentence.sentence_model import SENTENCES, SentenceModel
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder
from minidistil.model.vision.vision_model import VisionModel, fresh, loaded
from minidistil.ops import backend as load_backend

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt",
             "special_tokens_map.json")  # fmt: skip
PIXELS = "preprocessor_config.json"  # a ViT's scaling of pixels
FILES = (CONFIG, GENERATION, INDEX, "*.safetensors", PIXELS, *TOKENIZER, *SENTENCE_FILES)
FILES += tuple(f"{LEGACY_FOLDER}/{name}" for name in FILES)
LEGACY_NAMES = {"gamma": "weight", "beta": "bias"}  # of LayerNorm, in the first BERT checkpoints
# Prefixes of a body's tensors; other tensors belong to heads
BODY_PREFIXES = ("embeddings.", "encoder.", "transformer.", "h.")

AnyModel = Model | VisionModel


def from_config(
    config: BaseConfig | EncoderDecoderConfig, task: str | None = None, seed: int = 0,
    backend: str = "cpu", dtype: str = "float32", max_bytes: int = LARGEST,
) -> AnyModel:  # fmt: skip
    """A model with new parameters, drawn from `seed`; see `params.initialise`.

    config: BertConfig, DistilBertConfig … task: None for the task that config.architectures names
    or, without it, the family's first: fill-mask, for GPT-2 text-generation. dtype: see
    `minidistil.backend`. Raises ValueError for a task that the family does not have, and before it
    allocates more than max_bytes (8 GiB) for parameters.
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
    wanted, ops = layout(config, task)[0], load_backend(backend, dtype)
    params = initial_values(config, wanted, seed, max_bytes)
    if task == SENTENCES:
        return SentenceModel(config, params, ops)
    kind = EncoderDecoder if isinstance(config, EncoderDecoderConfig) else Model
    return kind(config, task, params, ops)


def from_pretrained(
    folder_or_hub_id: str | Path, task: str | None = None, backend: str = "cpu",
    dtype: str | None = None, num_labels: int | None = None, problem_type: str | None = None,
    seed: int = 0,
) -> AnyModel:  # fmt: skip
    """A model from a Hugging Face folder, or from the hub when no such folder exists.

    A path that is absolute or starts with a dot is never looked up on the hub. task: one of the
    family's (`heads.tasks_of`), or None for the one that config["architectures"] names. The body
    must match exactly. Heads that the task does not use are dropped. A head that the folder lacks,
    or whose number of labels changes through `num_labels` or another task, is initialised from
    `seed`. A warning lists both.
    dtype: the computing dtype, see `minidistil.backend`; None: int8 for a folder that `minidistil
    quantize` wrote, float32 for any other. `params` are float32 in any case.
    Raises MissingFileError or ValueError, one line.
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
    if isinstance(config, EncoderDecoderConfig):
        params = _match_halves(folder, config, task, tensors, seed)
        return _with_generation(EncoderDecoder(config, task, params, ops), folder)
    params = _match(folder, config, task, tensors, relabelled, seed)
    if task == SENTENCES:
        return SentenceModel(config, params, ops, Pooling.read(folder))
    model = Model(config, task, params, ops)
    return _with_generation(model, folder) if task == "text-generation" else model


def _with_generation(model, folder):
    """The model with its folder's generation options. Raises ValueError for an eos_token_id outside
    the vocabulary."""
    model.generation = read_generation(folder)
    if model.generation.eos_token_id is None:
        return model
    ends, V = eos_of(model), model.config.vocab_size
    for end in ends if isinstance(ends, tuple) else (ends,):
        if end >= V:
            raise ValueError(
                f"{folder / GENERATION}: eos_token_id {end} is none of the model's {V} words"
            )
    return model


def _check_task(task):
    if not isinstance(task, str | None):
        raise TypeError(f"task must be a name or None, not {short(task)}")


def _stored_task(config):
    """The task that the folder was saved for, None where it is unknown here."""
    try:
        return task_of(config)
    except ValueError:
        return None


def task_in(folder: str | Path) -> str:
    """The task of a folder's model: sentence-embedding for a bare body with sentence-transformers'
    files, otherwise the task that its config names."""
    task = task_of(read_config(Path(folder) / CONFIG))
    pooled = task == "feature-extraction" and modules_around(folder) is not None
    return SENTENCES if pooled else task


def resolve(name: str | Path) -> Path:
    """The folder `name`, or a snapshot of the hub's repository of this name. Where the model is in
    a subfolder (see `sentence_folder`), that one."""
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
            f"check the model's name or the connection, or give a folder that holds {CONFIG}"
        ) from None


def _canonical_names(config):
    """{checkpoint name, with and without the body's prefix: canonical name} for the body and for
    the heads of every task of the family."""
    prefix = BODY[config.model_type][0]
    every = body_shapes(config.architecture)
    tied = dataclasses.replace(config, tie_word_embeddings=True)
    for task in tasks_of(config):
        every |= head_shapes(tied, task)
    names = {}
    for c in every:
        name = checkpoint_name(c, config)
        names[name] = names[name.removeprefix(prefix)] = c
    return names


def _find(tensors, config):
    """Tensors under their names in the folder  ->  {canonical name: tensor}, names of tensors that
    are none of the family's, problems."""
    kind, prefix = config.model_type, BODY[config.model_type][0]
    copies = TIED[kind] if config.tie_word_embeddings else {}
    canonical = _canonical_names(config)
    found, unknown, problems = {}, [], []
    for name, tensor in tensors.items():
        stem, _, last = name.rpartition(".")
        modern = f"{stem}.{LEGACY_NAMES.get(last, last)}"
        if BUFFERS.fullmatch(modern.removeprefix(prefix)) or name in copies:
            continue
        c = canonical.get(modern)
        if c in found:
            problems.append(f"{name} appears twice, under two names")
        elif c:
            found[c] = tensor
        elif name.startswith((prefix, *BODY_PREFIXES)):
            problems.append(f"surplus {name} {tensor.shape}")
        else:
            unknown.append(name)
    for name, c in copies.items():  # some files contain the copy without the original
        if name in tensors:
            found.setdefault(c, tensors[name])
    return found, unknown, problems


def _match(folder, config, task, tensors, relabelled, seed):
    """Tensors under their names in the folder  ->  all parameters under canonical names.

    relabelled: the number of labels may differ from the folder's. Names and shapes are compared
    with the config's before any tensor is read.
    """
    found, dropped, problems = _find(tensors, config)
    body, wanted = body_shapes(config.architecture), shapes(config, task)
    values, fresh = {}, {}
    for c, shape in wanted.items():
        name = checkpoint_name(c, config)
        if c not in found:
            if c in body:
                problems.append(f"missing {name} {shape}")
            else:
                fresh[c] = shape
        elif found[c].shape != shape:
            if relabelled and c.startswith(CLASSIFIER_PREFIXES):
                fresh[c] = shape
            else:
                problems.append(f"{name} is {found[c].shape}, expected {shape}")
        else:
            values[c] = found[c].read()
            if not np.isfinite(values[c]).all():
                problems.append(f"{name} holds NaN or infinity")
    if set(VOCABULARY_HEADS) & set(heads_of(config, task)):
        problems += _untied(tensors, values, config)
    if problems:
        raise mismatch_error(folder, problems)
    check_size(fresh)
    dropped += [checkpoint_name(c, config) for c in found if c not in wanted]
    if dropped:
        warnings.warn(f"task {task!r} does not use {several(sorted(dropped))}", stacklevel=3)
    if fresh:
        names = several(checkpoint_name(c, config) for c in fresh)
        warnings.warn(f"initialised from seed {seed}, to be trained: {names}", stacklevel=3)
    return values | initialise(config, fresh, seed)


def _match_halves(folder, config, task, tensors, seed):
    """As `_match`, for an encoder and a decoder, each with its prefix, and the projection between
    them."""
    given = {half: {} for half in (*HALVES, "")}
    for name, tensor in tensors.items():
        half, _, rest = name.partition(".")
        half, rest = (half, rest) if half in HALVES else ("", name)
        given[half][rest] = tensor
    projection, found = given.pop(""), {}
    wanted, _ = layout(config, task)
    for name, shape in wanted.items():
        if name.partition(".")[0] in HALVES:
            continue
        if name not in projection or projection[name].shape != shape:
            raise mismatch_error(folder, [f"{name} {shape} must be in the folder"])
        found[name] = projection[name].read()
        if not np.isfinite(found[name]).all():
            raise mismatch_error(folder, [f"{name} holds NaN or infinity"])
    surplus = sorted(set(projection) - set(wanted))
    if surplus:
        raise mismatch_error(folder, [f"surplus {name}" for name in surplus])
    for half, inner_task in HALVES.items():
        inner, where = getattr(config, half), f"{folder}, {half},"
        part = _match(where, inner, inner_task, given[half], False, seed)
        found |= {f"{half}.{c}": array for c, array in part.items()}
    return found


def _equal(tensor, array):
    return tensor.shape == array.shape and np.array_equal(tensor.read(), array)


def _untied(tensors, found, config):
    """Problems of copies of tied parameters whose values differ from the original's."""
    return [
        f"{name} differs from {checkpoint_name(c, config)}, to which it is tied"
        for name, c in TIED[config.model_type].items()
        if name in tensors and c in found and not _equal(tensors[name], found[c])
    ]
