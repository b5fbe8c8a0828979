"""Teacher outputs for every training sequence, computed once and stored on disk.

A folder with `cache.json`, one memory-mapped file an array, and `checksums`: one for each
sequence's rows in each array, compared when the rows are first read.

    whole   words: the last hidden state, float32, (tokens,C), from which the teacher's head makes
            the logits anew: BERT's weigh 40 times as much as the C numbers that they come from.
            classes: the logits (texts,K), and the last hidden state where alpha_cos asks for it.
            On the CPU's kernels every loss has the same bits as with the teacher itself. (BLAS,
            behind backend "numpy", rounds a row differently in batches of different sizes.)
    half    the same in float16: 11 bits of each number.
    topN    the N largest logits of each row with their token ids, float32, and the log-sum-exp of
            the rest at the run's temperature, r = ln Σ_rest e^(z/τ). When read, every token of the
            rest has the same logit, z = τ·(r − ln(V−N)): the N tokens have their exact softened
            probabilities, and the rest its exact sum.

The outputs depend on the text only if the masks do, so each sequence has the same mask in all
epochs (`MaskedText(kept_masks=True)`). `cache.json` names what the outputs depend on; a cache that
was made with another teacher, data, masks or temperature is refused.
"""

import re
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import numpy as np

from minidistil.data.two_tokenizers import THEIRS
from minidistil.distill.distill_config import DistillConfig
from minidistil.distill.teacher_digest import weights_of
from minidistil.distill.teachers import Teacher, TeacherOutputs, logits_of, teacher_outputs
from minidistil.io import files
from minidistil.io.checksums import checksum, read_sealed, write_sealed
from minidistil.io.outputs import check_folder
from minidistil.io.ranks import world
from minidistil.model import heads, network
from minidistil.model.context import Context
from minidistil.model.model import Model

INDEX, SUMS = "cache.json", "checksums"
ROWS = 256  # rows whose logits are sorted at once
# Tasks with logits for each token; the others have them for each text.
BY_TOKEN = (*heads.WORD_TASKS, "token-classification", heads.EXTRACT, "question-answering")
TYPES = {"whole": np.float32, "half": np.float16}


class CachedTeacher:
    """The stored outputs of `teacher`, computed and written where the folder has none yet.

    teacher: a Model or any other of `minidistil.distill.teachers`. Raises ValueError for a folder
    that was made with other arguments, and names the first of them that differs.
    """

    def __init__(
        self, folder: str | Path, teacher: Teacher, data, config: DistillConfig,
        format: str = "whole", progress=iter,
    ):  # fmt: skip
        self.folder, self.teacher, self.form = Path(folder), teacher, format
        self.task, self.config, self.ops = teacher.task, teacher.config, teacher.ops
        words = self.task in heads.WORD_TASKS
        self.top = top_of(format)
        _check(teacher, config, format, self.top, words)
        self.temperature = config.temperature
        self.V = self.config.vocab_size if words else self.config.num_labels
        self.hidden = bool(config.alpha_cos) or (words and not self.top)
        self.logits = bool(self.top) or not words
        batches = data.batches(0)
        self.order = np.sort(np.concatenate(batches))  # the numbers of the sequences kept
        key, lengths = _key(self, data, progress)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        self.token_ends = ends  # sequence i owns tokens ends[i] to ends[i+1]
        self.logit_ends = ends if self.task in BY_TOKEN else np.arange(len(ends))
        if not world().first(lambda: _is_there(self.folder, key)):
            _write(self, data, batches, key, progress)
        self.arrays, self.sums = _opened(self)
        self.compared = np.zeros(self.sums.shape, bool)

    @property
    def without_hidden(self):
        """Why no loss can use hidden states, or None."""
        return None if self.hidden else "this cache of the teacher's answers holds logits alone"

    def layout(self):
        """{file: (dtype, shape)} of the arrays in this cache."""
        C, rows, found = self.config.architecture.C, self.logit_ends[-1], {}
        if self.hidden:
            found["hidden"] = TYPES.get(self.form, np.float32), (self.token_ends[-1], C)
        if self.logits and not self.top:
            found["logits"] = TYPES[self.form], (rows, self.V)
        if self.top:
            N = min(self.top, self.V)
            found |= {"values": (np.float32, (rows, N)), "words": (np.int32, (rows, N)),
                      "rest": (np.float32, (rows,))}  # fmt: skip
        return found

    def teacher_outputs(self, batch: Mapping, select: np.ndarray | None) -> TeacherOutputs:
        """The stored outputs for a batch of `Numbered` data."""
        if "numbers" not in batch:
            raise ValueError("a cache needs batches that number their sequences: Numbered(data)")
        places = np.searchsorted(self.order, batch["numbers"])
        hidden = ()
        if self.hidden:
            hidden = (self.ops.place.send(self._rows("hidden", self.token_ends, places)),)
        if self.top:
            values, words, rest = (
                self._rows(name, self.logit_ends, places) for name in ("values", "words", "rest")
            )
            pick = slice(None) if select is None else select
            spread = values[pick], words[pick], rest[pick], self.V, self.temperature

            def logits(rows):
                return self.ops.place.send(spread_out(*(x[rows] for x in spread[:3]), *spread[3:]))

        elif self.logits:
            kept = self._rows("logits", self.logit_ends, places)

            def logits(rows):
                return self.ops.place.send(kept[rows])

        else:
            logits = logits_of(self.teacher, _head(self.teacher, hidden[-1], select))
        return TeacherOutputs(hidden, logits)

    def _rows(self, name, ends, places):
        """The stored rows of these sequences, concatenated. Raises ValueError where a checksum
        fails."""
        array, row = self.arrays[name], list(self.arrays).index(name)
        parts = [array[ends[i] : ends[i + 1]] for i in places]
        for i, part in zip(places, parts, strict=True):
            if not self.compared[row, i]:
                if zlib.crc32(part) != self.sums[row, i]:
                    raise _damaged(
                        self.folder, f"{name} of sequence {self.order[i]} fails its checksum"
                    )
                self.compared[row, i] = True
        kept = np.concatenate(parts)
        return kept.astype(np.float32) if kept.dtype == np.float16 else kept


