"""The command `triptych`."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line and returns its exit status."""
    from triptych import _core

    return _core.main(sys.argv)
