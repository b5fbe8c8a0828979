"""Text generation with a decoder (GPT-2), one token at a time.

    prefill   reads the prompts          logits of the next token (B,V), and the KV cache
    step      reads one token of each    the same

The next token is the argmax (greedy, temperature 0), or is drawn from

    p = softmax(z/temperature)    z: the logits, after `logit_rules`; with top_k, of the k largest
                                  alone; with top_p, of the most probable tokens that together have
                                  at least probability top_p

Text b draws from a random stream of its own, which seed and b determine, so a text does not depend
on the others in its batch.
Source: Holtzman et al., "The curious case of neural text degeneration", 2019 (top-p); as in Hugging
Face's `generate`, top_k is applied before top_p.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from minidistil.model import decoder, heads
from minidistil.model.context import Context
from minidistil.model.encoder import scope
from minidistil.model.finite import answer
from minidistil.model.generation.cached_block import gpt2_block
from minidistil.model.generation.generation_options import (
    SAMPLING,
    beam_options,
    resolved_options,
    search_limits,
)
from minidistil.model.generation.kv_cache import KVCache
from minidistil.model.generation.token_search import beam_search, by_text, next_tokens
from minidistil.model.rows import Rows


def prefill(model, prompts: Sequence[np.ndarray]) -> tuple[np.ndarray, KVCache]:
    """prompts: B arrays of ids  ->  logits (B,V) of the next tokens, KVCache.

    Raises ValueError for an empty prompt, or one that the model has no positions for.
    """
    lengths = np.array([len(prompt) for prompt in prompts])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate(prompts)
    kv_cache = KVCache(len(prompts), model.ops.place)
    return _read(model, model.pack(ids, mask.astype(np.int64)), kv_cache), kv_cache


def step(model, ids: np.ndarray, kv_cache: KVCache) -> np.ndarray:
    """ids (B,), the next token of each text  ->  logits (B,V); `kv_cache` grows by one token."""
    P, B = model.config.architecture.P, len(ids)
    if kv_cache.lengths.max() >= P:
        raise ValueError(f"a text fills all {P} positions; ask for fewer new tokens")
    ids, position = np.asarray(ids, np.int64), kv_cache.lengths
    rows = Rows(ids, np.zeros_like(ids), np.arange(B), position, position, np.arange(B + 1),
                np.ones((B, 1), bool))  # fmt: skip
    return _read(model, rows, kv_cache)


def _read(model, rows, kv_cache):
    """Rows of new tokens  ->  logits (B,V) at the last row of each text; `kv_cache` grows."""

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


def stream(
    model, prompts: Sequence[np.ndarray], *, eos=None, seed: int = 0, **options
) -> Iterator[np.ndarray]:
    """Yields arrays (B,) of new tokens, one after another; −1 for a text that has ended.

    options: max_new_tokens (50), temperature (0: the argmax), top_k (0: all tokens), top_p (1),
    repetition_penalty (1), no_repeat_ngram_size (0), min_new_tokens (0). An option that is not
    given has the value of the model's generation_config.json, else the value in brackets. eos: the
    ids that end a text, one or several, None for none; the end is yielded, too.
    Raises ValueError for options out of range, a model that is no decoder, and texts longer than
    its positions; TypeError for other options.
    """
    chosen = _checked_options(model, prompts, options)
    if chosen["num_beams"] > 1:
        raise ValueError(
            f"num_beams {chosen['num_beams']}: a beam's text is known at its end; use generate"
        )
    sampler = token_sampler(len(prompts), seed, chosen)
    return next_tokens(*_search_start(model, prompts), search_limits(chosen, eos), sampler)


def generate(
    model, prompts: Sequence[np.ndarray], *, eos=None, seed: int = 0, **options
) -> list[np.ndarray]:
    """prompts: B arrays of ids  ->  B arrays of new tokens, at most max_new_tokens each.

    As `stream`; options also num_beams (1), length_penalty (1), early_stopping (False), see
    `token_search`.
    """
    chosen = _checked_options(model, prompts, options)
    if chosen["num_beams"] == 1:
        return by_text(stream(model, prompts, eos=eos, seed=seed, **options))
    start = _search_start(model, prompts)
    return beam_search(*start, search_limits(chosen, eos), beam_options(chosen))


def _search_start(model, prompts):
    """The first arguments of a search: its `step`, logits (B,V) behind the prompts, the prompts."""
    logits, kv_cache = prefill(model, prompts)

    def search_step(ids, parents):
        kv_cache.keep(parents)
        return step(model, ids, kv_cache)

    return search_step, logits, [[int(i) for i in prompt] for prompt in prompts]


def token_sampler(B: int, seed: int, options: Mapping) -> Callable | None:
    """The `sample` of `token_search.next_tokens` for B texts; None for the argmax."""
    temperature, top_k, top_p = (options[name] for name in SAMPLING)
    if temperature == 0:
        return None
    generators = [np.random.default_rng([seed, b]) for b in range(B)]
    return lambda scores, live: sample_tokens(
        scores, [generators[b] for b in live], temperature, top_k, top_p
    )


def sample_tokens(logits: np.ndarray, generators: Sequence, temperature: float, top_k: int,
                  top_p: float) -> np.ndarray:  # fmt: skip
    """logits (R,V), R random generators  ->  ids (R,)."""
    if temperature == 0:
        return logits.argmax(axis=1)
    chosen = []
    for z, generator in zip(logits, generators, strict=True):
        ids, p = token_probabilities(z, temperature, top_k, top_p)
        cumulative = p.cumsum()
        i = np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right")
        chosen.append(ids[min(i, len(p) - 1)])
    return np.array(chosen)


def token_probabilities(z: np.ndarray, temperature: float, top_k: int, top_p: float) -> tuple:
    """z (V,)  ->  the ids that are drawn from (n,), the most probable first, and their p (n,).

    After top_p, p sums to less than 1: the tokens left out keep their part.
    """
    z = z.astype(np.float64) / temperature
    ids = np.argsort(-z, kind="stable")[: top_k or None]
    p = np.exp(z[ids] - z[ids[0]])
    p /= p.sum()
    n = np.searchsorted(p.cumsum(), top_p) + 1
    return ids[:n], p[:n]


def _checked_options(model, prompts, options):
    """The options for a model that can continue these prompts."""
    if model.task != "text-generation":
        raise ValueError(f"task must be text-generation to continue a text, not {model.task!r}")
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    read, P = max(map(len, prompts)), model.config.architecture.P
    chosen = resolved_options(model, options, read, P)
    if read + chosen["max_new_tokens"] - 1 > P:
        raise ValueError(
            f"{read} tokens and {chosen['max_new_tokens']} new ones do not fit {P} positions; ask "
            f"for fewer, or shorten the prompt"
        )
    return chosen
