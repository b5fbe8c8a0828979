"""The line "not compared: …", and the exit code that is 0 only where all that counts was."""

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from implementations import Modules  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import CONFIG  # noqa: E402

from minidistil.check.peers import transformers_model  # noqa: E402
from minidistil.cli import main  # noqa: E402

pytestmark = pytest.mark.usefixtures("calm")


@pytest.fixture
def mine(folder):
    return Modules(load_file(folder / "model.safetensors"), CONFIG.n_heads)


def line(report):
    return report.text().splitlines()[-1]


def test_nothing_is_left_out(folder, mine):
    report = md.check.compare(mine, folder)
    assert (report.code, line(report)) == (0, "not compared: nothing that the model has")
    assert "<h2>Not compared</h2><ul><li>nothing</li></ul>" in report.html()


def test_frozen_parameters_are_named(folder, mine):
    mine.words.requires_grad_(False)
    report = md.check.compare(mine, folder)
    assert report.code == 0 and "frozen distilbert.embeddings.word" in line(report)
    report = md.check.compare(mine.requires_grad_(False), folder)
    assert report.code == 0 and not any(row.kind == "gradient" for row in report.rows)
    assert f"{len(mine.state_dict())} gradients of frozen parameters (" in line(report), (
        report.text()
    )


def test_a_forward_without_a_graph_is_not_enough(folder, mine):
    class Cut(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mine

        @torch.no_grad()
        def forward(self, input_ids, attention_mask):
            return self.inner(input_ids, attention_mask)

    report = md.check.compare(Cut(), folder)
    assert (report.verdict, report.code) == ("cannot-compare", 2)
    assert "no gradient was compared" in report.text() and "no_grad" in report.reason
    assert "gradients that do not arrive at the outputs (" in line(report)
    assert md.check.compare(Cut().requires_grad_(False), folder).code == 0


def test_extra_parameters_are_named_and_no_mistake(folder, mine):
    mine.extra = torch.nn.Linear(5, 7)
    mine.register_buffer("scale", torch.ones(3))
    report = md.check.compare(mine, folder)
    assert report.code == 0 and "3 weights of the module that the folder does not have" in line(
        report
    )


@pytest.mark.parametrize("before", [0, 2])
def test_a_larger_table_is_compared(before, folder, mine):
    """A vocabulary padded to a round number, positions with rows that no text reaches."""
    for name in ("words", "places"):
        table = getattr(mine, name).data
        more = torch.randn(6, table.shape[1])
        larger = torch.cat([more[:before], table, more[before:]])
        setattr(mine, name, torch.nn.Parameter(larger))

    class Larger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mine
            plan = mine.plan
            plan.positions = lambda T: torch.arange(T) + before
            plan.projected = lambda table, other: table[before : before + CONFIG.vocab_size]

        def forward(self, input_ids, attention_mask):
            return self.inner(input_ids + before, attention_mask)

    report = md.check.compare(Larger(), folder)
    assert report.code == 0 and line(report).endswith("nothing that the model has"), report.text()


def test_weights_in_another_form_leave_the_gradients_open(folder, mine):
    """q is scaled by its weight: the forward agrees, the gradient is that of another parameter."""
    for block in mine.blocks:
        for p in (block.query.weight, block.query.bias):
            p.data /= 2.0
        block.plan.divisor = lambda dim, channels: 1.0
    report = md.check.compare(mine, folder)
    assert report.code == 2 and "in another form, among blocks.0.query" in report.text()


def test_the_command_says_it(capsys, folder, tmp_path):
    path = tmp_path / "frozen.py"
    path.write_text(
        "from minidistil.check.peers import transformers_model\n"
        "def build(folder):\n    return transformers_model(folder).requires_grad_(False)\n"
        "def argmax(folder):\n    import torch\n    class A(torch.nn.Module):\n"
        "        def __init__(self):\n            super().__init__()\n"
        "            self.inner = transformers_model(folder)\n"
        "        def forward(self, input_ids, attention_mask):\n"
        "            out = self.inner(input_ids, attention_mask=attention_mask)\n"
        "            return out.logits.argmax(-1)\n"
        "    return A()\n"
    )
    assert main(["check", "--model", str(folder), "--against", f"{path}:build"]) == 0
    assert "not compared: 41 gradients of frozen" in capsys.readouterr().out
    assert main(["check", "--model", str(folder), "--against", f"{path}:argmax"]) == 2
    assert "cannot compare: " in capsys.readouterr().out


def test_transformers_model_reads_everything(folder):
    assert line(md.check.compare(transformers_model(folder), folder)).endswith("the model has")
