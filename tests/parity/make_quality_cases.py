"""Writes tests/cases/{gopher,gopher_repetition,c4,fineweb}.jsonl from datatrove.

Every rule is met from both sides: a document is made from a number, and the number at
which the verdict changes is searched for. Words are plain, so that spaCy and white space
find the same; a case where they do not is an error here.

    python tests/parity/make_quality_cases.py
"""

from __future__ import annotations

import json
from pathlib import Path

from datatrove_filters import judge, judge_plainly

CASES = Path(__file__).parents[1] / "cases"


def word(number):
    """A word of six letters for each number below 8,000."""
    first, rest = divmod(number, 400)
    second, third = divmod(rest, 20)
    syllables = [c + v for c in "bdgkl" for v in "aeio"]
    return "".join(syllables[index] for index in (first, second, third))


def words(count, start=0):
    return " ".join(word(start + index) for index in range(count))


def prose(count, start=0):
    """Distinct words that begin with two stop words."""
    return "the of " + words(count, start)


def text_of(parts):
    return "".join(piece * count for piece, count in parts)


class Table:
    """The cases of one profile."""

    def __init__(self, profile):
        self.profile = profile
        self.rows = []

    def add(self, name, *parts):
        parts = [[part, 1] if isinstance(part, str) else list(part) for part in parts]
        text = text_of(parts)
        found = judge(self.profile, text)
        if found != judge_plainly(self.profile, text):
            raise SystemExit(f"{self.profile}: words are not plain in `{name}`")
        expected, reason = found
        row = {"name": name, "parts": parts, "reason": reason}
        if expected is not None and expected != text:
            row["expected"] = expected
        self.rows.append(row)
        return reason

    def sides(self, reason, build, numbers):
        """Adds the two neighbours between which the verdict begins or ends to be `reason`."""
        verdicts = [judge_plainly(self.profile, text_of(build(n)))[1] for n in numbers]
        for at in range(1, len(numbers)):
            pair = [verdicts[at - 1] == reason, verdicts[at] == reason]
            if pair[0] != pair[1]:
                self.add(f"{reason} at {numbers[at - 1]}", *build(numbers[at - 1]))
                self.add(f"{reason} at {numbers[at]}", *build(numbers[at]))
                return
        raise SystemExit(f"{self.profile}: no side of `{reason}`: {set(verdicts)}")

    def write(self, name):
        with (CASES / name).open("w", encoding="utf-8") as file:
            for row in self.rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def lines(count, start=0, end=" ."):
    return [[f"{words(8, start + 8 * index)}{end}\n", 1] for index in range(count)]


def gopher():
    table = Table("gopher")
    body = prose(88)  # 90 words
    table.sides("gopher_short_doc", lambda n: [[prose(n), 1]], range(40, 60))
    table.sides(
        "gopher_long_doc", lambda n: [["of ", 1], ["that ", n]], [99_999, 100_000]
    )
    table.sides(
        "gopher_below_avg_threshold",
        lambda n: [["ga ", n], ["the of bako ", 1], ["kilo ", 50]],
        range(30, 70),
    )
    table.sides(
        "gopher_above_avg_threshold",
        lambda n: [["the of ", 1], ["b" * 10 + " ", 60], ["bakilo" * 4 + " ", n]],
        range(0, 9),
    )
    table.sides(
        "gopher_too_many_hashes", lambda n: [[body, 1], [" #", n]], range(5, 15)
    )
    table.sides(
        "gopher_too_many_ellipsis", lambda n: [[body, 1], [" ...", n]], range(5, 15)
    )
    table.sides(
        "gopher_too_many_ellipsis", lambda n: [[body, 1], [" …", n]], range(5, 15)
    )
    table.sides(
        "gopher_too_many_bullets",
        lambda n: [["\t- bako kilo gado\n", n], [prose(60) + "\n", 1], ["\n", 1]],
        range(10, 30),
    )
    table.sides(
        "gopher_too_many_bullets",
        lambda n: [["• bako kilo gado\x85", n], [prose(60) + "\n", 1], ["\n", 1]],
        range(10, 30),
    )
    table.add("a star is no bullet", ["* bako kilo gado\n", 90], prose(60))
    table.sides(
        "gopher_too_many_end_ellipsis",
        lambda n: [["bako kilo gado leki bo ... \n", n], *lines(14), [prose(40), 1]],
        range(1, 15),
    )
    table.sides(
        "gopher_too_many_end_ellipsis",
        lambda n: [["bako kilo gado leki bo …\u2028", n], *lines(14), [prose(40), 1]],
        range(1, 15),
    )
    table.sides(
        "gopher_below_alpha_threshold",
        lambda n: [[body, 1], [" 1234", n]],
        range(10, 40),
    )
    table.add("letters of any script are letters", body, [" 日本語", 50])
    table.add("a letter numeral is no letter", body, [" ⅧⅧⅧⅧ", 50])
    table.add("one stop word, however often, is one", words(80), [" the", 9])
    table.add("stop words in capitals are none", "The Of And That ", words(80))
    table.add("two stop words", words(80), " with have")
    table.add("symbols are no words", ["! ", 40], prose(47))
    table.add(
        "the characters of datatrove's set are symbols",
        ["１ ", 20],
        ["。 ", 20],
        prose(47),
    )
    table.add("a bullet is a word", "• " * 2, prose(46))
    table.add("empty", "")
    table.add("nothing but white space", " \n\u3000\x1c ")
    table.write("gopher.jsonl")


