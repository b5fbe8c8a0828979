"""A wrong backward inside a right forward: the op and the autograd function are named."""

import math
import types

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
import own_sequence_first as own  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import CONFIG  # noqa: E402

pytestmark = pytest.mark.usefixtures("calm")


class Gelu(torch.autograd.Function):
    """GELU; wrong: Φ(x) without the term x·φ(x)."""

    @staticmethod
    def forward(ctx, x, wrong):
        ctx.save_for_backward(x)
        ctx.wrong = wrong
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        slope = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        if not ctx.wrong:
            slope = slope + x * torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return dy * slope, None


class Normalise(torch.autograd.Function):
    """γ·x̂ + β; wrong: mean and variance are constants, or γ's gradient is of dy alone."""

    @staticmethod
    def forward(ctx, x, gamma, beta, wrong):
        rho = torch.rsqrt(x.var(-1, correction=0, keepdim=True) + 1e-12)
        unit = (x - x.mean(-1, keepdim=True)) * rho
        ctx.save_for_backward(unit, rho, gamma)
        ctx.wrong = wrong
        return gamma * unit + beta

    @staticmethod
    def backward(ctx, dy):
        unit, rho, gamma = ctx.saved_tensors
        g = dy * gamma
        dx = g
        if ctx.wrong != "dx":
            dx = g - g.mean(-1, keepdim=True) - unit * (g * unit).mean(-1, keepdim=True)
        dgamma = (dy if ctx.wrong == "gamma" else dy * unit).flatten(0, 1).sum(0)
        return dx * rho, dgamma, dy.flatten(0, 1).sum(0), None


class Weighted(torch.autograd.Function):
    """softmax(s)·v; wrong: the softmax's backward without the mean Σ p·dp."""

    @staticmethod
    def forward(ctx, s, v, wrong):
        p = s.softmax(-1)
        ctx.save_for_backward(p, v)
        ctx.wrong = wrong
        return p @ v

    @staticmethod
    def backward(ctx, dy):
        p, v = ctx.saved_tensors
        dp = dy @ v.transpose(1, 2)
        mean = 0 if ctx.wrong else (dp * p).sum(-1, keepdim=True)
        return p * (dp - mean), p.transpose(1, 2) @ dy, None


class LookUp(torch.autograd.Function):
    """table[ids]; wrong: the backward assigns where it must add."""

    @staticmethod
    def forward(ctx, table, ids, wrong):
        ctx.save_for_backward(ids)
        ctx.rows, ctx.wrong = len(table), wrong
        return table[ids]

    @staticmethod
    def backward(ctx, dy):
        (ids,) = ctx.saved_tensors
        d = dy.new_zeros(ctx.rows, dy.shape[-1])
        rows, ids = dy.flatten(0, 1), ids.flatten()
        if ctx.wrong:
            d[ids] = rows
        else:
            d.index_add_(0, ids, rows)
        return d, None, None


def attended(f, x, absent, wrong):
    """The attention of the sequence-first module, with `Weighted`."""
    T, B, C = x.shape
    size = C // f.heads
    q, k, v = (g(x).view(T, B * f.heads, size).transpose(0, 1) for g in (f.query, f.key, f.value))
    scores = torch.bmm(q, k.transpose(1, 2)) / math.sqrt(size)
    hidden = absent.repeat_interleave(f.heads, dim=0).unsqueeze(1)
    y = Weighted.apply(scores.masked_fill(hidden, float("-inf")), v, wrong)
    return f.mix(y.transpose(0, 1).reshape(T, B, C))


def instead(module, forward):
    """Another forward of one module, which its copies have, too."""
    module.forward = types.MethodType(forward, module)


class Own(own.SequenceFirstEncoder):
    """The sequence-first module with one op written as an autograd function, by hand."""

    def __init__(self, folder, op=None, wrong=None):
        super().__init__(load_file(folder / "model.safetensors"), CONFIG.n_heads)
        self.op, self.wrong = op, wrong
        if op == "gelu":
            for step in self.steps[1::2]:
                instead(step.inner, lambda f, x: f.down(Gelu.apply(f.up(x), wrong)))
        if op == "norm":
            instead(self.steps[1].norm, lambda n, x: Normalise.apply(x, n.gain, n.shift, wrong))
        if op == "attention":
            for step in self.steps[::2]:
                instead(step.inner, lambda f, x, absent: attended(f, x, absent, wrong))

    def forward(self, input_ids, attention_mask):
        tokens, absent = input_ids.t(), attention_mask < 1
        if self.op == "embedding":
            words = LookUp.apply(self.table, tokens, self.wrong)
        else:
            words = self.table[tokens]
        x = self.first(words + self.places[: len(tokens)].unsqueeze(1))
        for number, step in enumerate(self.steps):
            x = step(x, absent=absent) if number % 2 == 0 else step(x)
        z = self.last_norm(torch.nn.functional.gelu(self.last(x)))
        return (z @ self.table.t() + self.bias).transpose(0, 1)


