"""`compare` with transformers' own models, with modules that cannot be compared, and its report."""

import json

import numpy as np
import pytest

import minidistil as md

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from implementations import Modules  # noqa: E402
from small import BERT, CONFIG, saved, saved_each  # noqa: E402

from minidistil.check.compare import STEPS  # noqa: E402
from minidistil.check.peers import transformers_model  # noqa: E402
from minidistil.cli import main  # noqa: E402

pytestmark = pytest.mark.usefixtures("calm")
MODELS = {
    "bert": (BERT, "fill-mask"),
    "bert-classifier": (BERT, "text-classification"),
    "bert-pretraining": (BERT, "pretraining"),
    "bert-body": (BERT, "feature-extraction"),
    "distilbert": (CONFIG, "fill-mask"),
    "distilbert-classifier": (CONFIG.with_labels(3), "text-classification"),
    "distilbert-body": (CONFIG, "feature-extraction"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return saved_each(MODELS, tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", MODELS)
def test_transformers_is_not_accused(name, folders):
    module = transformers_model(folders[name])
    report = md.check.compare(module, folders[name])
    assert (report.verdict, report.diagnosis, report.code) == ("agree", [], 0), report.text()
    assert not [x for x in report.unmatched if x.startswith("quantity")]
    assert not module.training and all(p.grad is None for p in module.parameters())


def test_every_step_is_told(folder):
    told = []
    md.check.compare(transformers_model(folder), folder, tell=told.append)
    assert tuple(told) == STEPS


def test_a_body_is_compared_with_a_model_that_has_a_head(folders):
    module = transformers.AutoModel.from_pretrained(folders["distilbert"])
    report = md.check.compare(module, folders["distilbert"])
    assert report.verdict == "agree", report.text()
    assert "quantity logits" in report.unmatched


def test_before_training_many_parameters_are_equal(tmp_path):
    md.from_config(CONFIG).save_pretrained(tmp_path)
    assert md.check.compare(transformers_model(tmp_path), tmp_path).verdict == "agree"


class Types(torch.nn.Module):
    """BERT with its token types left out, or all of one type."""

    def __init__(self, inner, kind):
        super().__init__()
        self.inner, self.kind = inner, kind
        if kind is None:
            inner.bert.embeddings.token_type_embeddings.weight.data.zero_()

    def forward(self, input_ids, attention_mask):
        types = torch.zeros_like(input_ids) + (self.kind or 0)
        return self.inner(input_ids, attention_mask=attention_mask, token_type_ids=types)


@pytest.mark.parametrize(("kind", "named"), [
    (0, "token-type-missing"), (None, "token-type-missing"), (1, "token-type-unexpected"),
])  # fmt: skip
def test_token_types(kind, named, folders):
    module = Types(transformers_model(folders["bert"]), kind)
    report = md.check.compare(module, folders["bert"])
    assert [d.id for d in report.diagnosis] == [named], report.text()


class Pooled(torch.nn.Module):
    """A classifier that reads the mean of its tokens."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids, attention_mask):
        h = self.inner.distilbert(input_ids, attention_mask=attention_mask).last_hidden_state
        m = attention_mask[:, :, None]
        pooled = (h * m).sum(1) / m.sum(1)
        return self.inner.classifier(torch.relu(self.inner.pre_classifier(pooled)))


def test_a_mean_is_not_the_first_token(folders):
    folder = folders["distilbert-classifier"]
    report = md.check.compare(Pooled(transformers_model(folder)), folder)
    assert [d.id for d in report.diagnosis] == ["pooled-mean"], report.text()
    assert "test_compare.py" in report.where


def test_hidden_states_before_the_norm(folders):
    """The forward is right and something else is handed out."""
    folder = folders["distilbert"]
    inner = transformers_model(folder)

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, attention_mask):
            kept = []
            last = self.inner.distilbert.transformer.layer[-1].output_layer_norm
            hook = last.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
            logits = self.inner(input_ids, attention_mask=attention_mask).logits
            hook.remove()
            return {"logits": logits, "hidden": kept[0]}

    report = md.check.compare(Hidden(), folder)
    assert [d.id for d in report.diagnosis] == ["hidden-before-norm"], report.text()
    assert report.first_difference == "returned.layer.1.output"


def test_layers_of_a_teacher(tmp_path):
    """A student that copied layers 0 and 1 where the folder's has 0 and 3."""
    config = md.DistilBertConfig(**{**vars(CONFIG), "n_layers": 4})
    teacher = md.from_pretrained(saved(md.from_config(config), tmp_path / "teacher"))
    for name, layers in (("right", (0, 3)), ("wrong", (0, 1))):
        md.student_from(teacher, layers=layers, vocab_transform=True).save_pretrained(
            tmp_path / name
        )
    module = transformers_model(tmp_path / "wrong")
    report = md.check.compare(module, tmp_path / "right", teacher=tmp_path / "teacher")
    assert [d.id for d in report.diagnosis] == ["wrong-layers-copied"], report.text()
    assert report.first_difference == "layer.1.q"


@pytest.mark.parametrize("bug", ["layernorm-eps-outside-root", "mask-too-weak:10", "scale-missing"])
def test_before_training_mistakes_are_faint_and_still_named(bug, tmp_path):
    """Scores near zero, weights near uniform: the difference hides under float32's rounding."""
    saved(md.from_config(CONFIG), tmp_path, size=0.02)
    report = md.check.compare(Modules(_state(tmp_path), CONFIG.n_heads, bug), tmp_path)
    assert [d.id for d in report.diagnosis] == [bug.split(":")[0]], report.text()


class Encoder(torch.nn.Module):
    """DistilBERT's body out of PyTorch's own encoder layer, which is one fused kernel inside."""

    def __init__(self, state, activation="gelu", eps=1e-12, n_heads=CONFIG.n_heads):
        super().__init__()
        C, nn = CONFIG.dim, torch.nn
        self.words, self.places = nn.Embedding(CONFIG.vocab_size, C), nn.Embedding(16, C)
        self.norm = nn.LayerNorm(C, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            C, n_heads, CONFIG.hidden_dim, 0.1, activation, eps, batch_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, CONFIG.n_layers, enable_nested_tensor=n_heads == 2
        )
        e = "distilbert.embeddings."
        self._take(self.words, state, e + "word_embeddings")
        self._take(self.places, state, e + "position_embeddings")
        self._take(self.norm, state, e + "LayerNorm")
        for i, mine in enumerate(self.layers.layers):
            at = f"distilbert.transformer.layer.{i}."
            mine.self_attn.in_proj_weight.data, mine.self_attn.in_proj_bias.data = (
                torch.cat([state[f"{at}attention.{n}_lin.{kind}"] for n in "qkv"])
                for kind in ("weight", "bias")
            )
            for part, name in (
                (mine.self_attn.out_proj, "attention.out_lin"), (mine.linear1, "ffn.lin1"),
                (mine.linear2, "ffn.lin2"), (mine.norm1, "sa_layer_norm"),
                (mine.norm2, "output_layer_norm"),
            ):  # fmt: skip
                self._take(part, state, at + name)

    def _take(self, part, state, name):
        part.load_state_dict({k: state[f"{name}.{k}"] for k in part.state_dict()})

    def forward(self, input_ids, attention_mask):
        x = self.norm(self.words(input_ids) + self.places(torch.arange(input_ids.shape[1])))
        return self.layers(x, src_key_padding_mask=attention_mask == 0)


@pytest.mark.parametrize(("options", "ids"), [
    ({}, []), ({"activation": "relu"}, ["activation-relu"]), ({"eps": 1e-5}, ["layernorm-eps"]),
])  # fmt: skip
def test_pytorch_s_own_encoder(options, ids, folder):
    report = md.check.compare(Encoder(_state(folder), **options), folder)
    assert [d.id for d in report.diagnosis] == ids, report.text()
    assert report.verdict == ("differ" if ids else "agree")


def test_what_is_unknown_is_said_to_be_so(folder):
    module = transformers_model(folder)
    weight = module.distilbert.transformer.layer[1].ffn.lin2.weight
    weight.data.add_(0.01 * torch.sin(50 * weight.data))
    report = md.check.compare(module, folder)
    assert (report.verdict, report.first_difference) == ("differ", "layer.1.lin2")
    assert report.diagnosis == [] and report.code == 1
    assert "ffn.lin2.weight" in report.evidence and "no known mistake" in report.text()


def test_a_detached_weight_is_found_by_its_gradient(folder):
    class Cut(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            dense = inner.distilbert.transformer.layer[0].attention.v_lin
            dense.forward = lambda x: torch.nn.functional.linear(
                x, dense.weight.detach(), dense.bias
            )

        def forward(self, input_ids, attention_mask):
            return self.inner(input_ids, attention_mask=attention_mask).logits

    report = md.check.compare(Cut(transformers_model(folder)), folder)
    assert report.verdict == "differ" and "v_lin.weight" in report.first_difference
    assert [d.id for d in report.diagnosis] == ["gradient-cut"], report.text()
    assert "no gradient arrives" in report.evidence


def test_two_copies_of_the_table(folder):
    module = transformers_model(folder)
    copy = module.vocab_projector.weight.detach().clone()
    module.vocab_projector.weight = torch.nn.Parameter(copy)
    report = md.check.compare(module, folder)
    assert report.verdict == "differ" and [d.id for d in report.diagnosis] == ["head-untied"]


@pytest.mark.parametrize(("module", "why"), [
    (torch.nn.Linear(3, 3), "fails on a batch"),
    (torch.nn.Embedding(40, 12), "holds 0 of the folder's"),
    (torch.nn.Bilinear(2, 2, 2), "is not recognised"),
])  # fmt: skip
def test_what_cannot_be_compared(module, why, folder):
    report = md.check.compare(module, folder)
    assert (report.verdict, report.code, report.rows) == ("cannot-compare", 2, [])
    assert why in report.reason and why in report.text()


def test_a_batch_and_a_call_of_ones_own(folder):
    batch = {"input_ids": np.arange(10).reshape(2, 5), "attention_mask": np.ones((2, 5), int)}

    class Odd(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, everything):
            return self.inner(**everything).logits

    report = md.check.compare(
        Odd(transformers_model(folder)), folder, batch, call=lambda module, inputs: module(inputs)
    )
    assert report.verdict == "agree", report.text()


# ---------------------------------------------------------------- the command


def run(capsys, *argv):
    code = main(["check", *map(str, argv)])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def build(tmp_path, folder):
    """A file with a right and a wrong build()."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from implementations import Modules\nfrom safetensors.torch import load_file\n"
        "def right(folder):\n"
        f"    return Modules(load_file(f'{{folder}}/model.safetensors'), {CONFIG.n_heads})\n"
        "def wrong(folder):\n"
        f"    return Modules(load_file(f'{{folder}}/model.safetensors'), {CONFIG.n_heads}, "
        "'gelu-tanh')\n"
        "def broken():\n    raise RuntimeError('out of ideas')\n"
    )
    return path


def test_the_command_agrees_with_transformers(capsys, folder):
    code, out, _ = run(capsys, "--model", folder)
    assert code == 0 and "agree: " in out and "\033[" not in out


def test_the_command_names_a_mistake(capsys, folder, build, tmp_path):
    out_folder = tmp_path / "out"
    argv = ("--model", folder, "--against", f"{build}:wrong", "--out", out_folder)
    code, out, _ = run(capsys, *argv)
    assert code == 1 and "first difference: layer.0.activation" in out and "gelu-tanh" in out
    page = (out_folder / "report.html").read_text(encoding="utf-8")
    assert "layer.1" in page and "outline:2px" in page and "gelu-tanh" in page
    code, out, _ = run(capsys, *argv[:4], "--json")
    found = json.loads(out)
    assert code == 1 and list(found) == [
        "verdict", "first_difference", "diagnosis", "rows", "unmatched"
    ]  # fmt: skip
    assert list(found["diagnosis"][0]) == ["id", "message", "where", "evidence"]
    assert found["diagnosis"][0]["where"].endswith("in activation")


def test_the_command_cannot_compare(capsys, folder, build, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text((folder / "config.json").read_text())
    for argv, said in (
        (("--model", folder, "--against", f"{build}:broken"), "out of ideas"),
        (("--model", folder, "--against", f"{build}:nobody"), "has no function 'nobody'"),
        (("--model", folder, "--against", "nofile.py:build"), "nofile.py is no file"),
        (("--model", folder, "--against", "mine"), "must be a file and a function in it"),
        (("--model", tmp_path / "bare"), "neither model.safetensors nor"),
        (("--model", folder, "--text", "a", "--data", build), "give one of them"),
    ):
        code, out, err = run(capsys, *argv)
        assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    code, out, _ = run(capsys, "--model", tmp_path / "bare", "--json")
    assert code == 2 and json.loads(out)["verdict"] == "cannot-compare"


def test_colour_marks_the_first_difference(folder, build):
    module = Modules(_state(folder), CONFIG.n_heads, "gelu-tanh")
    painted = md.check.compare(module, folder).text(colour=True)
    line = next(x for x in painted.splitlines() if "layer.0.activation" in x)
    assert line.startswith("\033[1m\033[31m")


def _state(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
