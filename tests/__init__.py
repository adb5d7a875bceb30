"""Set before PyTorch is imported, for this process and those that tests start."""

import os

# Tests run beside each other, with more threads than cores: those that wait must sleep, not spin.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
