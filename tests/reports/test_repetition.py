"""Texts that repeat themselves: penalties, blocked n-grams, and the options that a folder holds."""

import json
import warnings

import model_cases
import numpy as np
import pair_cases
import pytest

import minidistil as md
from minidistil.config import Gpt2Config
from minidistil.config.generation_config import GenerationConfig, read_generation
from minidistil.model.generation.generate_texts import generate, stream, token_probabilities
from minidistil.model.generation.logit_rules import LogitRules

GPT2, PAIR = model_cases.CASES["gpt2-words"], pair_cases.CASES["pair-distilbert"]
PROMPTS = [np.array([3, 1, 4]), np.array([15, 9, 15]), np.array([9, 2, 6])]
SEARCHES = [
    {"repetition_penalty": 1.8},
    {"repetition_penalty": 0.6},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "min_new_tokens": 4},
    {"num_beams": 3, "repetition_penalty": 1.8},
    {"num_beams": 3, "no_repeat_ngram_size": 2, "length_penalty": 2.0},
    {"num_beams": 2, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2, "early_stopping": True},
    {"num_beams": 3, "early_stopping": "never", "min_new_tokens": 3},
]


def writer():
    """A GPT-2 that repeats its words where nothing keeps it from doing so."""
    model = model_cases.model_of(GPT2, backend="numpy")
    model.update({n: 2 * x for n, x in model.params.items() if n.endswith("wte.weight")})
    return model


def translator(end):
    model = pair_cases.model_of(PAIR, backend="numpy")
    p = model.params
    bias = p["decoder.cls.predictions.bias"].copy()
    bias[pair_cases.END] = end
    spread = {n: 5 * x for n, x in p.items() if n.endswith("position_embeddings.weight")}
    model.update({**spread, "decoder.cls.predictions.bias": bias})
    return model


def sources():
    batch = pair_cases.batch_of(PAIR, seed=1)
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def until(text, end):
    """A row of transformers up to its end."""
    places = np.flatnonzero(np.array(text) == end)
    return list(text[: places[0] + 1] if len(places) else text)


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("transformers")
    return pytest.importorskip("torch")


