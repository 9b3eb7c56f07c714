"""Encoding of tensors as bytes: plain codecs, and chains of stages such as ``top-k 0.01 | sign``.

`named_codecs.make_codec` returns a `Codec` for a text. `Codec.send` returns bytes and the tensors that the receiver
decodes from them. Beside core and wire, the files of a line import only files of the lines above it:
value_block, context (what a stage gets), fitted_levels (quantiser levels)
codec, stage (base classes), mask_coding, scales (shared by stages)
stages/ (one stage per file), dense (codecs of fixed length), residuals (slots of a state)
chain (a codec of stages), split_codec, warmup_schedule (two codecs in one)
named_codecs (codecs by their text)
"""
