//! What is named as input: files, folders, links, pipes, and files that change while they are read.

use std::fs;
use std::path::{Path, PathBuf};

use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use triptych_core::error::Error;
use triptych_core::read::{self, resolve};
use triptych_core::Result;

use crate::feed::LIMITS;
use crate::sample::{parquet, text_columns, LINES};

fn names(input: &Path) -> Result<Vec<String>> {
    Ok(resolve(&[input.to_owned()])?.iter().map(|input| read::file_name(&input.path)).collect())
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn a_folder_gives_its_files_once_and_in_order_whatever_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}.jsonl", "l".repeat(249));
    for name in ["b c.jsonl", "a\nb.jsonl", &long, ".hidden.jsonl", "notes.csv"] {
        fs::write(dir.path().join(name), LINES).unwrap();
    }
    fs::create_dir(dir.path().join("d.jsonl")).unwrap();
    fs::write(dir.path().join("d.jsonl/e.jsonl"), LINES).unwrap();
    assert_eq!(names(dir.path()).unwrap(), ["a\nb.jsonl", "b c.jsonl", "e.jsonl", &long]);
}

#[test]
fn ends_of_names_count_in_capitals_too() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["A.JSONL", "B.Txt", "C.jsonl.GZ", "D.ZIP"] {
        fs::write(dir.path().join(name), LINES).unwrap();
    }
    assert_eq!(names(dir.path()).unwrap(), ["A.JSONL", "B.Txt", "C.jsonl.GZ"]);
    let sources = ["A.JSONL", "B.Txt", "C.Jsonl.GZ", "é.HTM"].map(|name| read::source_name(Path::new(name)));
    assert_eq!(sources, ["A", "B", "C", "é"]);
    let error = names(&dir.path().join("D.ZIP")).unwrap_err().to_string();
    assert!(error.contains("an archive: unpack it"), "{error}");
}

#[test]
fn what_stands_beside_documents_of_ours_is_no_document() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["00000.jsonl", "blocks.jsonl", "quarantine.jsonl", "samples.jsonl", "report.html"] {
        fs::write(dir.path().join(name), LINES).unwrap();
    }
    assert_eq!(names(dir.path()).unwrap().len(), 5, "names that anybody may give");
    fs::write(dir.path().join("manifest.json"), "{}").unwrap();
    assert_eq!(names(dir.path()).unwrap(), ["00000.jsonl"]);
}

