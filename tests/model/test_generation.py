"""Continuing texts: with remembered keys as without them, and word for word as transformers."""

import numpy as np
import pytest
from model_cases import CASES, LARGE, fields, model_of, torch_model

import minidistil as md
from minidistil.model.generation.generate_texts import (
    generate,
    prefill,
    sample_tokens,
    step,
    stream,
    token_probabilities,
)

CASE = CASES["gpt2-words"]
PROMPTS = [np.array([3, 1, 4]), np.array([15]), np.array([9, 2, 6, 5, 35])]


def uncached(model, prompt, n):
    """Greedy decoding that reads the whole text again for each token."""
    text = list(prompt)
    for _ in range(n):
        text.append(int(model.forward(np.array([text])).logits[0, -1].argmax()))
    return text[len(prompt) :]


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_as_without_a_cache(backend):
    model = model_of(CASE, backend=backend)
    said = generate(model, PROMPTS, max_new_tokens=15)
    assert [list(words) for words in said] == [uncached(model, p, 15) for p in PROMPTS]


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_logits_of_each_step(backend):
    model = model_of(CASE, backend=backend)
    logits, kv_cache = prefill(model, PROMPTS)
    texts = [list(p) for p in PROMPTS]
    for n in range(9):
        if n == 4:
            kv_cache.keep(np.array([2, 0, 0]))
            texts, logits = [texts[2], texts[0], list(texts[0])], logits[[2, 0, 0]]
        for text, z in zip(texts, logits, strict=True):
            np.testing.assert_allclose(z, model.forward(np.array([text])).logits[0, -1], atol=2e-5)
        words = np.array([n, n + 1, n + 2])
        for text, word in zip(texts, words, strict=True):
            text.append(word)
        logits = step(model, words, kv_cache)


def test_word_for_word_as_transformers():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = model_of(CASE)
    theirs = torch_model(model, fields(CASE, LARGE))
    eos = int(generate(model, PROMPTS, max_new_tokens=8)[0][4])  # so that a text ends
    width = max(map(len, PROMPTS))
    ids = np.stack([np.pad(p, (width - len(p), 0)) for p in PROMPTS])
    mask = np.stack([np.arange(width) >= width - len(p) for p in PROMPTS])
    out = theirs.generate(
        torch.tensor(ids), attention_mask=torch.tensor(mask, dtype=torch.int64), do_sample=False,
        max_new_tokens=12, eos_token_id=eos, pad_token_id=0,
    )  # fmt: skip
    for mine, row in zip(
        generate(model, PROMPTS, max_new_tokens=12, eos=eos), out[:, width:].numpy(), strict=True
    ):
        assert list(mine) == list(row[: len(mine)])
        assert mine[-1] == eos or len(mine) == 12


@pytest.mark.parametrize("options", [
    {"temperature": 1.5}, {"temperature": 2.0, "top_k": 5}, {"temperature": 2.0, "top_p": 0.8},
], ids=str)  # fmt: skip
def test_a_seed_and_a_number_decide_the_draws(options):
    model = model_of(CASE)
    how = {"max_new_tokens": 10, "seed": 4, **options}
    together, again = generate(model, PROMPTS, **how), generate(model, PROMPTS, **how)
    alone = generate(model, PROMPTS[:1], **how)
    for one, two in zip([*together, together[0]], [*again, alone[0]], strict=True):
        np.testing.assert_array_equal(one, two)
    other = generate(model, PROMPTS, **how | {"seed": 5})
    assert any(list(a) != list(b) for a, b in zip(together, other, strict=True))


@pytest.mark.parametrize("options", [
    (1.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 7, 1.0), (1.0, 1, 1.0), (1.0, 0, 0.6), (1.0, 0, 0.01),
    (2.5, 12, 0.8), (0.3, 5, 0.95),
], ids=str)  # fmt: skip
def test_what_is_drawn_from_is_what_transformers_draws_from(options):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    temperature, top_k, top_p = options
    logits = np.random.default_rng(0).normal(0, 2, (20, 61))
    scores = transformers.TemperatureLogitsWarper(temperature)(None, torch.tensor(logits))
    if top_k:
        scores = transformers.TopKLogitsWarper(top_k)(None, scores)
    scores = transformers.TopPLogitsWarper(top_p)(None, scores)
    for z, theirs in zip(logits, scores.softmax(-1).numpy(), strict=True):
        words, p = token_probabilities(z, *options)
        mine = np.zeros(61)
        mine[words] = p / p.sum()
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-15)


def test_what_is_drawn_from():
    p = np.array([0.05, 0.4, 0.3, 0.2, 0.05])
    logits = np.log(np.tile(p, (4000, 1)))

    def shares(**how):
        randoms = [np.random.default_rng([7, b]) for b in range(len(logits))]
        words = sample_tokens(
            logits, randoms, **{"temperature": 1.0, "top_k": 0, "top_p": 1.0} | how
        )
        return np.bincount(words, minlength=5) / len(words)

    np.testing.assert_allclose(shares(), p, atol=0.03)
    np.testing.assert_allclose(shares(top_k=2), [0, 4 / 7, 3 / 7, 0, 0], atol=0.03)
    np.testing.assert_allclose(shares(top_p=0.65), [0, 4 / 7, 3 / 7, 0, 0], atol=0.03)
    np.testing.assert_allclose(shares(temperature=0.5), p**2 / (p**2).sum(), atol=0.03)
    assert shares(temperature=0.0)[1] == 1


@pytest.mark.parametrize("how, rule", [
    ({"max_new_tokens": 0}, "max_new_tokens must be"), ({"top_p": 0.0}, "top_p above 0"),
    ({"temperature": -1.0}, "temperature"), ({"max_new_tokens": 99}, "do not fit 24 positions"),
])  # fmt: skip
def test_bad_options(how, rule):
    with pytest.raises(ValueError, match=rule):
        generate(model_of(CASE), PROMPTS, **how)


def test_who_cannot():
    with pytest.raises(ValueError, match="at least one token"):
        generate(model_of(CASE), [np.array([], np.int64)])
    with pytest.raises(ValueError, match="must be text-generation"):
        next(stream(md.from_config(md.BertConfig(num_hidden_layers=1)), PROMPTS))
