"""Triton kernels of triptych, and their plain-PyTorch twins in `reference`."""
