"""Writes tests/cases/dclm.jsonl: documents on both sides of every rule, judged by DCLM.

pip install uniseg==0.10.1 fasttext-wheel==0.9.2 nltk retrie blingfire
DCLM=<checkout of mlfoundations/dclm> python tests/parity/make_dclm_cases.py
"""

from __future__ import annotations

from dclm_functions import judge
from tables import Table, word, words

PAGE = f"Bako of the {words(60)}.\n"
# Its first letters are those of no top-level domain, so web addresses stay.
PLAIN = PAGE.replace("Bako", "Qako")


def bounds(table):
    body = f"Qako the of {words(87)}"
    table.add("empty", "")
    table.add("nothing but white space", " \n\u3000\x1c ")
    table.sides(
        "dclm_few_words", lambda n: [[f"the of {words(n)} ! -", 1]], range(40, 60)
    )
    table.add("words that begin with a mark are none", PLAIN[:60], [" (bako", 90])
    table.add(
        "only bytes part words of fastText",
        *[[f"{w}\u3000", 1] for w in words(90).split()],
    )
    table.add("100,000 words", "q", ["bako ", 100_000])
    table.add("100,001 words", "q ", ["bako ", 100_000])
    table.sides(
        "dclm_short_words",
        lambda n: [["qu the of ", 1], ["ga ", n], [words(40), 1]],
        range(100, 180, 5),
    )
    table.sides(
        "dclm_long_words",
        lambda n: [[f"q of {words(40)} ", 1], ["bakilo" * 4 + " ", n]],
        range(5, 40),
    )
    for mark in ("#", "...", ". . .", "…"):
        table.sides(
            "dclm_symbols",
            lambda n, mark=mark: [[body, 1], [f" ba{mark}", n]],
            range(3, 15),
        )
    table.sides(
        "dclm_bullet_lines",
        lambda n: (
            [[f" {'●•*-'[i % 4]} of {words(7, 9 * i)}\n\n", 1] for i in range(n)]
            + [["the of " + words(9, 4000), 1]]
        ),
        range(5, 15),
    )
    for end in ("...", ". . .", "… "):
        table.sides(
            "dclm_ellipsis_lines",
            lambda n, end=end: [
                *[[f"the of {words(20, 20 * i)}\n", 1] for i in range(14)],
                *[[f"bako {words(20, 900 + 20 * i)}{end}\n\n", 1] for i in range(n)],
            ],
            range(1, 12),
        )
    table.sides("dclm_few_letters", lambda n: [[body, 1], [" 1234", n]], range(10, 40))
    table.add("the same stop word twice, in any case", f"q {words(80)} The THE")
    table.add("one stop word", words(80), " the the, (of) of.")


def repetition(table):
    base = [[f"the of {words(8, 8 * index)}\n", 1] for index in range(12)]
    table.sides(
        "dclm_duplicate_lines", lambda n: [*base, [" bo \n\n", n]], range(1, 12)
    )
    paragraphs = [[f"the of {words(8, 8 * index)}\nbo\n\n", 1] for index in range(12)]
    lines = [[f"{words(4, 900 + 4 * index)}\n", 1] for index in range(90)]
    table.sides(
        "dclm_duplicate_paragraphs",
        lambda n: [*paragraphs[:9], *[["bo\n\n\n", n]], *lines],
        range(1, 12),
    )
    table.sides(
        "dclm_duplicate_line_chars",
        lambda n: [*base, [f"{words(n, 3000)}\n", 2]],
        range(5, 60),
    )
    table.sides(
        "dclm_duplicate_paragraph_chars",
        lambda n: [
            *[[f"the of {words(8, 8 * index)}\n\n", 1] for index in range(12)],
            [f"bako kilo{' ' * n}\ngado leki\n\n", 2],
        ],
        range(60, 200, 10),
    )
    table.add("one line repeats nothing", "the of ", words(90))
    for n in (2, 3, 4):
        gram = words(n, 7000)
        spaced = [[f"{gram} {word(index)} ", 1] for index in range(90)]
        table.sides(
            f"dclm_frequent_{n}_grams",
            lambda k, s=spaced: [*s[:k], [f"the of {words(400, 100)}", 1]],
            range(1, 90, 3),
        )
    table.add("an n-gram that stands once is not frequent", "the of ", words(50))
    long = "bakilogadoleki" * 4
    table.add(
        "among equally frequent n-grams the longest counts",
        f"the of ba ko x {long} {long}a y ba ko z {long} {long}a {words(50)}",
    )

    def build(k):
        return [[f"the of {words(400)} ", 1], [words(k, 2000) + " bo ", 2]]

    for n in range(5, 11):
        table.sides(f"dclm_repeated_{n}_grams", build, range(20, 60))
    table.add(
        "words are those of Unicode",
        f"{PLAIN} can't 3.14 a_b don’t x:y e-mail U.S. 日本語 カタカナ αβγ " * 2,
    )


