"""The codecs that a configuration can name: plain codecs, and chains of stages."""

from collections.abc import Mapping

from onebasin.codecs.chain import Chain
from onebasin.codecs.codec import Codec, FixedLengthCodec
from onebasin.codecs.dense import Fp16, Fp32, Int8
from onebasin.core.layout import Layout

CODECS: Mapping[str, type[FixedLengthCodec]] = {codec.name: codec for codec in (Fp32, Fp16, Int8)}


def make_codec(text: str, layout: Layout) -> Codec:
    """Return the plain codec of that name for `layout`, or else the chain that the text describes.

    Errors: `ValueError` if the text is neither; the message names the wrong stage.
    """
    return CODECS[text](layout) if text in CODECS else Chain(text, layout)


def make_fixed_length_codec(name: str, layout: Layout) -> FixedLengthCodec:
    """Return the plain codec of that name for `layout`.

    Errors: `ValueError` if there is none; the message lists the names.
    """
    if name not in CODECS:
        raise ValueError(f"unknown codec {name!r}; there are {', '.join(CODECS)}")
    return CODECS[name](layout)
