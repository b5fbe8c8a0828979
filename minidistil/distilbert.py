"""DistilBERT in one file: the model, its gradients, and distillation. NumPy only.

Start here. The package computes the same values faster, and for more models and tasks;
`tests/test_distilbert.py` compares it with this file in float64, number by number.

    B batch    T tokens    C channels    H heads    D = C/H per head    F feed-forward
    V vocabulary    L layers    P positions    τ temperature    z logits    h hidden states
    dx is the gradient of the loss with respect to x, and has its shape.

A student s learns from a teacher t. R are the tokens that are not padding, M those with a label:

    ce   = τ²·mean over R of KL(softmax(z_t/τ) ‖ softmax(z_s/τ))     soft targets
    mlm  = mean over M of −ln softmax(z_s)[label]                    labels
    cos  = mean over R of 1 − cos(h_s, h_t)                          last hidden states
    loss = α_ce·ce + α_mlm·mlm + α_cos·cos

An op returns (y, cache); a name that ends in _c is a cache. Its backward, directly below, turns
(dy, cache) into gradients. A loss returns value and gradient. Parameters are {name: array}.

    python -m minidistil.distilbert      # distils the teacher in weights/ for a minute

Sources: Devlin et al. 2018; Sanh et al. 2019; Hinton et al. 2015; Loshchilov and Hutter 2019.
"""

import math
from typing import NamedTuple

import numpy as np

EPS = 1e-12  # added to LayerNorm's variance, and to the cosine's squared norms
erf = np.vectorize(math.erf, otypes=[float])  # NumPy has none

# ----------------------------------------------------------------------------- ops


def embedding(table, ids):
    """table (V,C), ids (B,T)  ->  (B,T,C): row ids[b,t] of the table."""
    return table[ids], (table.shape, ids)


def embedding_backward(dy, cache):
    """The gradient of a row is the sum of dy over all tokens with its id."""
    shape, ids = cache
    dtable = np.zeros(shape, dy.dtype)
    np.add.at(dtable, ids, dy)
    return dtable


def linear(x, weight, bias):
    """x (…,I), weight (O,I), bias (O,)  ->  x·Wᵀ + b (…,O)."""
    return x @ weight.T + bias, (x, weight)


def linear_backward(dy, cache):
    x, weight = cache
    rows, drows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return dy @ weight, drows.T @ rows, drows.sum(axis=0)


def gelu(x):
    """x·Φ(x), where Φ(x) = ½(1 + erf(x/√2)) is the standard normal distribution function."""
    phi = (0.5 + 0.5 * erf(x / math.sqrt(2))).astype(x.dtype)
    return x * phi, (x, phi)


def gelu_backward(dy, cache):
    """d(x·Φ)/dx = Φ + x·φ, with the density φ(x) = e^(−x²/2)/√(2π)."""
    x, phi = cache
    return dy * (phi + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))


def layernorm(x, gamma, beta, eps=EPS):
    """x (…,C), gamma (C,), beta (C,)  ->  γ·x̂ + β, with x̂ = (x − mean)/√(variance + ε)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    inv_std = 1 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)  # (…,1)
    normed = centred * inv_std
    return gamma * normed + beta, (normed, inv_std, gamma)


def layernorm_backward(dy, cache):
    """Mean and variance depend on every channel, so two means are subtracted from γ·dy."""
    normed, inv_std, gamma = cache
    g = gamma * dy
    mean_g, mean_gx = g.mean(axis=-1, keepdims=True), (g * normed).mean(axis=-1, keepdims=True)
    dx = inv_std * (g - mean_g - normed * mean_gx)
    rows = tuple(range(dy.ndim - 1))
    return dx, (dy * normed).sum(axis=rows), dy.sum(axis=rows)


def dropout(x, rate, rng):
    """Zeroes each value with probability rate and scales the others by 1/(1 − rate)."""
    if rng is None or rate == 0:  # evaluation
        return x, None
    scale = ((rng.random(x.shape) >= rate) / (1 - rate)).astype(x.dtype)
    return x * scale, scale


def dropout_backward(dy, scale):
    return dy if scale is None else dy * scale


def softmax(s):
    """e^s over its sum along the last axis; −inf becomes 0."""
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(dp, p):
    return p * (dp - (dp * p).sum(axis=-1, keepdims=True))


def split_heads(x, H):
    """(B,T,C)  ->  (B,H,T,D)."""
    return x.reshape(*x.shape[:2], H, -1).swapaxes(1, 2)


def merge_heads(x):
    """(B,H,T,D)  ->  (B,T,C)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def attention_scores(q, k):
    """q, k (B,H,T,D)  ->  q·kᵀ/√D (B,H,T,T): queries along the third axis, keys along the last."""
    return q @ k.swapaxes(2, 3) / math.sqrt(q.shape[3])


