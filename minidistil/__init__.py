"""minidistil: DistilBERT and knowledge distillation, with every layer and gradient hand-written.

Read `distilbert.py` first, the whole algorithm on one page. Then read `ops/layernorm.py`, the
pattern of every op; `model/encoder.py`, the block of every encoder; and `distill/triple_loss.py`,
the loss and its gradient.
"""

import importlib
from types import ModuleType

from minidistil import losses, testing
from minidistil.config import (
    AlbertConfig,
    BertConfig,
    DeitConfig,
    DistilBertConfig,
    EncoderDecoderConfig,
    Gpt2Config,
    RobertaConfig,
    VitConfig,
)
from minidistil.data import load_tokenizer
from minidistil.distill import DistillConfig, distill_step, student_config, student_from
from minidistil.model.generation.generate_texts import generate, stream
from minidistil.model.model import Model
from minidistil.model.pretrained import from_config, from_pretrained
from minidistil.model.seq2seq.encoder_decoder_from import encoder_decoder_from
from minidistil.ops import Workspace, backend, matmul_precision
from minidistil.tasks.pipeline import pipeline
from minidistil.train import AdamW, TrainConfig, train

__all__ = [
    "AdamW", "AlbertConfig", "BertConfig", "DeitConfig", "DistilBertConfig", "DistillConfig",
    "EncoderDecoderConfig", "Gpt2Config", "Model", "RobertaConfig", "TrainConfig", "VitConfig",
    "Workspace", "backend", "check", "distill_step", "encoder_decoder_from", "from_config",
    "from_pretrained", "generate", "load_tokenizer", "losses", "matmul_precision", "pipeline",
    "stream", "student_config", "student_from", "testing", "train",
]  # fmt: skip
__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """`minidistil.check`, imported on first use: it imports `minidistil.distilbert`, which
    `python -m` can run only while it is not imported."""
    if name == "check":
        return importlib.import_module("minidistil.check")
    raise AttributeError(f"module 'minidistil' has no attribute {name!r}")
