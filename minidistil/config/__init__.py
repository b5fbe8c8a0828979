"""Model configs: frozen dataclasses with the field names of Hugging Face's config.json, one file a
family.
"""

from pathlib import Path

from minidistil.config.base import PROBLEM_TYPES, QUANTIZATION, Architecture, BaseConfig
from minidistil.config.encoder_decoder import BertDecoderConfig, EncoderDecoderConfig
from minidistil.config.encoders import AlbertConfig, BertConfig, DistilBertConfig, RobertaConfig
from minidistil.config.generation_config import GENERATION
from minidistil.config.gpt2 import Gpt2Config
from minidistil.config.vit import VISION, DeitConfig, VitConfig
from minidistil.io.files import MissingFileError, read_settings

__all__ = [
    "FAMILIES", "PROBLEM_TYPES", "QUANTIZATION", "AlbertConfig", "Architecture", "BaseConfig",
    "BertConfig", "BertDecoderConfig", "DeitConfig", "DistilBertConfig", "EncoderDecoderConfig",
    "Gpt2Config", "RobertaConfig", "VitConfig", "read_config",
]  # fmt: skip

FAMILIES = {
    c.model_type: c
    for c in (
        BertConfig,
        DistilBertConfig,
        RobertaConfig,
        AlbertConfig,
        Gpt2Config,
        EncoderDecoderConfig,
    )
} | VISION


def read_config(path: str | Path) -> BaseConfig | EncoderDecoderConfig:
    """The config in a config.json.

    Raises MissingFileError, or a ValueError that names the file and the field.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path} is missing: a model folder holds a config.json")
    fields = read_settings(path)
    kind = fields.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(f"{path}: model_type must be one of {', '.join(FAMILIES)}, not {kind!r}")
    if (
        kind == EncoderDecoderConfig.model_type
        and (written := path.with_name(GENERATION)).is_file()
    ):
        fields = read_settings(written) | {k: v for k, v in fields.items() if v is not None}
    try:
        return FAMILIES[kind].from_dict(fields)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
