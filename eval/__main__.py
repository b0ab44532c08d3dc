"""python -m eval TASK: measure the service."""

from __future__ import annotations

import sys

from eval.program import main

if __name__ == "__main__":
    sys.exit(main())
