# ruff: noqa: E501 - tables of codes
"""Prints the accuracy table of `docs/language.md`, every tool on the same lines.

    python accuracy.py LINES triptych=target/release/examples/identify whatlang=… [py3langid] [lingua]

`LINES` is a folder of `<code>.txt`, a sentence a line, none of it training text. `name=program` is
any program that reads lines and prints `code<tab>score`; other names are Python packages.
"""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

LENGTHS = (20, 50, 200)  # code points, at most, cut at a space
LINES_A_LANGUAGE = 200
# ISO 639-3 of programs that use it.
SHORT = dict(
    pair.split(":")
    for pair in (
        "afr:af ara:ar aze:az bel:be ben:bn bul:bg cat:ca ces:cs cmn:zh cym:cy dan:da deu:de ell:el eng:en epo:eo "
        "est:et eus:eu fin:fi fra:fr gle:ga guj:gu heb:he hin:hi hrv:hr hun:hu hye:hy ind:id isl:is ita:it jpn:ja "
        "kan:kn kat:ka kaz:kk kor:ko lat:la lav:lv lit:lt mal:ml mar:mr mkd:mk mon:mn msa:ms nld:nl nob:nb nno:nn "
        "pan:pa pes:fa pol:pl por:pt ron:ro rus:ru slk:sk slv:sl spa:es sqi:sq srp:sr swa:sw swe:sv tam:ta tel:te "
        "tgl:tl tha:th tur:tr ukr:uk urd:ur vie:vi"
    ).split()
)
LANGUAGES = sorted(set(SHORT.values()) - {"kn", "ml"})


def cut(text: str, length: int) -> str:
    """The beginning of `text`, to the last space before `length`."""
    if len(text) <= length:
        return text
    end = text.rfind(" ", 0, length + 1)
    return text[: end if end > length // 2 else length]


def test_lines(folder: Path) -> list[tuple[int, str, str]]:
    """(length, code, text), the same in every run."""
    rng, tests = random.Random(1), []
    for length in LENGTHS:
        for code in LANGUAGES:
            lines = (
                (folder / f"{code}.txt").read_text(encoding="utf-8").split("\n")[:-1]
            )
            group = 3 if length > 100 else 1  # sentences are shorter than 200
            texts = [
                " ".join(lines[i : i + group])
                for i in range(0, len(lines) - group + 1, group)
            ]
            chosen = rng.sample(texts, min(LINES_A_LANGUAGE, len(texts)))
            tests += [
                (length, code, " ".join(cut(text, length).split())) for text in chosen
            ]
    return tests


def program(path: str, texts: list[str]) -> Iterable[str]:
    """What a program answers to all texts."""
    done = subprocess.run(
        [path],
        input="\n".join(texts) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("\t")[0] for line in done.stdout.rstrip("\n").split("\n")]


def package(name: str) -> Callable[[str], str]:
    """What a Python package answers to one text."""
    if name == "py3langid":
        import py3langid

        return lambda text: py3langid.classify(text)[0]
    from lingua import LanguageDetectorBuilder

    detector = LanguageDetectorBuilder.from_all_languages().build()

    def detect(text: str) -> str:
        language = detector.detect_language_of(text)
        return language.iso_code_639_1.name.lower() if language else "und"

    return detect


def accuracies(
    tests: list[tuple[int, str, str]], answers: Iterable[str]
) -> dict[tuple[int, str], float]:
    """Share of right answers by length and language. Norwegian without a norm counts as Bokmål."""
    right, number = Counter(), Counter()
    for (length, code, _), answer in zip(tests, answers, strict=True):
        answer = {"no": "nb"}.get(answer, SHORT.get(answer, answer))
        right[length, code] += answer == code
        number[length, code] += 1
    return {key: right[key] / number[key] for key in number}


def main() -> None:
    """Judges the lines with every tool and prints Markdown."""
    tests = test_lines(Path(sys.argv[1]))
    texts = [text for _, _, text in tests]
    table = {}
    for tool in sys.argv[2:]:
        name, _, path = tool.partition("=")
        table[name] = accuracies(
            tests, program(path, texts) if path else map(package(name), texts)
        )
    print("| language | " + " | ".join(table) + " |\n|---" + "|---" * len(table) + "|")
    for code in LANGUAGES:
        cells = (
            " / ".join(f"{100 * t[length, code]:.0f}" for length in LENGTHS)
            for t in table.values()
        )
        print(f"| {code} | " + " | ".join(cells) + " |")
    means = (
        [sum(t[n, c] for c in LANGUAGES) / len(LANGUAGES) for n in LENGTHS]
        for t in table.values()
    )
    print(
        "| mean | "
        + " | ".join(" / ".join(f"{100 * m:.1f}" for m in mean) for mean in means)
        + " |"
    )


if __name__ == "__main__":
    main()
