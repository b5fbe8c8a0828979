"""ViT and DeiT as a list of named quantities.

embeddings_patches                        the projected patches (B,n,C)
embeddings_tokens, embeddings_sum         with the special tokens (B,T,C); with positions
layer.i.…                                 those of `decoder_program`, without the causal mask
final_norm, cls_logits, distillation_logits, logits     or pooler and pooled
"""

import numpy as np

from minidistil.check.families.decoder_program import PreNormProgram
from minidistil.check.families.frames import Frames
from minidistil.check.families.image_ops import IMAGE_OPS
from minidistil.check.families.module_call import call_with_roles
from minidistil.check.layouts import Frame
from minidistil.model.encoder import of
from minidistil.model.vision.vision_encoder import BODY, HEADS
from minidistil.model.vision.vision_names import flat

SPECIALS = ("embeddings.cls", "embeddings.distillation")
BATCH = 3
QUANTITY = {"classifier": "logits", "cls_classifier": "cls_logits",
            "distillation_classifier": "distillation_logits", "pooler": "pooler"}  # fmt: skip


class ImageFrames(Frames):
    """Patches and tokens; a convolution's output (B,C,g,g) holds patches as well."""

    def views(self, x, shape):
        if x.ndim == 4 and len(shape) == 3 and x.shape[:2] == (shape[0], shape[2]):
            x = x.reshape(*x.shape[:2], -1)
            if x.shape[2] == shape[1]:
                yield x.swapaxes(1, 2)
            return
        yield from super().views(x, shape)


class ImageProgram(PreNormProgram):
    """ViT or DeiT with the heads of a task."""

    right = PreNormProgram.right | IMAGE_OPS
    ops = (
        "layernorm", "linear", "activation", "residual", "heads", "scores", "weights", "layer_of",
        "pre_norm_block", "last_norm", *IMAGE_OPS,
    )  # fmt: skip
    reads = ("pixel_values",)
    holes, second = False, "other random images"
    call = staticmethod(call_with_roles)

    def __init__(self, model, batch, dtype=np.float64):
        c = model.config
        self.a, self.config, self.task = c.architecture, c, model.task
        self.heads = HEADS[c.model_type, model.task]
        self.inputs = {"pixel_values": np.asarray(batch["pixel_values"])}
        B, T = len(self.inputs["pixel_values"]), self.a.P
        lengths = range(T - c.specials, T + 1)  # without special tokens, with some, with all
        parts = (Frame(np.ones((B, n), bool), self.a.H, self.a.C) for n in lengths)
        params = {role: x.astype(dtype) for role, x in self.by_role(model, model.params).items()}
        self._set(params, ImageFrames(*parts))
        self.names, self.dtype = self.roles(model), dtype
        n = T - c.specials
        self.order = (c.specials, n)

    @staticmethod
    def example(model, folder, texts=None, seed=0, module=None):
        """Random images (3,channels,S,S), scaled as those of a preprocessor."""
        if texts:
            raise ValueError(f"a {model.config.model_type} reads images, not texts: give a batch")
        c, rng = model.config, np.random.default_rng(seed)
        shape = (BATCH, c.num_channels, c.image_size, c.image_size)
        return {"pixel_values": rng.uniform(-1, 1, shape).astype(np.float32)}

    @staticmethod
    def roles(model):
        found = {}
        for role, parts in model.layout.items():
            if role == "embeddings.specials":
                found |= dict(zip(SPECIALS, parts, strict=False))
            elif ".qkv." in role:
                found |= {role.replace("qkv", z): n for z, n in zip("qkv", parts, strict=True)}
            else:
                (found[role.replace("embeddings.patch.", "patch.")],) = parts
        return found

    @classmethod
    def by_role(cls, model, named):
        found = {}
        for role, public in cls.roles(model).items():
            x = np.asarray(named[public])
            table = "embeddings.specials" if role in SPECIALS else role
            found[role] = flat(table, x)[0] if role in SPECIALS else flat(table, x)
        return found

    def ways(self, shape):
        """A product's weight on patches as (p,p,channels)."""
        c, p = self.config.num_channels, self.config.patch_size
        if len(shape) == 2:
            for axes in ((0, 3, 1, 2), (0, 3, 2, 1)):
                if shape[1] == c * p * p:
                    yield [lambda x, a=axes: _by_channels(x, c, p, a)]
                if shape[0] == c * p * p:
                    yield [lambda x, a=axes: _by_channels(x.T, c, p, a)]

    def _weights(self, s, do):
        return do("weights", "weights", s, np.ones((len(s), s.shape[3]), bool))

    def _embed(self, do, values):
        size = self.config.patch_size
        images = self.inputs["pixel_values"].astype(self.dtype)
        x = do("cut", "cut", do("pixels", "pixels", images), size)
        x = values["embeddings_patches"] = do("linear", "patch", x, *of(self.p, "patch"))
        specials = np.stack([self.p[name] for name in SPECIALS if name in self.p])
        order = do("token_order", "token_order", *self.order)
        x = order.join(np.broadcast_to(specials, (len(x), *specials.shape)), x)
        values["embeddings_tokens"] = x
        table = do("grid_positions", "grid_positions", self.p["embeddings.position"], self.order[0])
        values["embeddings_sum"] = x = do("placed", "placed", x, order.positions(table))
        return x

    def _head(self, x, do, values):
        h = self._last_norm(x, do, values)
        order, answers = do("token_order", "token_order", *self.order), []
        for i, head in enumerate(self.heads):
            token = do("image_pool", "image_pool", h, i, order.read, self.order[0])
            z = do("linear", head, token, *of(self.p, head))
            values[QUANTITY[head]] = z
            answers.append(z)
        if self.task == BODY:
            values["pooled"] = do("activation", "pooler_activation", answers[0], name="tanh")
        elif len(answers) > 1:
            values["logits"] = do("answer", "answer", answers)
        return h


def _by_channels(x, channels, size, axes):
    """x (C,size·size·channels)  ->  (C,channels·size²)."""
    return x.reshape(-1, size, size, channels).transpose(axes).reshape(len(x), -1)
