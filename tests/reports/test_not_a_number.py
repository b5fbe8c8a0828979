"""Reports on answers that are no numbers: an epsilon that is none, weights that overflow, metrics
beyond float64. Inference stops and names the op, as training does; JSON holds null, never NaN."""

import json
import warnings

import numpy as np
import pytest
from image_cases import model_of as image_model
from model_cases import CASES, LARGE, SMALL, batch_of, fields, model_of
from pair_cases import CASES as PAIRS
from pair_cases import batch_of as pair_batch
from pair_cases import model_of as pair_model

import minidistil as md
from minidistil.cli import main
from minidistil.config import FAMILIES
from minidistil.io import files
from minidistil.model.finite import NotFiniteError
from minidistil.model.generation.generate_texts import generate
from minidistil.model.sentence.sentence_model import normalise
from minidistil.tasks.text_generation import command
from minidistil.train.training_objectives import Supervised

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film", ".", "?", "in", "it"]
PLACE = "the first number that is not finite came out of "


def spoilt(model):
    """The model with first feed-forward weights so large that float32 overflows."""
    first = ("intermediate.dense.weight", "ffn.lin1.weight", "mlp.c_fc.weight", ".ffn.weight")
    (name, *_) = [n for n in model.params if n.endswith(first)]
    model.update({name: np.where(model.params[name] < 0, -3e38, 3e38).astype(np.float32)})
    return model


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"encoder-decoder"}))
@pytest.mark.parametrize("eps", [float("nan"), float("inf"), -1e-12, 1e300])
def test_epsilon_is_a_number(family, eps):
    """Was: layer_norm_eps NaN, negative or infinite gave answers that are NaN.
    Right: the config is refused, in Python and in a config.json; DistilBERT has none to give."""
    name = "layer_norm_epsilon" if family == "gpt2" else "layer_norm_eps"
    if family == "distilbert":
        name = "initializer_range"
    with pytest.raises(ValueError, match=r"config: .* must be at least 0 and at most 3\.4e"):
        FAMILIES[family].from_dict({name: eps})
    with pytest.raises(ValueError, match="must be at least 0"):
        FAMILIES[family](**{name: eps})


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
@pytest.mark.parametrize("name", [n for n in CASES if not n.endswith(("choice", "spans"))])
def test_every_model_names_the_op(name, backend):
    """Was: logits of NaN, or a class with the score NaN.
    Right: forward and infer raise ValueError with the op and its parameters, without a warning."""
    case = CASES[name]
    model, batch = spoilt(model_of(case, SMALL, backend=backend)), batch_of(case, SMALL)
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotFiniteError, match=PLACE + "linear"):
            model.forward(**inputs)
        with pytest.raises(NotFiniteError, match=PLACE + "linear"):
            model.infer(model.pack_batch(batch))


def test_inference_in_bfloat16_names_the_op_whose_result_is_packed():
    """Where lin1 overflows, lin1 is named, though lin2 alone reads what came out of it."""
    case = CASES["distilbert-single"]
    model, batch = spoilt(model_of(case, SMALL)), batch_of(case, SMALL)
    model = model.with_ops(md.backend("cpu", "bfloat16"))
    with pytest.raises(NotFiniteError, match=PLACE + "linear_gelu.forward with .*ffn.lin1.weight"):
        model.infer(model.pack_batch(batch))


def test_a_decoder_that_diverges_in_training_is_named():
    """Was: KeyError 'decoder.bias' where a GPT-2's training was to name the op.
    Right: FloatingPointError with the place, as for every family."""
    model = spoilt(model_of(CASES["gpt2-words"], SMALL))
    batch = batch_of(CASES["gpt2-words"], SMALL)
    found = Supervised(model).diagnose(batch, seed=0, step=0, first_sequence=0)
    assert found.startswith(PLACE + "linear_gelu.forward with transformer.h.0.mlp.c_fc.weight")


def test_a_parameter_that_is_none_is_named():
    """Was: NaN in, NaN out.
    Right: the parameter's name."""
    model = model_of(CASES["distilbert-single"], SMALL)
    model.update({"classifier.bias": np.full_like(model.params["classifier.bias"], np.nan)})
    with pytest.raises(ValueError, match=r"parameter classifier\.bias is not finite"):
        model.forward(batch_of(CASES["distilbert-single"], SMALL)["input_ids"])


@pytest.mark.parametrize("case", [("vit", "image-classification"), ("deit", "feature-extraction")])
def test_images_too(case):
    """Was: logits of NaN.
    Right: as for texts."""
    model = spoilt(image_model(*case))
    size = model.config.image_size
    batch = {"pixel_values": np.ones((2, model.config.num_channels, size, size), np.float32)}
    for call in (lambda: model.forward(**batch), lambda: model.infer(model.pack_batch(batch))):
        with pytest.raises(NotFiniteError, match=PLACE):
            call()


