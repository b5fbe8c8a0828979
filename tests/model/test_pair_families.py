"""Encoder–decoders with a RoBERTa or an ALBERT for encoder: transformers' numbers; who cannot."""

import numpy as np
import pytest
from image_cases import model_of as image_model_of
from model_cases import SMALL, Case, assert_same_formula, compare_array, model_of
from pair_cases import CASES, END, START, Exact, batch_of
from pair_cases import model_of as pair_of

import minidistil as md
from minidistil.testing import rms

FAMILIES = ("roberta", "albert")
WORDS = {"gpt2": "text-generation"}
SOURCE = ("input_ids", "attention_mask")


def body(family, size=SMALL, **extra):
    return model_of(Case(family, WORDS.get(family, "fill-mask"), extra), size, seed=len(family))


def made_of(family):
    """An encoder of the family, and a decoder that begins as a BERT; sources with holes."""
    extra = {"num_hidden_groups": 2} if family == "albert" else {}
    pair = md.encoder_decoder_from(body(family, **extra), body("bert"), start=START, eos=END)
    rng = np.random.default_rng(5)
    pair.update({n: p + rng.normal(0, 0.1, p.shape) for n, p in pair.params.items()})
    return pair, batch_of(CASES["pair-distilbert"], SMALL)


@pytest.mark.filterwarnings("ignore:Version v4.12.0")  # how the loss was made before
@pytest.mark.parametrize("family", FAMILIES)
def test_the_numbers_of_transformers(family, tmp_path):
    torch, transformers = map(pytest.importorskip, ("torch", "transformers"))
    pair, batch = made_of(family)
    pair.save_pretrained(tmp_path)
    theirs, said = transformers.EncoderDecoderModel.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not said["missing_keys"] and not said["unexpected_keys"]
    targets = {"decoder_input_ids": np.array([[START, 5, 6, 7]] * 4), "labels": batch["labels"]}
    batch = {n: batch[n] for n in SOURCE} | {n: x[:, :4] for n, x in targets.items()}
    inputs = {n: torch.tensor(x) for n, x in batch.items()}
    found = {}
    for dtype in (torch.float32, torch.float64):
        theirs = theirs.to(dtype).eval()
        theirs.zero_grad()
        out = theirs(**inputs)
        out.loss.backward()
        grads = {n: p.grad.numpy() for n, p in theirs.named_parameters() if p.grad is not None}
        found[dtype] = {"logits": out.logits.detach().numpy()} | grads
    reference, truth = found.values()
    largest = max(rms(truth[n]) for n in grads)
    ops = md.backend("numpy", "float64")
    for who in (Exact(pair.config, pair.task, pair.named_by_role(), ops), pair):
        out = who.forward(**batch)
        for name, x in ({"logits": out.logits} | who.backward(out)).items():
            scale = None if name == "logits" else largest
            if name not in truth:
                assert "pooler" in name and not x.any()
            elif who is pair:
                compare_array(name, x, reference[name], truth[name], scale)
            else:
                assert_same_formula(name, x, truth[name], scale)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_words_of_transformers(family, beams, tmp_path):
    torch, transformers = map(pytest.importorskip, ("torch", "transformers"))
    pair, batch = made_of(family)
    pair.save_pretrained(tmp_path)
    mine = pair.generate(*(batch[n] for n in SOURCE), num_beams=beams, max_new_tokens=6)
    theirs = transformers.EncoderDecoderModel.from_pretrained(tmp_path)
    said = theirs.generate(
        *(torch.tensor(batch[n]) for n in SOURCE[:1]), do_sample=False, num_beams=beams,
        attention_mask=torch.tensor(batch["attention_mask"]), max_new_tokens=6,
        decoder_start_token_id=START, eos_token_id=END, pad_token_id=0,
    ).numpy()  # fmt: skip
    for text, row in zip(mine, said, strict=True):
        assert text.tolist() == row[1 : len(text) + 1].tolist()
    again = md.from_pretrained(tmp_path, task="translation")
    for text, other in zip(
        mine, again.generate(*(batch[n] for n in SOURCE), num_beams=beams, max_new_tokens=6),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(text, other)


def test_a_decoder_that_begins_as_a_roberta_counts_its_positions_by_column():
    teacher = body("roberta")
    pair = md.encoder_decoder_from(teacher, start=0, eos=2)
    p, q, a = pair.params, teacher.params, teacher.config.architecture
    decoder = pair.config.decoder
    assert (decoder.max_position_embeddings, decoder.type_vocab_size) == (a.longest, 1)
    assert decoder.layer_norm_eps == 1e-5 and pair.config.pad_token_id == 1
    table = "embeddings.position_embeddings.weight"
    np.testing.assert_array_equal(p[f"decoder.bert.{table}"], q[f"roberta.{table}"][2:])
    np.testing.assert_array_equal(
        p["decoder.cls.predictions.transform.dense.weight"], q["lm_head.dense.weight"]
    )


WHY = {"gpt2": "its blocks are of another kind", "encoder-decoder": "it has two halves",
       "vit": "it reads images", "albert": "its words are vectors of E channels"}  # fmt: skip


@pytest.mark.parametrize(
    ("half", "family"),
    [("decoder", family) for family in WHY] + [("encoder", family) for family in list(WHY)[:3]],
)
def test_who_cannot(half, family):
    other = {
        "encoder-decoder": lambda: pair_of(CASES["pair-bert"]),
        "vit": lambda: image_model_of("vit", "image-classification"),
    }.get(family, lambda: body(family))()
    halves = {"encoder": body("bert"), "decoder": body("bert")} | {half: other}
    says = {
        "decoder": f"roberta, not as '{family}': {WHY[family]}",
        "encoder": f"roberta, albert, not '{family}'",
    }
    with pytest.raises(ValueError, match=says[half]):
        md.encoder_decoder_from(**halves, start=START, eos=END)
