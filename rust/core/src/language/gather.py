# ruff: noqa: E501, D301 - tables of codes, and a docstring that names a line break
"""Collects the text that `train.py` reads: `corpus/<source>/<code>.txt`, one sentence a line.

    python gather.py --clones DIR --guides GUIDES.jsonl.zst --udhr UDHR.jsonl.zst --cases CASES.jsonl.zst OUT

`DIR` holds bare clones of the public repositories that `docs/language.md` lists, as `owner+name/repo`.
Whatever `--cases` holds is left out of the training text: it is what the Rust tests judge.
"""

import argparse
import io
import json
import re
import subprocess
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import zstandard

TREEBANKS = {
    "af": "Afrikaans-AfriBooms", "ar": "Arabic-PUD", "be": "Belarusian-HSE", "ca": "Catalan-AnCora",
    "cs": "Czech-CAC", "cy": "Welsh-CCG", "da": "Danish-DDT", "de": "German-GSD", "en": "English-EWT",
    "es": "Spanish-GSD", "fa": "Persian-PerDT", "fi": "Finnish-TDT",
    "fr": "French-GSD", "ga": "Irish-IDT", "gl": "Galician-TreeGal", "hi": "Hindi-PUD",
    "hr": "Croatian-SET", "id": "Indonesian-GSD", "is": "Icelandic-Modern", "it": "Italian-PUD",
    "kk": "Kazakh-KTB", "lt": "Lithuanian-ALKSNIS", "lv": "Latvian-LVTB", "mr": "Marathi-UFAL", "nb": "Norwegian-Bokmaal",
    "nl": "Dutch-Alpino", "nn": "Norwegian-Nynorsk", "pl": "Polish-PUD", "pt": "Portuguese-GSD",
    "ro": "Romanian-RRT", "ru": "Russian-GSD", "sa": "Sanskrit-UFAL", "sk": "Slovak-SNK", "sl": "Slovenian-SSJ",
    "sr_latn": "Serbian-SET", "sv": "Swedish-Talbanken", "tr": "Turkish-BOUN",
    "uk": "Ukrainian-ParlaMint", "vi": "Vietnamese-VTB",
}  # fmt: skip
# Names of the sources where they differ from ours.
TATOEBA = {
    "af": "afr", "ar": "ara", "az": "aze", "be": "bel", "bg": "bul", "ca": "cat", "cs": "ces", "cy": "cym",
    "da": "dan", "de": "deu", "eo": "epo", "es": "spa", "et": "est", "eu": "eus", "fa": "pes", "fi": "fin",
    "fr": "fra", "ga": "gle", "gl": "glg", "hi": "hin", "hr": "hrv", "hu": "hun", "id": "ind", "is": "isl",
    "it": "ita", "kk": "kaz", "la": "lat", "lt": "lit", "lv": "lvs", "mk": "mkd", "mn": "mon", "mr": "mar",
    "ms": "zsm", "nb": "nob", "nl": "nld", "nn": "nno", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus",
    "sk": "slk", "sl": "slv", "sq": "sqi", "sr": "srp", "sv": "swe", "sw": "swh", "tl": "tgl", "tr": "tur",
    "tt": "tat", "uk": "ukr", "ur": "urd", "uz": "uzb", "vi": "vie",
    "other": "ast arq arz awa ber bre ceb csb dsb dtp fao fry gla gsw hsb ido ile ina jav kab kur kzj lfn mhr "
             "nds nov oci pam pms swg tuk uig war xho yid",
}  # fmt: skip
WORDS = {"nb": "no", "pt": "pt pt_br"}
UDHR = {
    "af": "afr", "ar": "arb", "az": "azj_latn", "be": "bel", "bg": "bul", "ca": "cat", "cs": "ces", "cy": "cym",
    "da": "dan", "de": "deu deu_1901", "en": "eng", "eo": "epo", "es": "spa", "et": "est", "eu": "eus",
    "fa": "pes_1 pes_2", "fi": "fin", "fr": "fra", "ga": "gle", "gl": "glg", "hi": "hin", "hr": "hrv bos_latn",
    "hu": "hun", "id": "ind", "is": "isl", "it": "ita", "kk": "kaz", "la": "lat lat_1", "lt": "lit", "lv": "lav",
    "mk": "mkd", "mn": "khk", "mr": "mar", "ms": "mly_latn", "nb": "nob", "ne": "nep", "nl": "nld", "nn": "nno",
    "pl": "pol", "pt": "por_BR por_PT", "ro": "ron ron_1993", "ru": "rus", "sa": "san", "sk": "slk", "sl": "slv",
    "sq": "als", "sr": "srp_cyrl bos_cyrl", "sr_latn": "srp_latn", "sv": "swe", "sw": "swh", "tl": "tgl",
    "tr": "tur", "tt": "tat", "uk": "ukr", "ur": "urd", "uz": "uzn_latn", "vi": "vie",
}  # fmt: skip
# Too close to a language of ours, or the same, to teach what "other" means.
NOT_OTHER = set(
    "aln arl ast bho cos eml ext hns jav mag mai mly_arab pcm sco sun uzn_cyrl azj_cyrl ron_1953 roh src vec hbs".split()
)
CODE = re.compile(
    r"^(```|~~~).*?^\1|^---\n.*?^---$|`[^`]*`|<[^>]*>|\]\([^)]*\)|https?://\S+",
    re.M | re.S,
)
ENGLISH = set(
    "the of and to in is that for you with are this your it on be or as can have".split()
)