def top_of(format: str) -> int:
    """The N of "topN", 0 for the other formats. Raises ValueError for an unknown one."""
    if format in TYPES:
        return 0
    found = re.fullmatch(r"top([1-9]\d*)", format)
    if not found:
        raise ValueError(f"a cache's format is whole, half or topN such as top64, not {format!r}")
    return int(found[1])


def keep_top(logits: np.ndarray, N: int, tau: float) -> tuple:
    """logits (n,V)  ->  values (n,N), token ids (n,N), rest (n,): what a "topN" cache stores."""
    N = min(N, logits.shape[1])
    words = np.argpartition(-logits, N - 1, axis=1)[:, :N]
    values = np.take_along_axis(logits, words, axis=1)
    others = logits.astype(np.float64)
    np.put_along_axis(others, words, -np.inf, axis=1)
    top = values.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):  # without a rest: ln 0
        rest = np.log(np.exp((others - top) / tau).sum(axis=1)) + top[:, 0] / tau
    return values, words.astype(np.int32), rest.astype(np.float32)


def spread_out(values, words, rest, V, tau):
    """The inverse, logits (n,V) float32; all tokens of the rest have the same logit."""
    others = max(1, V - values.shape[1])
    logits = np.repeat((tau * (rest - np.log(others)))[:, None], V, axis=1).astype(np.float32)
    np.put_along_axis(logits, words.astype(np.int64), values, axis=1)
    return logits


def _head(teacher, hidden, select):
    """Stored hidden states (N,C)  ->  the Result of the teacher's vocabulary head, up to its
    features."""
    whole = np.array([0, len(hidden)])  # a head reads rows one by one, whatever their sequences
    context = Context(teacher.config.architecture, whole, teacher.ops, keep=False)
    features, _, _ = heads.vocabulary_head(
        hidden, teacher.canonical(), teacher.logits_head, context, select, project=False
    )
    return network.Result((), features)


def _check(teacher, config, format, top, words):
    if teacher.task not in (*BY_TOKEN, "text-classification"):
        raise ValueError(
            f"a cache stores outputs for tokens or texts, not for {teacher.task!r}; leave it out"
        )
    if top and teacher.task == "question-answering":
        raise ValueError(f"{format} stores classes, and an answer is a position; use whole")
    if top and config.alpha_mse:
        raise ValueError(f"{format} stores too few logits for alpha_mse; set it to 0 or use whole")
    if top and any(rule.startswith("temperature") for rule in config.vary):
        raise ValueError(
            f"{format} stores what the rest weighs at one temperature; use whole to vary it"
        )
    if words and not top and not isinstance(teacher, Model):
        raise ValueError(f"{format} stores hidden states, several teachers share none; use top64")
    if config.alpha_cos and getattr(teacher, "without_hidden", None):
        raise ValueError(teacher.without_hidden)


# ------------------------------------------------------- what the outputs depend on


def _key(cache, data, progress):
    """{name: value} of what the outputs depend on, the sequences' lengths for the teacher."""
    digest, lengths = blake2b(digest_size=16), []
    for number in progress(cache.order):
        batch = data.collate(np.array([number]), step=0)
        for name in sorted(batch):
            if name.removeprefix(THEIRS) in ("input_ids", "token_type_ids", "teacher"):
                digest.update(f"{name}{np.shape(batch[name])}".encode())
                digest.update(np.ascontiguousarray(batch[name]).tobytes())
        lengths.append(int(batch.get(f"{THEIRS}attention_mask", batch["attention_mask"]).sum()))
    return {
        "format": cache.form,
        "temperature": cache.temperature if cache.top else None,
        "hidden": cache.hidden,
        "task": cache.task,
        "teacher": weights_of(cache.teacher),
        "masks": data.seed if cache.task == "fill-mask" else None,
        "data": digest.hexdigest(),
    }, lengths  # fmt: skip


