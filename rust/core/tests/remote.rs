//! Token shards at an address, from a web server that cuts, damages and forgets.
#![cfg(feature = "remote")]
#![allow(clippy::unwrap_used)] // a test may fail anywhere

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use triptych_core::shard::remote::{local_folder_in, CACHE_VARIABLE};
use triptych_core::shard::{write_token_shards, RenderedDocument, TokenShards};
use triptych_core::tokenize::{train, Tokenizer, TrainConfig};
use triptych_core::Error;

/// What a server does with a file, in place of sending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// So many times it sends half of what is asked for and closes the connection.
    Cuts(u32),
    /// It flips a bit of the last byte, so many times.
    Flips(u32),
    /// It sends a byte more.
    IsLonger,
    /// It is not there.
    IsMissing,
    /// The connection is cut at half of it, and then it is not there any more.
    Vanishes(bool),
    /// It answers requests for a part with the whole.
    HasNoRanges,
}

#[derive(Default)]
struct State {
    faults: HashMap<String, Vec<Fault>>,
    /// Name and first byte of every request.
    requests: Vec<(String, usize)>,
}

/// A web server of one folder, on a port of its own.
struct Server {
    address: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn of(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = PathBuf::from(format!("http://{}/some/tokens", listener.local_addr().unwrap()));
        let state = Arc::new(Mutex::new(State::default()));
        let (folder, shared) = (folder.to_owned(), Arc::clone(&state));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (folder, shared) = (folder.clone(), Arc::clone(&shared));
                std::thread::spawn(
                    move || while answer(stream.as_ref().unwrap(), &folder, &shared).is_some() {},
                );
            }
        });
        Self { address, state }
    }

    fn fault(&self, name: &str, fault: Fault) {
        self.state.lock().unwrap().faults.entry(name.to_owned()).or_default().push(fault);
    }

    /// The requests for a file, by first byte.
    fn requests(&self, name: &str) -> Vec<usize> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|(asked, _)| asked == name).map(|(_, byte)| *byte).collect()
    }
}

/// What S3 and Google tell of every object.
const DATES: &str = "etag: \"x\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";

/// Answers one request; `None` if the connection is to end.
fn answer(mut stream: &TcpStream, folder: &Path, state: &Mutex<State>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.replace("%2F", "/").replace("%2E", "."); // so Google is asked
    let name = path.strip_prefix("/some/tokens/")?.to_owned();
    let mut first_byte = 0;
    for line in lines {
        let line = line.ok()?.to_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            first_byte = range.trim_end_matches('-').parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut state = state.lock().unwrap();
    state.requests.push((name.clone(), first_byte));
    let faults = state.faults.entry(name.clone()).or_default();
    let mut body = fs::read(folder.join(&name)).unwrap_or_default();
    let (mut status, mut is_cut) = ("200 OK", false);
    for fault in faults.iter_mut() {
        match fault {
            Fault::Cuts(left) if *left > 0 => {
                *left -= 1;
                is_cut = true;
            }
            Fault::Flips(left) if *left > 0 => {
                *left -= 1;
                *body.last_mut()? ^= 1;
            }
            Fault::IsLonger => body.push(0),
            Fault::IsMissing => (status, body) = ("404 Not Found", Vec::new()),
            Fault::Vanishes(true) => (status, body, first_byte) = ("404 Not Found", Vec::new(), 0),
            Fault::Vanishes(is_gone) => (*is_gone, is_cut) = (true, true),
            Fault::HasNoRanges => first_byte = 0,
            _ => {}
        }
    }
    drop(state);
    let (all, mut headers) = (body.len(), String::new());
    if first_byte > 0 {
        status = "206 Partial Content";
        headers = format!("content-range: bytes {first_byte}-{}/{all}\r\n", all - 1);
        body.drain(..first_byte);
    }
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{DATES}{headers}\r\n").ok()?;
    let sent = if is_cut { body.len() / 2 } else { body.len() };
    stream.write_all(&body[..sent]).ok()?;
    if is_cut {
        stream.shutdown(std::net::Shutdown::Both).ok()?;
        return None;
    }
    Some(())
}

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(|| {
        let config = TrainConfig { vocab_size: 300, ..TrainConfig::default() };
        train(std::iter::once(Ok("the cat sat on the mat".to_owned())), &config, &mut |_, _| {}).unwrap()
    });
    &TOKENIZER
}

/// A server of shards with 100,000 tokens, and an empty cache.
fn served() -> (tempfile::TempDir, Server, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tokens");
    let document = |number: u32| -> RenderedDocument {
        let ids = (0..1000).map(|token| (token * 7 + number) % 250).collect();
        (number.to_string(), "s".to_owned(), ids, None)
    };
    let documents: Vec<_> = (0..100).map(document).collect();
    write_token_shards(&documents, tokenizer(), &folder, 1).unwrap();
    let (server, cache) = (Server::of(&folder), dir.path().join("cache"));
    (dir, server, cache)
}

/// Fetches, and checks that the copy is whole.
fn fetched(server: &Server, cache: &Path) -> PathBuf {
    let folder = local_folder_in(&server.address, cache).unwrap().into_owned();
    let shards = TokenShards::open(&folder).unwrap();
    shards.verify().unwrap();
    assert_eq!(shards.content().num_tokens, 100_000);
    folder
}

