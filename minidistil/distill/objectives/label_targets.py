"""What a student learns of a teacher that classifies: texts, tokens, where an answer is, choices.

The losses of `step` with a row of logits for each question (see `minidistil.model.task_outputs`):

    ce     mean over the questions of the soft targets' divergence: for tokens over the real ones;
           of a span the mean of its start's and its end's, each over the text's real tokens;
           of an extractive summary over the tokens alone that begin a sentence, as mse
    hard   the labels' own loss, where a batch has them
    mse    Σ(s − t)² / rows: for a regression the teacher's numbers

Source for spans: transformers' run_squad_w_distillation.py, which lets the padding take part in
both distributions; here no answer starts there.
"""

from minidistil.distill.conventions import OURS, SoftTargets, row_temperatures
from minidistil.model import task_loss
from minidistil.model.context import plus
from minidistil.model.heads import EXTRACT
from minidistil.model.label_counts import PLAIN
from minidistil.model.network import Cotangents
from minidistil.model.task_outputs import questions, questions_backward


def class_losses(mine, theirs, given, rows, config, soft, student, counting=PLAIN):
    """{part: loss} and the Cotangents of their weighted sum.

    mine: the student's Result; theirs: the teacher's TeacherOutputs; given: {name: labels}, may be
    empty; counting: of the labels, of which a span's alone have shares of their own.
    """
    ops, head, parts, dlogits = student.ops, student.logits_head, {}, None
    t = None if theirs is None else ops.place.send(theirs.logits(slice(0, len(mine.logits))))
    z, t, back = _asked(mine.logits, t, rows, student)
    if config.alpha_ce:
        parts["ce"], d = _believed(z, t, rows, config, soft, student)
        dlogits = back(d)
    if config.alpha_hard and given:
        parts["hard"], d = task_loss.answer_loss(
            mine.logits, rows, given, student.config, head, ops, config.alpha_hard, counting
        )
        dlogits = plus(dlogits, d, ops)
    if config.alpha_mse:
        parts["mse"], cache = ops.mse.forward(z, target=t, reduction="batchmean")
        d = ops.mse.backward(z.dtype.type(config.alpha_mse), cache)[0]
        dlogits = plus(dlogits, back(d), ops)
    return parts, Cotangents((None,) * len(mine.hidden), logits=dlogits)


def _asked(z, t, rows, student):
    """The logits of both that the teacher is heard about, and the way back to all rows."""
    if student.task != EXTRACT:
        return z, t, lambda d: d
    starts, ops = rows.starts(), student.ops
    z, gather = ops.embedding.forward(z, ids=starts)  # a look-up in the rows
    t = None if t is None else ops.embedding.forward(t, ids=starts)[0]
    return z, t, lambda d: ops.embedding.backward(d, gather)[0]


def alternatives(student, rows):
    """How many answers a question has: classes, choices, or the columns of a text."""
    head = student.logits_head
    if head == "spans":
        return rows.mask.shape[1]
    return rows.choices if head == "choice" else student.config.num_labels


def _believed(z, t, rows, config, soft, student):
    """Logits of the student, of the teacher  ->  what sets them apart (a float), its dlogits."""
    head, ops = student.logits_head, student.ops
    mine, theirs = (questions(x, rows, head, ops.place) for x in (z, t))
    total, d, share = 0.0, [], 1 / len(mine)
    answer = _likeliest if config.hard_targets else _divergence
    for q, p in zip(mine, theirs, strict=True):
        loss, dq = answer(q, p, config, soft, share, ops)
        total += ops.place.number(loss) * share
        d.append(dq)
    return total, questions_backward(d, rows, head, ops.place)


def _divergence(q, p, config, soft, share, ops):
    """One question's logits of both  ->  KL, and α_ce·share times its gradient."""
    q, p, cool = _softened(q, p, config, ops)
    loss, cache = ops.kl_div.forward(q, teacher=soft.heard(p), tau=soft.tau)
    (dq,) = ops.kl_div.backward(q.dtype.type(config.alpha_ce * soft.factor * share), cache)
    return loss, dq if cool is None else ops.place.send(ops.place.fetch(dq) * cool)


def _likeliest(q, p, config, soft, share, ops):
    """The same for the teacher's likeliest answers, which stand where labels do."""
    likeliest = ops.place.fetch(p).argmax(axis=1)
    return task_loss.tokens(q, likeliest, ops, config.alpha_ce * share)


def soft_targets_of(config, V, labelled, ops):
    """SoftTargets of V alternatives; labelled: whether labels are heard beside them."""
    if config.hard_targets:
        return SoftTargets(OURS, 1.0, V, ops)  # nothing is softened, nor counted in another way
    tau = 1.0 if config.temperature_by else config.temperature
    return SoftTargets(config.convention, tau, V, ops, labelled and config.alpha_hard > 0)


def check_classes(config):
    """Soft targets are probabilities that sum to 1: one class of several for each input."""
    remedy = "set alpha_ce to 0 and alpha_mse above it"
    if config.num_labels == 1:
        raise ValueError(f"soft targets need 2 classes or more, the models have 1; {remedy}")
    if config.problem_type == "multi_label_classification":
        raise ValueError(
            f"soft targets need one class for each text, the student's problem_type is "
            f"{config.problem_type}; {remedy}"
        )


def _softened(q, p, config, ops):
    """Both divided by each row's own temperature where the config has such, and 1/τ (N,1)."""
    if not config.temperature_by:
        return q, p, None
    z, t = map(ops.place.fetch, (q, p))
    tau = row_temperatures(config.temperature_by, z, t, config.temperature)
    cool = (1 / tau)[:, None].astype(z.dtype)
    return ops.place.send(z * cool), ops.place.send(t * cool), cool
