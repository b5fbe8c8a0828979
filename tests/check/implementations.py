"""Small DistilBERTs for masked words, each written in another style, from one state dict of
transformers' names. Every one takes a Plan, which may hold a bug; see `bugs`."""

import math

import torch
import torch.nn.functional as F
from bugs import Plan
from torch import nn

EPS = 1e-12
PARTS = {"q": "attention.q_lin", "k": "attention.k_lin", "v": "attention.v_lin",
         "out": "attention.out_lin", "n1": "sa_layer_norm", "lin1": "ffn.lin1",
         "lin2": "ffn.lin2", "n2": "output_layer_norm"}  # fmt: skip


def block_state(state, i):
    """{short name: (weight, bias)} of a layer."""
    prefix = f"distilbert.transformer.layer.{i}."
    return {
        short: tuple(state[f"{prefix}{name}.{kind}"].clone() for kind in ("weight", "bias"))
        for short, name in PARTS.items()
    }


class Base(nn.Module):
    """What every style needs: sizes, the plan, tables that only bugs use."""

    def __init__(self, state, n_heads, bug=None):
        super().__init__()
        self.plan, self.n_heads = Plan(bug), n_heads
        table = state["distilbert.embeddings.word_embeddings.weight"]
        self.n_layers = 1 + max(int(n.split(".")[3]) for n in state if ".layer." in n)
        torch.manual_seed(3)
        if self.plan("head-untied"):
            self.other = nn.Parameter(torch.randn_like(table))
        if self.plan("token-type-unexpected"):
            self.types = nn.Parameter(torch.randn(2, table.shape[1]))

    def typed(self, x):
        return x + self.types[0] if self.plan("token-type-unexpected") else x

    def table_of_words(self, table):
        return self.plan.projected(table, getattr(self, "other", None))


# ---------------------------------------------------------------- modules, as in a textbook


class Norm(nn.Module):
    """LayerNorm by its formula."""

    def __init__(self, gamma, beta, plan):
        super().__init__()
        self.scale, self.shift, self.plan = nn.Parameter(gamma), nn.Parameter(beta), plan

    def formula(self, x, gamma, beta):
        mean = x.mean(dim=-1, keepdim=True)
        variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
        return gamma * (x - mean) / torch.sqrt(variance + EPS) + beta

    def forward(self, x):
        return self.plan.norm(x, self.scale, self.shift, self.formula)


class Dense(nn.Module):
    """A linear layer that stores its weight as torch.nn.Linear does."""

    def __init__(self, pair, plan, site):
        super().__init__()
        self.weight, self.bias = nn.Parameter(pair[0]), nn.Parameter(pair[1])
        self.plan, self.site = plan, site

    def forward(self, x):
        weight, bias = (
            self.plan.weight(self.weight, self.site),
            self.plan.bias(self.bias, self.site),
        )
        return F.linear(x, weight, bias)


