"""Cross-compiles every kernel for GPUs that are not here and prints what came out.

    python benches/kernels/static_table.py [--targets sm_80 sm_90 sm_100 gfx942]
        [--only WORD] [--json FILE]

No GPU is needed: the triton wheel ships ptxas, and the AMD assembler runs in-process.
A launch marks aligned pointers and sizes as divisible by 16; `:16` below does the
same, without which loads are not vectorised and another kernel is measured.

Columns: registers a thread; bytes of spill stores and loads (AMD: bytes of scratch a
thread, since spilled scalars go to lanes of vector registers); shared memory a block,
bytes; matrix instructions in the PTX or assembly; asynchronous copies; other loads of
16 bytes a thread, the widest there are; global atomics.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)  # interpreted kernels cannot be compiled
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # what 3.9 does by default
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kernels"))

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from triptych_kernels import chunked_loss_kernels, configs
from triptych_kernels import flash_attention_backward_kernels as attention_backward
from triptych_kernels import flash_attention_kernels as attention
from triptych_kernels import gated_kernels as gated
from triptych_kernels import linear_loss_kernels as loss
from triptych_kernels import normalization_kernels as normalization
from triptych_kernels import optimizer_kernels as optimizer
from triptych_kernels import paged_attention_kernels as paged
from triptych_kernels import rotary_kernels as rotary
from triptych_kernels.sink_kernel import sink_gradient_kernel
from triptych_kernels.symmetric_kernel import symmetric_kernel
from triptych_kernels.tile_table_kernel import tile_table_kernel

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
# sm_80 itself has 163 KiB, but its rows serve sm_86, sm_89 and sm_120 too.
SHARED_LIMIT_BYTES = {
    "sm_80": 99 << 10,
    "sm_90": 227 << 10,
    "sm_100": 227 << 10,
    "gfx942": 64 << 10,
}
FEATURES = {
    "plain": {"HAS_WINDOW": False, "HAS_SOFTCAP": False},
    "window+cap": {"HAS_WINDOW": True, "HAS_SOFTCAP": True},
}
DTYPE = "bf16"
FP32_NUMBERS = (
    "scale", "softcap", "inv_temperature", "eps", "lr", "keep", "rest1", "rest2",
    "correction1", "correction2",
)  # fmt: skip
FP32_POINTERS = {
    f"{name}_ptr"
    for name in (
        "lse", "lost", "delta", "renewed", "partial", "coefficients", "logps", "mean", "scale",
        "rstd", "cos", "sin", "sinks", "grad_sinks",
        "acc", "m", "s", "exp_avg", "exp_avg_sq", "clip", "entropy",
    )
}  # fmt: skip


def signature(kernel):
    """Types as a launch of aligned, regular sizes would specialise them."""
    types = {}
    for name in kernel.arg_names:
        if name in FP32_POINTERS:
            types[name] = "*fp32:16"
        elif name in ("targets_ptr", "position_ptr", "seed_ptr"):
            types[name] = "*i64:16"
        elif name in ("tiles_ptr", "cu_ptr", "pairs_ptr", "table_ptr", "length_ptr"):
            types[name] = "*i32:16"
        elif name == "kept_ptr":
            types[name] = "*i8:16"
        elif name.endswith("_ptr"):
            types[name] = f"*{DTYPE}:16"
        elif name in FP32_NUMBERS:
            types[name] = "fp32"
        elif name.startswith("stride_") or name in ("D", "V", "C", "v_first"):
            types[name] = "i32:16"
        else:
            types[name] = "i32"
    return types


def in_fp32(kernel):
    """Types of tensors that are 16 bits wide in `signature`, of a launch in fp32."""
    sixteen_bits = [name for name, text in signature(kernel).items() if DTYPE in text]
    return dict.fromkeys(sixteen_bits, "*fp32:16")


def compiled(kernel, target, constants, num_warps, num_stages, **types):
    """The kernel's binary and assembly for a target."""
    types = {**signature(kernel), **types}
    plain = {name: text.partition(":")[0] for name, text in types.items()}
    attributes = {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]]
        for name, text in types.items()
        if ":" in text and name not in constants
    }
    plain.update(dict.fromkeys(constants, "constexpr"))
    source = ASTSource(kernel, plain, constexprs=constants, attrs=attributes)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    return triton.compile(source, target=TARGETS[target], options=options)


