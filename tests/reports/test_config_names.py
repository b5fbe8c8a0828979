"""Reports on config.json: transformers' common names, numbers given twice, options that change the
computation, masks stored beside the weights, and the words that a text begins and ends with."""

import json
import warnings

import numpy as np
import pytest
from model_cases import CASES, SMALL, batch_of, fields, model_of
from safetensors.numpy import load_file, save_file

import minidistil as md
from minidistil.config import FAMILIES, read_config
from minidistil.model.heads import tasks_of

COMMON = {
    "distilbert": {"hidden_size": "dim", "num_attention_heads": "n_heads",
                   "num_hidden_layers": "n_layers"},
    "gpt2": {"hidden_size": "n_embd", "max_position_embeddings": "n_positions",
             "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"},
}  # fmt: skip


def case_of(family):
    return next(c for c in CASES.values() if c.family == family and c.task in
                ("fill-mask", "text-generation"))  # fmt: skip


def read(folder, said):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(said), encoding="utf-8")
    return read_config(folder / "config.json")


@pytest.mark.parametrize("family", COMMON)
def test_common_names_are_the_family_s_own(tmp_path, family):
    """Was: hidden_size 32 in a DistilBERT was passed over, and the model had 768 channels.
    Right: the config that transformers makes of it, by its attribute_map."""
    own = fields(case_of(family), SMALL)
    renamed = {c: own[o] for c, o in COMMON[family].items()}
    kept = {k: v for k, v in own.items() if k not in COMMON[family].values()}
    kept = {k: v for k, v in kept.items() if k not in COMMON[family]} | renamed
    assert read(tmp_path, kept) == FAMILIES[family].from_dict(own)


def test_the_common_names_are_those_of_transformers():
    """Was: no name of the table was known.
    Right: the table of every family is its class' attribute_map, where transformers is there."""
    configs = pytest.importorskip("transformers").models
    for kind, name in (
        ("bert", "Bert"), ("distilbert", "DistilBert"), ("roberta", "Roberta"),
        ("albert", "Albert"), ("gpt2", "GPT2"), ("vit", "ViT"), ("deit", "DeiT"),
    ):  # fmt: skip
        theirs = getattr(getattr(configs, kind), f"{name}Config").attribute_map
        assert dict(FAMILIES[kind].common_names) == theirs


@pytest.mark.parametrize(
    ("family", "twice", "message"),
    [
        ("distilbert", {"dim": 9, "hidden_size": 12}, "hidden_size 12 and dim 9"),
        ("gpt2", {"n_layer": 2, "num_hidden_layers": 4}, "num_hidden_layers 4 and n_layer 2"),
        ("bert", {"num_labels": 3, "id2label": {"0": "a", "1": "b"}}, "num_labels is 3, but"),
    ],
)
def test_a_number_given_twice_must_be_one(tmp_path, family, twice, message):
    """Was: the second number was passed over.
    Right: one line with both names and values; the same number twice is no fault."""
    with pytest.raises(ValueError, match=message):
        read(tmp_path, {"model_type": family} | twice)
    same = {k: v for k, v in twice.items() if k != "id2label"}
    read(tmp_path, {"model_type": family} | dict.fromkeys(same, 12))


REFUSED = {  # option: a value that computes something else, and the families that read it
    "position_embedding_type": ("relative_key", {"bert", "roberta", "albert"}),
    "is_decoder": (True, {"bert", "roberta"}),
    "add_cross_attention": (True, {"bert", "roberta", "gpt2"}),
    "scale_attn_by_inverse_layer_idx": (True, {"gpt2"}),
    "scale_attn_weights": (False, {"gpt2"}),
    "is_causal": (False, {"gpt2"}),
    "sinusoidal_pos_embds": (True, set()),
    "reorder_and_upcast_attn": (True, set()),
    "chunk_size_feed_forward": (2, set()),
    "layer_norm_eps": (1e-3, set()),
    "qkv_bias": (False, {"vit", "deit"}),
    "per_layer_config": ({"0": {"num_attention_heads": 1}}, {*FAMILIES} - {"encoder-decoder"}),
    "pruned_heads": ({"0": [1]}, {*FAMILIES} - {"encoder-decoder"}),
}


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_is_refused_where_it_is_read(option):
    """Was: is_decoder was refused in a DistilBERT, which never reads it; per-layer configs passed.
    Right: refused by name in the families whose classes compute something else, and only there."""
    value, families = REFUSED[option]
    for family in set(FAMILIES) - {"encoder-decoder"}:
        if family in families:
            with pytest.raises(ValueError, match=option):
                FAMILIES[family].from_dict({option: value})
        else:
            FAMILIES[family].from_dict({option: value})


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "albert", "gpt2"])
def test_an_untied_head_matters_to_words_alone(tmp_path, family):
    """Was: tie_word_embeddings false was refused for a classifier too.
    Right: refused by name for every task whose head predicts words, and no other."""
    case = case_of(family)
    config = FAMILIES[family].from_dict(fields(case, SMALL) | {"tie_word_embeddings": False})
    words = {"fill-mask", "pretraining", "text-generation"}
    for task in tasks_of(config):
        if task in words:
            with pytest.raises(ValueError, match="tie_word_embeddings must be true for"):
                md.from_config(config, task)
        else:
            assert md.from_config(config, task).config.tie_word_embeddings is False