CASES = {  # {op and what is wrong: (first difference, function, op, what the report says)}
    ("gelu", True): ("gradient.layer.1.lin1", "Gelu", "the activation", "of its rms"),
    ("norm", "dx"): ("gradient.layer.0.output_sum", "Normalise", "the LayerNorm after the feed",
                     ""),
    ("norm", "gamma"): ("grad.distilbert.transformer.layer.0.output_layer_norm.weight",
                        "Normalise", "layer.0.output_norm", ""),
    ("attention", True): ("gradient.layer.1.", "Weighted", "the softmax", ""),
    ("embedding", True): ("grad.distilbert.embeddings.word_embeddings.weight", "LookUp",
                          "the embeddings' look-up", "right but in"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_wrong_backward_is_named(case, folder):
    first, function, op, says = CASES[case]
    report = md.check.compare(Own(folder, *case), folder)
    assert report.code == 1 and report.first_difference.startswith(first), report.text()
    assert [d.id for d in report.diagnosis] == ["backward-wrong"], report.text()
    said = report.diagnosis[0].message
    assert "torch.autograd.Function" in said and op in said and says in said, report.text()
    assert f"{function} (" in said and "test_wrong_backward.py:" in report.where


def test_a_detached_step_is_located(folder):
    """No function of its own: the quantities between which the graph is cut are said."""
    module = Own(folder)
    instead(
        module.steps[1].inner,
        lambda f, x: f.down(torch.nn.functional.gelu(f.up(x).detach())),
    )
    report = md.check.compare(module, folder)
    assert report.code == 1 and [d.id for d in report.diagnosis] == ["gradient-cut"], report.text()
    says = report.diagnosis[0].message
    assert "from layer.0.activation to layer.0.lin1" in says and "detach" in says
    assert "autograd.Function" in report.evidence and "detach" in report.evidence


@pytest.mark.parametrize("frozen", [False, True])
def test_a_forward_that_holds_the_modules_own_parameters(frozen, folder):
    """Its copy in float64 computes with them, and not with its own: they have the gradient."""
    module = Own(folder).requires_grad_(not frozen)
    norm = module.steps[1].norm

    def standardised(x):
        rho = torch.rsqrt(x.var(-1, correction=0, keepdim=True) + 1e-12)
        return (x - x.mean(-1, keepdim=True)) * rho * norm.gain + norm.shift

    norm.forward = standardised
    report = md.check.compare(module, folder)
    assert report.verdict == "agree", report.text()


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_parameter_that_counts_twice_or_half(factor, folder):
    module = Own(folder)
    share = lambda w: factor * w + (1 - factor) * w.detach()  # noqa: E731
    instead(module.steps[1].inner.up, lambda up, x: x @ share(up.matrix) + up.shift)
    report = md.check.compare(module, folder)
    assert [d.id for d in report.diagnosis] == ["gradient-factor"], report.text()
    said = report.diagnosis[0].message
    assert f"∂steps.1.inner.up.matrix is {factor:.4f} × the right one" in said


@pytest.mark.parametrize(("factor", "named", "says"), [
    (0.0, "tied-gradient-one-sided", "0 × that of the look-up"),
    (2.0, "tied-gradient-factor", "2.0000 × the part of the look-up + 1.0000 × the part of"),
])  # fmt: skip
def test_the_shares_of_a_tied_table(factor, named, says, folder):
    class Shares(Own):
        def forward(self, input_ids, attention_mask):
            kept = self.table
            share = factor * kept + (1 - factor) * kept.detach()
            x = share[input_ids.t()] + self.places[: input_ids.shape[1]].unsqueeze(1)
            x = self.first(x)
            for number, step in enumerate(self.steps):
                x = step(x, absent=attention_mask < 1) if number % 2 == 0 else step(x)
            z = self.last_norm(torch.nn.functional.gelu(self.last(x)))
            return (z @ kept.t() + self.bias).transpose(0, 1)

    report = md.check.compare(Shares(folder), folder)
    assert [d.id for d in report.diagnosis] == [named], report.text()
    assert says in report.text()
