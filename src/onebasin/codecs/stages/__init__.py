"""The stages of a codec chain, one per file; `top_k.py` defines the stage ``top-k``."""
