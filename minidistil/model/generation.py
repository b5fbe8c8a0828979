"""Texts that a decoder continues, word by word, each from the logits of the one before.

    prefill   reads the prompts once     logits of the next word (B,V), and what was remembered
    step      reads one word of each     the same

The next word is the likeliest (greedy, temperature 0), or is drawn from

    p = softmax(z/temperature)    z: the logits; with top_k only the k largest; with top_p only the
                                  likeliest words that together have at least probability top_p

Text b draws from a stream of its own that seed and b name: other texts beside it change nothing.
Source: Holtzman et al., "The curious case of neural text degeneration", 2019 (top-p); as in Hugging
Face's `generate`, top_k is applied before top_p.
"""

import numpy as np

from minidistil.model import network
from minidistil.model.finite import answer
from minidistil.model.past import KeyValues
from minidistil.model.rows import Rows


def prefill(model, prompts):
    """prompts: B arrays of ids  ->  logits (B,V) of the next words, KeyValues.

    Raises ValueError for an empty prompt, or one that the model has no positions for.
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate(prompts)
    past = KeyValues(len(prompts), model.ops.place)
    return _read(model, model.pack(ids, mask.astype(np.int64)), past), past


def step(model, ids, past):
    """ids (B,): the word that each text goes on with  ->  logits (B,V); `past` remembers it."""
    P, B = model.config.architecture.P, len(ids)
    if past.lengths.max() >= P:
        raise ValueError(f"a text fills all {P} positions; ask for fewer new tokens")
    ids, place = np.asarray(ids, np.int64), past.lengths
    rows = Rows(ids, np.zeros_like(ids), np.arange(B), place, place, np.arange(B + 1),
                np.ones((B, 1), bool))  # fmt: skip
    return _read(model, rows, past)


def _read(model, rows, past):
    def run(model):
        return network.forward(
            model.canonical(), rows, model.config, model.task, None, model.ops,
            select=rows.bounds[1:] - 1, keep=False, past=past,
        )[0]  # fmt: skip

    result = answer(model, run, network.answers)
    past.grow(rows.bounds)
    return model.ops.place.fetch(result.logits)


def stream(model, prompts, max_new_tokens=50, temperature=0.0, top_k=0, top_p=1.0, eos=None,
           seed=0):  # fmt: skip
    """Yields arrays (B,) of new words, one after another; −1 for a text that has ended.

    eos: the word or words that end a text, None for none; it is handed out.
    Raises ValueError for options out of range, a model that is no decoder, and texts longer than
    its positions.
    """
    _check(model, prompts, max_new_tokens, temperature, top_k, top_p)
    randoms = [np.random.default_rng([seed, b]) for b in range(len(prompts))]
    logits, past = prefill(model, prompts)
    live = np.arange(len(prompts))
    for n in range(max_new_tokens):
        words = choose(logits, [randoms[b] for b in live], temperature, top_k, top_p)
        said = np.full(len(prompts), -1)
        said[live] = words
        yield said
        going = np.flatnonzero(~np.isin(words, () if eos is None else eos))
        if not len(going) or n == max_new_tokens - 1:
            return
        if len(going) < len(live):
            past.keep(going)
        live = live[going]
        logits = step(model, words[going], past)


def generate(model, prompts, **options):
    """prompts: B arrays of ids  ->  B arrays of what follows, at most max_new_tokens each.

    options: those of `stream`.
    """
    said = np.stack(list(stream(model, prompts, **options)), axis=1)
    return [words[words >= 0] for words in said]


def choose(logits, randoms, temperature, top_k, top_p):
    """logits (R,V), R generators  ->  words (R,)."""
    if temperature == 0:
        return logits.argmax(axis=1)
    chosen = []
    for z, random in zip(logits, randoms, strict=True):
        words, p = shares(z, temperature, top_k, top_p)
        reached = p.cumsum()
        place = np.searchsorted(reached, random.random() * reached[-1], side="right")
        chosen.append(words[min(place, len(p) - 1)])
    return np.array(chosen)


def shares(z, temperature, top_k, top_p):
    """z (V,)  ->  the words that are drawn from (n,), the likeliest first, and their p (n,): after
    top_p they add up to less than 1, by what the words left out had."""
    z = z.astype(np.float64) / temperature
    words = np.argsort(-z, kind="stable")[: top_k or None]
    p = np.exp(z[words] - z[words[0]])
    p /= p.sum()
    n = np.searchsorted(p.cumsum(), top_p) + 1
    return words[:n], p[:n]


def _check(model, prompts, max_new_tokens, temperature, top_k, top_p):
    if model.task != "text-generation":
        raise ValueError(f"task must be text-generation to continue a text, not {model.task!r}")
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    if max_new_tokens < 1 or temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"max_new_tokens must be at least 1, temperature and top_k at least 0 and top_p above "
            f"0 and at most 1, not {max_new_tokens}, {temperature}, {top_k} and {top_p}"
        )
    longest, P = max(map(len, prompts)) + max_new_tokens - 1, model.config.architecture.P
    if longest > P:
        raise ValueError(
            f"{max(map(len, prompts))} tokens and {max_new_tokens} new ones do not fit {P} "
            f"positions; ask for fewer, or shorten the prompt"
        )