LINKS = {
    "a host": "see bako.com now",
    "a host with a scheme and a path": "see https://bako.com/kilo?a=b&c=(d)#e, now",
    "ftp": "see ftp://bako.org now",
    "a user and a port": "see me@bako.com:80/kilo now",
    "ten spaces go": "see           bako.com now",
    "twelve spaces": "see            http://bako.com now",
    "no top-level domain": "see bako.html now.Then it.was",
    "a name that goes on": "see bako.communist bako.com-munist bako.com_x bako.comé",
    "the last of several": "see a.com.b.org.c.zz/d",
    "a domain in capitals": "see bako.COM now",
    "other scripts": "see bako.рф and bako.भारतम् and bako.قطر\u200e now",
    "a full stop first": "see .com now ..com",
    "a scheme inside a word": "see xhttp://bako.com now",
    "a long host": f"see {'b' * 300}.com and {'c.' * 200}de now",
    "a file": "read setup.py and main.rs or notes.md now",
    "an IP address": "at 8.8.8.8 or http://10.0.0.1:80/x or v1.2.3.4 or x 1.2.3.4",
    "numbers that are none": "at 1.2.3 or 300.1.1.1 or 1.2.3.x or 299.1.1.1",
    "an IP address in a longer one": "at 1.2.3.4.5 or 3001.1.1.1.1 or 12345.6.7.8.9",
    "three line feeds": "bako\n\n\nkilo\n\n\n\n\ngado",
}


def links(table):
    for name, text in LINKS.items():
        table.add(f"{name}, in a text that begins with `ba`", PAGE, text)
        table.add(f"{name}, in one that begins with no domain", PLAIN, text)
    table.add("nothing but an address", "com.com")
    table.add(
        "capitals begin with a domain too",
        PAGE.upper().lower().title(),
        "at bako.com now",
    )


LINES = {
    "capitals": "BAKO KILO\nBAko kilo\nBAKo kilo\nⒶⒷ ⅠⅡ ǅ a",
    "digits": "123456\n123 456\n²③٣\n12.5\n",
    "counters": "3 likes\n(1,204.5K Views)\n12 comments!\n3likes\n3 like\n"
    "* 7 \u212a shares *\n3 m views now",
    "short lines": "bako\nbako kilo\n \t\n\nkilo\u3000gado\n-",
    "a cart": "three items in cart\nItems In Cart\nıtems in cart here, İtemſ in cart\n"
    "one two three four five six seven items in cart\n"
    "one two three four five six seven eight items in cart",
    "read more": "go on  Read more...\nRead more...\nread more abc\nread more... now\nread more..",
    "sign in": "Sign-in  here now\nsign-in\nplease sign-in\nſign-ın now and then\nSign-in",
    "white space at the ends": "",
    "carriage returns": "12345\r\nBAKO KILO\r\n3 likes\r\nread more...\r\nsign-in\r\n",
}


def edits(table):
    page = "".join(f"The bako of {words(40, 40 * index)}.\n" for index in range(8))
    for name, text in LINES.items():
        table.add(f"{name}, after a page", page, text)
        table.add(f"{name}, before a page", f"{text}\n", page)
        table.add(f"{name}, about a page", f" {text}\n\n", page, f"\n\n{text} ")
    table.sides(
        "dclm_words_removed",
        lambda n: [[page, 1], *[[f"{word(4000 + i)}\n", 1] for i in range(n)]],
        range(1, 40),
    )
    table.add(
        "nothing is left",
        *[[f"{w.upper()}\n", 1] for w in words(80).split()],
        "THE OF AND",
    )


if __name__ == "__main__":
    table = Table("dclm", judge)
    for add in (bounds, repetition, links, edits):
        add(table)
    table.write("dclm.jsonl")
