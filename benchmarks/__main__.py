"""Run every benchmark, or those that are named: ``python -m benchmarks [engines] [pool] [memory] [startup]``."""

import sys
from importlib import import_module

BENCHMARKS = ("startup", "engines", "pool", "memory")

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        import_module(f"benchmarks.{name}").main()
