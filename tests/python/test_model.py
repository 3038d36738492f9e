"""The transformer: its shapes, its isolation, its cache, its files."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from tiny import VOCAB_SIZE, packed, same_weights, tiny_config, tiny_model
from triptych.errors import ConfigError, IntegrityError
from triptych.model import ModelConfig
from triptych.model.huggingface import export, load_model, weights_of

FAMILIES = [
    pytest.param({"qk_norm": False, "tie_word_embeddings": False}, id="llama"),
    pytest.param({"qk_norm": False, "tie_word_embeddings": True}, id="llama tied"),
    pytest.param({"qk_norm": True, "tie_word_embeddings": True}, id="qwen3 tied"),
    pytest.param({"qk_norm": True, "head_dim": 16}, id="qwen3 wide heads"),
    pytest.param({"num_key_value_heads": 4, "rope_theta": 5e5}, id="no grouping"),
]


@pytest.mark.parametrize("changes", FAMILIES)
def test_num_parameters_counts_what_the_model_holds(changes):
    model = tiny_model(**changes)
    held = sum(parameter.numel() for parameter in model.parameters())
    assert model.config.num_parameters() == held


def test_parameters_of_products_are_those_of_the_layers_matrices_and_of_the_head():
    matrices = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48) + VOCAB_SIZE * 32
    assert tiny_config().num_matmul_parameters() == matrices


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 3}, "divisor of num_attention_heads .4., found 3"),
        ({"hidden_size": -4}, "hidden_size: expected an integer above 0, found -4"),
        ({"hidden_size": 30}, "multiple of num_attention_heads .4.*found 30"),
        ({"head_dim": 7}, "even number.*found 7"),
        ({"vocab_size": 0}, "vocab_size: expected an integer above 0, found 0"),
        ({"hidden_size": 2**32}, "hidden_size: expected at most 250000, found 42949"),
        ({"head_dim": 2**31}, "head_dim: expected at most 8000, found 2147483648"),
        ({"vocab_size": 10**12}, "vocab_size: expected at most 10000000, found 10"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: .* 10000, found 10000000"),
        ({"qk_norm": 1}, "qk_norm: expected true or false, found 1"),
        ({"bos_token_id": 97}, "bos_token_id: expected an id below.*97.*found 97"),
        ({"hiden_size": 8}, "unknown model settings .'hiden_size'."),
        ({"model_type": "gpt2"}, "expected one of `llama`, .*, found 'gpt2'"),
        ({"attention_bias": 1}, "attention_bias: expected true or false, found 1"),
        ({"rope_scaling": {"beta": 2}}, "rope_scaling: unknown keys .'beta'."),
        ({"rope_parameters": {"rope_type": "longrope"}}, "default.*yarn.*`longrope`"),
        ({"rope_scaling": {"type": "linear"}}, "factor: .*linear.*found None"),
        ({"sliding_window": 8}, "sliding_window: expected None.*`llama`.*found 8"),
        ({"attention_dropout": 0.1}, "attention_dropout: expected 0.0.*found 0.1"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: expected None"),
        ({"auto_map": {"AutoConfig": "x.Y"}}, "unknown model settings .'auto_map'."),
    ],
)
def test_an_impossible_config_names_what_was_expected_and_found(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_config(**changes)


@pytest.mark.parametrize("changes", FAMILIES)
def test_a_config_survives_the_way_through_hugging_face(changes):
    config = tiny_config(**changes)
    assert ModelConfig.from_hf_dict(config.to_hf_dict()) == config
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_residual_projections_start_smaller_by_the_root_of_twice_the_layers():
    model = tiny_model(hidden_size=256, intermediate_size=512)
    layer = model.model.layers[0]
    assert layer.mlp.up_proj.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert layer.mlp.down_proj.weight.std().item() == pytest.approx(0.01, rel=0.02)


def test_packed_documents_have_the_logits_they_have_alone():
    model = tiny_model()
    documents = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14], [15]]
    batch = packed(documents)
    together = model.logits(batch.input_ids, batch.position_ids, batch.cu_seqlens)
    alone = [model.logits(torch.tensor(document)) for document in documents]
    torch.testing.assert_close(together, torch.cat(alone))


def test_gradients_of_one_document_with_respect_to_another_are_exactly_zero():
    model = tiny_model()
    batch = packed([[5, 6, 7], [8, 9, 10, 11], [12, 13, 14]])
    embedded = {}
    model.model.embed_tokens.register_forward_hook(
        lambda module, args, output: embedded.setdefault("x", output).retain_grad()
    )
    hidden = model.hidden(batch.input_ids, batch.position_ids, batch.cu_seqlens)
    hidden[3:7].sum().backward()
    gradient = embedded["x"].grad
    assert gradient[:3].abs().max() == 0
    assert gradient[7:].abs().max() == 0
    assert gradient[3:7].abs().min() > 0


@pytest.mark.parametrize("changes", FAMILIES)
def test_decoding_with_a_cache_gives_the_logits_of_a_full_pass(changes):
    model = tiny_model(**changes)
    ids = torch.randint(0, VOCAB_SIZE, (3, 10))
    full = model.logits(ids)
    rows, lengths = torch.arange(3), torch.tensor([6, 4, 2])
    cache = model.new_cache(3, 12)
    torch.testing.assert_close(
        model.decode(ids[:, :6], cache, lengths), full[rows, lengths - 1]
    )
    for step in range(3):
        following = ids[rows, lengths + step][:, None]
        torch.testing.assert_close(
            model.decode(following, cache), full[rows, lengths + step]
        )


@pytest.mark.parametrize("changes", FAMILIES)
def test_a_model_survives_pickling(changes):
    model = tiny_model(**changes)
    ids = torch.arange(5)
    expected = model.logits(ids)
    again = pickle.loads(pickle.dumps(model))  # as processes that are spawned do
    assert torch.equal(again.logits(ids), expected)


def test_a_cache_forgets_sequences_that_are_not_kept():
    model = tiny_model()
    ids = torch.randint(0, VOCAB_SIZE, (3, 5))
    cache = model.new_cache(3, 8)
    model.decode(ids[:, :4], cache)
    cache.keep(torch.tensor([2]))
    torch.testing.assert_close(
        model.decode(ids[2:, 4:], cache), model.logits(ids[2:])[:, -1]
    )


def test_a_full_cache_says_so():
    model = tiny_model()
    cache = model.new_cache(1, 4)
    with pytest.raises(ConfigError, match="at most 4 tokens a sequence, found 5"):
        model.decode(torch.zeros(1, 5, dtype=torch.int64), cache)


@pytest.mark.parametrize("changes", FAMILIES)
def test_transformers_gives_the_same_logits_as_the_export(tmp_path, changes):
    transformers = pytest.importorskip("transformers")
    model = tiny_model(**changes)
    export(model, tmp_path / "out")
    twin = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32
    )
    ids = torch.randint(0, VOCAB_SIZE, (2, 33))
    with torch.no_grad():
        expected = twin(ids).logits
    torch.testing.assert_close(model.logits(ids), expected, atol=1e-5, rtol=0)
    saved = tmp_path / "saved"
    twin.save_pretrained(saved, max_shard_size="20KB")
    assert len(list(saved.glob("*.safetensors"))) > 1
    assert same_weights(load_model(saved), model)


def write_tokenizer(path, size):
    vocab = {f"t{number}": number for number in range(size - 2)}
    added = [
        {"id": size - 2, "content": "<|eos|>", "special": True},
        {"id": size - 1, "content": "<|end|>", "special": True},
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": "t0"}
    values = {
        "version": "1.0",
        "added_tokens": [{**flags, "normalized": False, **token} for token in added],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": model,
    }
    path.write_text(json.dumps(values))
    return path


def test_an_export_carries_tokenizer_template_and_end_of_turn(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json", VOCAB_SIZE)
    model = tiny_model(eos_token_id=95)
    export(model, tmp_path / "out", tokenizer, "{{ messages[0].content }}<|end|>")
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [95, 96]
    twin = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert twin.eos_token == "<|eos|>"
    message = [{"role": "user", "content": "t7 t8"}]
    ids = twin.apply_chat_template(message, tokenize=True, return_dict=False)
    assert ids == [7, 8, 96]


def test_a_tokenizer_larger_than_the_model_is_refused_with_both_sizes(tmp_path):
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json", VOCAB_SIZE + 3)
    with pytest.raises(ConfigError, match=r"tokenizer.json.*at most 97 ids.*found 100"):
        export(tiny_model(), tmp_path / "out", tokenizer)


def test_pickled_weights_are_refused_with_a_sentence(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config().to_hf_dict()))
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"safetensors, found `pytorch_model.bin`"):
        load_model(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a `config.json`"):
        load_model(tmp_path / "nowhere")


def test_a_tensor_of_the_wrong_shape_is_named(tmp_path):
    model = tiny_model()
    weights = weights_of(model)
    weights["model.norm.weight"] = torch.ones(31)
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_hf_dict()))
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(
        IntegrityError, match=r"`model.norm.weight`: expected shape \(32,\).*\(31,\)"
    ):
        load_model(tmp_path)


def test_a_flipped_bit_in_an_export_is_found(tmp_path):
    export(tiny_model(), tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model.safetensors.*SHA-256.*found SHA"):
        load_model(tmp_path / "out")


@pytest.mark.parametrize("reader", ["transformers", "triptych"])
def test_an_export_is_read_back_before_it_is_committed(tmp_path, monkeypatch, reader):
    if reader == "transformers":
        pytest.importorskip("transformers")
    else:
        monkeypatch.setattr(
            "triptych.model.verification.util.find_spec", lambda _: None
        )
    proof = export(tiny_model(), tmp_path / "out").content["verified"]
    assert proof["reader"] == reader
    assert proof["max_logit_difference"] < 1e-5


def test_an_export_shows_no_bars_of_transformers_and_leaves_them_on(tmp_path, capfd):
    pytest.importorskip("transformers")
    from transformers.utils import logging

    logging.enable_progress_bar()
    export(tiny_model(), tmp_path / "out")
    assert "Loading" not in capfd.readouterr().err
    assert logging.is_progress_bar_enabled()


def test_an_export_that_computes_something_else_is_not_committed(tmp_path, monkeypatch):
    def halved(model):
        return {name: tensor / 2 for name, tensor in weights_of(model).items()}

    monkeypatch.setattr("triptych.model.huggingface.weights_of", halved)
    with pytest.raises(IntegrityError, match=r"expected logits within.*found a diff"):
        export(tiny_model(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
