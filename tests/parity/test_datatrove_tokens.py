"""Token files that datatrove 0.10 writes itself are imported id by id, document by document."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("datatrove")
pytest.importorskip("tokenizers")
sys.path.insert(0, str(Path(__file__).parent))

from datatrove.data import Document
from datatrove.pipeline.tokens.megatron_tokenizer import MegatronDocumentTokenizer
from datatrove.pipeline.tokens.tokenizer import DocumentTokenizer
from tokenizers import Tokenizer

from triptych_prep import BINARY, CASES

zstandard = pytest.importorskip("zstandard")
pytestmark = pytest.mark.skipif(BINARY is None, reason="triptych-prep is not installed")

EOS = "<|eos|>"


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Real pages in 29 languages, one of them in part without loss, and an empty one."""
    packed = CASES / "languages.jsonl.zst"
    path = tmp_path_factory.mktemp("pages") / packed.stem
    with packed.open("rb") as file:
        path.write_bytes(zstandard.ZstdDecompressor().stream_reader(file).read())
    lines = path.read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line)["text"] for line in lines if line]
    found = [Document(text=text, id=str(n)) for n, text in enumerate(texts)]
    found[3].metadata["no_loss_ranges"] = [(0, 200)]
    return path, [*found[:10], Document(text="", id="empty"), *found[10:]]


@pytest.fixture(scope="module")
def tokenizer(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    command = [BINARY, "train-tokenizer", "--input", documents[0], "--output", folder]
    subprocess.run([*command, "--vocab-size", "2000"], check=True, capture_output=True)
    return folder / "tokenizer.json"


def imported(tmp_path, tokenizer, name):
    """Ids and masks of the documents, and the ledger's total."""
    output = tmp_path / "out"
    command = [BINARY, "import-tokens", "--format", name, "--json", "--output", output]
    command += ["--input", tmp_path / "in", "--tokenizer", tokenizer]
    done = subprocess.run(command, check=True, capture_output=True)
    ids = np.fromfile(output / "00000.bin", "<u2")
    has_mask = (output / "00000.mask.bin").exists()
    mask = np.fromfile(output / "00000.mask.bin", "u1") if has_mask else None
    spans = [
        slice(row["offset"], row["offset"] + row["length"])
        for row in pq.read_table(output / "00000.docs.parquet").to_pylist()
    ]
    masks = [mask[span].tolist() for span in spans] if has_mask else None
    ledger = json.loads(done.stdout)["ledger"]["total"]
    return [ids[span].tolist() for span in spans], masks, ledger


def encoded(documents, tokenizer):
    library = Tokenizer.from_file(str(tokenizer))
    eos = library.token_to_id(EOS)
    return [[*library.encode(one.text).ids, eos] for one in documents]


@pytest.mark.parametrize("shuffles", [False, True])
def test_ds_files_give_the_ids_and_the_loss_mask(
    documents, tokenizer, tmp_path, shuffles
):
    writer = DocumentTokenizer(
        str(tmp_path / "in"),
        str(tokenizer),
        eos_token=EOS,
        save_loss_metadata=True,
        shuffle_documents=shuffles,
        seed=0,
        local_working_dir=str(tmp_path / "work"),
    )
    writer.run(documents[1])
    found, masks, ledger = imported(tmp_path, tokenizer, "datatrove")
    expected = encoded(documents[1], tokenizer)
    if shuffles:
        assert sorted(found) == sorted(expected)
        assert found != expected
    else:
        assert found == expected
    hidden = [ids for ids, mask in zip(found, masks, strict=True) if 0 in mask]
    assert hidden == [expected[3]]
    assert ledger["documents_written"] == len(expected)
    assert ledger["tokens_written"] == sum(map(len, expected))


def test_megatron_files_of_datatrove_give_the_ids(documents, tokenizer, tmp_path):
    writer = MegatronDocumentTokenizer(
        str(tmp_path / "in"), tokenizer_name_or_path=str(tokenizer), eos_token=EOS
    )
    writer.run(documents[1])
    assert imported(tmp_path, tokenizer, "megatron")[0] == encoded(
        documents[1], tokenizer
    )
