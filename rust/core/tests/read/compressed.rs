//! Compression, and files that are not what their names say.

use crate::case::{case, Case};
use crate::feed::feed;
use crate::sample::{bzip2, gzip, unhex, zstd, LINES, XZ};

/// A zstd frame that asks for a window of 2^`log` bytes, its content not compressed.
fn zstd_with_window(log: u8, bytes: &[u8]) -> Vec<u8> {
    let header = (bytes.len() as u32) << 3 | 1; // the last block, raw
    [&b"\x28\xb5\x2f\xfd\0"[..], &[(log - 10) << 3], &header.to_le_bytes()[..3], bytes].concat()
}
const ALL: [&str; 3] = ["one", "two", "three"];

/// A tar archive of one file.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut head = vec![0; 512];
    head[..5].copy_from_slice(b"a.txt");
    head[257..262].copy_from_slice(b"ustar");
    [head, content.to_vec(), vec![0; 1536 - content.len() % 512]].concat()
}

#[test]
fn compressed_files_are_read_whole_and_damaged_ones_up_to_the_damage() {
    let (lines, xz) = (LINES.as_bytes(), unhex(XZ));
    let (gz, zst, bz2) = (gzip(lines), zstd(lines), bzip2(lines));
    let twice = ["one", "two", "three", "one", "two", "three"];
    let damaged = ["ends early or is damaged"];
    let mut bad_crc = gz.clone();
    let crc = bad_crc.len() - 8;
    bad_crc[crc] ^= 1;
    let skippable = [&b"\x5a\x2a\x4d\x18\x03\0\0\0abc"[..], &zst, b"\x50\x2a\x4d\x18\0\0\0\0", &zst].concat();
    let missing_dictionary = [&b"\x28\xb5\x2f\xfd\x03\x58\x01\x02\x03\x04"[..], &zst[5..]].concat();
    let cases = [
        case("gzip", "a.jsonl.gz", gz.clone()).texts(&ALL),
        case("zstd", "a.jsonl.zst", zst.clone()).texts(&ALL),
        case("xz", "a.jsonl.xz", xz.clone()).texts(&ALL),
        case("bzip2", "a.jsonl.bz2", bz2.clone()).texts(&ALL),
        case("two gzip members", "a.jsonl.gz", [&gz[..], &gz].concat()).texts(&twice),
        case(
            "zeros between and behind gzip members",
            "a.jsonl.gz",
            [&gz[..], &[0; 700], &gz, &[0; 3]].concat(),
        )
        .texts(&twice),
        case("zeros and garbage behind", "a.jsonl.gz", [&gz[..], &[0; 9], b"x"].concat())
            .texts(&ALL)
            .bad(&damaged),
        case("two xz streams", "a.jsonl.xz", [&xz[..], &xz].concat()).texts(&twice),
        case("two bzip2 streams", "a.jsonl.bz2", [&bz2[..], &bz2].concat()).texts(&twice),
        case("skippable and concatenated zstd frames", "a.jsonl.zst", skippable).texts(&twice),
        case("zstd window of 128 MiB", "a.jsonl.zst", zstd_with_window(27, lines)).texts(&ALL),
        case("zstd with a missing dictionary", "a.jsonl.zst", missing_dictionary).bad(&["ictionary"]),
        case("gzip with a bad checksum", "a.jsonl.gz", bad_crc).texts(&ALL).bad(&damaged),
        case("gzip with garbage behind", "a.jsonl.gz", [&gz[..], b"garbage"].concat())
            .texts(&ALL)
            .bad(&damaged),
        case("gzip without its end", "a.jsonl.gz", &gz[..gz.len() - 4]).texts(&ALL).bad(&damaged),
        case("xz without its end", "a.jsonl.xz", &xz[..xz.len() - 4]).texts(&ALL).bad(&damaged),
        case("bzip2 without its end", "a.jsonl.bz2", &bz2[..bz2.len() - 9]).texts(&ALL).bad(&damaged),
        case("gzip under a plain name", "a.jsonl", gz.clone()).texts(&ALL),
        case("zstd under a name of gzip", "a.jsonl.gz", zst).texts(&ALL),
        case("plain under a name of gzip", "a.jsonl.gz", lines).texts(&ALL),
        case("an empty file under a name of gzip", "a.jsonl.gz", "").bad(&["does not begin as gzip does"]),
        case("noise under a name of xz", "a.jsonl.xz", vec![0, 1, 2, 3]).bad(&["does not begin as xz does"]),
        case("zip under a plain name", "a.jsonl", &b"PK\x03\x04 and so on"[..])
            .bad(&["zip archive: unpack it"]),
        case("7z under a name of xz", "a.jsonl.xz", &b"7z\xbc\xaf\x27\x1c"[..]).bad(&["7z archive"]),
        case("a tar archive in gzip", "a.txt.gz", gzip(&tar(lines))).bad(&["found a tar archive: unpack it"]),
        case("a tar archive in zstd", "a.jsonl.zst", zstd(&tar(lines)))
            .bad(&["found a tar archive: unpack it"]),
        case("a tar archive of records", "a.warc.gz", gzip(&tar(lines))).bad(&["found a tar archive"]),
        case("UTF-16 in gzip", "a.md.gz", gzip(b"\xff\xfeh\0i\0")).bad(&["UTF-16, little-endian"]),
        case("UTF-16 of a page in gzip", "a.html.gz", gzip(b"\xff\xfeh\0i\0")).texts(&["hi"]),
        case("gzip in gzip", "a.txt.gz", gzip(&gz)).bad(&["found gzip in what was decompressed"]),
        case("UTF-16", "a.jsonl", &b"\xff\xfe{\0}\0"[..]).bad(&["UTF-16, little-endian"]),
        case("Parquet under a name of lines", "a.jsonl", &b"PAR1...."[..]).bad(&["name it `.parquet`"]),
        case("an empty file", "a.jsonl", ""),
    ];
    cases.into_iter().for_each(Case::check);
}

#[test]
fn a_file_of_another_kind_is_named_without_a_word_of_damage() {
    let found = |name: &str, bytes: &[u8]| feed(name, bytes).unwrap().bad[0].reason.clone();
    assert!(found("a.jsonl", b"PK\x03\x04 and so on").starts_with("found a zip archive"));
    assert!(found("a.md", b"\xff\xfe#\0").starts_with("found text in UTF-16"));
    assert!(found("a.jsonl.gz", b"\0\x01\x02\x03").starts_with("the file does not begin as gzip does"));
}

#[test]
fn a_window_of_two_gib_is_read_or_refused_for_its_size_but_never_takes_the_process() {
    match feed("a.jsonl.zst", &zstd_with_window(31, LINES.as_bytes())) {
        Ok(given) => assert_eq!(given.texts(), ALL),
        Err(error) => assert_eq!(error.exit_status(), 5, "{error}"),
    }
}

#[test]
fn archives_are_refused_by_name_with_what_to_do() {
    for name in ["a.zip", "a.tar.gz", "a.7z"] {
        let error = feed(name, b"x").unwrap_err();
        assert_eq!(error.exit_status(), 2);
        assert!(error.to_string().contains("an archive: unpack it"), "{error}");
    }
}
