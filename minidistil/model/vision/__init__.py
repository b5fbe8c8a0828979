"""ViT and DeiT: image patches are the tokens of the encoder."""
