"""The codecs that a configuration can name."""

from collections.abc import Mapping

from onebasin.updates.codec import Codec
from onebasin.updates.dense import Fp16, Fp32, Int8
from onebasin.wire.layout import Layout

CODECS: Mapping[str, type[Codec]] = {codec.name: codec for codec in (Fp32, Fp16, Int8)}


def make_codec(name: str, layout: Layout) -> Codec:
    """Return the codec of that name for `layout`; `ValueError` naming those that exist."""
    if name not in CODECS:
        raise ValueError(f"unknown codec {name!r}; there are {', '.join(CODECS)}")
    return CODECS[name](layout)
