"""ALBERT: BERT with few blocks used again and again, and small embeddings mapped onto the width."""

import dataclasses
from dataclasses import dataclass
from types import MappingProxyType

from minidistil.config.base import MOST_LAYERS
from minidistil.config.bert import BertConfig


@dataclass(frozen=True)
class AlbertConfig(BertConfig):
    """ALBERT's config.json; the defaults are those of albert-base-v2 (Lan et al., 2019).

    num_hidden_layers times a group of inner_group_num blocks is run; num_hidden_groups of them
    share the turns, each for a stretch of neighbouring ones.
    """

    vocab_size: int = 30000
    embedding_size: int = 128
    num_hidden_groups: int = 1
    inner_group_num: int = 1
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout_prob: float = 0.1
    model_type = "albert"
    fixed = MappingProxyType({"position_embedding_type": "absolute"})
    unsaid = MappingProxyType(
        {"hidden_size": 4096, "num_attention_heads": 64, "intermediate_size": 16384}
    )

    def __post_init__(self):
        self.check_fields()
        for name in ("embedding_size", "num_hidden_layers", "num_hidden_groups", "inner_group_num"):
            if getattr(self, name) < 1:
                raise ValueError(f"config: {name} must be at least 1, not {getattr(self, name)}")
        if self.num_hidden_groups > self.num_hidden_layers:
            raise ValueError(
                f"num_hidden_groups {self.num_hidden_groups} is more than the num_hidden_layers "
                f"{self.num_hidden_layers} turns; give fewer"
            )
        if (layers := self.num_hidden_layers * self.inner_group_num) > MOST_LAYERS:
            raise ValueError(f"config: at most {MOST_LAYERS} layers, not {layers}")
        super().__post_init__()

    @property
    def architecture(self):
        turns, inner = self.num_hidden_layers, self.inner_group_num
        per_group = turns / self.num_hidden_groups  # need not be whole
        blocks = [int(i / per_group) * inner + j for i in range(turns) for j in range(inner)]
        head = self.classifier_dropout_prob
        return dataclasses.replace(
            super().architecture, L=len(blocks), E=self.embedding_size, shared=tuple(blocks),
            drops_ffn_output=False, classifier_dropout=head, choice_dropout=head,
            token_dropout=head,
        )  # fmt: skip