def nvidia_figures(binary, arch):
    ptx = binary.asm["ptx"]
    gpu = re.search(r"^\.target\s+(\w+)", ptx, re.M).group(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(ptx)
        command = [get_ptxas(arch).path, "-v", f"--gpu-name={gpu}", str(path)]
        log = subprocess.run(
            [*command, "-o", str(Path(folder, "kernel.cubin"))],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    return {
        "registers": int(re.search(r"Used (\d+) registers", log).group(1)),
        "spill_bytes": sum(int(a) + int(b) for a, b in spills),
        "matrix": len(re.findall(r"wgmma\.mma_async|\bmma\.sync|tcgen05\.mma", ptx)),
        "async_copies": len(re.findall(r"cp\.async\.c[ag]", ptx)),
        "wide_loads": len(re.findall(r"ld\.global\S*\.v4\.b32", ptx)),
        "atomics": len(re.findall(r"\b(?:atom|red)\.", ptx)),
    }


def amd_figures(binary):
    text = binary.asm["amdgcn"]

    def largest(key):
        found = re.findall(rf"\.{key}:\s+(\d+)", text)
        return max(map(int, found), default=0)

    return {
        "registers": largest("vgpr_count"),
        "spill_bytes": largest("private_segment_fixed_size"),
        "matrix": len(re.findall(r"\bv_mfma", text)),
        "async_copies": 0,
        "wide_loads": len(re.findall(r"\b(?:global|buffer)_load_dwordx4", text)),
        "atomics": len(re.findall(r"\b(?:global|buffer|flat)_atomic", text)),
    }


def figures(name, target, kernel, constants, tile, **types):
    """One row of the table."""
    binary = compiled(
        kernel, target, constants, tile.num_warps, tile.num_stages, **types
    )
    backend = TARGETS[target]
    row = {
        "kernel": name,
        "target": target,
        "tile": "x".join(str(n) for n in tile[:3] if n),
        "warps": tile.num_warps,
        "stages": tile.num_stages,
        "shared_bytes": binary.metadata.shared,
        "shared_limit_bytes": SHARED_LIMIT_BYTES[target],
    }
    if backend.backend == "cuda":
        return row | nvidia_figures(binary, backend.arch)
    return row | amd_figures(binary)


def attention_row(kernel, head_dim, target, feature, tile=None):
    plain, is_fp32 = feature == "plain", feature == "fp32"
    if is_fp32:
        tile = tile or configs.ATTENTION_FP32[kernel, head_dim]
    tile = tile or configs.attention_row(
        kernel, head_dim, target, plain=plain, dropout=feature == "dropout"
    )
    constants = {
        "CAUSAL": True,
        "EVEN_D": True,
        "BLOCK_I": tile.rows,
        "BLOCK_J": tile.columns,
        "BLOCK_D": head_dim,
        **FEATURES.get(feature, FEATURES["plain"]),
        "HAS_PAIRS": feature == "pairs",
        "HAS_DROPOUT": feature == "dropout",
    }
    sinks = {"forward": "HAS_SINKS", "dq": "WITH_TOTALS"}
    if kernel in sinks:
        constants[sinks[kernel]] = feature not in ("plain", "dropout")
    file = attention if kernel == "forward" else attention_backward
    function = getattr(file, f"{kernel}_kernel")
    name = f"attention {kernel} d{head_dim} {feature}"
    types = in_fp32(function) if is_fp32 else {}
    return figures(name, target, function, constants, tile, **types)


def loss_row(kernel, target, feature, tile=None):
    tile = tile or configs.loss_row(
        kernel, target, plain=feature in ("plain", "filter")
    )
    constants = {
        "HAS_SOFTCAP": feature != "plain",
        "HAS_MEAN": feature != "plain",
        "HAS_ENTROPY": feature == "all",
        "EVEN_D": True,
        "BLOCK_N": tile.rows,
        "BLOCK_V": tile.columns,
        "BLOCK_D": tile.inner,
    }
    if feature == "filter":
        constants |= {"HAS_SOFTCAP": False, "HAS_MEAN": False}
    if kernel == "dlogits":
        constants["FILTER"] = feature == "filter"
    function = getattr(loss, f"{kernel}_kernel")
    return figures(f"loss {kernel} {feature}", target, function, constants, tile)


def summed_row(target, feature):
    """Of a row of logits that becomes its gradient in place."""
    tile = configs.CHUNKED_LOSS
    constants = {
        "HAS_SOFTCAP": feature == "all",
        "HAS_MEAN": feature == "all",
        "WITH_GRADIENT": True,
        "BLOCK": tile.columns,
    }
    kernel = chunked_loss_kernels.loss_and_gradient_kernel
    types = {"logits_ptr": "*fp32:16", "stride_gn": "i32:16"}
    types |= {name: "fp32" for name in ("z_loss", "label_smoothing")}
    types |= {name: "*fp32:16" for name in ("factors_ptr", "losses_ptr", "scale_ptr")}
    return figures(f"loss summed {feature}", target, kernel, constants, tile, **types)


def product_row(which, target, feature="", tile=None):
    """The gradient of the hidden states adds up in fp32; the weight's is final."""
    tile = tile or configs.loss_row("product", target, plain=which == "weight")
    constants = {
        "ACCUMULATE": which == "hidden",
        "FILTER_R": 128 if feature else 0,
        "FILTER_I": 128 if feature else 0,
        "BLOCK_R": tile.rows,
        "BLOCK_D": tile.columns,
        "BLOCK_I": tile.inner,
    }
    unit = "stride_ai" if which == "hidden" else "stride_ar"
    constants[unit] = 1  # a launch makes a constant of a stride of 1
    types = {"I": "i32:16", "c_ptr": "*fp32:16"}
    if which == "weight":
        types = {"R": "i32:16"}
    name = f"loss product {which} {feature}".rstrip()
    return figures(name, target, loss.product_kernel, constants, tile, **types)


def small_row(which, target):
    """The kernels around the large ones, which only move bytes."""
    tile = configs.Tile(64, 0, 0, 4, 3)
    if which == "delta":
        tile = tile._replace(rows=32)
        constants = {"BLOCK_I": 32, "BLOCK_D": 128}
        return figures(
            "attention delta", target, attention.delta_kernel, constants, tile
        )
    if which == "sinks":
        constants = {"BLOCK_I": 1024}
        tile = tile._replace(rows=1024)
        return figures("attention sinks", target, sink_gradient_kernel, constants, tile)
    if which == "tile table":
        constants = {"CAUSAL": True, "BLOCK": 64, "BLOCK_TILE": 64, "BLOCK_A": 64}
        return figures(
            "attention tile table", target, tile_table_kernel, constants, tile
        )
    constants = {"HAS_MEAN": True, "HAS_ENTROPY": True, "BLOCK_N": 256}
    return figures("loss combine", target, loss.combine_kernel, constants, tile)


def normalization_row(kernel, width, target, feature):
    """Rows of the width; "residual" adds the residual stream first."""
    tile = configs.NORMALIZATION.get((kernel, width), configs.NORMALIZATION_SUM)
    name = f"norm {kernel} {width} {feature}"
    if kernel == "sum":
        constants = {"BLOCK_P": tile.rows, "BLOCK_D": tile.columns}
        function = normalization.sum_partials_kernel
        return figures(name, target, function, constants, tile)
    constants = {
        "HAS_RESIDUAL": feature == "residual",
        "CAST_FIRST": True,
        "OFFSET": 0.0,
        "ACCUMULATOR": tl.float32,
        "BLOCK_N": tile.rows,
        "BLOCK_D": width,
    }
    if kernel == "backward":
        constants["RUN"] = tile.inner
    function = getattr(normalization, f"{kernel}_kernel")
    return figures(name, target, function, constants, tile)


def decode_row(head_dim, target, feature):
    """The split kernel; `page_size` a multiple of 16."""
    tile = configs.decode_row(head_dim, target)
    constants = {
        **FEATURES[feature],
        "SPLIT": tile.inner,
        "BLOCK_G": tile.rows,
        "BLOCK_J": tile.columns,
        "BLOCK_D": head_dim,
    }
    types = {"page_size": "i32:16"}
    name = f"decode d{head_dim} {feature}"
    return figures(name, target, paged.split_kernel, constants, tile, **types)


def join_row(target):
    tile = configs.Tile(1, 0, 0, 4, 3)
    constants = {"HAS_WINDOW": True, "HAS_SINKS": True, "SPLIT": 256, "BLOCK_D": 128}
    return figures("decode join", target, paged.join_kernel, constants, tile)


def rotary_row(head_dim, target, feature):
    tile = configs.rotary_row(head_dim // 2, target)
    constants = {
        "HAS_POSITIONS": True,
        "INVERSE": False,
        "INTERLEAVED": feature == "interleaved",
        "BLOCK_T": tile.rows,
        "BLOCK_C": head_dim // 2,
    }
    name = f"rope d{head_dim} {feature}"
    return figures(name, target, rotary.rotate_kernel, constants, tile)


def symmetric_row(target, feature):
    tile = configs.symmetric_row(target)
    constants = {"ADD": feature == "sum", "BLOCK_M": tile.rows, "BLOCK_K": tile.inner}
    types = {"M": "i32:16", "K": "i32:16", "alpha": "fp32", "beta": "fp32"}
    name = f"symmetric {feature}"
    return figures(name, target, symmetric_kernel, constants, tile, **types)


def optimizer_row(target, feature):
    tile = configs.optimizer_row(target)
    constants = {"HAS_CLIP": True, "STOCHASTIC": feature == "stochastic"}
    constants["BLOCK"] = tile.columns
    types = {"E": "i32:16", "seed": "i64"}
    function = optimizer.adamw_kernel
    return figures(f"adamw {feature}", target, function, constants, tile, **types)


def gated_row(kernel, activation, target):
    tile = configs.gated_row(target)
    constants = {
        "ACTIVATION": activation,
        "HAS_UP": True,
        "ACCUMULATOR": tl.float32,
        "BLOCK_D": tile.columns,
    }
    name = f"gated {activation} {kernel}"
    function = getattr(gated, f"{kernel}_kernel")
    return figures(name, target, function, constants, tile)


def cases(targets):
    """(name, function that makes the row) of every default row."""
    for target in targets:
        for kernel in ("statistics", "dlogits"):
            for feature in ("plain", "cap+mean", "all"):
                row = (loss_row, kernel, target, feature)
                yield f"loss {kernel} {feature}", row
        row = (loss_row, "dlogits", target, "filter")
        yield "loss dlogits filter", row
        for which in ("hidden", "weight"):
            yield f"loss product {which}", (product_row, which, target)
            name = f"loss product {which} filter"
            yield name, (product_row, which, target, "filter")
        for feature in ("plain", "all"):
            yield f"loss summed {feature}", (summed_row, target, feature)
        yield "loss combine", (small_row, "combine", target)
        yield "attention delta", (small_row, "delta", target)
        yield "attention sinks", (small_row, "sinks", target)
        yield "attention tile table", (small_row, "tile table", target)
        yield "norm sum 4096 plain", (normalization_row, "sum", 4096, target, "plain")
        for kernel, width in configs.NORMALIZATION:
            for feature in ("plain", "residual"):
                row = (normalization_row, kernel, width, target, feature)
                yield f"norm {kernel} {width} {feature}", row
        for head_dim in (64, 128, 256):
            for feature in FEATURES:
                row = (decode_row, head_dim, target, feature)
                yield f"decode d{head_dim} {feature}", row
        yield "decode join", (join_row, target)
        for feature in ("plain", "sum"):
            yield f"symmetric {feature}", (symmetric_row, target, feature)
        for feature in ("nearest", "stochastic"):
            yield f"adamw {feature}", (optimizer_row, target, feature)
        for activation in ("silu", "gelu", "gelu_tanh", "relu2"):
            for kernel in ("forward", "backward"):
                row = (gated_row, kernel, activation, target)
                yield f"gated {activation} {kernel}", row
        for head_dim in (64, 128, 256):
            for feature in ("halves", "interleaved"):
                row = (rotary_row, head_dim, target, feature)
                yield f"rope d{head_dim} {feature}", row
        for head_dim in (64, 128, 256):
            for kernel in ("forward", "dq", "dkdv"):
                for feature in (*FEATURES, "pairs", "dropout", "fp32"):
                    name = f"attention {kernel} d{head_dim} {feature}"
                    yield name, (attention_row, kernel, head_dim, target, feature)


COLUMNS = (
    "kernel", "target", "tile", "warps", "stages", "registers", "spill_bytes",
    "shared_bytes", "matrix", "async_copies", "wide_loads", "atomics",
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--only", default="", help="regular expression on the name")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    rows = []
    print(f"triton {triton.__version__}, {DTYPE}, causal\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for name, (make, *arguments) in cases(options.targets):
        if re.search(options.only, name):
            rows.append(make(*arguments))
            cells = (str(rows[-1][column]) for column in COLUMNS)
            print(f"| {' | '.join(cells)} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
