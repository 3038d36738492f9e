"""Writes tests/cases/dolma.jsonl: documents on both sides of every rule, judged by Dolma.

pip install dolma==1.2.1 && python tests/parity/make_dolma_cases.py
"""

from __future__ import annotations

from dolma_rules import judge
from tables import Table, word, words

PROFILE = "dolma"


def rules(table):
    body = "the of " + words(88)
    table.add("empty", "")
    table.add("nothing but white space", " \n\u3000\x1c ")
    table.sides("dolma_few_words", lambda n: [["the of " + words(n), 1]], range(40, 60))
    table.sides(
        "dolma_many_words",
        lambda n: [[f"the {words(40)}\n", 1], [f"{words(9, 99)} ", 2], ["bako ", n]],
        [99_940, 99_941, 99_942],
    )
    table.sides(
        "dolma_short_words",
        lambda n: [["the of ", 1], ["ga ", n], [words(40), 1]],
        range(30, 50),
    )
    table.sides(
        "dolma_long_words",
        lambda n: [["the of ", 1], [words(40) + " ", 1], ["bakilo" * 4 + " ", n]],
        range(30, 60),
    )
    for mark in "#…":
        table.sides(
            "dolma_symbols",
            lambda n, mark=mark: [[body, 1], [f" ba{mark}{mark}ko", n]],
            range(5, 15),
        )
    table.sides("dolma_few_letters", lambda n: [[body, 1], [" 1234", n]], range(10, 40))
    for count in (1501, 2501):
        table.add(
            f"{count} marks in {10 * count - 1} words, rounded to five decimals",
            ["# ", count],
            ["the ", 9 * count - 1],
        )
    table.add("the same stop word twice", words(80), " the the")
    table.add("one stop word", words(80), " the The THE")
    table.add("stop words beside a mark are none", words(80), " the, of. (to) of")


def line_rules(table):
    base = [[f"the of {words(8, 8 * index)}\n", 1] for index in range(12)]
    table.sides(
        "dolma_bullet_lines",
        lambda n: (
            [[f"* {word(i)} {words(5, 9 * i)}\n", 1] for i in range(n)]
            + [["the of " + words(9, 4000), 1]]
        ),
        range(5, 15),
    )
    table.add(
        "a bullet behind a space is none",
        *[[f" - the {words(5, 9 * i)}\n", 1] for i in range(30)],
    )
    table.add(
        "a dot is no bullet", *[[f"• the {words(5, 9 * i)}\n", 1] for i in range(30)]
    )
    table.sides(
        "dolma_ellipsis_lines",
        lambda n: [*base, *[[f"{words(4, 900 + 4 * i)}…\n", 1] for i in range(n)]],
        range(1, 12),
    )
    table.add(
        "three full stops are no ellipsis",
        *base,
        *[[f"{words(4, 900 + 4 * i)}...\n", 1] for i in range(40)],
    )
    table.sides("dolma_duplicate_lines", lambda n: [*base, ["bo\n", n]], range(1, 12))
    table.add(
        "empty lines are copies", *[[f"the {words(8, 8 * i)}\n\n", 1] for i in range(9)]
    )
    table.sides(
        "dolma_duplicate_line_chars",
        lambda n: [*base, [f"{words(n, 3000)}\n", 2]],
        range(5, 60),
    )


def ngram_rules(table):
    def build(k):
        return [[f"the of {words(880)} ", 1], [words(k, 2000) + " bo ", 2]]

    for n in range(5, 11):
        table.sides(f"dolma_repeated_{n}_grams", build, range(30, 120))
    table.add(
        "the most frequent 2-gram counts for nothing",
        "the of ",
        *[[f"bako kilo {word(100 + i)} ", 1] for i in range(60)],
    )


def personal_data(table):
    page = f"the of {words(60)} "
    mail = [f"{word(700 + index)}@example.org or " for index in range(9)]
    table.sides(
        "dolma_personal_data",
        lambda n: [[page, 1], ["".join(mail[:n]), 1]],
        range(1, 9),
    )
    for name, text in {
        "an address at the end of the text is not seen": "at ann@example.org",
        "an address at the end of a line is": "at (ann@example.org).\nnext",
        "marks about an address go": "so, (ann@example.org), he",
        "a domain without a full stop": "ann@localhost or ann@example. then",
        "two at signs": "a@b@c.org x@@y.org @z.org (@w.org ",
        "a bracket is no addressee": "( (@example.org ",
        "phones": "call (415) 555-2671 or 415.555.2671 or 4155552671, x415-555-2671",
        "a phone at the beginning of a line is not seen": "call\n415-555-2671 now",
        "digits of any script": "call ٤١٥ ٥٥٥ ٢٦٧١ now",
        "addresses without boundaries": "v1.2.3.40 8.8.8.8.8 999.8.8.8.80 1.2.3",
        "finds that overlap": "at 415 555 267192.168.0.1 a@8.8.8.8 b",
        "blank lines": "at\n\n \x1c\n8.8.8.8\n\n",
        "other line ends do not part": "at ann@example.org\r\nor\x85bob@example.org\u2028x",
    }.items():
        table.add(name, page, text)
    for count in (10_000, 10_001):
        table.add(f"{count} question marks", page, ["?", count], " " + "".join(mail))


if __name__ == "__main__":
    table = Table(PROFILE, judge)
    for add in (rules, line_rules, ngram_rules, personal_data):
        add(table)
    table.write("dolma.jsonl")
