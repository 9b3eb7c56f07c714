"""The codings that a configuration can name: a codec, or a chain of stages."""

from collections.abc import Mapping

from onebasin.codecs.chain import Chain
from onebasin.codecs.codec import Codec, FixedLengthCodec
from onebasin.codecs.dense import Fp16, Fp32, Int8
from onebasin.core.layout import Layout

CODECS: Mapping[str, type[FixedLengthCodec]] = {codec.name: codec for codec in (Fp32, Fp16, Int8)}


def make_codec(text: str, layout: Layout) -> Codec:
    """Return the codec of that name, or the chain that the text describes; `ValueError` saying what is wrong."""
    return CODECS[text](layout) if text in CODECS else Chain(text, layout)


def make_fixed_length_codec(name: str, layout: Layout) -> FixedLengthCodec:
    """Return the codec of that name for `layout`; `ValueError` naming those that exist."""
    if name not in CODECS:
        raise ValueError(f"unknown codec {name!r}; there are {', '.join(CODECS)}")
    return CODECS[name](layout)
