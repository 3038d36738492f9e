"""The Rust engine. Every function releases the interpreter while it works."""

__all__ = [
    "ConfigError",
    "InputError",
    "IntegrityError",
    "Interrupted",
    "ResourceError",
    "__version__",
    "main",
]

__version__: str

class InputError(ValueError):
    """Data that cannot be read as what it should be."""

class ConfigError(ValueError):
    """A setting, argument or path that is wrong before any work is done."""

class IntegrityError(ValueError):
    """A file that is not as its manifest says."""

class ResourceError(OSError):
    """Memory, disk or a limit of the run is exhausted."""

class Interrupted(Exception):
    """The run stopped when asked; the same command continues it."""

def main(args: list[str]) -> int:
    """Runs the preparation command line `args` (program name first).

    Returns:
        The exit status: 0 good, 1 failed, 2 usage, 3 too many bad records,
        4 integrity, 5 resources, 75 interrupted, 130 Ctrl-C.
    """