def rows(path: Path) -> Iterator[dict]:
    """Records of a `.jsonl.zst`; lines end at `\\n` only."""
    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file)
        for line in io.TextIOWrapper(stream, encoding="utf-8", newline="\n"):
            yield json.loads(line)


def show(repository: Path, path: str) -> str:
    """A file of a bare clone; empty if the clone lacks it."""
    command = ["git", "-C", str(repository), "show", f"HEAD:{path}"]
    return subprocess.run(command, capture_output=True, check=False).stdout.decode(
        "utf-8", "replace"
    )


def listing(repository: Path) -> list[str]:
    """Paths of a bare clone."""
    command = ["git", "-C", str(repository), "ls-tree", "-r", "--name-only", "HEAD"]
    return (
        subprocess.run(command, capture_output=True, check=True)
        .stdout.decode()
        .splitlines()
    )


def is_untranslated(line: str) -> bool:
    """True for a line of English inside a translation: a fifth of its words are English function words."""
    words = line.lower().split()
    return sum(word in ENGLISH for word in words) * 5 >= len(words)


def prose(text: str) -> list[str]:
    """Lines of a Markdown page without front matter, code, tags and addresses."""
    lines = (line.strip("#>*-| \t") for line in CODE.sub(" ", text).split("\n"))
    return [line for line in lines if len(line) >= 20]


def guides(path: Path, cases: Path) -> Iterator[tuple[str, str]]:
    """Lines of the open-source guides, less the pages in `cases`."""
    held_out = {row["text"] for row in rows(cases)}
    for row in rows(path):
        code = row["lang"].split("-")[0]
        if row["text"] in held_out or code == "pcm":
            continue
        for line in prose(row["text"]):
            if code == "en" or not is_untranslated(line):
                yield code, line


def declaration(path: Path) -> Iterator[tuple[str, str]]:
    """Lines of the Universal Declaration of Human Rights; languages that are not ours are `other`."""
    ours = {name: code for code, names in UDHR.items() for name in names.split()}
    for row in rows(path):
        if row["lang"] in NOT_OTHER:
            continue
        for line in row["text"].split("\n"):
            if len(line) >= 15:
                yield ours.get(row["lang"], "other"), line


