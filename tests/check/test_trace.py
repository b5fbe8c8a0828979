"""`trace`: values and gradients of everything, the gradients checked against those of parameters
and, where PyTorch is installed, against what it retains."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from small import ALBERT, CONFIG, ROBERTA, saved

import minidistil as md
from minidistil.check.reference_batch import example, load
from minidistil.check.trace_values import trace
from minidistil.cli import main
from minidistil.io.files import write_tensors

BERT = md.BertConfig(
    vocab_size=40, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
    intermediate_size=20, max_position_embeddings=16, num_labels=3,
)  # fmt: skip
CASES = {
    "distilbert": (CONFIG, "fill-mask"), "bert": (BERT, "fill-mask"),
    "classifier": (BERT, "text-classification"), "body": (CONFIG, "feature-extraction"),
    "tokens": (BERT, "token-classification"), "answers": (CONFIG, "question-answering"),
    "choices": (BERT, "multiple-choice"), "roberta": (ROBERTA, "fill-mask"),
    "its classifier": (ROBERTA, "text-classification"), "albert": (ALBERT, "fill-mask"),
    "its choices": (ALBERT, "multiple-choice"),
}  # fmt: skip
BIAS = {"q": "q", "k": "k", "v": "v", "out": "out", "lin1": "lin1", "lin2": "lin2",
        "attention_norm": "attention_norm", "output": "output_norm"}  # fmt: skip
AROUND = (("embeddings_mapping", "embeddings.mapping"), ("transform", "transform"),
          ("transform_norm", "transform_norm"), ("pooler", "pooler"),
          ("pooler", "dense"))  # fmt: skip


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    config, task = CASES[request.param]
    folder = saved(md.from_config(config, task=task), tmp_path / "model")
    model = load(folder)
    batch = example(model, folder)
    return folder, model, batch, trace(model, batch)


def close(a, b, size):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * size)


def test_a_bias_collects_the_gradient_of_what_it_is_added_to(case):
    _, model, _, named = case
    largest = max(np.abs(x).max() for n, x in named.items() if n.startswith("parameter_gradient"))
    blocks = np.array(model.config.architecture.blocks)
    for block in set(blocks):  # ALBERT's take turns, and a bias collects from all of them
        for quantity, role in BIAS.items():
            turns = np.flatnonzero(blocks == block)
            d = sum(named[f"gradient.layer.{i}.{quantity}"].sum((0, 1)) for i in turns)
            bias = named[f"parameter_gradient.{model.names[f'layer.{block}.{role}.bias']}"]
            close(d, bias, largest)
    for quantity, role in AROUND:
        if f"gradient.{quantity}" in named and f"{role}.bias" in model.names:
            bias = named[f"parameter_gradient.{model.names[f'{role}.bias']}"]
            d = named[f"gradient.{quantity}"]
            close(d.reshape(-1, d.shape[-1]).sum(0), bias, largest)
    norm = named[f"parameter_gradient.{model.names['embeddings.norm.bias']}"]
    close(named["gradient.embeddings"].sum((0, 1)), norm, largest)
    place = named[f"parameter_gradient.{model.names['embeddings.position.weight']}"]
    T, padding = (
        named["gradient.embeddings_sum"].shape[1],
        model.config.architecture.padding_position,
    )
    first = 0 if padding is None else padding + 1
    close(named["gradient.embeddings_sum"].sum(0), place[first : first + T], largest)


def test_values_are_the_model_s(case):
    _, model, batch, named = case
    taps = ("layer.0.q", "layer.1.scores", "layer.1.probs", "layer.0.activation")
    out = model.forward(**batch, hidden_states=True, taps=taps)
    for name, x in out.taps.items():
        close(named[f"value.{name}"], x, 1)
    for i in range(2):
        close(named[f"value.layer.{i}.output"], out.hidden_states[i + 1], 1)
    assert {f"value.{n}" for n in taps} <= set(named)
    missing = {n.replace("value", "gradient") for n in named if n.startswith("value")} - set(named)
    assert missing == set()


def test_gradients_are_pytorch_s(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from minidistil.check.peers import transformers_model

    folder = saved(md.from_config(CONFIG), tmp_path)
    model = load(folder)
    batch = example(model, folder)
    named, module = trace(model, batch), transformers_model(folder).double()
    inputs = {name: torch.tensor(x) for name, x in batch.items()}
    labels = torch.where(inputs["attention_mask"] == 1, inputs["input_ids"], -100)
    out = module(**inputs, labels=labels, output_attentions=True, output_hidden_states=True)
    kept = [*out.attentions, *out.hidden_states]
    for x in kept:
        x.retain_grad()
    out.loss.backward()
    assert float(named["loss"][0]) == pytest.approx(float(out.loss.detach()), rel=1e-6)
    mask = batch["attention_mask"]
    square = (mask[:, None, :, None] * mask[:, None, None, :]).astype(float)
    for i in range(2):
        close(named[f"gradient.layer.{i}.probs"], out.attentions[i].grad.numpy() * square, 1e-2)
        close(named[f"gradient.layer.{i}.output"], out.hidden_states[i + 1].grad.numpy(), 1e-2)


def test_the_command(case, tmp_path, capsys):
    folder, _, _, named = case
    path = tmp_path / "trace.safetensors"
    assert main(["trace", str(folder), "--out", str(path)]) == 0
    assert "value.layer.0.q" in capsys.readouterr().out
    stored = load_file(path)
    assert set(stored) == set(named)
    assert all(np.array_equal(stored[name], named[name]) for name in named)
    assert main(["trace", str(folder), "--out", str(tmp_path / "no" / "where")]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_inputs_only(case, tmp_path, capsys):
    """The batch and the labels of the loss, as the trace has them, and the parameters' names."""
    folder, model, batch, named = case
    path = tmp_path / "inputs.safetensors"
    assert main(["trace", str(folder), "--inputs-only", "--out", str(path)]) == 0
    assert "input.input_ids" in capsys.readouterr().out
    stored = load_file(path)
    assert set(stored) == {name for name in named if name.startswith("input.")}
    assert all(np.array_equal(x, named[name]) for name, x in stored.items())
    with safe_open(path, "np") as file:
        about = file.metadata()
    assert about["n_layers"] == str(model.config.architecture.L) and about["task"] == model.task
    weights = load_file(folder / "model.safetensors")
    assert {about[role] for role in model.names} == set(weights)
    labels = {n.removeprefix("input."): x for n, x in stored.items() if n not in
              [f"input.{given}" for given in batch]}  # fmt: skip
    if labels:
        loss = model.forward(**batch, **labels).loss
        assert float(named["loss"][0]) == pytest.approx(float(loss), rel=1e-5)
    else:
        assert model.task == "feature-extraction"


def test_inputs_are_the_same_bytes_each_time(folder, tmp_path):
    """The library orders metadata anew for each file."""
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path in paths:
        assert main(["trace", str(folder), "--inputs-only", "--out", str(path)]) == 0
    assert len({path.read_bytes() for path in paths}) == 1


def test_metadata_of_any_text(tmp_path):
    about = {f'{i} é\n"\\\x01🙂': "\t/\x7f\b\x1f" * i for i in range(9)}
    write_tensors(tmp_path / "a", {"x": np.arange(3)}, about)
    with safe_open(tmp_path / "a", "np") as file:
        assert file.metadata() == about and file.get_tensor("x").tolist() == [0, 1, 2]