def gopher_repetition():
    table = Table("gopher-repetition")
    base = [[f"{words(40, 40 * index)}\n\n", 1] for index in range(10)]
    table.add("empty", "")
    table.add("nothing but white space", " \n\n ")
    table.sides(
        "dup_para_frac", lambda n: [*base, ["bo\n\n", n], ["end", 1]], range(1, 15)
    )
    table.sides(
        "dup_para_char_frac",
        lambda n: [
            *base[:6],
            [f"{words(40)}\n\n", 1],
            [f"{words(n, 40)}\n\n", 1],
            [words(n, 40), 1],
        ],
        range(1, 100),
    )
    table.sides(
        "dup_line_frac",
        lambda n: [
            *[[f"{words(40, 40 * i)}\n", 1] for i in range(10)],
            ["bo\n", n],
            ["end", 1],
        ],
        range(1, 15),
    )
    table.sides(
        "dup_line_char_frac",
        lambda n: [
            *[[f"{words(20, 20 * i)}\n", 1] for i in range(8)],
            [words(n, 300) + "\n", 2],
        ],
        range(1, 100),
    )
    table.add(
        "a line feed at either end leaves an empty line", "\n", ["bako\n", 1], words(90)
    )
    table.add(
        "long runs of line feeds part paragraphs once",
        *[[f"{words(9, 9 * i)}\n\n\n\n\n", 1] for i in range(9)],
    )
    for n in (2, 3, 4):
        gram = words(n, 7000)
        spaced = [[f"{gram} {word(index)} ", 1] for index in range(40)]
        table.sides(
            f"top_{n}_gram",
            lambda k, s=spaced: [*s[:k], [words(100, 100), 1]],
            range(1, 40),
        )
    table.add("a short text is its own most frequent n-gram", words(13))
    table.add(
        "among equally frequent n-grams the first counts, short",
        ["ba ko ", 1],
        [words(10, 50) + " ", 1],
        ["bakilogado lekibogado ", 1],
        [words(40), 1],
        " ba ko x bakilogado lekibogado",
    )
    table.sides(
        "top_2_gram",
        lambda n: [
            ["bakilogadoleki lekibogadobaki ", 1],
            [words(n, 50) + " ", 1],
            ["ba ko x bakilogadoleki lekibogadobaki y ba ko", 1],
        ],
        range(5, 60),
    )
    table.add(
        "the same, the short one first",
        "ba ko z bakilogadoleki lekibogadobaki ",
        words(30, 50),
        " bakilogadoleki lekibogadobaki y ba ko",
    )
    for n in range(5, 11):
        chunks = [words(n, 1000 + n * index) for index in range(40)]

        def build(k, chunks=chunks):
            first = [[f"{chunk} ", 1] for chunk in chunks]
            again = [
                [f"{word(5000 + i)} {chunk} ", 1] for i, chunk in enumerate(chunks[:k])
            ]
            return [*first, [words(60, 6000) + " ", 1], *again]

        table.sides(f"duplicated_{n}_n_grams", build, range(1, 40))

    def cut(k, parts=("bako", "kilo", "gado", "leki", "bodi")):
        moved = ("bak", "okilo", "gado", "leki", "bodi")
        pair = [
            " ".join(
                p + q
                for p, q in zip(
                    w, ("", "", "", "x", f"y{'abcdefghijklmnop'[k]}"), strict=True
                )
            )
            for w in (parts, moved)
        ]
        return pair

    table.sides(
        "duplicated_5_n_grams",
        lambda n: [
            *[[f"{cut(i)[0]} {word(i)} ", 1] for i in range(n)],
            [words(40, 100) + " ", 1],
            *[[f"{cut(i)[1]} {word(50 + i)} ", 1] for i in range(n)],
        ],
        range(1, 16),
    )
    table.add("n-grams that overlap are jumped over", ["ba ko gi do le ", 3], words(90))
    table.add("one word a thousand times", ["bako ", 1000])
    table.add("characters are counted, not bytes", ["日本 語文 ", 3], words(7))
    table.write("gopher_repetition.jsonl")


