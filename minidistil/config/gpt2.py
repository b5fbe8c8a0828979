"""GPT-2, DistilGPT2 and GPT-3's shapes: a decoder, which reads from left to right."""

from dataclasses import dataclass

from minidistil.config.base import Architecture, Config


@dataclass(frozen=True)
class Gpt2Config(Config):
    """GPT-2's config.json; the defaults are those of the smallest released one (Radford et al.,
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
    eos_token_id: int = 50256
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True
    problem_type: str | None = None
    num_labels: int = 2
    id2label: tuple | None = None
    architectures: tuple | None = None
    model_type = "gpt2"

    def __post_init__(self):
        super().__post_init__()
        if not self.scale_attn_weights or self.scale_attn_by_inverse_layer_idx:
            raise ValueError(
                "config: attention is scaled by 1/√D alone: scale_attn_weights must be true and "
                "scale_attn_by_inverse_layer_idx false"
            )

    @property
    def architecture(self):
        return Architecture(
            V=self.vocab_size, P=self.n_positions, C=self.n_embd, H=self.n_head,
            F=self.n_inner or 4 * self.n_embd, L=self.n_layer, types=0,
            eps=self.layer_norm_epsilon, activation=self.activation_function,
            dropout=self.resid_pdrop, embedding_dropout=self.embd_pdrop,
            attention_dropout=self.attn_pdrop, drops_attention_output=True,
            pooler_activation="tanh", classifier_dropout=0.0, choice_dropout=0.0,
            token_dropout=0.0, causal=True,
        )  # fmt: skip
