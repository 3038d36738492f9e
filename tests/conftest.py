"""What all tests share: how many threads a worker computes on."""

import os

# Workers share the cores: with a thread a core in each, 233 tests of training took a quarter
# longer. Here, before a test imports torch, which reads it once.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
