"""Distilling an encoder–decoder, word by word and text by text.

With x a source, y its target, q the teacher and p the student:

    word level       ce   = τ²·mean_j KL(q(·|x, y_<j; τ) ‖ p(·|x, y_<j; τ))
                     hard = mean_j −ln p(y_j|x, y_<j)
                     loss = α_ce·ce + α_hard·hard (+ α_mse·mse + α_cos·cos)
    sequence level   hard alone, on (x, ŷ) where ŷ is what the teacher's beams find for x:
                     the mode of q stands for all of it

Word level asks the teacher about every word of the data's targets; cos and mse compare the
decoders' last hidden states and the logits there. Sequence level asks it for whole texts once, in
advance, and their words are simpler than people's: that is what a small student can learn. Both
together are word level on the texts of `taught_pairs`.
Source: Kim and Rush, "Sequence-level knowledge distillation", 2016, §3.1 and §3.2.
"""

import json
import zlib
from pathlib import Path

import numpy as np

from minidistil.data.text_pairs import TextPairs
from minidistil.distill import shared_losses
from minidistil.distill.conventions import NO_ROW_TEMPERATURES, SoftTargets
from minidistil.distill.mean_counts import weighted
from minidistil.distill.teachers import logits_of
from minidistil.io import files
from minidistil.model import task_loss
from minidistil.model.label_counts import PLAIN
from minidistil.model.network import Cotangents, ForwardOptions
from minidistil.model.output import Step
from minidistil.model.seq2seq import seq2seq_model
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder

TAUGHT = "taught.jsonl"  # where a run folder keeps what the teacher wrote


def word_step(student, teacher, batch, config, train=False, seed=0, step=0, first_sequence=0,
              counting=PLAIN):  # fmt: skip
    """One batch of pairs through both models  ->  Step(loss, parts before weighting, grads).

    batch: as TextPairs makes it, or with decoder_input_ids; config: DistillConfig, of which
    alpha_ce, alpha_hard, alpha_mse, alpha_cos, temperature and convention are read. The rest: see
    `distill_step`.
    Raises ValueError for models whose words, or with alpha_cos widths, are not the same, and for
    losses that words do not have.
    """
    check_pairs(student, teacher, config)
    given = {name: batch.get(name) for name in seq2seq_model.BATCH}
    pair = student.pack_pair(**given, empty=bool(counting.shares))
    if pair.labels is None:
        raise ValueError("distilling an encoder–decoder needs labels in the batch")
    soft = SoftTargets(
        config.convention, config.temperature, student.config.vocab_size, student.ops,
        config.alpha_hard > 0,
    )  # fmt: skip
    config = weighted(config, counting.shares)
    select = np.flatnonzero(pair.labels != task_loss.IGNORED)  # the words that are to be said
    if not len(select):  # of a micro-batch without labels, which has no loss of logits
        select = slice(None)
    theirs, _ = seq2seq_model.forward(
        teacher.canonical(), pair, teacher.config, None, teacher.ops,
        ForwardOptions(select, project=False, keep=False),
    )  # fmt: skip
    mine, cache = seq2seq_model.forward(
        student.canonical(), pair, student.config,
        student.dropout_states(pair, train, seed, step, first_sequence), student.ops,
        ForwardOptions(select, project=False),
    )  # fmt: skip
    ops, hidden = student.ops, mine.decoder.hidden
    alphas = {"ce": config.alpha_ce, "hard": config.alpha_hard, "mse": config.alpha_mse}
    parts, projection = shared_losses.word_losses(
        mine.decoder.features, student.lm_head(), pair.labels[select],
        logits_of(teacher, theirs.decoder, teacher.lm_head()), alphas, soft, ops,
    )  # fmt: skip
    d = Cotangents((None,) * len(hidden), projection)
    if config.alpha_cos:
        target = theirs.decoder.hidden[-1]
        parts["cos"], dlast = shared_losses.cosine(hidden[-1], target, config.alpha_cos, ops)
        d = d._replace(hidden=(*d.hidden[:-1], dlast))
    if not parts:
        raise ValueError("every alpha is 0: there is nothing to learn from")
    parts = soft.counted(parts)
    loss = sum(getattr(config, f"alpha_{name}") * part for name, part in parts.items())
    grads = student.public(seq2seq_model.backward(d, cache, ops, release=True))
    return Step(loss, counting.shares.of(parts), grads)


def check_pairs(student, teacher, config):
    """Raises ValueError unless the config's losses can compare the two word by word."""
    if not isinstance(teacher, EncoderDecoder) or not isinstance(student, EncoderDecoder):
        raise ValueError("an encoder–decoder can be distilled into an encoder–decoder only")
    compared = [("vocab_size", student.config.vocab_size, teacher.config.vocab_size)]
    if config.alpha_cos:
        compared.append(("the decoder's width", student.config.widths[1], teacher.config.widths[1]))
    for what, mine, theirs in compared:
        if mine != theirs:
            raise ValueError(f"student and teacher must agree in {what}: {mine} against {theirs}")
    if config.terms:
        raise ValueError(
            f"the term {config.terms[0].name} looks inside one model, and an encoder–decoder is "
            f"two; leave it out"
        )
    if config.temperature_by:
        raise ValueError(NO_ROW_TEMPERATURES)


def taught_pairs(teacher, tokenizer, pairs, folder=None, *, tokens=4096, max_length=None,
                 progress=iter, **search):  # fmt: skip
    """Pairs (text, [targets])  ->  the same texts, each with what the teacher writes for it.

    folder: where they are kept as taught.jsonl, and read again by a run that is resumed. tokens:
    of a batch; progress: wraps an iterable; search: options of `EncoderDecoder.generate`. Texts of
    which the teacher makes nothing are left out. Raises ValueError when it makes nothing of any.
    """
    if folder is not None and (Path(folder) / TAUGHT).exists():
        return _kept(Path(folder) / TAUGHT)
    data = TextPairs(pairs, tokenizer, tokens=tokens, max_length=max_length)
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


def keep_pairs(folder, pairs):
    """Write pairs (text, [target]) into taught.jsonl, one a line with a checksum."""
    rows = [{"source": s, "target": t, "checksum": _checksum(i, len(pairs), s, t)}
            for i, (s, (t,)) in enumerate(pairs)]  # fmt: skip
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    files.write_text(Path(folder) / TAUGHT, text)


def _checksum(*line):
    """Of the number of a line, how many there are, and what it says."""
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
        raise ValueError(f"{path} is damaged; delete it, and the teacher writes it again")
    return [(source, [target]) for source, target in found]
