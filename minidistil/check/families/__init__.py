"""The families beside the encoders of texts: GPT-2, ViT and DeiT, encoder–decoders."""