class ModuleBlock(nn.Module):
    def __init__(self, p, n_heads, plan):
        super().__init__()
        self.h, self.plan = n_heads, plan
        self.query, self.key, self.value, self.dense = (
            Dense(p[name], plan, name) for name in ("q", "k", "v", "out")
        )
        self.norm1, self.norm2 = Norm(*p["n1"], plan), Norm(*p["n2"], plan)
        self.up, self.down = Dense(p["lin1"], plan, "lin1"), Dense(p["lin2"], plan, "lin2")

    def split(self, x):
        B, T, C = x.shape
        if self.plan("head-order"):
            return x.view(B, T, C // self.h, self.h).permute(0, 3, 1, 2)
        return x.view(B, T, self.h, C // self.h).transpose(1, 2)

    def attention(self, x, mask):
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        q, k = self.plan.swapped(q, k)
        s = q @ k.transpose(-1, -2) / self.plan.divisor(q.shape[-1], x.shape[-1])
        a = self.plan.weights(s, mask, lambda s, m: s.masked_fill(~m, -torch.inf).softmax(-1))
        y = a @ v
        if self.plan("head-order"):
            y = y.permute(0, 2, 3, 1)
        elif not self.plan("head-order:merge"):
            y = y.transpose(1, 2)
        return self.plan.dropout(self.dense(y.reshape(x.shape)))

    def feed_forward(self, x):
        return self.down(self.plan.activation(self.up(x), F.gelu))

    def forward(self, x, mask, last):
        if self.plan("pre-norm"):
            x = x + self.attention(self.norm1(x), mask)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(self.plan.residual(x, self.attention(x, mask), "attention"))
        y = self.plan.residual(x, self.feed_forward(x), "ffn")
        return y if last and self.plan("hidden-before-norm") else self.norm2(y)


class Modules(Base):
    def __init__(self, state, n_heads, bug=None):
        super().__init__(state, n_heads, bug)
        plan = self.plan
        e = "distilbert.embeddings."
        self.words = nn.Parameter(state[e + "word_embeddings.weight"].clone())
        self.places = nn.Parameter(state[e + "position_embeddings.weight"].clone())
        self.norm = Norm(
            state[e + "LayerNorm.weight"].clone(), state[e + "LayerNorm.bias"].clone(), plan
        )
        self.blocks = nn.ModuleList(
            ModuleBlock(block_state(state, plan.layer(i, self.n_layers)), n_heads, plan)
            for i in range(self.n_layers)
        )
        self.transform = Dense(
            (state["vocab_transform.weight"].clone(), state["vocab_transform.bias"].clone()),
            plan, "transform",
        )  # fmt: skip
        self.head_norm = Norm(
            state["vocab_layer_norm.weight"].clone(), state["vocab_layer_norm.bias"].clone(), plan
        )
        self.head_bias = nn.Parameter(state["vocab_projector.bias"].clone())

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.bool()
        word = F.embedding(input_ids, self.plan.looked_up(self.words))
        place = self.places[self.plan.positions(input_ids.shape[1])]
        x = self.norm(self.typed(self.plan.embedded(word, place)))
        for i, block in enumerate(self.blocks):
            x = block(x, mask, last=i == self.n_layers - 1)
        x = self.head_norm(self.plan.activation(self.transform(x), F.gelu))
        return {"logits": x @ self.table_of_words(self.words).T + self.head_bias}


# ---------------------------------------------------------------- one function over a dict


class Functional(Base):
    """Weights in a dict, one function; (in, out) matrices, masks that are added, F.layer_norm."""

    def __init__(self, state, n_heads, bug=None):
        super().__init__(state, n_heads, bug)
        self.w = nn.ParameterDict()
        for name, x in state.items():
            matrix = x.ndim == 2 and "embeddings" not in name
            self.w[name.replace(".", "/")] = nn.Parameter(x.T.contiguous() if matrix else x.clone())

    def forward(self, ids, mask):
        plan, H = self.plan, self.n_heads

        def get(name):
            return self.w[name.replace(".", "/")]

        def dense(x, name, site):
            weight = plan.weight(get(name + ".weight").T, site).T
            return x @ weight + plan.bias(get(name + ".bias"), site)

        def norm(x, name):
            return plan.norm(
                x, get(name + ".weight"), get(name + ".bias"),
                lambda x, g, b: F.layer_norm(x, (x.shape[-1],), g, b, EPS),
            )  # fmt: skip

        def gelu(x):
            return plan.activation(x, lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))))

        B, T = ids.shape
        words = get("distilbert.embeddings.word_embeddings.weight")
        places = get("distilbert.embeddings.position_embeddings.weight")[plan.positions(T)]
        x = self.typed(plan.embedded(plan.looked_up(words)[ids], places))
        x = norm(x, "distilbert.embeddings.LayerNorm")
        C = x.shape[-1]
        for i in range(self.n_layers):
            at = f"distilbert.transformer.layer.{plan.layer(i, self.n_layers)}."

            def attention(x, at=at):
                q, k, v = (dense(x, f"{at}attention.{n}_lin", n) for n in "qkv")
                if plan("head-order"):
                    q, k, v = (z.reshape(B, H, T, C // H) for z in (q, k, v))
                else:
                    q, k, v = (z.reshape(B, T, H, C // H).transpose(1, 2) for z in (q, k, v))
                q, k = plan.swapped(q, k)
                s = torch.matmul(q / plan.divisor(C // H, C), k.transpose(2, 3))
                a = plan.weights(s, mask.bool(), lambda s, m: torch.softmax(
                    s + torch.where(m, 0.0, -1e9), dim=-1))  # fmt: skip
                y = torch.matmul(a, v)
                if not plan("head-order", "head-order:merge"):
                    y = y.transpose(1, 2)
                return plan.dropout(dense(y.reshape(B, T, C), at + "attention.out_lin", "out"))

            def feed(x, at=at):
                return dense(gelu(dense(x, at + "ffn.lin1", "lin1")), at + "ffn.lin2", "lin2")

            if plan("pre-norm"):
                x = x + attention(norm(x, at + "sa_layer_norm"))
                x = x + feed(norm(x, at + "output_layer_norm"))
                continue
            x = norm(plan.residual(x, attention(x), "attention"), at + "sa_layer_norm")
            x = plan.residual(x, feed(x), "ffn")
            if not (plan("hidden-before-norm") and i == self.n_layers - 1):
                x = norm(x, at + "output_layer_norm")
        x = norm(gelu(dense(x, "vocab_transform", "transform")), "vocab_layer_norm")
        logits = x @ self.table_of_words(words).T + get("vocab_projector.bias")
        return logits.reshape(B * T, -1)


# ---------------------------------------------------------------- one matrix for q, k and v


class Fused(Base):
    """q, k and v in one product; torch's own attention where nothing is planted in it."""

    def __init__(self, state, n_heads, bug=None):
        super().__init__(state, n_heads, bug)
        e, plan = "distilbert.embeddings.", self.plan
        self.wte = nn.Embedding.from_pretrained(state[e + "word_embeddings.weight"].clone(), False)
        self.wpe = nn.Embedding.from_pretrained(
            state[e + "position_embeddings.weight"].clone(), False
        )
        self.gains = nn.ParameterList()
        self.matrices = nn.ParameterList()
        self.vectors = nn.ParameterList()
        for name in (e + "LayerNorm", "vocab_layer_norm"):
            self.gains.extend([state[f"{name}.weight"].clone(), state[f"{name}.bias"].clone()])
        for i in range(self.n_layers):
            p = block_state(state, plan.layer(i, self.n_layers))
            self.matrices.extend([torch.cat([p[n][0] for n in "qkv"]),
                                  *(p[n][0] for n in ("out", "lin1", "lin2"))])  # fmt: skip
            self.vectors.extend([torch.cat([p[n][1] for n in "qkv"]),
                                 *(p[n][1] for n in ("out", "lin1", "lin2"))])  # fmt: skip
            self.gains.extend([*p["n1"], *p["n2"]])
        self.matrices.append(state["vocab_transform.weight"].clone())
        self.vectors.extend([state["vocab_transform.bias"].clone(),
                             state["vocab_projector.bias"].clone()])  # fmt: skip

    def norm(self, x, number):
        gamma, beta = self.gains[2 * number], self.gains[2 * number + 1]
        return self.plan.norm(
            x, gamma, beta, lambda x, g, b: torch.layer_norm(x, x.shape[-1:], g, b, EPS)
        )

    def linear(self, x, number, site):
        weight, bias = self.matrices[number], self.vectors[number]
        return F.linear(x, self.plan.weight(weight, site), self.plan.bias(bias, site))

    def qkv(self, x, i):
        weight, bias = self.matrices[4 * i], self.vectors[4 * i]
        if self.plan("weight-untransposed", "bias-missing"):
            parts = zip(weight.chunk(3), bias.chunk(3), "qkv", strict=True)
            return [F.linear(x, self.plan.weight(w, n), self.plan.bias(b, n)) for w, b, n in parts]
        return F.linear(x, weight, bias).split(x.shape[-1], dim=-1)

    def attention(self, x, i, mask):
        B, T, C = x.shape
        H, D, plan = self.n_heads, C // self.n_heads, self.plan
        if plan("head-order"):
            q, k, v = (z.reshape(B, T, D, H).permute(0, 3, 1, 2) for z in self.qkv(x, i))
        else:
            q, k, v = (z.unflatten(-1, (H, D)).transpose(1, 2) for z in self.qkv(x, i))
        q, k = plan.swapped(q, k)
        if plan.bug is None:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        else:
            s = torch.einsum("bhqd,bhkd->bhqk", q, k) / plan.divisor(D, C)
            a = plan.weights(
                s, mask, lambda s, m: s.masked_fill(m.logical_not(), -1e30).softmax(-1)
            )
            y = a @ v
        if not plan("head-order:merge"):
            y = y.transpose(1, 2)
        return plan.dropout(self.linear(y.reshape(B, T, C), 4 * i + 1, "out"))

    def feed(self, x, i):
        up = self.plan.activation(self.linear(x, 4 * i + 2, "lin1"), nn.functional.gelu)
        return self.linear(up, 4 * i + 3, "lin2")

    def forward(self, tokens, attn_mask=None):
        plan, mask = self.plan, attn_mask == 1
        word = F.embedding(tokens, plan.looked_up(self.wte.weight))
        x = self.norm(self.typed(plan.embedded(word, self.wpe(plan.positions(tokens.shape[1])))), 0)
        for i in range(self.n_layers):
            first, second = 2 + 2 * i, 3 + 2 * i
            if plan("pre-norm"):
                x = x + self.attention(self.norm(x, first), i, mask)
                x = x + self.feed(self.norm(x, second), i)
                continue
            x = self.norm(plan.residual(x, self.attention(x, i, mask), "attention"), first)
            x = plan.residual(x, self.feed(x, i), "ffn")
            if not (plan("hidden-before-norm") and i == self.n_layers - 1):
                x = self.norm(x, second)
        hidden = x
        x = plan.activation(self.linear(x, len(self.matrices) - 1, "transform"), F.gelu)
        x = self.norm(x, 1)
        logits = F.linear(x, self.table_of_words(self.wte.weight), self.vectors[-1])
        return logits, hidden


# ---------------------------------------------------------------- einsum, heads on their own axis


class Einsum(Base):
    """Weights (C,H,D); every product an einsum; q is scaled, not the scores."""

    def __init__(self, state, n_heads, bug=None):
        super().__init__(state, n_heads, bug)
        e, H = "distilbert.embeddings.", n_heads
        self.tables = nn.ParameterList(
            [state[e + "word_embeddings.weight"].clone(),
             state[e + "position_embeddings.weight"].clone()]
        )  # fmt: skip
        self.layers = nn.ModuleList()
        for i in range(self.n_layers):
            p = block_state(state, self.plan.layer(i, self.n_layers))
            C = p["q"][0].shape[0]
            layer = nn.ParameterDict()
            for n in "qkv":
                layer["w" + n] = p[n][0].T.reshape(C, H, C // H).clone()
                layer["b" + n] = p[n][1].reshape(H, C // H)
            layer["wo"], layer["bo"] = p["out"][0].T.reshape(H, C // H, C).clone(), p["out"][1]
            for n in ("lin1", "lin2", "n1", "n2"):
                layer["w" + n], layer["b" + n] = p[n]
            self.layers.append(layer)
        ends = {"w": "vocab_transform.weight", "b": "vocab_transform.bias",
                "g": "vocab_layer_norm.weight", "h": "vocab_layer_norm.bias",
                "p": "vocab_projector.bias", "eg": e + "LayerNorm.weight",
                "eb": e + "LayerNorm.bias"}  # fmt: skip
        self.end = nn.ParameterDict({short: state[name].clone() for short, name in ends.items()})

    def norm(self, x, gamma, beta):
        def right(x, gamma, beta):
            variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
            return (x - mean) * torch.rsqrt(variance + EPS) * gamma + beta

        return self.plan.norm(x, gamma, beta, right)

    def attention(self, x, p, mask):
        plan, (C, H, D) = self.plan, p["wq"].shape
        q, k, v = (self.project(x, p["w" + n], p["b" + n], n) for n in "qkv")
        if plan("head-order"):
            q, k, v = (z.reshape(*x.shape[:2], D, H).transpose(2, 3) for z in (q, k, v))
        q, k = plan.swapped(q, k)
        s = torch.einsum("bqhd,bkhd->bhqk", q / plan.divisor(D, C), k)
        a = plan.weights(s, mask, lambda s, m: F.softmax(s.where(m, torch.tensor(-1e9)), -1))
        y = torch.einsum("bhqk,bkhd->bqhd", a, v)
        if plan("head-order"):
            y = y.transpose(2, 3).reshape(y.shape)
        if plan("head-order:merge"):
            y = y.transpose(1, 2).reshape(y.shape)
        wo = p["wo"]
        if plan("weight-untransposed:out"):
            wo = wo.reshape(C, C).T.reshape(wo.shape)
        return plan.dropout(torch.einsum("bqhd,hdc->bqc", y, wo) + p["bo"])

    def project(self, x, weight, bias, site):
        if self.plan("weight-untransposed"):
            weight = weight.reshape(len(weight), -1).T.reshape(weight.shape)
        return torch.einsum("btc,chd->bthd", x, weight) + self.plan.bias(bias, site)

    def feed(self, x, p):
        up = torch.einsum("btc,fc->btf", x, p["wlin1"]) + self.plan.bias(p["blin1"], "lin1")
        up = self.plan.activation(up, lambda x: x * 0.5 * (1 + torch.special.erf(x * 2**-0.5)))
        return torch.einsum("btf,cf->btc", up, p["wlin2"]) + p["blin2"]

    def forward(self, input_ids, mask):
        plan, mask = self.plan, mask > 0
        word = plan.looked_up(self.tables[0])[input_ids]
        x = self.typed(plan.embedded(word, self.tables[1][plan.positions(input_ids.shape[1])]))
        x = self.norm(x, self.end["eg"], self.end["eb"])
        for i, p in enumerate(self.layers):
            if plan("pre-norm"):
                x = x + self.attention(self.norm(x, p["wn1"], p["bn1"]), p, mask)
                x = x + self.feed(self.norm(x, p["wn2"], p["bn2"]), p)
                continue
            x = plan.residual(x, self.attention(x, p, mask), "attention")
            x = self.norm(x, p["wn1"], p["bn1"])
            x = plan.residual(x, self.feed(x, p), "ffn")
            if not (plan("hidden-before-norm") and i == self.n_layers - 1):
                x = self.norm(x, p["wn2"], p["bn2"])
        x = torch.einsum("btc,dc->btd", x, self.end["w"]) + self.end["b"]
        x = self.norm(plan.activation(x, F.gelu), self.end["g"], self.end["h"])
        return torch.einsum("btc,vc->btv", x, self.table_of_words(self.tables[0])) + self.end["p"]


# ---------------------------------------------------------------- time goes first


class SequenceFirst(Base):
    """(T,B,C) throughout, (B·H,T,D) in attention with baddbmm-like products, as fairseq has it."""

    def __init__(self, state, n_heads, bug=None):
        super().__init__(state, n_heads, bug)
        e = "distilbert.embeddings."
        self.embed = nn.Parameter(state[e + "word_embeddings.weight"].clone())
        self.learned = nn.Parameter(state[e + "position_embeddings.weight"].clone())
        self.first = Norm(
            state[e + "LayerNorm.weight"].clone(), state[e + "LayerNorm.bias"].clone(), self.plan
        )
        self.stack = nn.ModuleList()
        for i in range(self.n_layers):
            p = block_state(state, self.plan.layer(i, self.n_layers))
            layer = {n: Dense(p[n], self.plan, n) for n in ("q", "k", "v", "out", "lin1", "lin2")}
            layer |= {n: Norm(*p[n], self.plan) for n in ("n1", "n2")}
            self.stack.append(nn.ModuleDict(layer))
        self.lm = Dense(
            (state["vocab_transform.weight"].clone(), state["vocab_transform.bias"].clone()),
            self.plan, "transform",
        )  # fmt: skip
        self.lm_norm = Norm(
            state["vocab_layer_norm.weight"].clone(), state["vocab_layer_norm.bias"].clone(),
            self.plan,
        )  # fmt: skip
        self.lm_bias = nn.Parameter(state["vocab_projector.bias"].clone())

    def attention(self, x, layer, mask):
        T, B, C = x.shape
        H, D, plan = self.n_heads, C // self.n_heads, self.plan
        q, k, v = (layer[n](x) for n in "qkv")
        if plan("head-order"):
            q, k, v = (z.reshape(T, B, D, H).permute(1, 3, 0, 2) for z in (q, k, v))
            q, k, v = (z.reshape(B * H, T, D) for z in (q, k, v))
        else:
            q, k, v = (z.reshape(T, B * H, D).transpose(0, 1) for z in (q, k, v))
        q, k = plan.swapped(q, k)
        s = torch.bmm(q, k.transpose(1, 2)) / plan.divisor(D, C)
        a = plan.weights(
            s.view(B, H, T, T), mask, lambda s, m: s.masked_fill(~m, float("-inf")).softmax(-1)
        )
        y = torch.bmm(a.reshape(B * H, T, T), v)
        if plan("head-order", "head-order:merge"):
            y = y.view(B, H, T, D).permute(2, 0, 3, 1).reshape(T, B, C)
        else:
            y = y.transpose(0, 1).reshape(T, B, C)
        return plan.dropout(layer["out"](y))

    def forward(self, src, key_padding_mask):
        plan, mask = self.plan, ~key_padding_mask
        word = F.embedding(src, plan.looked_up(self.embed))
        x = plan.embedded(word, self.learned[plan.positions(src.shape[1])])
        x = self.first(self.typed(x)).transpose(0, 1)
        for i, layer in enumerate(self.stack):

            def feed(x, layer=layer):
                return layer["lin2"](plan.activation(layer["lin1"](x), F.gelu))

            if plan("pre-norm"):
                x = x + self.attention(layer["n1"](x), layer, mask)
                x = x + feed(layer["n2"](x))
                continue
            x = layer["n1"](plan.residual(x, self.attention(x, layer, mask), "attention"))
            x = plan.residual(x, feed(x), "ffn")
            if not (plan("hidden-before-norm") and i == self.n_layers - 1):
                x = layer["n2"](x)
        x = self.lm_norm(plan.activation(self.lm(x), F.gelu))
        return (x @ self.table_of_words(self.embed).T + self.lm_bias).transpose(0, 1)


STYLES = {
    "modules": Modules, "functional": Functional, "fused": Fused, "einsum": Einsum,
    "sequence-first": SequenceFirst,
}  # fmt: skip
