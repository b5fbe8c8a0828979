"""Losses that steps of more than one kind have: of words, and of directions.

    ce     τ²·mean over the rows of KL(softmax(t/τ) ‖ softmax(s/τ)), counted as the convention says
    said   mean over the labelled rows of −ln softmax(s): what the text itself says there
    mse    Σ(s − t)² / rows
    cos    mean over the rows of 1 − cos(h_s, h_t)

s and t are the logits of student and teacher over the vocabulary, h their last hidden states. The
first three are one op, `vocabulary`, which projects a few rows at a time and never holds them all.
"""


def word_losses(features, head, labels, logits, alphas, soft, ops):
    """features (M,C), labels (M,)  ->  {part: loss}, and what `ops.vocabulary.backward` gives of
    their weighted sum; {} and None where every weight is 0.

    head: what projects features onto the vocabulary. logits: a slice of the M rows -> the teacher's
    logits (·,V). alphas: {"ce": weight, said: weight, "mse": weight}, where `said` is what the loss
    of the labels is called: mlm, clm or hard. soft: the SoftTargets of the convention.
    """
    ce, said, mse = alphas
    if not any(alphas.values()):
        return {}, None
    _, kept = ops.vocabulary.forward(
        features, *head, labels=labels, tau=soft.tau,
        teacher=lambda rows: soft.heard(ops.place.send(logits(rows))),
        alpha_ce=soft.factor * alphas[ce], alpha_mlm=alphas[said], alpha_mse=alphas[mse],
    )  # fmt: skip
    parts = {said if name == "mlm" else name: part for name, part in kept.parts.items()}
    return parts, ops.vocabulary.backward(features.dtype.type(1), kept)


def cosine(h, target, alpha, ops):
    """h, target (N,C), the last hidden states of student and teacher  ->  loss, alpha times its
    gradient (N,C)."""
    loss, cache = ops.cosine.forward(h, target=ops.place.send(target))
    return loss, ops.cosine.backward(h.dtype.type(alpha), cache)[0]
