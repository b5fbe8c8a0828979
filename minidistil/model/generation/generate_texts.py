"""Texts that a decoder continues, word by word, each from the logits of the one before.

    prefill   reads the prompts once     logits of the next word (B,V), and what was remembered
    step      reads one word of each     the same

The next word is the argmax (greedy, temperature 0), or is drawn from

    p = softmax(z/temperature)    z: the logits, after `rules.py`; with top_k only the k largest;
                                  with top_p only the most probable words that together have at
                                  least probability top_p

Text b draws from a stream of its own that seed and b name: other texts beside it change nothing.
Source: Holtzman et al., "The curious case of neural text degeneration", 2019 (top-p); as in Hugging
Face's `generate`, top_k is applied before top_p.
"""

import numpy as np

from minidistil.model import decoder, heads
from minidistil.model.context import Context
from minidistil.model.encoder import scope
from minidistil.model.finite import answer
from minidistil.model.generation.cached_block import gpt2_block
from minidistil.model.generation.generation_options import (
    DRAWS,
    of_beams,
    settled,
    writing,
)
from minidistil.model.generation.kv_cache import KVCache
from minidistil.model.generation.token_search import beam, listed, words
from minidistil.model.rows import Rows


def prefill(model, prompts):
    """prompts: B arrays of ids  ->  logits (B,V) of the next words, KeyValues.

    Raises ValueError for an empty prompt, or one that the model has no positions for.
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate(prompts)
    kv_cache = KVCache(len(prompts), model.ops.place)
    return _read(model, model.pack(ids, mask.astype(np.int64)), kv_cache), kv_cache


def step(model, ids, kv_cache):
    """ids (B,): the word that each text goes on with  ->  logits (B,V); `kv_cache` remembers it."""
    P, B = model.config.architecture.P, len(ids)
    if kv_cache.lengths.max() >= P:
        raise ValueError(f"a text fills all {P} positions; ask for fewer new tokens")
    ids, place = np.asarray(ids, np.int64), kv_cache.lengths
    rows = Rows(ids, np.zeros_like(ids), np.arange(B), place, place, np.arange(B + 1),
                np.ones((B, 1), bool))  # fmt: skip
    return _read(model, rows, kv_cache)


def _read(model, rows, kv_cache):
    """The logits (B,V) behind the last row of each text; `kv_cache` takes up all rows."""

    def run(model):
        p, config, ops = model.canonical(), model.config, model.ops
        context = Context(config.architecture, rows.bounds, ops, keep=False)
        x, _ = decoder.embed(rows, scope(p, "embeddings"), context)
        for i in range(config.architecture.L):
            x = gpt2_block(x, scope(p, f"layer.{i}"), context, kv_cache.layer(i))
        h, _ = decoder.final_norm(x, p, context)
        last = rows.bounds[1:] - 1
        _, logits, _ = heads.vocabulary_head(h, p, "lm", context, last)
        return h, logits

    _, logits = answer(model, run, tuple)
    kv_cache.grow(rows.bounds)
    return model.ops.place.fetch(logits)


def stream(model, prompts, *, eos=None, seed=0, **options):
    """Yields arrays (B,) of new words, one after another; −1 for a text that has ended.

    options: max_new_tokens (50), temperature (0: the argmax), top_k (0: all words), top_p (1),
    repetition_penalty (1), no_repeat_ngram_size (0), min_new_tokens (0); without one, what the
    model's generation_config.json says, else the value in brackets. eos: the word that ends a text,
    or several of them, None for none; it is handed out. Raises ValueError for options out of range,
    a model that is no decoder, and texts longer than its positions; TypeError for other options.
    """
    how = _settled(model, prompts, options)
    if how["num_beams"] > 1:
        raise ValueError(
            f"num_beams {how['num_beams']}: a beam's text is known at its end; use generate"
        )
    return words(*_reading(model, prompts), writing(how, eos), picker(len(prompts), seed, how))


def generate(model, prompts, *, eos=None, seed=0, **options):
    """prompts: B arrays of ids  ->  B arrays of what follows, at most max_new_tokens each.

    As `stream`; options also num_beams (1), length_penalty (1), early_stopping (False), see
    `search.py`.
    """
    how = _settled(model, prompts, options)
    if how["num_beams"] == 1:
        return listed(stream(model, prompts, eos=eos, seed=seed, **options))
    return beam(*_reading(model, prompts), writing(how, eos), **of_beams(how))


def _reading(model, prompts):
    """What a search starts from: its `step`, logits (B,V) behind the prompts, B lists of ids."""
    logits, kv_cache = prefill(model, prompts)

    def further(ids, parents):
        kv_cache.keep(parents)
        return step(model, ids, kv_cache)

    return further, logits, [[int(i) for i in prompt] for prompt in prompts]


def picker(B, seed, options):
    """What `search.words` asks for the words of B texts: None for the argmax."""
    draws = [options[name] for name in DRAWS]
    if draws[0] == 0:
        return None
    randoms = [np.random.default_rng([seed, b]) for b in range(B)]
    return lambda scores, live: choose(scores, [randoms[b] for b in live], *draws)


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


def _settled(model, prompts, options):
    """The options of a model that can continue these prompts."""
    if model.task != "text-generation":
        raise ValueError(f"task must be text-generation to continue a text, not {model.task!r}")
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    read, P = max(map(len, prompts)), model.config.architecture.P
    how = settled(model, options, read, P)
    if read + how["max_new_tokens"] - 1 > P:
        raise ValueError(
            f"{read} tokens and {how['max_new_tokens']} new ones do not fit {P} positions; ask for "
            f"fewer, or shorten the prompt"
        )
    return how
