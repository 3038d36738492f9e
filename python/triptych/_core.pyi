"""The Rust engine. Every function releases the interpreter while it works."""

__all__ = ["__version__", "main"]

__version__: str

def main(args: list[str]) -> int:
    """Runs the preparation command line `args` (program name first).

    Returns:
        The exit status: 0 good, 1 failed, 2 usage, 3 too many bad records,
        4 integrity, 5 resources, 75 interrupted, 130 Ctrl-C.
    """
