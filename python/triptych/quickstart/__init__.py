"""The parts of `triptych demo` that are no command of their own."""
