"""A DistilBERT for masked words on PyTorch's own encoder, written apart from the package."""

import torch
import torch.nn.functional as F
from torch import nn


class TorchEncoder(nn.Module):
    """nn.TransformerEncoder between an embedding and a tied vocabulary head."""

    def __init__(self, state, n_heads):
        super().__init__()
        get = state.__getitem__
        words = get("distilbert.embeddings.word_embeddings.weight")
        places = get("distilbert.embeddings.position_embeddings.weight")
        hidden = get("distilbert.transformer.layer.0.ffn.lin1.weight")
        width = words.shape[1]
        self.tokens = nn.Embedding.from_pretrained(words.clone(), freeze=False)
        self.places = nn.Embedding.from_pretrained(places.clone(), freeze=False)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            width, n_heads, len(hidden), dropout=0.1, activation="gelu", layer_norm_eps=1e-12,
            batch_first=True, norm_first=False,
        )  # fmt: skip
        depth = 1 + max(int(n.split(".")[3]) for n in state if ".layer." in n)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.dense = nn.Linear(width, width)
        self.dense_norm = nn.LayerNorm(width, eps=1e-12)
        self.bias = nn.Parameter(get("vocab_projector.bias").clone())
        fill(self.norm, state, "distilbert.embeddings.LayerNorm")
        fill(self.dense, state, "vocab_transform")
        fill(self.dense_norm, state, "vocab_layer_norm")
        for i, mine in enumerate(self.encoder.layers):
            at = f"distilbert.transformer.layer.{i}."
            for kind in ("weight", "bias"):
                parts = [get(f"{at}attention.{n}_lin.{kind}") for n in ("q", "k", "v")]
                getattr(mine.self_attn, f"in_proj_{kind}").data = torch.cat(parts)
            fill(mine.self_attn.out_proj, state, at + "attention.out_lin")
            fill(mine.linear1, state, at + "ffn.lin1")
            fill(mine.linear2, state, at + "ffn.lin2")
            fill(mine.norm1, state, at + "sa_layer_norm")
            fill(mine.norm2, state, at + "output_layer_norm")

    def forward(self, input_ids, attention_mask):
        columns = torch.arange(0, input_ids.shape[1])
        x = self.tokens(input_ids) + self.places(columns)
        x = self.norm(x)
        padding = attention_mask == 0
        x = self.encoder(x, src_key_padding_mask=padding)
        h = F.gelu(self.dense(x))
        h = self.dense_norm(h)
        return F.linear(h, self.tokens.weight, self.bias)


def fill(part, state, name):
    """Copy the weight and the bias of a part."""
    part.weight.data = state[name + ".weight"].clone()
    part.bias.data = state[name + ".bias"].clone()


build = TorchEncoder