WORDS = {
    "format": "kept as", "temperature": "kept at temperature", "hidden": "kept with hidden states",
    "task": "for the task", "teacher": "of a teacher whose weights have the digest",
    "masks": "with masks of seed", "data": "for texts whose digest is",
}  # fmt: skip


def _is_there(folder, key):
    """Whether a cache with this key is in the folder. Raises ValueError for anything else there."""
    if (folder / INDEX).is_file():
        _same(folder, read_sealed(folder / INDEX), key)
        return True
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds other things than a cache; name another folder")
    check_folder(folder)
    return False


def _same(folder, stored, key):
    for name, now in key.items():
        if stored.get(name) != now:
            raise ValueError(
                f"the cache in {folder} was {WORDS[name]} {stored.get(name)}, this run needs "
                f"{now}; name another folder, or delete this one"
            )


def _damaged(folder, reason):
    return ValueError(
        f"the cache in {folder} is damaged: {reason}; delete the folder, and the outputs are "
        f"computed again"
    )


def _opened(cache):
    """{name: array} and the checksums (arrays,sequences) of a cache's files, of the right size."""
    folder, layout = cache.folder, cache.layout()
    layout |= {SUMS: (np.uint32, (len(layout), len(cache.order)))}
    found = {}
    for name, (dtype, shape) in layout.items():
        path, size = folder / name, int(np.prod(shape)) * np.dtype(dtype).itemsize
        there = path.stat().st_size if path.is_file() else 0
        if there != size:
            raise _damaged(folder, f"{name} has {there} bytes where {size} were written")
        found[name] = np.memmap(path, dtype, "r", shape=shape)
    if checksum(folder / SUMS) != read_sealed(folder / INDEX)["checksums"]:
        raise _damaged(folder, f"{SUMS} fails its own")
    sums = found.pop(SUMS)
    return found, sums


# ------------------------------------------------------- writing


def _write(cache, data, batches, key, progress):
    """Store the teacher's outputs for one epoch; the folder is complete or absent afterwards. Under
    MPI each rank computes its share of the batches, and rank 0 writes them."""

    def outputs(numbers):
        batch = data.collate(numbers, step=0)
        return numbers, list(_outputs(cache, batch, numbers))

    computed = world().computed(outputs, batches)
    if world().rank == 0:
        _store(cache, progress(computed), key)
    else:
        list(computed)  # nothing arrives here
    world().wait()


def _store(cache, computed, key):
    """Write (numbers of a batch's sequences, its arrays) of all batches."""
    layout = cache.layout()
    sums = {name: np.zeros(len(cache.order), np.uint32) for name in layout}
    with files.replacing(cache.folder) as aside:
        with ExitStack() as stack:
            opened = {n: stack.enter_context(files.writing(aside / n)) for n in layout}
            for numbers, arrays in computed:
                places = np.searchsorted(cache.order, numbers)
                for name, ends, rows, array in arrays:
                    parts = _parts(array, rows, layout[name][0])
                    sums[name][places] = [zlib.crc32(part) for part in parts]
                    _put(opened[name], ends, places, parts)
        files.write_bytes(aside / SUMS, b"".join(sums[name].tobytes() for name in layout))
        write_sealed(aside / INDEX, key | {"checksums": checksum(aside / SUMS)})


def _outputs(cache, batch, numbers):
    """The arrays to store for a batch: (file, ends of all sequences, ends in the batch, array)."""
    outputs = teacher_outputs(cache.teacher, batch, None)
    fetch, places = cache.teacher.ops.place.fetch, np.searchsorted(cache.order, numbers)

    def here(ends):
        return np.concatenate([[0], np.cumsum(ends[places + 1] - ends[places])])

    if cache.hidden:
        yield "hidden", cache.token_ends, here(cache.token_ends), fetch(outputs.hidden[-1])
    if cache.logits:
        rows = here(cache.logit_ends)
        parts = []
        for start in range(0, rows[-1], ROWS):
            logits = fetch(outputs.logits(slice(start, min(start + ROWS, rows[-1]))))
            parts.append(keep_top(logits, cache.top, cache.temperature) if cache.top else (logits,))
        names = ("values", "words", "rest") if cache.top else ("logits",)
        for name, array in zip(names, zip(*parts, strict=True), strict=True):
            yield name, cache.logit_ends, rows, np.concatenate(array)


def _parts(array, rows, dtype):
    """Each sequence's rows in the dtype of the file."""
    if dtype == np.float16 and abs(array).max(initial=0) > np.finfo(dtype).max:
        raise ValueError("an output of the teacher is too large for half precision; use whole")
    kept = array.astype(dtype)
    return [kept[start:end] for start, end in pairwise(rows)]


def _put(file, ends, places, parts):
    """Each sequence's rows at its place in the file."""
    for place, part in zip(places, parts, strict=True):
        file.seek(int(ends[place]) * part[:1].nbytes)
        file.write(part)