@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_gpt2_writes_as_transformers(options, torch):
    """Was: no_repeat_ngram_size and penalties were not there for GPT-2, beams neither.
    Right: the words of transformers' generate."""
    model = writer()
    theirs = model_cases.torch_model(model, model_cases.fields(GPT2, model_cases.LARGE))
    eos = int(generate(model, PROMPTS, max_new_tokens=5)[0][3])
    mine = generate(model, PROMPTS, max_new_tokens=10, eos=eos, **options)
    ids = torch.tensor(np.stack(PROMPTS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10,
            eos_token_id=eos, pad_token_id=0, **options,
        )  # fmt: skip
    assert [list(x) for x in mine] == [until(row, eos) for row in found[:, 3:].tolist()]


@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_an_encoder_decoder_writes_as_transformers(options, torch):
    """Was: there was no penalty.
    Right: the words of transformers' generate."""
    model = translator(1.0)
    theirs = pair_cases.torch_model(model, pair_cases.fields(PAIR, pair_cases.LARGE))
    theirs.generation_config.decoder_start_token_id = pair_cases.START
    theirs.generation_config.eos_token_id = pair_cases.END
    theirs.generation_config.pad_token_id = 0
    mine = model.generate(**sources(), max_new_tokens=9, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = theirs.generate(
            **{n: torch.tensor(x) for n, x in sources().items()}, do_sample=False,
            max_new_tokens=9, **options,
        )  # fmt: skip
    assert [list(x) for x in mine] == [until(row, pair_cases.END) for row in found[:, 1:].tolist()]


def test_what_is_drawn_from_after_the_rules(torch):
    """Was: draws knew nothing of what the text holds.
    Right: transformers' processors before its warpers, in that order."""
    import transformers as hf

    logits = np.random.default_rng(0).normal(0, 2, (12, 31))
    texts = np.random.default_rng(1).integers(0, 6, (12, 9))
    scores = LogitRules(1.7, 2, 0, ())(logits, texts.tolist(), 6)
    chain = [hf.RepetitionPenaltyLogitsProcessor(1.7), hf.NoRepeatNGramLogitsProcessor(2)]
    theirs = torch.tensor(logits)
    for one in [*chain, hf.TemperatureLogitsWarper(0.7), hf.TopKLogitsWarper(9),
                hf.TopPLogitsWarper(0.8)]:  # fmt: skip
        theirs = one(torch.tensor(texts), theirs)
    for z, wanted in zip(scores, theirs.softmax(-1).numpy(), strict=True):
        words, p = token_probabilities(z, 0.7, 9, 0.8)
        mine = np.zeros(31)
        mine[words] = p / p.sum()
        np.testing.assert_allclose(mine, wanted, rtol=1e-9, atol=1e-15)


def test_the_rules_by_hand():
    """Was: not there for penalties.
    Right: z/θ above 0, z·θ below, for every word of the text once; −∞ for what would repeat."""
    z = np.array([[2.0, -2.0, 1.0, 0.5, -1.0]])
    text = [[0, 1, 1, 3, 0]]
    np.testing.assert_array_equal(LogitRules(2.0)(z, text, 3), [[1, -4, 1, 0.25, -1]])
    inf = np.inf
    np.testing.assert_array_equal(
        LogitRules(no_repeat_ngram_size=2)(z, text, 3), [[2, -inf, 1, 0.5, -1]]
    )
    np.testing.assert_array_equal(
        LogitRules(no_repeat_ngram_size=1)(z, text, 3), [[-inf, -inf, 1, -inf, -1]]
    )
    np.testing.assert_array_equal(LogitRules(2.0, 2)(z, text, 3), [[1, -inf, 1, 0.25, -1]])
    np.testing.assert_array_equal(
        LogitRules(min_new_tokens=4, eos=(2, 99))(z, text, 3), [[2, -2, -inf, 0.5, -1]]
    )
    assert LogitRules(min_new_tokens=3, eos=(2,))(z, text, 3) is z
    with pytest.raises(ValueError, match="leaves a text of 5 tokens none of 2 words"):
        LogitRules(no_repeat_ngram_size=1)(z[:, :2], [[0, 1, 0, 1, 0]], 3)


@pytest.mark.parametrize(("options", "gpt2", "pair"), [
    ({}, [26, 26, 26, 26, 26, 26, 11, 26], [57, 19, 4, 14, 14, 4, 45, 13]),
    ({"repetition_penalty": 1.8},
     [26, 77, 48, 11, 26, 14, 65, 52], [57, 19, 4, 14, 7, 41, 45, 13]),
    ({"no_repeat_ngram_size": 2},
     [26, 26, 48, 48, 11, 26, 11, 77], [57, 19, 4, 14, 14, 4, 45, 13]),
    ({"num_beams": 3, "repetition_penalty": 1.8, "no_repeat_ngram_size": 2},
     [77, 21, 21, 48, 26, 26, 11, 21], [39, 19, 4, 14, 7, 41, 57, 13]),
], ids=str)  # fmt: skip
def test_stored_words(options, gpt2, pair):
    """Was: the first row, whatever was asked for.
    Right: as transformers 5.24 writes, whose words these are."""
    assert generate(writer(), PROMPTS[:1], max_new_tokens=8, **options)[0].tolist() == gpt2
    found = translator(-9.0).generate(**sources(), max_new_tokens=8, **options)
    assert found[0].tolist() == pair


def test_draws_obey_the_rules():
    """Was: not there.
    Right: no word of a text comes twice, its prompt included; the same seed, the same words."""
    options = {"temperature": 2.0, "no_repeat_ngram_size": 1, "max_new_tokens": 20, "seed": 4}
    model = writer()
    found = generate(model, PROMPTS, **options)
    for prompt, words in zip(PROMPTS, found, strict=True):
        assert len(set(words)) == 20 and not set(words) & set(prompt)
    again = generate(model, PROMPTS, **options)
    assert [list(a) for a in found] == [list(b) for b in again]
    options |= {"max_new_tokens": 9}
    found = translator(-9.0).generate(**sources(), **options)
    assert all(len(set(words) | {pair_cases.START}) == 10 for words in found)


def test_several_ends():
    """Was: a model has one end.
    Right: each of a list ends a text, in greedy search and in a beam."""
    model = writer()
    (plain,) = generate(model, PROMPTS[:1], max_new_tokens=8)
    ends = tuple(int(x) for x in (plain[5], plain[2]))
    first = min(list(plain).index(end) for end in ends)
    for options in ({}, {"num_beams": 1}, {"repetition_penalty": 1.0}):
        (found,) = generate(model, PROMPTS[:1], max_new_tokens=8, eos=ends, **options)
        assert list(found) == list(plain[: first + 1])
    (found,) = generate(model, PROMPTS[:1], max_new_tokens=8, eos=ends, num_beams=3)
    assert found[-1] in ends or len(found) == 8


@pytest.mark.parametrize(("options", "message"), [
    ({"repetition_penalty": 0}, "repetition_penalty must be a number above 0, not 0"),
    ({"repetition_penalty": float("nan")}, "repetition_penalty must be .* not nan"),
    ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be a whole number from 0 up"),
    ({"num_beams": 0}, "num_beams must be a whole number, 1 to 41, half the words, not 0"),
    ({"num_beams": 2, "temperature": 1.0}, "a beam draws no words"),
    ({"early_stopping": "soon"}, "early_stopping must be true, false or 'never', not 'soon'"),
    ({"length_penalty": "2"}, "length_penalty must be a number, not '2'"),
])  # fmt: skip
def test_options_out_of_range(options, message):
    """Was: not there, or a traceback later.
    Right: the rule and the value, before the first word."""
    with pytest.raises(ValueError, match=message):
        generate(writer(), PROMPTS, **options)
    with pytest.raises(TypeError, match="'penalty' is no option of generation"):
        generate(writer(), PROMPTS, penalty=2.0)
    with pytest.raises(ValueError, match="num_beams 2: a beam's text is known at its end"):
        stream(writer(), PROMPTS, num_beams=2, max_new_tokens=3)


# ------------------------------------------------------- generation_config.json


def stored(folder, **fields):
    (folder / "generation_config.json").write_text(json.dumps(fields))
    return folder


def test_a_folder_says_how_it_writes(tmp_path):
    """Was: generation_config.json was not read.
    Right: its options are the defaults, a caller's take precedence, and they are saved again."""
    model = writer()
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "generation_config.json").exists()
    stored(tmp_path, repetition_penalty=1.8, num_beams=3, max_length=8, eos_token_id=[7, 5])
    again = md.from_pretrained(tmp_path, backend="numpy")
    how = {"repetition_penalty": 1.8, "num_beams": 3}
    for prompt in PROMPTS[:2]:
        (found,) = generate(again, [prompt])
        assert list(found) == list(generate(model, [prompt], max_new_tokens=5, **how)[0])
        (found,) = generate(again, [prompt], num_beams=1, max_new_tokens=6, repetition_penalty=1.0)
        assert list(found) == list(generate(model, [prompt], max_new_tokens=6)[0])
    again.save_pretrained(tmp_path / "copy")
    assert read_generation(tmp_path / "copy") == again.generation
    assert again.generation.eos_token_id == (7, 5)


def test_a_folder_that_draws(tmp_path):
    """Was: not read.
    Right: do_sample draws with temperature 1 and top_k 50 where nothing else is said, as
    transformers; without it temperature is without effect."""
    model = writer()
    model.save_pretrained(tmp_path)
    stored(tmp_path, do_sample=True, temperature=1.5)
    drawn = generate(md.from_pretrained(tmp_path, backend="numpy"), PROMPTS, max_new_tokens=9)
    wanted = generate(model, PROMPTS, max_new_tokens=9, temperature=1.5, top_k=50)
    assert [list(x) for x in drawn] == [list(x) for x in wanted]
    stored(tmp_path, temperature=1.5, top_k=3)
    plain = generate(md.from_pretrained(tmp_path, backend="numpy"), PROMPTS, max_new_tokens=9)
    assert [list(x) for x in plain] == [list(x) for x in generate(model, PROMPTS, max_new_tokens=9)]


def test_an_encoder_decoders_folder(tmp_path):
    """Was: config.json of an older folder holds the options, which were dropped.
    Right: read, unless generation_config.json is there; lengths count the start."""
    model = translator(-9.0)
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"num_beams": 2, "max_length": 6, "length_penalty": 2.0}))
    again = md.from_pretrained(tmp_path, backend="numpy")
    wanted = model.generate(**sources(), num_beams=2, max_new_tokens=5, length_penalty=2.0)
    assert [list(x) for x in again.generate(**sources())] == [list(x) for x in wanted]
    stored(tmp_path, max_new_tokens=4)
    again = md.from_pretrained(tmp_path, backend="numpy")
    wanted = model.generate(**sources(), max_new_tokens=4)
    assert [list(x) for x in again.generate(**sources())] == [list(x) for x in wanted]