def c4():
    table = Table("c4")
    line = "bako kilo gado leki.\n"
    good = [line, 5]
    table.sides("too_few_sentences", lambda n: [[line, n]], range(1, 9))
    table.add(
        "sentences of one line",
        "bako kilo. gado leki. bodi bako. kilo gado. leki bodi.",
    )
    table.add("a line without an end mark goes", good, "bako kilo gado\n", good)
    for mark in ".?!\"'":
        table.add(f"ends with {mark}", good, f"bako kilo gado{mark}")
    for mark in ("...", "…", "。", ";", ".)"):
        table.add(f"ends with {mark}", good, f"bako kilo gado{mark}")
    table.add("two words", good, "bako kilo.")
    table.add("three words", good, "bako kilo gado.")
    for length in (1000, 1001):
        table.add(f"a word of {length} characters", good, ["é", length], " kilo gado.")
    table.add("lorem ipsum", good, "a bako Lorem Ipsum kilo.")
    table.add("lorem ipsum on a line that goes for another reason", good, "lorem ipsum")
    table.add("JavaScript", good, "please enable JavaScript now.")
    table.add("JavaScript with a brace is no brace", good, "enable javascript {} now.")
    table.add("a brace", good, "bako { kilo.")
    table.add(
        "a brace on a line that goes for another reason", good, "bako { kilo\n", good
    )
    table.add("a brace with a policy", good, "use cookies { kilo.")
    for phrase in (
        "Terms of Use",
        "privacy policy",
        "COOKIE POLICY",
        "uses cookies",
        "use of cookies",
        "use coo\u212aies",
    ):
        table.add(phrase, good, f"bako {phrase} kilo.\n", good)
    table.add("cookies alone", good, "bako eats cookies now.")
    table.add("a dotted capital I is no i", good, "bako prİvacy policy kilo.")
    table.add(
        "citations go",
        good,
        "bako[1] kilo[] gado[edit] leki[citation needed] bodi[12].",
    )
    table.add("other brackets stay", good, "bako[a] kilo[1 gado[[2] leki[Edit].")
    table.add("digits of any script", good, "bako[٣] kilo[²] gado.")
    table.add("a citation at the end uncovers a space", good, "bako kilo gado. [1]")
    table.add("a citation at the start leaves a space", good, "[1] bako kilo gado.")
    table.add("a citation at the start of the text", "[1] bako kilo gado.\n", good)
    table.add("words are counted with citations", good, "[1] [2] bako.")
    table.add("a citation hides javascript", good, "bako java[1]script kilo gado.")
    table.add("white space around lines goes", ["  bako kilo gado leki. \t\n", 6])
    table.add("blank lines go", [line + "\n", 6])
    table.add(
        "line ends become line feeds",
        *[
            [f"bako kilo gado leki.{end}", 1]
            for end in ("\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028")
        ],
    )
    table.add("unchanged", ["bako kilo gado leki.\n", 5], "bako kilo gado.")
    table.add("no line feed at the end", ["bako kilo gado leki.\n", 5])
    table.add("the first line goes", "bako\n", good)
    table.add("empty", "")
    table.write("c4.jsonl")


def fineweb():
    table = Table("fineweb")
    table.add("empty", "")
    table.add("blank lines only", " \n\t\n\x1c")
    table.sides(
        "line_punct_ratio", lambda n: lines(n) + lines(22, 200, ""), range(0, 9)
    )
    table.sides(
        "line_punct_ratio",
        lambda n: lines(n, 0, " 。") + lines(22, 200, ' "'),
        range(0, 9),
    )
    table.add("a space after the end mark hides it", *lines(20, 0, " . "))
    table.sides(
        "short_line_ratio",
        lambda n: lines(10) + [[f"{words(4, 4 * i)} .\n", 1] for i in range(n)],
        range(5, 40),
    )
    for length in (30, 31):
        table.add(
            f"lines of {length} characters",
            *[[f"{word(i)} {'é' * (length - 9)} .\n", 1] for i in range(20)],
            lines(1)[0],
        )
    table.sides(
        "char_dup_ratio",
        lambda n: [*lines(40), [words(n, 3000) + " .\n", 2]],
        range(1, 40),
    )
    table.add("white space parts copies", *lines(20), words(8) + " .")
    table.add("a copy of a long line", *lines(20), words(8) + " .\n")
    table.sides("list_ratio", lambda n: [*lines(10), ["\n", n]], range(5, 60))
    table.add("one line", "bako kilo gado leki .")
    table.write("fineweb.jsonl")


if __name__ == "__main__":
    for make in (gopher, gopher_repetition, c4, fineweb):
        make()
