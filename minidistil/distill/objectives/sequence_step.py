"""Distilling an encoder–decoder, at word level and at sequence level.

With x a source, y its target, p_s and p_t the distributions of student and teacher:

    word level       ce   = τ²·mean_j KL(p_t(·|x, y_<j; τ) ‖ p_s(·|x, y_<j; τ))
                     hard = mean_j −ln p_s(y_j|x, y_<j)
                     loss = α_ce·ce + α_hard·hard (+ α_mse·mse + α_cos·cos)
    sequence level   hard alone, on (x, ŷ) where ŷ is the teacher's beam search output for x,
                     which approximates the mode of p_t

Word level is the triple loss on the decoder's rows that predict a word of the data's targets; its
cos compares the decoders' last hidden states. Sequence level replaces the targets, once and in
advance, by texts that the teacher generates: these are simpler than the data's and so easier for a
small student. Both together are word level on the texts of `taught_pairs`.
Source: Kim and Rush, "Sequence-level knowledge distillation", 2016, §3.1 and §3.2.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from minidistil.data.batches import Batching
from minidistil.data.text_pairs import TextPairs
from minidistil.distill import triple_loss
from minidistil.distill.conventions import NO_ROW_TEMPERATURES, SoftTargets
from minidistil.distill.distill_config import DistillConfig
from minidistil.distill.dropout_seed import EVALUATION, DropoutSeed
from minidistil.distill.mean_counts import weighted
from minidistil.distill.teachers import Teacher, TeacherOutputs, logits_of
from minidistil.io import files
from minidistil.model import task_loss
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.network import ForwardOptions
from minidistil.model.output import Step
from minidistil.model.seq2seq import seq2seq_model
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder

TAUGHT = "taught.jsonl"  # the teacher's texts in a run folder


def sequence_step(
    student: EncoderDecoder, teacher: EncoderDecoder, batch: Mapping, config: DistillConfig,
    dropout_seed: DropoutSeed = EVALUATION, counting: Counting = PLAIN,
) -> Step:  # fmt: skip
    """One batch of pairs through both models  ->  Step(loss, parts before weighting, grads).

    batch: as TextPairs makes it, or with decoder_input_ids. Of config alpha_ce, alpha_hard,
    alpha_mse, alpha_cos, temperature and convention are used. The rest: see `distill_step`.
    Raises ValueError for models whose vocabularies, or with alpha_cos widths, differ, and for
    losses that a pair does not have.
    """
    check_pairs(student, teacher, config)
    given = {name: batch.get(name) for name in seq2seq_model.BATCH}
    pair = student.pack_pair(**given, empty=bool(counting.shares))
    if pair.labels is None:
        raise ValueError("distilling an encoder–decoder needs labels in the batch")
    ops, V = student.ops, student.config.vocab_size
    soft = SoftTargets(config.convention, config.temperature, V, ops, config.alpha_hard > 0)
    config = weighted(config, counting.shares)
    select = np.flatnonzero(pair.labels != task_loss.IGNORED)  # rows that predict a word
    if not len(select):  # of a micro-batch without labels, which has no loss of logits
        select = slice(None)
    t, _ = seq2seq_model.forward(
        teacher.canonical(), pair, teacher.config, None, teacher.ops,
        ForwardOptions(select, project=False, keep=False),
    )  # fmt: skip
    s, cache = seq2seq_model.forward(
        student.canonical(), pair, student.config, student.dropout_states(pair, *dropout_seed),
        ops, ForwardOptions(select, project=False),
    )  # fmt: skip
    logits = logits_of(teacher, t.decoder, teacher.lm_head())
    alphas = triple_loss.Alphas(
        config.alpha_ce, config.alpha_hard, config.alpha_mse, config.alpha_cos
    )
    parts, d = triple_loss.losses(
        s.decoder, TeacherOutputs(t.decoder.hidden, logits), pair.labels[select],
        student.lm_head(), alphas, soft, ops,
    )  # fmt: skip
    if not parts:
        raise ValueError("every alpha is 0: there is nothing to learn from")
    parts = soft.convert_parts(parts)
    loss = triple_loss.weighted_sum(parts, alphas)
    parts = {"hard" if name == "mlm" else name: part for name, part in parts.items()}
    grads = student.public(seq2seq_model.backward(d, cache, ops, release=True))
    return Step(loss, counting.shares.of(parts), grads)


def check_pairs(student: EncoderDecoder, teacher: Teacher, config: DistillConfig) -> None:
    """Raises ValueError unless the config's losses can compare the two word by word."""
    if not isinstance(teacher, EncoderDecoder) or not isinstance(student, EncoderDecoder):
        raise ValueError("an encoder–decoder can be distilled into an encoder–decoder only")
    compared = [("vocab_size", student.config.vocab_size, teacher.config.vocab_size)]
    if config.alpha_cos:
        compared.append(("the decoder's width", student.config.widths[1], teacher.config.widths[1]))
    for what, s, t in compared:
        if s != t:
            raise ValueError(f"student and teacher must agree in {what}: {s} against {t}")
    if config.terms:
        raise ValueError(
            f"the term {config.terms[0].name} looks inside one model, and an encoder–decoder is "
            f"two; leave it out"
        )
    if config.temperature_by:
        raise ValueError(NO_ROW_TEMPERATURES)


def taught_pairs(
    teacher: EncoderDecoder, tokenizer, pairs: list, folder: str | Path | None = None, *,
    tokens: int = 4096, max_length: int | None = None, progress=iter, **search,
) -> list:  # fmt: skip
    """Pairs (text, [targets])  ->  the same texts, each with the target that the teacher generates.

    folder: where they are kept as taught.jsonl, and read again by a run that is resumed. tokens:
    of a batch; progress: wraps an iterable; search: options of `EncoderDecoder.generate`. Texts
    whose generated target is empty are left out. Raises ValueError when all of them are.
    """
    if folder is not None and (Path(folder) / TAUGHT).exists():
        return _kept(Path(folder) / TAUGHT)
    data = TextPairs(pairs, tokenizer, Batching(tokens), max_length=max_length)
    written = [""] * len(pairs)
    for indices in progress(data.batches(0)):
        batch = data.collate(indices)
        ids = teacher.generate(batch["input_ids"], batch["attention_mask"], **search)
        for i, text in zip(indices, ids, strict=True):
            written[i] = tokenizer.decode(text).strip()
    found = [(text, [new]) for (text, _), new in zip(pairs, written, strict=True) if new]
    if not found:
        raise ValueError("the teacher writes nothing for any text; train it further")
    if folder is not None:
        keep_pairs(folder, found)
    return found


def keep_pairs(folder: str | Path, pairs: list) -> None:
    """Write pairs (text, [target]) into taught.jsonl, one a line with a checksum."""
    rows = [{"source": s, "target": t, "checksum": _checksum(i, len(pairs), s, t)}
            for i, (s, (t,)) in enumerate(pairs)]  # fmt: skip
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    files.write_text(Path(folder) / TAUGHT, text)


def _checksum(*line):
    """Of a line's number, the number of lines, and its text."""
    return zlib.crc32(json.dumps(line).encode())


def _kept(path):
    """The pairs of `keep_pairs`. Raises ValueError where a bit of them has changed."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        found = [(row["source"], row["target"]) for row in rows]
        sums = [_checksum(i, len(found), *pair) for i, pair in enumerate(found)]
        whole = sums == [row["checksum"] for row in rows] and bool(sums)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged; delete it, and the teacher generates it again")
    return [(source, [target]) for source, target in found]