def attention_weights(scores, mask):
    """scores (B,H,T,T), mask (B,T)  ->  softmax over the keys; padding has weight 0."""
    return softmax(np.where(mask[:, None, None, :], scores, -np.inf))


def attention(q, k, v, mask, config, rng):
    """q, k, v (B,T,C), mask (B,T)  ->  (B,T,C): softmax(q·kᵀ/√D)·v in each head."""
    q, k, v = (split_heads(x, config.H) for x in (q, k, v))
    p = attention_weights(attention_scores(q, k), mask)
    a, kept = dropout(p, config.dropout, rng)
    return merge_heads(a @ v), (q, k, v, p, a, kept)


def attention_backward(dy, cache):
    q, k, v, p, a, kept = cache
    dy = split_heads(dy, q.shape[1])
    da, dv = dy @ v.swapaxes(2, 3), a.swapaxes(2, 3) @ dy
    ds = softmax_backward(dropout_backward(da, kept), p) / math.sqrt(q.shape[3])
    dq, dk = ds @ k, ds.swapaxes(2, 3) @ q
    return tuple(merge_heads(x) for x in (dq, dk, dv))


# ----------------------------------------------------------------------------- the model


class Config(NamedTuple):
    L: int
    H: int
    dropout: float = 0.1


def of(params, name):
    """The weight and the bias of a linear layer or of a LayerNorm."""
    return params[f"{name}.weight"], params[f"{name}.bias"]


def block(x, mask, params, i, config, rng):
    """x (B,T,C)  ->  (B,T,C): attention, then feed-forward; a sum and a LayerNorm after each."""
    p = {n.removeprefix(f"layer.{i}."): w for n, w in params.items() if n.startswith(f"layer.{i}.")}
    (q, k, v), qkv_c = zip(*(linear(x, *of(p, name)) for name in "qkv"), strict=True)
    context, attention_c = attention(q, k, v, mask, config, rng)
    out, out_c = linear(context, *of(p, "out"))
    u, norm1_c = layernorm(x + out, *of(p, "attention_norm"))
    h, lin1_c = linear(u, *of(p, "lin1"))  # (B,T,F)
    g, gelu_c = gelu(h)
    f, lin2_c = linear(g, *of(p, "lin2"))
    dropped, dropout_c = dropout(f, config.dropout, rng)
    y, norm2_c = layernorm(u + dropped, *of(p, "output_norm"))
    return y, (qkv_c, attention_c, out_c, norm1_c, lin1_c, gelu_c, lin2_c, dropout_c, norm2_c)


