"""What an encoder–decoder says: word for word what transformers' generate says."""

import warnings

import numpy as np
import pytest
from pair_cases import CASES, END, LARGE, START, batch_of, fields, model_of, torch_model

from minidistil.model.generation.token_search import Beam, BeamOptions, SearchLimits

CASE = CASES["pair-distilbert"]


def talkative(case, seed, end=2.0):
    """A model whose next word depends on the place and the source, and is the end now and then."""
    model = model_of(case, seed=seed)
    p = dict(model.params)
    spread = {
        n: 5 * x for n, x in p.items() if n.endswith(("position_embeddings.weight", "query.weight"))
    }
    spread |= {n: 3 * x for n, x in p.items() if ".crossattention.output.dense.w" in n}
    bias = p["decoder.cls.predictions.bias"].copy()
    bias[END] = end
    model.update({**spread, "decoder.cls.predictions.bias": bias})
    return model


def theirs(model, case, batch, **options):
    """The words of transformers, each up to its end."""
    import torch

    other = torch_model(model, fields(case, LARGE))
    other.generation_config.decoder_start_token_id = START
    other.generation_config.eos_token_id = END
    other.generation_config.pad_token_id = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = other.generate(
            torch.tensor(batch["input_ids"]), attention_mask=torch.tensor(batch["attention_mask"]),
            do_sample=False, **options,
        ).numpy()  # fmt: skip
    return [words(text[1:]) for text in found]


def words(text):
    ends = np.flatnonzero(text == END)
    return text[: ends[0] + 1].tolist() if len(ends) else text.tolist()


@pytest.mark.parametrize("options", [
    {"num_beams": 1},
    {"num_beams": 1, "no_repeat_ngram_size": 2},
    {"num_beams": 3},
    {"num_beams": 4, "length_penalty": 0.4},
    {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True},
    {"num_beams": 3, "no_repeat_ngram_size": 2},
], ids=str)  # fmt: skip
def test_the_words_of_transformers(options):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    lengths = set()
    for seed, end in ((0, 1.0), (1, 2.0), (3, 3.0)):
        case = list(CASES.values())[seed % 2]
        model, batch = talkative(case, seed, end), batch_of(case, seed=seed)
        source = {n: batch[n] for n in ("input_ids", "attention_mask")}
        mine = model.generate(**source, max_new_tokens=9, **options)
        expected = theirs(model, case, batch, max_new_tokens=9, **options)
        assert [text.tolist() for text in mine] == expected
        lengths |= {len(text) for text in mine}
    assert len(lengths) > 2, "texts that end early, and some that do not"


def test_a_step_is_what_the_whole_target_gives():
    """The cache changes nothing: greedy words are the likeliest of the full forward."""
    model, batch = talkative(CASE, 0, end=-9), batch_of(CASE)
    source = {n: batch[n] for n in ("input_ids", "attention_mask")}
    said = np.array(model.generate(**source, max_new_tokens=8))
    target = np.concatenate([np.full((len(said), 1), START), said[:, :-1]], axis=1)
    logits = model.forward(**source, decoder_input_ids=target).logits
    np.testing.assert_array_equal(logits.argmax(axis=2), said)


@pytest.mark.parametrize("options", [{"num_beams": 1}, {"num_beams": 3}], ids=str)
def test_a_text_is_alone_in_its_batch(options):
    model, batch = talkative(CASE, 1, end=1), batch_of(CASE)
    source = {n: batch[n] for n in ("input_ids", "attention_mask")}
    together = model.generate(**source, **options)
    for b, text in enumerate(together):
        alone = model.generate(**{n: x[b : b + 1] for n, x in source.items()}, **options)
        np.testing.assert_array_equal(text, alone[0])


def test_a_beam_finds_what_greed_misses():
    """The likeliest first word leads nowhere; the sum of two is best through the second."""
    first, second = np.log([0.1, 0.5, 0.4]), np.log([[0.4, 0.3, 0.3], [0.9, 0.05, 0.05]])
    search = Beam([9], SearchLimits(2, eos=(0,)), BeamOptions(2, length_penalty=0.0))
    assert search.advance(first[None]) == [0, 0]
    assert [text[1:] for text in search.texts] == [[1], [2]]
    search.advance(second)
    score, text = search.ended[0]
    assert text == [9, 2, 0] and score == pytest.approx(np.log(0.4 * 0.9))


def test_what_cannot_be_is_refused():
    model, batch = model_of(CASE), batch_of(CASE)
    for option, message in (
        ({"num_beams": 0}, "num_beams must be a whole number, 1 to 30, half the words, not 0"),
        ({"num_beams": 1.5}, "num_beams must be a whole number, .* not 1.5"),
        ({"num_beams": True}, "num_beams must be a whole number, .* not True"),
        ({"num_beams": "2"}, "num_beams must be a whole number, .* not '2'"),
        ({"max_new_tokens": 99}, "max_new_tokens must be a whole number, 1 to 17"),
        ({"max_new_tokens": 0}, "a whole number, 1 to 17, the positions, not 0"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be a whole number, .* not 2.5"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size must be a whole number from 0 up"),
        ({"no_repeat_ngram_size": 1.5}, "no_repeat_ngram_size must be a whole number .* not 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(batch["input_ids"], **option)
