"""Hugging Face folders read into artefacts and written again; exports that are proved."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import triptych
from test_families import TABLE, twin_of
from test_model import write_tokenizer
from triptych.artefact import Draft
from triptych.cli import main
from triptych.commands.export import ExportConfig, export
from triptych.commands.import_model import ImportConfig, import_model
from triptych.conversation import CHAT_TEMPLATE
from triptych.errors import ConfigError, IntegrityError
from triptych.model import huggingface

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")
TEMPLATE = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"


def foreign_folder(folder, name, dtype=torch.bfloat16):
    """What a publisher would have written: sharded, in half precision, with surroundings."""
    twin = twin_of(*TABLE[name]).to(dtype)
    twin.generation_config.eos_token_id = [2, 96]
    twin.save_pretrained(folder, max_shard_size="20KB")
    write_tokenizer(folder / "tokenizer.json", 97)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": TEMPLATE,
        "eos_token": "<|eos|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@torch.no_grad()
@pytest.mark.parametrize("name", ["qwen2", "gemma3", "mixtral"])
def test_an_imported_model_can_be_exported_to_what_transformers_loads(tmp_path, name):
    source = foreign_folder(tmp_path / "source", name)
    assert len(list(source.glob("*.safetensors"))) > 1
    artefact = import_model(
        ImportConfig(folder=str(source), output=str(tmp_path / "a"))
    )
    out = export(ExportConfig(model=str(artefact), output=str(tmp_path / "out")))
    read = transformers.AutoModelForCausalLM.from_pretrained
    before = read(source, dtype=torch.float32, attn_implementation="eager")
    after = read(out, dtype=torch.float32, attn_implementation="eager")
    ids = torch.randint(0, 97, (2, 21))
    torch.testing.assert_close(after(ids).logits, before(ids).logits, atol=1e-5, rtol=0)
    assert after.generation_config.eos_token_id == [2, 96]
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template == TEMPLATE
    proof = json.loads((out / "manifest.json").read_text())["content"]["verified"]
    assert proof["greedy_tokens"] == 32
    assert proof["tokenizer_texts"] > 0
    assert triptych.load_model(out).logits(ids).shape == (2, 21, 97)


def test_the_command_imports_and_says_where(tmp_path, capsys):
    source = foreign_folder(tmp_path / "source", "llama")
    assert main(["import", str(source), "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_code_of_a_folder_is_not_run_and_nobody_is_asked_to(tmp_path, monkeypatch):
    source = foreign_folder(tmp_path / "source", "llama")
    canary = tmp_path / "canary"
    (source / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    rewrite(
        source / "tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"},
    )
    asked = []
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or "y")
    with pytest.raises(IntegrityError, match="expected a tokenizer that transformers"):
        import_model(ImportConfig(folder=str(source), output=str(tmp_path / "out")))
    assert not asked
    assert not canary.exists()


def rewrite(path, changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "settings",
    [
        {"suppress_tokens": list(range(10, 60)), "no_repeat_ngram_size": 2},
        {"forced_eos_token_id": 2, "num_return_sequences": 2, "do_sample": True},
        {"return_dict_in_generate": True, "stop_strings": ["a"]},
    ],
)
def test_settings_of_generation_are_carried_and_do_not_change_the_proof(
    tmp_path, settings
):
    source = foreign_folder(tmp_path / "source", "llama")
    rewrite(source / "generation_config.json", settings)
    out = import_model(ImportConfig(folder=str(source), output=str(tmp_path / "out")))
    written = json.loads((out / "generation_config.json").read_text())
    assert written == json.loads((source / "generation_config.json").read_text())


def test_all_ids_that_end_a_text_stay_where_only_config_json_has_them(tmp_path):
    source = foreign_folder(tmp_path / "source", "llama")
    (source / "generation_config.json").unlink()
    rewrite(source / "config.json", {"eos_token_id": [2, 96, 128_009]})
    out = import_model(ImportConfig(folder=str(source), output=str(tmp_path / "out")))
    written = json.loads((out / "generation_config.json").read_text())
    assert written["eos_token_id"] == [2, 96]


def damaged(source, change):
    """The first shard after `change` of its tensors."""
    path = min(source.glob("*.safetensors"))
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def drop(tensors):
    tensors.pop(next(iter(tensors)))


def reshape(tensors):
    name = next(iter(tensors))
    tensors[name] = torch.zeros(3, 5)


def add(tensors):
    tensors["model.layers.0.extra.weight"] = torch.zeros(2)


def quantise(tensors):
    name = next(iter(tensors))
    tensors[name] = torch.zeros(tensors[name].shape, dtype=torch.int8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (drop, IntegrityError, "tensor `.*`: expected shape .*found no such tensor"),
        (reshape, IntegrityError, r"tensor `.*`: expected shape .*found \(3, 5\)"),
        (add, IntegrityError, "found also .'model.layers.0.extra.weight'"),
        (quantise, ConfigError, "tensor `.*`: expected one of F64.*found I8"),
    ],
)
def test_tensors_that_do_not_fit_are_named_before_a_model_is_made(
    tmp_path, monkeypatch, change, error, message
):
    source = foreign_folder(tmp_path / "source", "llama")
    damaged(source, change)
    monkeypatch.setattr(huggingface, "_skeleton", lambda config: pytest.fail("made"))
    with pytest.raises(error, match=message):
        import_model(ImportConfig(folder=str(source), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("vocab_size", "error", "message"),
    [
        (10**7, IntegrityError, r"expected the \d+ numbers of its config"),
        (10**12, ConfigError, r"config\.json`: vocab_size: expected at most 10000000"),
    ],
)
def test_a_config_that_claims_a_giant_is_refused_before_a_model_is_made(
    tmp_path, vocab_size, error, message
):
    source = foreign_folder(tmp_path / "source", "llama")
    path = source / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "vocab_size": vocab_size}))
    with pytest.raises(error, match=message):
        import_model(ImportConfig(folder=str(source), output=str(tmp_path / "out")))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model.safetensors.index.json", '{"weight_map": []}', "expected `weight_map`"),
        ("model.safetensors.index.json", "{}", "expected `weight_map`.*found None"),
        ("tokenizer.json", '{"model": null}', "expected a vocabulary and added tokens"),
        ("tokenizer.json", '{"added_tokens": [{"content": "a"}]}', "'id'"),
        ("tokenizer.json", '{"model": {"vocab": {"a": "x"}}}', "a vocabulary and"),
        ("tokenizer_config.json", "[]", "expected a tokenizer that transformers reads"),
        ("tokenizer_config.json", "{", "expected a tokenizer that transformers reads"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, name, text, message):
    source = foreign_folder(tmp_path / "source", "llama")
    (source / name).write_text(text)
    place = tmp_path if name == "tokenizer_config.json" else source / name
    with pytest.raises(IntegrityError, match=f"`{place}.*{message}"):
        import_model(ImportConfig(folder=str(source), output=str(tmp_path / "out")))


def test_a_folder_is_not_written_over_itself(tmp_path):
    source = foreign_folder(tmp_path / "source", "llama")
    with pytest.raises(ConfigError, match="another folder than the input"):
        import_model(ImportConfig(folder=str(source), output=str(source)))
    assert (source / "config.json").exists()


def changed(name, key, value):
    """`write_json` that gets one value of one file wrong."""
    write = huggingface.write_json

    def wrong(path, values):
        write(path, {**values, key: value} if path.name == name else values)

    return wrong


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("generation_config.json", "eos_token_id", 2, "ids that end a text: expected"),
        ("tokenizer_config.json", "chat_template", "{{ 1 }}", "the chat template: exp"),
        ("config.json", "rms_norm_eps", 0.1, "expected logits within"),
        ("config.json", "rope_parameters", {"rope_theta": 3.0}, "logits within"),
    ],
)
def test_an_export_that_behaves_otherwise_is_named_and_not_committed(
    tmp_path, tiny_model, tokenizer_path, monkeypatch, name, key, value, message
):
    monkeypatch.setattr(huggingface, "write_json", changed(name, key, value))
    with torch.no_grad():
        for parameter in tiny_model.parameters():
            parameter.mul_(5)
    with pytest.raises(IntegrityError, match=message):
        huggingface.export(tiny_model, tmp_path / "out", tokenizer_path, CHAT_TEMPLATE)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_cuts_otherwise_is_found(
    tmp_path, tiny_model, tokenizer_path, monkeypatch
):
    def copied(source, target):
        values = json.loads(tokenizer_path.read_text(encoding="utf-8"))
        values["normalizer"] = {"type": "Lowercase"}
        target.write_text(json.dumps(values), encoding="utf-8")

    monkeypatch.setattr(huggingface, "copy_file", copied)
    monkeypatch.setattr(
        "triptych.model.verification._our_tokenizer",
        lambda folder: triptych.Tokenizer.from_file(str(tokenizer_path)),
    )
    with pytest.raises(IntegrityError, match="ids of the text 'The house"):
        huggingface.export(tiny_model, tmp_path / "out", tokenizer_path, CHAT_TEMPLATE)


@pytest.mark.parametrize("name", ["llama 3", "gemma2", "qwen3 moe", "olmo2", "smollm3"])
def test_a_family_with_our_tokenizer_and_template_passes_every_check(
    tmp_path, tokenizer, tokenizer_path, name
):
    model_type, changes = TABLE[name]
    shape = {**changes, "vocab_size": tokenizer.vocab_size, "model_type": model_type}
    torch.manual_seed(0)
    from test_families import SHAPE
    from triptych.model import ModelConfig, Transformer

    model = Transformer(ModelConfig.from_dict({**SHAPE, **shape}))
    huggingface.export(model, tmp_path / "out", tokenizer_path, CHAT_TEMPLATE)
    shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("name", ["", ".", "new/.."])
def test_an_export_needs_a_name_to_be_renamed_to(
    tmp_path, monkeypatch, tiny_model, name
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="output: expected the name of a folder"):
        huggingface.export(tiny_model, name, verified=False)
    assert list(tmp_path.iterdir()) == []


def test_an_export_replaces_an_export_and_nothing_else(tmp_path, tiny_model):
    for name in ("empty", "run", "tokens"):
        (tmp_path / name).mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("{}")
    (tmp_path / "tokens" / "manifest.json").write_text(
        '{"format": "triptych-tokens/1"}'
    )
    (tmp_path / "file").write_text("mine")
    for name in ("run", "tokens", "file"):
        with pytest.raises(ConfigError, match=rf"output: expected a new.*{name}`"):
            huggingface.export(tiny_model, tmp_path / name, verified=False)
    assert (tmp_path / "run" / "metrics.jsonl").exists()
    assert (tmp_path / "tokens" / "manifest.json").exists()
    for _ in range(2):
        huggingface.export(tiny_model, tmp_path / "empty", verified=False)
    assert (tmp_path / "empty" / "model.safetensors").exists()


def test_an_export_by_a_link_replaces_what_the_link_names(tmp_path, tiny_model):
    disk, link = tmp_path / "disk", tmp_path / "link"
    link.symlink_to(disk)
    for seed in range(3):
        torch.nn.init.normal_(tiny_model.lm_head.weight)
        huggingface.export(tiny_model, link, verified=seed == 2)
    assert link.is_symlink()
    assert sorted(x.name for x in tmp_path.iterdir()) == ["disk", "link"]
    reread = huggingface.load_model(disk)
    assert torch.equal(reread.lm_head.weight, tiny_model.lm_head.weight)


def test_a_model_without_a_tokenizer_is_exported_without_one(tmp_path):
    source = foreign_folder(tmp_path / "source", "llama")
    for path in source.glob("*token*"):
        path.unlink()
    out = import_model(ImportConfig(folder=str(source), output=str(tmp_path / "out")))
    again = export(ExportConfig(model=str(out), output=str(tmp_path / "again")))
    settings = "generation_config.json"
    assert (again / settings).read_text() == (source / settings).read_text()
    assert not list(again.glob("*token*"))


def test_a_model_trained_with_a_tokenizer_of_others_is_exported_without_our_template(
    tmp_path, tiny_model, tokenizer
):
    folder = tmp_path / "checkpoint"
    foreign = tokenizer.to_str().replace("<|user|>", "<|human|>")
    (tmp_path / "tokenizer.json").write_text(foreign)
    with Draft(folder) as draft:
        huggingface.save_model(tiny_model, draft, tmp_path / "tokenizer.json")
        draft.commit(huggingface.CHECKPOINT_FORMAT, {}, {})
    out = export(ExportConfig(model=str(folder), output=str(tmp_path / "out")))
    settings = json.loads((out / "tokenizer_config.json").read_text())
    assert "chat_template" not in settings
    assert (out / "tokenizer.json").read_text() == foreign