def block_backward(dy, cache):
    """dy (B,T,C)  ->  dx (B,T,C), gradients: the operations of `block` in reverse order."""
    qkv_c, attention_c, out_c, norm1_c, lin1_c, gelu_c, lin2_c, dropout_c, norm2_c = cache
    d = {}
    du, d["output_norm.weight"], d["output_norm.bias"] = layernorm_backward(dy, norm2_c)
    dg, d["lin2.weight"], d["lin2.bias"] = linear_backward(dropout_backward(du, dropout_c), lin2_c)
    dh = gelu_backward(dg, gelu_c)
    dlin1, d["lin1.weight"], d["lin1.bias"] = linear_backward(dh, lin1_c)
    du = du + dlin1  # u enters the residual sum and lin1
    dx, d["attention_norm.weight"], d["attention_norm.bias"] = layernorm_backward(du, norm1_c)
    dcontext, d["out.weight"], d["out.bias"] = linear_backward(dx, out_c)
    for name, dpart, c in zip("qkv", attention_backward(dcontext, attention_c), qkv_c, strict=True):
        dpart, d[f"{name}.weight"], d[f"{name}.bias"] = linear_backward(dpart, c)
        dx = dx + dpart  # x enters the residual sum, q, k and v
    return dx, d


def forward(params, config, ids, mask, rng=None):
    """ids, mask (B,T)  ->  logits (B,T,V), hidden states (L+1 arrays (B,T,C)), cache. rng: a
    NumPy Generator for dropout; None in evaluation. In a BERT, all tokens have type 0."""
    mask, position_ids = mask.astype(bool), np.arange(ids.shape[1])
    word, word_c = embedding(params["embeddings.word.weight"], ids)
    position, pos_c = embedding(params["embeddings.position.weight"], position_ids)
    x = word + position
    if "embeddings.type.weight" in params:
        x = x + params["embeddings.type.weight"][0]
    x, norm_c = layernorm(x, *of(params, "embeddings.norm"))
    x, drop_c = dropout(x, config.dropout, rng)
    hidden, blocks = [x], []
    for i in range(config.L):
        x, cache = block(x, mask, params, i, config, rng)
        hidden.append(x)
        blocks.append(cache)
    # The masked-LM head. Its last layer reuses the word table; the two gradients are added.
    g, dense_c = linear(x, *of(params, "transform"))
    g, gelu_c = gelu(g)
    g, ln_c = layernorm(g, *of(params, "transform_norm"))
    logits, decoder_c = linear(g, params["embeddings.word.weight"], params["decoder.bias"])
    return logits, hidden, (word_c, pos_c, norm_c, drop_c, blocks, dense_c, gelu_c, ln_c, decoder_c)


def backward(dlogits, dhidden, cache):
    """dlogits (B,T,V), dhidden (B,T,C) of the last hidden states  ->  {name: gradient}."""
    word_c, pos_c, norm_c, drop_c, blocks, dense_c, gelu_c, ln_c, decoder_c = cache
    d = {}
    dg, dword, d["decoder.bias"] = linear_backward(dlogits, decoder_c)
    dg, d["transform_norm.weight"], d["transform_norm.bias"] = layernorm_backward(dg, ln_c)
    dg = gelu_backward(dg, gelu_c)
    dx, d["transform.weight"], d["transform.bias"] = linear_backward(dg, dense_c)
    dx = dx + dhidden
    for i in reversed(range(len(blocks))):
        dx, dblock = block_backward(dx, blocks[i])
        d |= {f"layer.{i}.{name}": g for name, g in dblock.items()}
    dx = dropout_backward(dx, drop_c)
    dx, d["embeddings.norm.weight"], d["embeddings.norm.bias"] = layernorm_backward(dx, norm_c)
    d["embeddings.word.weight"] = dword + embedding_backward(dx, word_c)
    d["embeddings.position.weight"] = embedding_backward(dx.sum(axis=0), pos_c)
    return d


# ----------------------------------------------------------------------------- the losses


