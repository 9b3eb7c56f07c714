"""Run every benchmark, or those that are named, such as ``python -m benchmarks engines pool``."""

import sys
from importlib import import_module

BENCHMARKS = ("startup", "engines", "pool", "memory", "alignment", "codecs", "masks", "scale")

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        import_module(f"benchmarks.{name}").main()
