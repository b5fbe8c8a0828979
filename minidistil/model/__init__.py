"""Every family as pure functions over a dict of parameters, and the doors to them: `Model` for
texts, `EncoderDecoder` for a text that becomes another, `VisionModel` for images."""