def log_softmax(z):
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def kl_divergence(z_s, z_t, tau):
    """Logits (N,V) of student and teacher  ->  τ²·mean KL(p_t ‖ p_s), its gradient τ·(p_s − p_t)/N.
    The gradient of KL is proportional to 1/τ² for large τ; the factor τ² compensates."""
    log_s, log_t = log_softmax(z_s / tau), log_softmax(z_t / tau)
    p_s, p_t = np.exp(log_s), np.exp(log_t)
    return tau**2 * (p_t * (log_t - log_s)).sum() / len(z_s), tau * (p_s - p_t) / len(z_s)


def cross_entropy(z, labels):
    """Logits (N,V), labels (N,)  ->  mean of −ln p[label], 0 if N = 0; gradient (p − onehot)/N."""
    log_p, rows = log_softmax(z), np.arange(len(z))
    dz = np.exp(log_p)
    dz[rows, labels] -= 1
    return -log_p[rows, labels].sum() / max(1, len(z)), dz / max(1, len(z))


def cosine(h_s, h_t):
    """Hidden states (N,C)  ->  mean of 1 − cos, its gradient with respect to h_s."""
    square_s, square_t = ((h * h).sum(axis=-1, keepdims=True) + EPS for h in (h_s, h_t))  # (N,1)
    lengths = np.sqrt(square_s * square_t)
    cos = (h_s * h_t).sum(axis=-1, keepdims=True) / lengths
    return (1 - cos).mean(), -(h_t / lengths - cos * h_s / square_s) / len(h_s)


# ----------------------------------------------------------------------------- distillation


class Weights(NamedTuple):
    """Temperature and weights of the losses; the defaults are those of the released DistilBERT."""

    tau: float = 2.0
    alpha_ce: float = 5.0
    alpha_mlm: float = 2.0
    alpha_cos: float = 1.0


def distill_step(student, teacher, batch, weights=None, rng=None):
    """student, teacher: (params, Config). batch: input_ids, attention_mask and labels (B,T), with
    −100 for no label  ->  loss, {"ce", "mlm", "cos"}, {name: gradient} of the student."""
    w = weights or Weights()
    ids, mask, labels = batch["input_ids"], batch["attention_mask"].astype(bool), batch["labels"]
    labelled = labels != -100
    z_t, (*_, h_t), _ = forward(*teacher, ids, mask)
    z_s, (*_, h_s), cache = forward(*student, ids, mask, rng)

    ce, dce = kl_divergence(z_s[mask], z_t[mask], w.tau)
    mlm, dmlm = cross_entropy(z_s[labelled], labels[labelled])
    cos, dcos = cosine(h_s[mask], h_t[mask])
    loss = w.alpha_ce * ce + w.alpha_mlm * mlm + w.alpha_cos * cos

    dz, dh = np.zeros_like(z_s), np.zeros_like(h_s)
    dz[mask] += w.alpha_ce * dce
    dz[labelled] += w.alpha_mlm * dmlm
    dh[mask] += w.alpha_cos * dcos
    return loss, {"ce": ce, "mlm": mlm, "cos": cos}, backward(dz, dh, cache)


def student_from(teacher, layers, rng):
    """Copies the embeddings, the layers with these indices, and decoder.bias of a teacher.
    DistilBERT has no token types. The head's transform starts at random, as in the original."""
    student = {n: p.copy() for n, p in teacher.items() if n.startswith(("embeddings", "decoder"))}
    student.pop("embeddings.type.weight")
    for new, old in enumerate(layers):
        for name in (n for n in teacher if n.startswith(f"layer.{old}.")):
            student[name.replace(f".{old}.", f".{new}.", 1)] = teacher[name].copy()
    C = len(teacher["transform.bias"])
    student |= {"transform.weight": rng.normal(0, 0.02, (C, C)), "transform.bias": np.zeros(C)}
    student |= {"transform_norm.weight": np.ones(C), "transform_norm.bias": np.zeros(C)}
    return {name: p.astype(teacher["transform.bias"].dtype) for name, p in student.items()}


