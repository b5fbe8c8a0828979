"""DistilBERT: BERT without token types and pooler; ε is fixed."""

from dataclasses import dataclass
from types import MappingProxyType

from minidistil.config.base import Architecture, Config


@dataclass(frozen=True)
class DistilBertConfig(Config):
    """DistilBERT's config.json; the defaults are the released model's (Sanh et al., 2019)."""

    vocab_size: int = 30522
    dim: int = 768
    n_layers: int = 6
    n_heads: int = 12
    hidden_dim: int = 3072
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False
    initializer_range: float = 0.02
    seq_classif_dropout: float = 0.2
    qa_dropout: float = 0.1
    pad_token_id: int = 0
    tie_word_embeddings: bool = True
    problem_type: str | None = None
    num_labels: int = 2
    id2label: tuple | None = None
    architectures: tuple | None = None
    model_type = "distilbert"
    common = MappingProxyType(
        {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
    )

    @property
    def architecture(self):
        return Architecture(
            V=self.vocab_size, P=self.max_position_embeddings, C=self.dim, H=self.n_heads,
            F=self.hidden_dim, L=self.n_layers, types=0, eps=1e-12, activation=self.activation,
            dropout=self.dropout, attention_dropout=self.attention_dropout,
            drops_attention_output=False, pooler_activation="relu",
            classifier_dropout=self.seq_classif_dropout, choice_dropout=self.seq_classif_dropout,
            token_dropout=self.dropout, span_dropout=self.qa_dropout,
            transform_activation=self.activation,
        )  # fmt: skip
