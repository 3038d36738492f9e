"""The static table's columns for kernels of others, compiled by the same command.

    python benches/kernels/peer_table.py --tutorial 06-fused-attention.py --cce CHECKOUT
        --liger CHECKOUT [--targets sm_90] [--only WORD]

The sources are theirs and not part of this project: Triton's tutorial on attention (MIT),
apple/ml-cross-entropy, linkedin/Liger-Kernel (BSD-2-Clause). Each kernel is compiled with
the settings that it ships, unless its name says others. Where one cannot be compiled for a
target, its row says why.
"""

import argparse
import importlib.util
import sys
from pathlib import Path
from unittest import mock

import torch
import triton
from static_table import COLUMNS, TARGETS, figures

INT, FLOAT, HALF, LOCK = "i32", "fp32", "*fp16:16", "*i32:16"
CLOSE, SINGLE = "*bf16:16", "*fp32:16"


class Nowhere:
    """Stands for the driver that a module looks at when it is imported."""

    def get_active_torch_device(self):
        """The tutorial puts nothing there before it is run."""
        return torch.device("cpu")

    def get_current_target(self):
        """Hopper, so that the tutorial makes its settings for it."""
        return TARGETS["sm_90"]


def imported(name, path):
    """A module of a single file."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0)):
        spec.loader.exec_module(module)
    return module


def bare(kernel):
    """The function inside autotuners and heuristics."""
    while hasattr(kernel, "fn") and not hasattr(kernel, "arg_names"):
        kernel = kernel.fn
    while not isinstance(kernel, triton.runtime.JITFunction):
        kernel = kernel.fn
    return kernel


def row(name, target, kernel, constants, sizes, num_warps, num_stages, **given):
    """A row of the table; constants are those of a launch, the rest has a type."""
    kernel = bare(kernel)
    tile = Settings(sizes, num_warps, num_stages)
    kinds = {name: INT for name in kernel.arg_names if name not in constants}
    return figures(name, target, kernel, constants, tile, **(kinds | given))


class Settings(tuple):
    """Sizes of a tile, as the table prints them, with warps and stages."""

    def __new__(cls, sizes, num_warps, num_stages):
        """A tuple of the sizes."""
        self = super().__new__(cls, sizes)
        self.num_warps, self.num_stages = num_warps, num_stages
        return self


def tutorial_cases(path):
    """Forward in two tiles of its list; backward as it is shipped, and with more warps."""
    module = imported("tutorial", path)

    def forward(name, target, dim, num_warps):
        described = target in ("sm_90", "sm_100")
        kinds = {
            f"desc_{which}": f"tensordesc<fp16[{rows},{dim}]>" if described else HALF
            for which, rows in (("q", 128), ("k", 64), ("v", 64), ("o", 128))
        }
        constants = {
            "HEAD_DIM": dim, "BLOCK_M": 128, "BLOCK_N": 64, "FP8_OUTPUT": False,
            "STAGE": 3, "warp_specialize": False, "IS_HOPPER": target == "sm_90",
        }  # fmt: skip
        return row(
            name, target, module._attn_fwd, constants, (128, 64), num_warps, 3,
            sm_scale=FLOAT, M=SINGLE, N_CTX="i32:16", **kinds,
        )  # fmt: skip

    def backward(name, target, dim, num_warps, num_stages):
        constants = {
            "BLOCK_M1": 32, "BLOCK_N1": 128, "BLOCK_M2": 128, "BLOCK_N2": 32,
            "BLK_SLICE_FACTOR": 2, "HEAD_DIM": dim, "stride_d": 1,
        }  # fmt: skip
        kinds = dict.fromkeys(("Q", "K", "V", "DO", "DQ", "DK", "DV"), HALF)
        strides = dict.fromkeys(("stride_z", "stride_h", "stride_tok"), "i32:16")
        return row(
            name, target, module._attn_bwd, constants, (32, 128), num_warps, num_stages,
            sm_scale=FLOAT, M=SINGLE, D=SINGLE, N_CTX="i32:16", **kinds, **strides,
        )  # fmt: skip

    for dim in (64, 128):
        yield f"tutorial attention forward d{dim}", forward, (dim, 4)
        yield f"tutorial attention forward d{dim}, 8 warps", forward, (dim, 8)
        yield f"tutorial attention backward d{dim}", backward, (dim, 4, 5)
        yield f"tutorial attention backward d{dim}, 8 warps", backward, (dim, 8, 2)


def cce_cases(checkout):
    """The log-sum-exp and the backward, filtered and exact with fp32 sums."""
    sys.path.insert(0, str(checkout))
    from cut_cross_entropy import cce_backward, cce_lse_forward

    strides = ("stride_eb", "stride_cv")
    aligned = {"D": "i32:16", **dict.fromkeys(strides, "i32:16")}
    tiles = {"GROUP_B": 8, "EVEN_D": True, "DOT_PRECISION": "ieee", "HAS_BIAS": False}
    nothing = {"Bias": None, "Valids": None, "HAS_VALIDS": False, "softcap": None}
    ones = dict.fromkeys(("stride_ed", "stride_cd", "stride_biasv", "stride_vb"), 1)
    common = {**tiles, **nothing, **ones, "HAS_SOFTCAP": False}

    def forward(name, target):
        constants = common | {
            "LA": None, "HAS_LA": False, "stride_lse_b": 1, "BLOCK_B": 256,
            "BLOCK_V": 128, "BLOCK_D": 32,
        }  # fmt: skip
        return row(
            name, target, cce_lse_forward._cce_lse_forward_kernel, constants,
            (256, 128, 32), 8, 3, E=CLOSE, C=CLOSE, LSE=SINGLE, Locks=LOCK, **aligned,
        )  # fmt: skip

    def backward(name, target, exact):
        constants = common | {
            "dLSE": None, "VocabOrdering": None, "dEC": None, "dCC": None, "dBias": None,
            "shift": 0, "grad_scale": 1.0, "BLOCK_B": 128, "BLOCK_V": 128, "BLOCK_D": 32,
            "MM_BACK_BLOCK_D": 64, "MM_BACK_EVEN_D": True, "ITEM_DO": True,
            "HAS_VOCAB_ORDERING": False, "FILTER_E_GRAD": not exact,
            "FILTER_C_GRAD": not exact, "HAS_TARGETS": True, "HAS_DLSE": False,
            "HAS_SHIFT": False, "KAHAN_E": False, "KAHAN_C": False, "COMPUTE_DC": True,
            "COMPUTE_DE": True, "COMPUTE_DBIAS": False,
        }  # fmt: skip
        if exact:
            constants["filter_eps"] = None
        sums = SINGLE if exact else CLOSE
        kinds = {"E": CLOSE, "C": CLOSE, "LSE": SINGLE, "dOut": SINGLE, "dE": sums}
        kinds |= {"dC": sums, "dELocks": LOCK, "dCLocks": LOCK, "Targets": "*i64:16"}
        if not exact:
            kinds["filter_eps"] = FLOAT
        return row(
            name, target, cce_backward._cce_backward_kernel, constants, (128, 128, 32),
            4, 4, **kinds, **aligned,
        )  # fmt: skip

    yield "cut-cross-entropy forward", forward, ()
    yield "cut-cross-entropy backward, filtered", backward, (False,)
    yield "cut-cross-entropy backward, exact", backward, (True,)


def liger_cases(checkout):
    """Cross-entropy with its gradient, for vocabularies of 32,768 and above."""
    sys.path.insert(0, str(checkout / "src"))
    from liger_kernel.ops.cross_entropy import liger_cross_entropy_kernel

    def loss(name, target):
        nothing = ("weight_ptr", "z_loss_ptr", "token_accuracy_ptr", "softcap")
        constants = dict.fromkeys((*nothing, "predicted_tokens_ptr"), None) | {
            "Y_stride": 1, "loss_stride": 1, "token_accuracy_stride": 0,
            "predicted_tokens_stride": 0, "lse_square_scale": 0.0, "reduction": "mean",
            "label_smoothing": 0.0, "RETURN_Z_LOSS": False, "BLOCK_SIZE": 32768,
            "RETURN_TOKEN_ACCURACY": False, "RETURN_PREDICTED_TOKENS": False,
            "HAS_WEIGHT": False, "HAS_SOFTCAPPING": False, "HAS_GRADIENTS": True,
        }  # fmt: skip
        num_warps = 32 if target != "gfx942" else 16
        return row(
            name, target, liger_cross_entropy_kernel, constants, (32768,), num_warps, 3,
            X_ptr=CLOSE, Y_ptr="*i64:16", loss_ptr=SINGLE, X_stride="i32:16",
            n_cols="i32:16", weight_sum=FLOAT, sum_non_ignore_weight=FLOAT,
        )  # fmt: skip

    yield "Liger cross-entropy", loss, ()


SOURCES = {"tutorial": tutorial_cases, "cce": cce_cases, "liger": liger_cases}


def main():
    """Prints a row of every kernel and target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in SOURCES:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--only", default="", help="word of the name")
    options = parser.parse_args()
    triton.runtime.driver.set_active(Nowhere())
    print(f"triton {triton.__version__}, 16-bit inputs, causal\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for source, cases in SOURCES.items():
        path = getattr(options, source)
        for name, make, arguments in cases(path) if path else ():
            for target in options.targets if options.only in name else ():
                print(line(name, target, make, arguments), flush=True)


def line(name, target, make, arguments):
    """A row as text; what the compiler refuses is a row that says so."""
    try:
        made = make(name, target, *arguments)
    except Exception as error:  # a compiler may fail in any way
        why = str(error).strip().splitlines()[-1][:80].replace("|", "/")
        return f"| {name} | {target} | not compiled: {type(error).__name__}: {why} |"
    return f"| {' | '.join(str(made[column]) for column in COLUMNS)} |"


if __name__ == "__main__":
    main()
