"""Known mistakes in the functions of `my_distilbert.py`, as changes of the right source.

MISTAKES: {function: {sentence: (text of `minidistil/distilbert.py`, what a wrong one has there)}},
or several such pairs. The sentence is printed for a function that gives the numbers of the changed
one.
"""

MISTAKES = {
    "log_softmax": {
        "e^1000 overflows: subtract the largest logit first":
            ("z - z.max(axis=-1, keepdims=True)", "z"),
        "each row has its own sum: axis=-1": ("sum(axis=-1", "sum(axis=None"),
        "this is ln Σ, without the logits": ("return shifted -", "return"),
        "these are probabilities: this is softmax, not its logarithm": (
            "return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))",
            "return np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)"),
    },
    "dropout": {
        "the kept values are scaled by 1/(1 − rate)": (" / (1 - rate)", " * 1.0"),
        "the kept values are scaled by 1/(1 − rate), not by 1/rate": ("/ (1 - rate)", "/ rate"),
        "rate is the probability of a zero, not of a kept value: rng.random(x.shape) >= rate":
            (">= rate", "< rate"),
        "in evaluation (rng is None) nothing is dropped or scaled":
            ("if rng is None or", "rng = rng or np.random.default_rng(1)\n    if"),
    },
    "dropout_backward": {
        "the backward multiplies by the forward's scale": ("else dy * scale", "else dy"),
        "the backward multiplies by the forward's scale, it does not divide":
            ("else dy * scale", "else dy / scale"),
        "the factor 1/(1 − rate) is in the backward, too": ("else dy * scale",
                                                            "else dy * (scale > 0)"),
    },
    "linear": {
        "the bias is missing": (" + bias", ""),
        "the bias is subtracted": ("+ bias", "- bias"),
    },
    "linear_backward": {
        "gradients add up over rows; this mean divides by N":
            ("drows.T @ rows, drows.sum(axis=0)", "drows.T @ rows / len(rows), drows.mean(axis=0)"),
        "db sums over all rows: this is the gradient of one sequence's rows":
            ("drows.sum(axis=0)", "dy.sum(axis=0)"),
        "dW is transposed: it has one row for each output": ("drows.T @ rows", "rows.T @ drows"),
        "the order is dx, dW, db": ("dy @ weight, drows.T @ rows", "drows.T @ rows, dy @ weight"),
    },
    "gelu": {
        "Φ(x) has erf(x/√2), this is erf(x)": ("erf(x / math.sqrt(2))", "erf(x)"),
        "this is Φ(x) alone: gelu is x·Φ(x)": ("return x * phi", "return phi"),
        "this is the tanh form of GELU; the page has the exact one": (
            "erf(x / math.sqrt(2))",
            "np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))"),
        "this is ReLU": ("return x * phi", "return x * (x > 0)"),
    },
    "gelu_backward": {
        "x·Φ is a product: Φ is missing in its derivative": ("phi + x", "x"),
        "x·Φ is a product: x·φ is missing in its derivative": ("phi + x", "phi + 0 * x"),
        "the density φ has e^(−x²/2), this is e^(−x²)": ("-0.5 * x * x", "-x * x"),
        "the density's factor 1/√(2π) is missing": (" / math.sqrt(2 * math.pi)", ""),
        "dy is missing: this is the slope alone": ("return dy *", "return"),
    },
    "layernorm": {
        "ε is missing in the root": (" + eps)", ")"),
        "ε stands outside the root: it is added to the variance": (
            "np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)",
            "(np.sqrt((centred**2).mean(axis=-1, keepdims=True)) + eps)"),
        "the variance divides by C, this one by C − 1": (
            "(centred**2).mean(axis=-1, keepdims=True)",
            "(centred**2).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)"),
        "the mean is not subtracted": ("x - x.mean(axis=-1, keepdims=True)", "x"),
        "γ and β are missing": ("gamma * normed + beta", "normed"),
        "β is missing": ("gamma * normed + beta", "gamma * normed"),
        "mean and variance are those of a row's channels: axis=-1, not all axes":
            ("axis=-1", "axis=None"),
    },
    "layernorm_backward": {
        "the way through the mean is missing": ("g - mean_g -", "g -"),
        "the way through the variance is missing": (" - normed * mean_gx", ""),
        "both corrections are missing: the mean and the variance depend on x, too":
            ("(g - mean_g - normed * mean_gx)", "g"),
        "γ is missing: dx̂ is γ·dy": ("g = gamma * dy", "g = dy"),
        "1/√(variance + ε) is missing": ("inv_std * (", "("),
        "dγ needs x̂: y = γ·x̂ + β": ("(dy * normed).sum", "dy.sum"),
        "dγ and dβ are sums over the rows, not means": (
            "(dy * normed).sum(axis=rows), dy.sum(axis=rows)",
            "(dy * normed).mean(axis=rows), dy.mean(axis=rows)"),
    },
    "softmax": {
        "e^1000 overflows: subtract the largest score first":
            ("s - s.max(axis=-1, keepdims=True)", "s"),
        "each row has its own sum: axis=-1": ("e.sum(axis=-1", "e.sum(axis=None"),
        "the sum runs along the last axis": ("e.sum(axis=-1", "e.sum(axis=0"),
    },
    "softmax_backward": {
        "the sum runs along the last axis, the keys: this is one over the wrong axis":
            ("sum(axis=-1", "sum(axis=-2"),
        "the sum runs over dp·p, not over dp": ("(dp * p).sum", "dp.sum"),
        "the sum belongs to one row, this adds up all of them": ("sum(axis=-1", "sum(axis=None"),
        "the sum over the row is missing":
            ("(dp - (dp * p).sum(axis=-1, keepdims=True))", "dp"),
        "p in front is missing": ("return p *", "return"),
        "this is the Jacobian's diagonal alone: every input moves every output":
            ("(dp - (dp * p).sum(axis=-1, keepdims=True))", "dp * (1 - p)"),
    },
    "attention_scores": {
        "the division by √D is missing": (" / math.sqrt(q.shape[3])", ""),
        "the scores are divided by √D, with D channels of a head: this is √C":
            ("q.shape[3]", "q.shape[1] * q.shape[3]"),
        "the scores are divided by √D, not by D": ("math.sqrt(q.shape[3])", "q.shape[3]"),
        "rows are queries and columns keys: this is transposed":
            ("q @ k.swapaxes(2, 3)", "k @ q.swapaxes(2, 3)"),
    },
    "attention_weights": {
        "the mask is on the queries: padding is to be masked as a key, mask[:, None, None, :]":
            ("mask[:, None, None, :]", "mask[:, None, :, None]"),
        "the mask is not used: padding gets weights, too":
            ("np.where(mask[:, None, None, :], scores, -np.inf)", "scores"),
        "a score of 0 is not −∞: e⁰ is 1": ("-np.inf", "0.0"),
        "the mask is the wrong way round: true is a token":
            ("scores, -np.inf", "-np.inf, scores"),
        "the weights of padding become 0 after the softmax: the others no longer add up to 1": (
            "softmax(np.where(mask[:, None, None, :], scores, -np.inf))",
            "softmax(scores) * mask[:, None, None, :]"),
    },
    "attention": {
        "dropout of the weights is missing": ("dropout(p, config.dropout, rng)", "(p, None)"),
        "the weights are transposed: rows are queries, columns keys":
            ("a @ v", "a.swapaxes(2, 3) @ v"),
        "the result is to be merged from its heads": ("merge_heads(a @ v)", "a @ v"),
    },
    "attention_backward": {
        "the division by √D is missing in the backward": (" / math.sqrt(q.shape[3])", ""),
        "dropout is missing on the way up": ("dropout_backward(da, kept)", "da"),
        "dk needs ds transposed: rows of ds are queries": ("ds.swapaxes(2, 3) @ q", "ds @ q"),
        "dv needs the weights transposed: their rows are queries":
            ("a.swapaxes(2, 3) @ dy", "a @ dy"),
        "dv needs the weights after dropout": ("a.swapaxes(2, 3) @ dy", "p.swapaxes(2, 3) @ dy"),
        "softmax was forgotten on the way up":
            ("softmax_backward(dropout_backward(da, kept), p)", "dropout_backward(da, kept)"),
        "dq and dk are exchanged":
            ("dq, dk = ds @ k, ds.swapaxes(2, 3) @ q", "dk, dq = ds @ k, ds.swapaxes(2, 3) @ q"),
    },
    "block": {
        "the first residual sum is missing: x + out": ("x + out", "out"),
        "the second residual sum is missing: u + dropped": ("u + dropped", "dropped"),
        "the second residual sum adds u, the first LayerNorm's result, not x":
            ("u + dropped", "x + dropped"),
        "dropout of the feed-forward's output is missing":
            ("dropout(f, config.dropout, rng)", "(f, None)"),
        "gelu is missing": ("gelu(h)", "(h, None)"),
        "the two LayerNorms are exchanged": ('"attention_norm"', '"output_norm"'),
        "the last LayerNorm is missing":
            ('layernorm(u + dropped, *of(p, "output_norm"))', "(u + dropped, None)"),
    },
    "block_backward": {
        "u also entered the residual sum: its gradients are added": ("du + dlin1", "dlin1"),
        "u also entered lin1: its gradients are added": ("du + dlin1", "du"),
        "x entered the residual sum, q, k and v: all four gradients are added":
            ("dx + dpart", "dpart"),
        "dropout is missing on the way up": ("dropout_backward(du, dropout_c)", "du"),
        "gelu was forgotten on the way up": ("gelu_backward(dg, gelu_c)", "dg"),
    },
    "embedding": {
        "the one-hot rows times the table, or the table's rows: these are the one-hot rows":
            ("return table[ids]", "return np.eye(len(table))[ids]"),
    },
    "embedding_backward": {
        "with repeated ids, `dtable[ids] += dy` keeps one addition: use np.add.at":
            ("np.add.at(dtable, ids, dy)", "dtable[ids] += dy"),
        "gradients of one row add up, they are not averaged": (
            "return dtable",
            "return dtable / np.bincount(ids.ravel(), minlength=shape[0]).clip(1)[:, None]"),
    },
    "kl_divergence": {
        "the divergence is the other way round: the teacher's probabilities are the weights":
            ("(p_t * (log_t - log_s))", "(p_s * (log_s - log_t))"),
        "τ² is missing in the loss": ("return tau**2 *", "return"),
        "τ²·(1/τ) leaves one τ in the gradient": ("tau * (p_s - p_t)", "(p_s - p_t)"),
        "the gradient has one τ, not τ²": ("tau * (p_s - p_t)", "tau**2 * (p_s - p_t)"),
        "the gradient is p_s − p_t: its sign is wrong": ("(p_s - p_t)", "(p_t - p_s)"),
        "both are means over the rows": (
            ".sum() / len(z_s), tau * (p_s - p_t) / len(z_s)", ".sum(), tau * (p_s - p_t)"),
        "the gradient is divided by N, as the mean is": ("(p_s - p_t) / len(z_s)", "(p_s - p_t)"),
        "the teacher's logits are divided by τ, too": ("z_t / tau", "z_t"),
        "the student's logits are divided by τ, too": ("z_s / tau", "z_s"),
        "this is the cross entropy: the teacher's own entropy is to be subtracted":
            ("log_t - log_s", "-log_s"),
    },
    "cross_entropy": {
        "the loss is −ln p: its sign is wrong": ("return -log_p", "return log_p"),
        "the gradient is p − onehot: the one-hot is missing": ("-= 1", "-= 0"),
        "the gradient is divided by N, as the mean is": (", dz / max(1, len(z))", ", dz"),
        "without a label the loss is 0, not 0/0": (".sum() / max(1, len(z))", ".sum() / len(z)"),
        "the loss is the mean over the rows": (".sum() / max(1, len(z))", ".sum()"),
    },
    "cosine": {
        "EPS is added to the squared norms": (" + EPS", ""),
        "the gradient's second part is missing: the length of h_s depends on h_s":
            (" - cos * h_s / square_s", ""),
        "the loss is 1 − cos: the gradient's sign is wrong": ("-(h_t", "(h_t"),
        "the gradient is divided by N, as the mean is": (" / len(h_s)", ""),
        "this is the mean cosine: the loss is 1 − cos": ("(1 - cos).mean()", "cos.mean()"),
        "the loss is a mean over the rows, not a sum": ("(1 - cos).mean()", "(1 - cos).sum()"),
        "this gradient is with respect to h_t": (
            "-(h_t / lengths - cos * h_s / square_s)", "-(h_s / lengths - cos * h_t / square_t)"),
    },
    "adamw": {
        "ε stands inside the root: it is added to √v̂": (
            "(np.sqrt(v) / math.sqrt(1 - beta2**step) + eps)",
            "np.sqrt(v / (1 - beta2**step) + eps)"),
        "ε is added after the correction of v": (
            "(np.sqrt(v) / math.sqrt(1 - beta2**step) + eps)",
            "((np.sqrt(v) + eps) / math.sqrt(1 - beta2**step))"),
        "the correction is 1 − β^step: this is 1 − β": ("**step", ""),
        "m is not corrected by 1 − β^step": (" / (1 - beta1**step)", ""),
        "v is not corrected by 1 − β^step": (" / math.sqrt(1 - beta2**step)", ""),
        "v is a mean of squares: its root is missing": ("np.sqrt(v)", "v"),
        "weight decay applies to matrices, not to biases and LayerNorms":
            ("if p.ndim > 1:", "if True:"),
        "weight decay is missing": ("if p.ndim > 1:", "if False:"),
        "weight decay is multiplied by the learning rate":
            ("lr * weight_decay", "weight_decay"),
        "this is Adam with L2: decay acts on the weight itself, past the moments":
            ("p = params[name]",
             "p = params[name]\n        g = g + weight_decay * p * (p.ndim > 1)",
             "p -= lr * weight_decay * p", "pass"),
        "m and v are kept in state from step to step":
            ("state.setdefault(name, (np.zeros_like(p), np.zeros_like(p)))",
             "(np.zeros_like(p), np.zeros_like(p))"),
    },
    "distill_step": {
        "the weights are missing in the gradient of the logits":
            ("+= w.alpha_ce * dce", "+= dce"),
        "the weight of mlm is missing in the gradient": ("w.alpha_mlm * dmlm", "dmlm"),
        "the weight of cos is missing in the gradient": ("w.alpha_cos * dcos", "dcos"),
        "the gradients of ce and mlm are added: tokens with a label have both":
            ("dz[labelled] +=", "dz[labelled] ="),
        "the soft targets are those of all tokens, with the temperature tau": ("w.tau", "1.0"),
        "ce is taken at every token that is not padding, not only at those with a label":
            ("z_s[mask], z_t[mask]", "z_s[labelled], z_t[labelled]", "dz[mask]", "dz[labelled]"),
        "ce is taken at tokens alone: here padding counts, too": (
            "z_s[mask], z_t[mask]",
            "z_s.reshape(-1, z_s.shape[2]), z_t.reshape(-1, z_t.shape[2])",
            "dz[mask] += w.alpha_ce * dce", "dz += w.alpha_ce * dce.reshape(dz.shape)"),
        "the student is trained with dropout: pass it rng":
            ("forward(*student, ids, mask, rng)", "forward(*student, ids, mask)"),
        "the teacher has no dropout: do not pass it rng":
            ("forward(*teacher, ids, mask)", "forward(*teacher, ids, mask, rng)"),
    },
}  # fmt: skip