@pytest.mark.parametrize(("fields", "message"), [
    ({"temperature": "0.7"}, "generation_config.json: temperature must be .* not '0.7'"),
    ({"repetition_penalty": -1}, "generation_config.json: repetition_penalty must be .* not -1"),
    ({"do_sample": "no"}, "do_sample must be true or false, not 'no'"),
    ({"eos_token_id": [1, -1]}, "eos_token_id must be a token's id, or a list"),
    ({"eos_token_id": 83}, "eos_token_id 83 is none of the model's 83 words"),
    ({"no_repeat_ngram_size": True}, "no_repeat_ngram_size must be a whole number"),
])  # fmt: skip
def test_a_bad_file_is_named(tmp_path, fields, message):
    """Was: not read.
    Right: the file, the rule and the value."""
    writer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        md.from_pretrained(stored(tmp_path, **fields), backend="numpy")


def test_what_is_not_applied_is_said(tmp_path):
    """Was: not read.
    Right: an option that changes the words and is not here is named in a warning; a neutral value
    is not."""
    writer().save_pretrained(tmp_path)
    stored(tmp_path, typical_p=0.9, forced_bos_token_id=3, min_p=0.0, num_beam_groups=1)
    with pytest.warns(UserWarning, match="forced_bos_token_id is not applied here") as said:
        md.from_pretrained(tmp_path, backend="numpy")
    assert "typical_p" in str(said[0].message) and "min_p" not in str(said[0].message)
    assert Gpt2Config().eos_token_id == 50256 and GenerationConfig().to_dict() == {}
