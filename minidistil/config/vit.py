"""Configs of ViT, an encoder on the patches of an image, and of DeiT, a ViT with a distillation
token."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from minidistil.config.base import Architecture, BaseConfig


@dataclass(frozen=True)
class VitConfig(BaseConfig):
    """ViT's config.json; the defaults are those of vit-base-patch16-224 (Dosovitskiy et al., 2020).

    An image is (num_channels, image_size, image_size).
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    qkv_bias: bool = True
    pooler_act: str = "tanh"
    pooler_output_size: int | None = None  # None: hidden_size
    problem_type: str | None = None
    num_labels: int = 2
    id2label: tuple | None = None
    architectures: tuple | None = None
    model_type = "vit"
    specials = 1  # tokens before the patches: [CLS]
    tie_word_embeddings = True  # a ViT has neither word embeddings nor padding
    pad_token_id = None
    fixed_options = MappingProxyType({"tie_last_hidden_states": False})

    def __post_init__(self) -> None:
        self.check_fields()
        for name in ("image_size", "patch_size", "num_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"config: {name} must be at least 1, not {getattr(self, name)}")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} does not split into patches of patch_size "
                f"{self.patch_size}"
            )
        if not self.qkv_bias:
            raise ValueError("config: qkv_bias must be true: query, key and value have biases here")
        super().__post_init__()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """A config from the fields of config.json; a size of [n, n] is read as n."""
        fields = dict(fields)
        for name in ("image_size", "patch_size"):
            size = fields.get(name)
            if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
                fields[name] = size[0]
        return super().from_dict(fields)

    @property
    def architecture(self) -> Architecture:
        """V is the number of values of a patch: the patch projection takes the place of the word
        embeddings."""
        return Architecture(
            V=self.num_channels * self.patch_size**2,
            P=self.specials + (self.image_size // self.patch_size) ** 2, C=self.hidden_size,
            H=self.num_attention_heads, F=self.intermediate_size, L=self.num_hidden_layers,
            types=0, eps=self.layer_norm_eps, activation=self.hidden_act,
            dropout=self.hidden_dropout_prob, embedding_dropout=self.hidden_dropout_prob,
            attention_dropout=self.attention_probs_dropout_prob, drops_attention_output=True,
            pooler_activation="tanh", classifier_dropout=0.0, choice_dropout=0.0,
            token_dropout=0.0,
        )  # fmt: skip


@dataclass(frozen=True)
class DeitConfig(VitConfig):
    """DeiT's config.json; the defaults are those of deit-base-distilled-patch16-224 (Touvron et
    al., 2021)."""

    model_type = "deit"
    specials = 2  # [CLS] and the distillation token


VISION = {c.model_type: c for c in (VitConfig, DeitConfig)}