def mask_tokens(ids, mask, special, mask_id, vocab_size, rng):
    """BERT's masking: 15 % of the real tokens get a label; of these 80 % become [MASK], 10 % a
    random token, and 10 % are unchanged.  ids, mask (B,T)  ->  batch for `distill_step`."""
    u = rng.random((3, *ids.shape))
    chosen = mask.astype(bool) & ~np.isin(ids, special) & (u[0] < 0.15)
    random = rng.integers(0, vocab_size, ids.shape)
    new = np.where(chosen & (u[1] < 0.8), mask_id, np.where(chosen & (u[1] >= 0.9), random, ids))
    return {"input_ids": new, "attention_mask": mask, "labels": np.where(chosen, ids, -100)}


# ----------------------------------------------------------------------------- training


def schedule(step, warmup, total):
    """Factor of the learning rate: linear warm-up from 0 to 1, then linear decay to 0."""
    rising, falling = step / max(1, warmup), (total - step) / max(1, total - warmup)
    return rising if step < warmup else max(0.0, falling)


def adamw(params, grads, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """One step of AdamW, in place. Weight decay applies to matrices, not to biases and
    LayerNorms. state: {} at first. m, v: averages of g and g² from 0, corrected by 1 − β^step."""
    beta1, beta2 = betas
    step = state["step"] = state.get("step", 0) + 1
    for name, g in grads.items():
        p = params[name]
        m, v = state.setdefault(name, (np.zeros_like(p), np.zeros_like(p)))
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        if p.ndim > 1:
            p -= lr * weight_decay * p
        p -= lr / (1 - beta1**step) * m / (np.sqrt(v) / math.sqrt(1 - beta2**step) + eps)


def train(student, teacher, batches, steps, lr, rng):
    """Updates the student, and yields the loss and its parts of each step before the update."""
    state = {}  # of AdamW
    for step, batch in zip(range(steps), batches, strict=False):
        loss, parts, grads = distill_step(student, teacher, batch, rng=rng)
        adamw(student[0], grads, state, lr * schedule(step, steps // 20, steps))
        yield loss, parts


# ----------------------------------------------------------------------------- a demonstration

SENTENCES = [
    "the movie was great and the actors were wonderful .",
    "the film was boring , and the plot was a mess .",
    "this is a bad movie with a silly ending , a waste of time .",
]


def main(steps=60):
    """Distils the teacher in weights/; prints the five most probable words before and after."""
    from pathlib import Path

    import minidistil as md  # only to load the tokenizer and the parameters

    home = Path(md.__file__).parent
    folder = next(f for f in (home.parent / "weights", home / "weights") if f.is_dir())
    rng, tokenizer = np.random.default_rng(0), md.load_tokenizer(folder)
    params = md.from_pretrained(folder, task="fill-mask").named_by_role()
    teacher = params, Config(L=4, H=4)
    student = student_from(params, (0, 2), rng), Config(L=2, H=4)

    def guesses(model):
        ids = tokenizer(["the movie was [MASK] ."])["input_ids"]
        z, _, _ = forward(*model, ids, np.ones_like(ids))
        return tokenizer.decode(z[ids == tokenizer.mask_id][0].argsort()[:-6:-1])

    print(f"the movie was [MASK] .\nteacher:         {guesses(teacher)}")
    print(f"student, before: {guesses(student)}")
    text, special, V = tokenizer(SENTENCES), tokenizer.special_ids, tokenizer.vocab_size
    words = text["input_ids"], text["attention_mask"], special, tokenizer.mask_id, V, rng
    masked = (mask_tokens(*words) for _ in range(steps))
    for step, (loss, parts) in enumerate(train(student, teacher, masked, steps, 1e-3, rng), 1):
        if step % 10 == 0:
            shown = "  ".join(f"{name} {x:.3f}" for name, x in parts.items())
            print(f"step {step:3}  loss {loss:.3f}  {shown}")
    print(f"student, after:  {guesses(student)}")


if __name__ == "__main__":
    main()