#[test]
fn what_does_not_exist_or_holds_nothing_is_an_error_and_not_an_empty_run() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["none.jsonl", "*.jsonl", "", "x/../y/*.parquet"] {
        let error = names(&dir.path().join(name)).unwrap_err();
        assert!(matches!(error, Error::NoInput { .. }), "{name}: {error}");
        assert_eq!(error.exit_status(), 2, "{name}");
    }
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{symlink, PermissionsExt};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn links_in_circles_end_and_a_file_with_two_names_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("inner")).unwrap();
        fs::write(dir.path().join("inner/a.jsonl"), LINES).unwrap();
        symlink(dir.path(), dir.path().join("inner/up")).unwrap();
        symlink(dir.path(), dir.path().join("inner/up.jsonl")).unwrap();
        symlink(dir.path().join("inner/a.jsonl"), dir.path().join("z.jsonl")).unwrap();
        assert_eq!(names(dir.path()).unwrap(), ["a.jsonl"]);
    }

    #[test]
    fn a_glob_of_all_folders_below_ends_whatever_links_lead_up() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b [1]");
        fs::create_dir_all(&below).unwrap();
        for name in ["x.jsonl", "a/y.jsonl", "a/b [1]/z.jsonl", "a/n.txt", "a/.hidden.jsonl"] {
            fs::write(dir.path().join(name), LINES).unwrap();
        }
        for link in ["one", "two", "a/three", "four.jsonl"] {
            symlink(dir.path(), dir.path().join(link)).unwrap(); // 2^40 paths of forty links each
        }
        let cases: [(&str, &[&str]); 6] = [
            ("**/*.jsonl", &["y.jsonl", "z.jsonl", "x.jsonl"]),
            ("a/**/*", &["y.jsonl", "z.jsonl", "n.txt"]),
            ("*/**/b*/?.jsonl", &["z.jsonl"]),
            ("**/n.*", &["n.txt"]),
            ("**/a/*.jsonl", &["y.jsonl"]),
            ("a/one/../**/z.jsonl", &[]),
        ];
        for (pattern, expected) in cases {
            let found = names(&dir.path().join(pattern)).unwrap_or_default();
            let [found, expected] = [found, expected.iter().map(ToString::to_string).collect()].map(sorted);
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.jsonl"), LINES).unwrap();
        symlink("b.jsonl", dir.path().join("b.jsonl")).unwrap();
        for input in [dir.path().to_owned(), dir.path().join("*.jsonl")] {
            let error = names(&input).unwrap_err().to_string();
            assert!(error.contains("b.jsonl"), "{error}");
        }
    }

    #[test]
    fn a_name_that_is_no_utf_8_is_read_like_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(OsStr::from_bytes(b"caf\xe9.jsonl"));
        fs::write(&path, LINES).unwrap();
        assert_eq!(names(&path).unwrap(), ["caf\u{fffd}.jsonl"]);
        assert_eq!(names(dir.path()).unwrap().len(), 1);
        let mut reader = read::open(&path, "text", LIMITS).unwrap();
        assert_eq!(reader.next_block().unwrap().unwrap().bytes, LINES.as_bytes());
    }

    #[test]
    fn pipes_sockets_and_devices_are_refused_without_being_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, socket) = (dir.path().join("pipe.jsonl"), dir.path().join("socket.parquet"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _listener = UnixListener::bind(&socket).unwrap();
        symlink("/dev/null", dir.path().join("null.txt")).unwrap();
        for path in [fifo, socket, dir.path().join("null.txt"), dir.path().to_owned()] {
            let error = names(&path).unwrap_err();
            assert!(error.to_string().contains("expected a regular file, or `-`"), "{error}");
            assert_eq!(error.exit_status(), 2);
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.jsonl");
        fs::write(&path, LINES).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        if fs::File::open(&path).is_ok() {
            return; // for root, permissions are advice
        }
        let error = read::open(&path, "text", LIMITS).err().unwrap().to_string();
        assert!(error.starts_with("cannot open") && error.contains("secret.jsonl"), "{error}");
    }
}

/// What becomes of a file of ten thousand lines, or of rows, that `change` changes after its first block.
fn read_while(name: &str, bytes: &[u8], change: impl FnOnce(&Path)) -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    let mut reader = read::open(&path, "text", LIMITS)?;
    assert!(!reader.next_block()?.unwrap().bytes.is_empty());
    change(&path);
    while reader.next_block()?.is_some() {}
    reader.finish().map(drop)
}

fn cut(path: &Path) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn grow(path: &Path) {
    use std::io::Write as _;
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"text\":\"more\"}\n").unwrap();
}

#[test]
fn a_file_that_is_cut_or_written_to_while_it_is_read_is_an_error_of_integrity() {
    let lines = format!("{{\"text\":\"{}\"}}\n", "z".repeat(990)).repeat(4000);
    let files = [
        ("a.jsonl", lines.clone().into_bytes()),
        ("a.jsonl.gz", crate::sample::gzip(lines.as_bytes())),
        (
            "a.jsonl.zst",
            crate::sample::zstd(&(0..900_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()),
        ),
    ];
    for (name, bytes) in &files {
        for change in [cut, grow] {
            let error = read_while(name, bytes, change).unwrap_err();
            assert!(matches!(error, Error::Integrity { .. }), "{name}: {error}");
            assert_eq!(error.exit_status(), 4);
        }
    }
}

#[test]
fn a_file_that_vanishes_while_it_is_read_is_read_to_its_end_or_named() {
    let lines = format!("{{\"text\":\"{}\"}}\n", "z".repeat(990)).repeat(4000);
    let vanish = |path: &Path| fs::remove_file(path).unwrap();
    read_while("a.jsonl", lines.as_bytes(), vanish).unwrap();
    let batch = arrow_array::RecordBatch::try_from_iter([("text", text_columns().remove(0).1)]).unwrap();
    read_while("a.parquet", &parquet(&batch), vanish).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let error = read_while("a.parquet", &writer.into_inner().unwrap(), vanish).unwrap_err().to_string();
    assert!(error.contains("a.parquet"), "{error}");
}

#[test]
fn what_was_given_is_given_back_as_a_path() {
    let inputs = resolve(&[PathBuf::from("-")]).unwrap();
    assert_eq!((inputs[0].path.as_path(), inputs[0].bytes), (Path::new("-"), 0));
}
