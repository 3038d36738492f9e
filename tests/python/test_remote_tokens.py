"""Token shards on a web server are read like a folder: here the server of Python itself."""

import functools
import http.server
import json
import signal
import subprocess
import sys
import threading
import urllib.parse

import pytest

from triptych._core import (
    ConfigError,
    InputError,
    IntegrityError,
    Order,
    train_tokenizer,
    write_token_shards,
)
from triptych.commands import dpo, sft
from triptych.data import TokenShards
from triptych.tokens import local_shards

WORDS = ["the cat sat on the mat"] * 3


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder of shards, and its address."""
    folder = tmp_path / "tokens"
    tokenizer = train_tokenizer(None, WORDS, 300)
    documents = [(str(n), "s", [1, *range(7, 20 + n), 2], None) for n in range(9)]
    write_token_shards(documents, tokenizer, folder, 1)
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/tokens"
    server.shutdown()


def test_an_order_of_an_address_is_that_of_its_folder(served, tmp_path, monkeypatch):
    folder, address = served
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    stage = {"name": "s", "steps": 3, "rows_per_step": 1, "seq_len": 40}
    stage["weights"] = {"web": 1.0}
    here, there = (Order([("web", str(at))], [stage], 0) for at in (folder, address))
    assert [there.step_hash(n) for n in range(3)] == [
        here.step_hash(n) for n in range(3)
    ]
    (copy,) = (tmp_path / "cache" / "tokens").glob("[0-9a-f]*")
    assert copy == local_shards(address)
    assert (copy / "00000.bin").read_bytes() == (folder / "00000.bin").read_bytes()


def test_a_path_of_this_machine_is_itself(served):
    folder, _ = served
    assert local_shards(folder) == folder
    assert local_shards("nowhere").as_posix() == "nowhere"


@pytest.mark.parametrize(("command", "per_unit"), [(sft, 1), (dpo, 2)])
def test_what_is_tuned_on_may_stand_at_an_address(
    served, tmp_path, monkeypatch, command, per_unit
):
    folder, address = served
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    tokenizer = train_tokenizer(None, WORDS, 300)
    documents = [(str(n), "s", [1, 7 + n, 2], [0, 1, 1]) for n in range(4)]
    write_token_shards(documents, tokenizer, folder, per_unit)
    copy = command.shards((address,), str(tmp_path / "run"), tokenizer)
    assert copy == local_shards(address)
    assert len(TokenShards(copy)) == 4
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["my tokens", "100%", "Köln"])
def test_an_address_on_the_web_may_be_written_as_a_browser_shows_or_copies_it(
    served, tmp_path, name
):
    folder, address = served
    folder.rename(tmp_path / name)
    for written in (name, urllib.parse.quote(name)):
        there = address.replace("tokens", written)
        copy = local_shards(there, cache=tmp_path / f"cache of {written}")
        assert len(TokenShards(copy)) == 9


def test_what_is_wrong_there_is_an_exception(served, tmp_path):
    folder, address = served
    cache = tmp_path / "cache"
    with pytest.raises(ConfigError, match="no input at"):
        local_shards(address + "-not", cache=cache)
    with pytest.raises(ConfigError, match="https"):
        local_shards("http://example.org/tokens", cache=cache)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["00000.bin"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match=r"00000\.bin"):
        local_shards(address, cache=cache)


def test_a_page_that_a_server_refuses_with_is_shown_by_its_beginning_alone(tmp_path):
    class Refusing(Quiet):
        def do_GET(self):
            page = b"<html>\n" + b"not for you " * 100_000
            self.send_response(403)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(InputError, match="403 Forbidden: <html> not for you") as caught:
        local_shards(f"http://127.0.0.1:{server.server_port}/tokens", cache=tmp_path)
    server.shutdown()
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


FETCHING = """
import sys
from triptych._core import Order
from triptych.tokens import export_tokens, local_shards
STAGE = {"name": "s", "steps": 1, "rows_per_step": 1, "seq_len": 9, "weights": {"w": 1.0}}
if sys.argv[1] == "shards":
    local_shards(sys.argv[2])
elif sys.argv[1] == "export":
    export_tokens(sys.argv[2], "exported")
else:
    Order([("w", sys.argv[2])], [STAGE], 0)
"""


@pytest.mark.parametrize("what", ["shards", "order", "export"])
def test_ctrl_c_ends_a_fetch_and_the_wait_for_one_and_what_came_is_gone_on_with(
    served, tmp_path, monkeypatch, what
):
    folder, address = served
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    asked, goes_on, starts = threading.Event(), threading.Event(), []
    ids = (folder / "00000.bin").read_bytes()

    class Stalling(Quiet):
        def do_GET(self):
            if not self.path.endswith("/00000.bin"):
                return super().do_GET()
            first = int(self.headers.get("Range", "bytes=0-")[6:-1])
            starts.append(first)
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(ids) - first))
            self.send_header(
                "Content-Range", f"bytes {first}-{len(ids) - 1}/{len(ids)}"
            )
            self.send_header("ETag", "1")
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(ids[first : first + 10])
            asked.set()
            goes_on.wait(30)
            self.wfile.write(ids[first + 10 :])

    handler = functools.partial(Stalling, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/tokens"
    command = [sys.executable, "-c", FETCHING, what, address]
    fetching = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert asked.wait(30)
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(2)
    for process in (waiting, fetching):
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        assert said.strip().endswith("KeyboardInterrupt")
    goes_on.set()
    assert len(TokenShards(address)) == 9
    assert starts == [0, 10]
    server.shutdown()


def test_an_endpoint_that_is_not_asked_since_it_has_no_tls_says_what_allows_it(
    tmp_path,
):
    environment = {
        "AWS_ENDPOINT_URL": "http://minio.example:9000",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(InputError, match="AWS_ALLOW_HTTP=true"):
            local_shards("s3://bucket/tokens", cache=tmp_path)
