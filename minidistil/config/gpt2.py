"""Config of GPT-2, a causal decoder, with the published sizes of GPT-2 and GPT-3."""

from dataclasses import dataclass
from types import MappingProxyType

from minidistil.config.base import Architecture, BaseConfig


@dataclass(frozen=True)
class Gpt2Config(BaseConfig):
    """GPT-2's config.json; the defaults are those of the smallest released model (Radford et al.,
    2019). DistilGPT2 is the same with n_layer=6."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None  # None: 4·n_embd
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    bos_token_id: int = 50256
    eos_token_id: int | tuple | None = 50256  # of a tuple, each id ends a text
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True
    problem_type: str | None = None
    num_labels: int = 2
    id2label: tuple | None = None
    architectures: tuple | None = None
    model_type = "gpt2"
    common_names = MappingProxyType({
        "hidden_size": "n_embd", "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
    })  # fmt: skip
    fixed_options = MappingProxyType(
        {"add_cross_attention": False, "is_causal": True, "tie_last_hidden_states": True}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale_attn_weights or self.scale_attn_by_inverse_layer_idx:
            raise ValueError(
                "config: attention is scaled by 1/√D alone: scale_attn_weights must be true and "
                "scale_attn_by_inverse_layer_idx false"
            )

    @property
    def architecture(self) -> Architecture:
        return Architecture(
            V=self.vocab_size, P=self.n_positions, C=self.n_embd, H=self.n_head,
            F=self.n_inner or 4 * self.n_embd, L=self.n_layer, types=0,
            eps=self.layer_norm_epsilon, activation=self.activation_function,
            dropout=self.resid_pdrop, embedding_dropout=self.embd_pdrop,
            attention_dropout=self.attn_pdrop, drops_attention_output=True,
            pooler_activation="tanh", classifier_dropout=0.0, choice_dropout=0.0,
            token_dropout=0.0, causal=True,
        )  # fmt: skip


# Published sizes: layers, channels, heads. GPT-3's are from Brown et al., 2020, table 2.1, except
# for two rows whose heads do not divide the channels: 13B has 5120 channels here, not 5140, and
# 1.3B has 16 heads, not 24.
SIZES = {
    "distilgpt2": (6, 768, 12), "gpt2": (12, 768, 12), "gpt2-medium": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20), "gpt2-xl": (48, 1600, 25),
    "gpt3-125m": (12, 768, 12), "gpt3-350m": (24, 1024, 16), "gpt3-760m": (24, 1536, 16),
    "gpt3-1.3b": (24, 2048, 16), "gpt3-2.7b": (32, 2560, 32), "gpt3-6.7b": (32, 4096, 32),
    "gpt3-13b": (40, 5120, 40), "gpt3-175b": (96, 12288, 96),
}  # fmt: skip


def published(name: str) -> Gpt2Config:
    """The config of a published size, one of SIZES: 2048 positions for GPT-3, 1024 for GPT-2."""
    L, C, H = SIZES[name]
    positions = 2048 if name.startswith("gpt3") else 1024
    return Gpt2Config(n_layer=L, n_embd=C, n_head=H, n_positions=positions)