def test_what_is_written_too():
    """Was: the word of the largest NaN, again and again.
    Right: both kinds of generator stop at the first logits that are none."""
    model = spoilt(model_of(CASES["gpt2-words"], SMALL))
    with pytest.raises(NotFiniteError, match=PLACE):
        generate(model, [np.array([3, 4])], max_new_tokens=3)
    pair = PAIRS["pair-bert"]
    model, batch = pair_model(pair), pair_batch(pair)
    names = [n for n in model.params if n.endswith("intermediate.dense.weight")]
    for name in (names[0], names[-1]):  # of the encoder, of the decoder
        model = pair_model(pair)
        model.update({name: np.full_like(model.params[name], 3e38)})
        for options in ({"num_beams": 1}, {"num_beams": 3}):
            with pytest.raises(NotFiniteError, match=PLACE):
                model.generate(batch["input_ids"], **options)
        with pytest.raises(NotFiniteError, match=PLACE):
            model.forward(**batch)
        with pytest.raises(NotFiniteError, match=PLACE):
            model.loss_of(model.pack_pair(**batch))


def test_a_vector_s_length_is_a_number():
    """Was: a vector of 1e30 had the length infinity and became zeros.
    Right: it has the direction that it has."""
    v, _ = normalise(np.array([[3e30, 4e30], [3.0, 4.0]], np.float32))
    assert np.allclose(v, [[0.6, 0.8]] * 2)


# ---------------------------------------------------------------- commands

TASKS = {
    "fill-mask": "a [MASK] film",
    "text-classification": "a good film",
    "token-classification": "a good film",
    "feature-extraction": "a good film",
    "sentence-embedding": "a good film",
    "question-answering": {"question": "good ?", "context": "a good film ."},
    "multiple-choice": {"question": "good ?", "choices": ["a film", "it"]},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{task: a folder whose weights overflow, with a tokenizer}."""
    home, found = tmp_path_factory.mktemp("spoilt"), {}
    for task in TASKS:
        config = FAMILIES["bert"](
            vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8, max_position_embeddings=32,
        )  # fmt: skip
        spoilt(md.from_config(config, task, backend="numpy")).save_pretrained(home / task)
        (home / task / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        found[task] = home / task
    return found


@pytest.mark.parametrize("task", TASKS)
def test_every_command_ends_in_one_line(folders, task, tmp_path, capsys):
    """Was: exit 0 with "score": NaN in what --json writes.
    Right: exit 2, nothing on stdout, one line that names the op; with --lines too."""
    data = tmp_path / "items.jsonl"
    item = TASKS[task] if isinstance(TASKS[task], dict) else {"text": TASKS[task]}
    data.write_text(json.dumps(item) + "\n")
    predict = ["predict", "--model", str(folders[task]), "--task", task, "--backend", "numpy"]
    for options in (["--json"], []):
        assert main([*predict, "--data", str(data), *options]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error:") and err.count("\n") == 1 and PLACE in err
    assert main([*predict, "--data", str(data), "--lines"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and PLACE in err.splitlines()[0] and "1 of 1 item has" in err
    with pytest.raises(ValueError, match=PLACE):
        md.pipeline(task, folders[task], backend="numpy")(TASKS[task])


def test_evaluate_and_search_too(folders, tmp_path, capsys):
    """Was: a table of nan, and found items of score nan.
    Right: exit 2 and one line."""
    data, items = tmp_path / "labelled.tsv", tmp_path / "items.txt"
    data.write_text("text\tlabel\na good film\t0\nit\t1\n")
    items.write_text("a good film\nin it\n")
    backend = ["--backend", "numpy"]
    for argv in (
        ["evaluate", "--model", str(folders["text-classification"]), "--data", str(data), "--json"],
        ["search", "--model", str(folders["sentence-embedding"]), "--items", str(items),
         "--index", str(tmp_path / "index.npz"), "--json", "film"],
    ):  # fmt: skip
        assert main([*argv, *backend]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and PLACE in err
    assert not (tmp_path / "index.npz").exists()


def test_logits_that_are_computed_in_pieces_too():
    """Was: perplexity NaN, as evaluation multiplies with the word embeddings itself.
    Right: the same refusal for logits that no op of the model gave."""
    model, batch = model_of(CASES["gpt2-words"], SMALL), batch_of(CASES["gpt2-words"], SMALL)
    last = {"transformer.ln_f.weight": 3e37, "transformer.wte.weight": 3e3}
    model.update({name: np.full_like(model.params[name], x) for name, x in last.items()})
    with pytest.raises(NotFiniteError, match="product of features and word embeddings"):
        command.measure(model, [batch])


def test_json_holds_null_for_what_is_no_number(monkeypatch):
    """Was: NaN and Infinity, which no JSON reader but Python's takes; a perplexity of e^800 ended
    in OverflowError.
    Right: null, in --json, --lines, reports and augmented rows alike."""
    value = {"a": float("nan"), "b": [np.float32("inf"), (1.5, np.int64(2))], "c": None}
    assert json.loads(files.to_json(value)) == {"a": None, "b": [None, [1.5, 2]], "c": None}
    found = {"loss": 800.0, "accuracy": 0.0}
    monkeypatch.setattr(command, "measured", lambda *_: found)
    perplexity = command.measure(model_of(CASES["gpt2-words"], SMALL), [])["perplexity"]
    assert perplexity == float("inf") and "Infinity" not in files.to_json(perplexity)


def test_healthy_models_are_left_alone():
    """Was: right, and stays so: a check that refuses every model would pass all tests above.
    Right: the same numbers as without the check."""
    case = CASES["gpt2-words"]
    model, batch = model_of(case, LARGE), batch_of(case, LARGE)
    rows = model.pack_batch(batch)
    logits = (model.infer(rows, checked=c).logits for c in (True, False))
    assert np.array_equal(*logits) and fields(case, LARGE)["model_type"] == "gpt2"
