"""Feature-rich session-based recommendation with parallel recurrent networks (p-RNN)."""

import os

# Threads that wait for each other spin so often before they sleep; PyTorch's OpenMP reads it when
# it is loaded. By its default they spin for milliseconds, and two jobs of two threads on two cores
# then take the cores from each other's working threads: each step becomes seven times slower, with
# this three times (two would be fair), and a job alone is as fast as before.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Large pages for large tensors, where the system grants them on request: rows of a table lie far
# apart, and each would need an entry of its own in the processor's list of pages.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