#[test]
fn shards_are_fetched_once_and_then_read_from_the_cache() {
    let (dir, server, cache) = served();
    let folder = fetched(&server, &cache);
    assert_eq!(fetched(&server, &cache), folder);
    assert_eq!(server.requests("manifest.json").len(), 2);
    assert_eq!(server.requests("00000.bin"), [0]);
    let original = |name: &str| fs::read(dir.path().join("tokens").join(name)).unwrap();
    for name in ["manifest.json", "00000.bin", "00000.docs.parquet"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), original(name), "{name}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
}

#[test]
fn an_address_is_opened_like_a_folder() {
    let (_dir, server, cache) = served();
    std::env::set_var(CACHE_VARIABLE, &cache);
    let shards = TokenShards::open(&server.address).unwrap();
    let mut ids = [0; 3];
    shards.read(99, 0, &mut ids).unwrap();
    assert_eq!((ids.to_vec(), shards.folder().starts_with(&cache)), (vec![99, 106, 113], true));
}

#[test]
fn buckets_are_asked_for_at_the_endpoint_of_the_environment() {
    let (_dir, server, cache) = served();
    let endpoint = server.address.to_str().unwrap().strip_suffix("/some/tokens").unwrap();
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_REGION", "here-1"),
        ("GOOGLE_BASE_URL", endpoint),
        ("GOOGLE_SKIP_SIGNATURE", "true"),
    ];
    for (name, value) in variables {
        std::env::set_var(name, value);
    }
    for (address, cache) in [("s3://some/tokens", cache.join("s3")), ("gs://some/tokens/", cache.join("gs"))]
    {
        let folder = local_folder_in(Path::new(address), &cache).unwrap();
        TokenShards::open(&folder).unwrap().verify().unwrap();
    }
    assert_eq!(server.requests("00000.bin"), [0, 0]);
}

#[test]
fn a_connection_that_is_cut_is_gone_on_with_where_it_ended() {
    let (_dir, server, cache) = served();
    server.fault("00000.bin", Fault::Cuts(3));
    fetched(&server, &cache);
    let requests = server.requests("00000.bin");
    assert_eq!(requests[0], 0);
    assert!(requests.windows(2).all(|pair| pair[0] < pair[1]), "{requests:?}");
}

#[test]
fn a_server_that_cannot_begin_at_a_byte_sends_the_file_again() {
    let (_dir, server, cache) = served();
    server.fault("00000.bin", Fault::Cuts(1));
    server.fault("00000.bin", Fault::HasNoRanges);
    fetched(&server, &cache);
}

#[test]
fn a_run_that_failed_leaves_what_it_has_for_the_next() {
    let (_dir, server, cache) = served();
    server.fault("00000.bin", Fault::Vanishes(false));
    let error = local_folder_in(&server.address, &cache).unwrap_err();
    assert!(error.to_string().contains("/some/tokens/00000.bin"), "{error}");
    server.state.lock().unwrap().faults.clear();
    server.state.lock().unwrap().requests.clear();
    fetched(&server, &cache);
    assert!(server.requests("00000.bin").iter().all(|byte| *byte > 0), "what was there was asked for again");
}

#[test]
fn damage_on_the_way_is_fetched_again_and_damage_at_the_source_is_an_integrity_error() {
    let (_dir, server, cache) = served();
    server.fault("00000.bin", Fault::Flips(1));
    fetched(&server, &cache);
    for fault in [Fault::Flips(100), Fault::IsLonger] {
        let (_dir, server, cache) = served();
        server.fault("00000.bin", fault);
        let error = local_folder_in(&server.address, &cache).unwrap_err();
        assert!(error.to_string().contains("/some/tokens/00000.bin"), "{error}");
        assert!(matches!(error, Error::Integrity { .. }), "{error}");
        assert_eq!(server.requests("00000.bin").len(), 2);
        let names = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(
            names.into_iter().all(|name| name.to_string_lossy().starts_with('.')),
            "a folder has its name"
        );
    }
}

#[test]
fn a_folder_of_the_cache_that_was_cut_is_fetched_again() {
    let (_dir, server, cache) = served();
    let folder = fetched(&server, &cache);
    for name in ["00000.bin", "manifest.json"] {
        fs::write(folder.join(name), b"cut").unwrap();
        assert_eq!(fetched(&server, &cache), folder);
        fs::remove_file(folder.join(name)).unwrap();
        assert_eq!(fetched(&server, &cache), folder);
    }
}

#[test]
fn where_no_shards_are_is_said_with_the_address() {
    let (_dir, server, cache) = served();
    server.fault("manifest.json", Fault::IsMissing);
    let error = local_folder_in(&server.address, &cache).unwrap_err();
    assert!(matches!(error, Error::NoInput { .. }) && error.to_string().contains("/some/tokens"), "{error}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = local_folder_in(Path::new(&format!("http://{nobody}/x")), &cache).unwrap_err();
    assert!(error.to_string().contains("cannot fetch"), "{error}");
}

#[test]
fn a_manifest_cannot_name_files_outside_its_folder() {
    for name in ["../evil", "/etc/evil", ".evil", "a/b", "manifest.json", ""] {
        let (dir, server, cache) = served();
        let path = dir.path().join("tokens/manifest.json");
        let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        manifest["files"][name] = serde_json::json!({"bytes": 1, "sha256": "00"});
        fs::write(&path, manifest.to_string()).unwrap();
        let error = local_folder_in(&server.address, &cache).unwrap_err();
        assert!(matches!(error, Error::Integrity { .. }), "{name}: {error}");
        assert!(!cache.exists());
    }
}

#[test]
fn processes_that_fetch_at_once_wait_for_one() {
    let (_dir, server, cache) = served();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fetched(&server, &cache));
        }
    });
    assert_eq!(server.requests("00000.bin"), [0]);
}