def test_an_untied_copy_is_dropped_by_a_classifier(tmp_path):
    """Was: a classifier read from an untied folder of words ended in "differs … is tied".
    Right: the head for words is dropped, as any head that the task does not use."""
    model = model_of(case_of("distilbert"), SMALL)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    table = tensors["distilbert.embeddings.word_embeddings.weight"]
    save_file(tensors | {"vocab_projector.weight": table + 1}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="to which it is tied"):
        md.from_pretrained(tmp_path)
    for said in ({}, {"tie_word_embeddings": False}):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | said))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = md.from_pretrained(tmp_path, task="feature-extraction")
        assert np.array_equal(body.params["embeddings.word_embeddings.weight"], table)


def test_harmless_options_give_transformers_numbers(tmp_path):
    """Was: untested; the options were passed over for every family.
    Right: with upcast attention and chunked feed-forward transformers computes what we compute."""
    transformers = pytest.importorskip("transformers")
    import torch

    for family, cls, options in (
        ("gpt2", "GPT2LMHeadModel", {"reorder_and_upcast_attn": True}),
        ("bert", "BertForMaskedLM", {"chunk_size_feed_forward": 1}),
    ):
        folder = tmp_path / family
        case = case_of(family)
        model, batch = model_of(case, SMALL), batch_of(case, SMALL)
        model.save_pretrained(folder)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | options))
        theirs = getattr(transformers, cls).from_pretrained(folder, attn_implementation="eager")
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
        with torch.no_grad():
            wanted = theirs(**{k: torch.tensor(v) for k, v in inputs.items()}).logits.numpy()
        ours = md.from_pretrained(folder).forward(**inputs).logits
        mask = batch["attention_mask"].astype(bool)
        assert np.abs(ours - wanted)[mask].max() < 2e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("kind", [np.uint8, np.bool_, np.float32])
def test_masks_beside_gpt2_s_weights_are_left_out(tmp_path, kind):
    """Was: "h.0.attn.bias is U8; F32, F16 … can be read", for GPT-2 as its authors saved it.
    Right: the masks are no parameters, whatever type they are stored in."""
    model = model_of(case_of("gpt2"), SMALL)
    model.save_pretrained(tmp_path)
    mask = np.tril(np.ones((1, 1, 11, 11))).astype(kind)
    extra = {"h.0.attn.bias": mask, "transformer.h.1.attn.bias": mask,
             "h.0.attn.masked_bias": np.full((), 1, kind)}  # fmt: skip
    path = tmp_path / "model.safetensors"
    save_file(load_file(path) | extra, path)
    again = md.from_pretrained(tmp_path)
    assert all(np.array_equal(x, again.params[name]) for name, x in model.params.items())


def test_a_weight_of_bytes_is_no_weight(tmp_path):
    """Was: refused; so it stays, beside masks that pass.
    Right: a parameter stored as U8 is named with what can be read."""
    model_of(case_of("gpt2"), SMALL).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"transformer.wte.weight": np.ones((23, 9), np.uint8)}, path)
    with pytest.raises(ValueError, match=r"transformer\.wte\.weight is U8; F32"):
        md.from_pretrained(tmp_path)


# ---------------------------------------------------------------- what is written


def pair_config(**changes):
    halves = {half: {"model_type": "bert", "vocab_size": 20, "hidden_size": 8,
                     "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
                     "max_position_embeddings": 9} for half in ("encoder", "decoder")}  # fmt: skip
    halves["decoder"] |= {"is_decoder": True, "add_cross_attention": True}
    return {"model_type": "encoder-decoder", **halves, **changes}


@pytest.mark.parametrize(
    ("said", "start", "end"),
    [
        ({"bos_token_id": 3, "eos_token_id": 4}, 3, 4),
        ({"decoder_start_token_id": 5, "bos_token_id": 3, "eos_token_id": 4}, 5, 4),
        ({"bos_token_id": 3, "eos_token_id": [4, 6]}, 3, (4, 6)),
        ({"bos_token_id": 3, "eos_token_id": [4]}, 3, 4),
    ],
)
def test_the_ends_of_a_target(tmp_path, said, start, end):
    """Was: "decoder_start_token_id is missing"; a list of ends was no int.
    Right: transformers' generate begins with bos where no start is said, and ends with any end."""
    config = read(tmp_path, pair_config(**said))
    assert (config.decoder_start_token_id, config.eos_token_id) == (start, end)
    inner = pair_config()
    inner["decoder"] |= said
    assert read(tmp_path, inner).decoder_start_token_id == start
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    assert read(tmp_path, pair_config()).decoder_start_token_id == start
    with pytest.raises(ValueError, match="decoder_start_token_id is missing"):
        read(tmp_path / "bare", pair_config(eos_token_id=4))


def test_several_words_may_end_a_text():
    """Was: a list in eos_token_id was refused: "must be int".
    Right: transformers takes a list, and null for a model whose texts no word ends."""
    for given, found in (([3, 4], (3, 4)), (7, 7), (None, None), ([], None)):
        config = FAMILIES["gpt2"].from_dict({"eos_token_id": given})
        assert config.eos_token_id == found
        again = FAMILIES["gpt2"].from_dict(json.loads(json.dumps(config.to_dict())))
        assert again.eos_token_id == found
    for bad in ("x", [True], 1.5, ["3"]):
        with pytest.raises(ValueError, match="eos_token_id must be"):
            FAMILIES["gpt2"].from_dict({"eos_token_id": bad})