def treebanks(clones: Path) -> Iterator[tuple[str, str]]:
    """Sentences of the Universal Dependencies treebanks."""
    for code, name in TREEBANKS.items():
        repository = clones / f"UniversalDependencies+UD_{name}" / "repo"
        for path in listing(repository):
            if re.fullmatch(r"[a-z]+_[a-z]+-ud-\w+\.conllu", path):
                for text in re.findall(
                    r"^# text = (.*)$", show(repository, path), re.M
                ):
                    yield code, text


def tatoeba(clones: Path) -> Iterator[tuple[str, str]]:
    """Sentences of Tatoeba in the test sets of LASER."""
    repository = clones / "facebookresearch+LASER" / "repo"
    for code, names in TATOEBA.items():
        for name in names.split():
            lines = show(
                repository, f"data/tatoeba/v1/tatoeba.{name}-eng.{name}"
            ).split("\n")
            yield from ((code, line) for line in lines if line)
    english = show(repository, "data/tatoeba/v1/tatoeba.deu-eng.eng").split("\n")
    yield from (("en", line) for line in english if line)


def encyclopedia(clones: Path) -> Iterator[tuple[str, str]]:
    """Sentences of Wikipedia in Nepali: the `dev` part of FLORES v1, as no other source but the Declaration has any.

    One in three: with all of them more short lines of Hindi are taken for Nepali.
    """
    name = "previous_releases/floresv1/data/flores_test_sets.tgz"
    repository = clones / "facebookresearch+flores" / "repo"
    command = ["git", "-C", str(repository), "show", f"HEAD:{name}"]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        file = files.extractfile("flores_test_sets/wikipedia.dev.ne-en.ne")
        lines = [line for line in file.read().decode().split("\n") if line]
        yield from (("ne", line) for line in lines[::3])


def word_lists(clones: Path) -> Iterator[tuple[str, str]]:
    """Lines `word count` of FrequencyWords."""
    repository = clones / "hermitdave+FrequencyWords" / "repo"
    names = {
        name.split("/")[2]
        for name in listing(repository)
        if name.startswith("content/2018/")
    }
    ours = sorted(set(UDHR) & (names | set(WORDS)))
    for code in ours:
        for name in WORDS.get(code, code).split():
            for line in show(repository, f"content/2018/{name}/{name}_50k.txt").split(
                "\n"
            )[:30_000]:
                if line:
                    yield code, line


CYRILLIC = str.maketrans(
    "abcčćdđefghijklmnoprsštuvzžABCČĆDĐEFGHIJKLMNOPRSŠTUVZŽ",
    "абцчћдђефгхијклмнопрсштувзжАБЦЧЋДЂЕФГХИЈКЛМНОПРСШТУВЗЖ",
)


def with_cyrillic(lines: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The lines, Serbian ones in Cyrillic too: that alphabet is a letter for a letter."""
    for code, line in lines:
        yield code, line
        if code in ("sr", "sr_latn"):
            digraphs = line.replace("lj", "љ").replace("nj", "њ").replace("dž", "џ")
            yield "sr_cyrl", digraphs.translate(CYRILLIC)


def write(folder: Path, lines: Iterator[tuple[str, str]]) -> None:
    """Writes one file a language, each line once."""
    by_code: dict[str, dict[str, None]] = defaultdict(dict)
    for code, line in lines:
        by_code[code][" ".join(line.split())] = None
    folder.mkdir(parents=True, exist_ok=True)
    for code, distinct in by_code.items():
        (folder / f"{code}.txt").write_text(
            "\n".join(distinct) + "\n", encoding="utf-8"
        )


def main() -> None:
    """Gathers every source."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--clones", "--guides", "--udhr", "--cases"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    write(args.out / "guides", guides(args.guides, args.cases))
    write(args.out / "udhr", declaration(args.udhr))
    write(args.out / "treebanks", with_cyrillic(treebanks(args.clones)))
    write(args.out / "tatoeba", tatoeba(args.clones))
    write(args.out / "encyclopedia", encyclopedia(args.clones))
    write(args.out / "words", with_cyrillic(word_lists(args.clones)))


if __name__ == "__main__":
    main()
