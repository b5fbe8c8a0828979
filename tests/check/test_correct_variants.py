"""Correct modules of every kind: none is accused, and the gradients of those that have any are
compared."""

from dataclasses import dataclass

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from implementations import STYLES, Modules  # noqa: E402
from mutations import loaded  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import CONFIG  # noqa: E402
from test_mutations import SOURCES  # noqa: E402
from test_wrapped import (  # noqa: E402
    Anything,
    Objects,
    OneDict,
    Positional,
    SlotObjects,
    Wrapped,
)
from test_wrong_backward import Own  # noqa: E402

from minidistil.check.peers import transformers_model  # noqa: E402

pytestmark = [pytest.mark.usefixtures("calm"), pytest.mark.filterwarnings("ignore")]


class InTuple(Wrapped):
    def forward(self, input_ids, attention_mask):
        return (self.inner(input_ids, attention_mask)["logits"],)


class Nested(Wrapped):
    def forward(self, input_ids, attention_mask):
        return [{"inside": self.inner(input_ids, attention_mask)}]


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None


class InDataclass(Objects):
    kind = Output


class BooleanMask(Wrapped):
    def forward(self, tokens, key_padding_mask):
        return self.inner(tokens, (~key_padding_mask).long())


def textbook(folder):
    return Modules(load_file(folder / "model.safetensors"), CONFIG.n_heads)


def traced(folder):
    ids, mask = torch.ones(4, 12, dtype=torch.long), torch.ones(4, 12, dtype=torch.long)
    return torch.jit.trace(textbook(folder), (ids, mask), strict=False)


def with_more(folder):
    module = textbook(folder)
    module.extra = torch.nn.Linear(5, 7)
    module.register_buffer("scale", torch.ones(3))
    return module


def with_larger_tables(folder):
    """A vocabulary padded to a round number, and positions that no text reaches."""
    module = textbook(folder)
    for name in ("words", "places"):
        table = getattr(module, name).data
        more = torch.cat([table, torch.randn(6, table.shape[1])])
        setattr(module, name, torch.nn.Parameter(more))
    module.plan.projected = lambda table, other: table[: CONFIG.vocab_size]
    return module


def half_frozen(folder):
    module = textbook(folder)
    module.blocks[0].requires_grad_(False)
    return module


def own(name):
    return lambda folder: loaded(SOURCES[name]).build(
        load_file(folder / "model.safetensors"), CONFIG.n_heads
    )


def style(kind):
    return lambda folder: kind(load_file(folder / "model.safetensors"), CONFIG.n_heads)


VARIANTS = {
    **{name: style(kind) for name, kind in STYLES.items()},
    **{name: own(name) for name in SOURCES},  # fused qkv; sequence first, (in, out)
    **{
        kind.__name__: lambda folder, kind=kind: kind(textbook(folder))
        for kind in (Anything, Positional, OneDict, Objects, SlotObjects, InTuple, Nested,
                     InDataclass, BooleanMask)
    },
    **{
        f"{op} by hand": lambda folder, op=op: Own(folder, op)
        for op in ("gelu", "norm", "attention", "embedding")
    },
    **{
        name: lambda folder, name=name: textbook(folder).to(getattr(torch, name))
        for name in ("float16", "bfloat16", "float64")
    },
    "transformers": transformers_model,
    "compiled": lambda folder: torch.compile(textbook(folder), backend="eager"),
    "parallel": lambda folder: torch.nn.DataParallel(textbook(folder)),
    "compiled, parallel": lambda folder: torch.nn.DataParallel(
        torch.compile(textbook(folder), backend="eager")
    ),
    "traced": traced,
    "frozen": lambda folder: textbook(folder).requires_grad_(False),
    "half frozen": half_frozen,
    "training mode": lambda folder: textbook(folder).train(),
    "more parameters": with_more,
    "larger tables": with_larger_tables,
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_it_is_not_accused(name, folder):
    report = md.check.compare(VARIANTS[name](folder), folder)
    assert (report.verdict, report.diagnosis, report.code) == ("agree", [], 0), report.text()
    assert (name == "frozen") != any(row.kind == "gradient" for row in report.rows)


def test_there_are_many():
    assert len(VARIANTS) >= 20
