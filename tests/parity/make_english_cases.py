"""Writes `tests/cases/english_words.jsonl`: texts, and how spaCy splits them.

    pip install spacy==3.8.18 && python tests/parity/make_english_cases.py

spaCy is run as datatrove runs it: `spacy.blank("en")` with a `sentencizer`, tokens and
sentences stripped, empty ones dropped. A case has the words, since all of them are
parts of the text, and the number of sentences.
"""

# ruff: noqa: E501 (a case is a line)
import json
import random
from pathlib import Path

import spacy

SPACY_VERSION = "3.8.18"
CASES = Path(__file__).parents[1] / "cases" / "english_words.jsonl"

# One kind of text a line: what a reader of the table wants to see first.
WRITTEN = {
    "contractions": "I don't, can't, cannot, shouldn't've; y'all're gonna. It's John's, isn't it?",
    "contractions with a curly apostrophe": "I don’t, it’s James’ and she’s ‘fine’.",
    "abbreviations": "Mr. Smith of the U.S. met Dr. J. R. Jones, Ph.D., at 5 p.m. e.g. in Wash. D.C.",
    "abbreviations inside brackets": "(Mr. Smith) [Dr.] {e.g.} (i.e. St.) \"Jan.\" 'co.'",
    "numbers with units": "10km 5.5kg, 20°C. 7% 3m/s (100MB) 5'10\" 1/2 10-year 3pm 10a.m. 12p.m.",
    "money": "$5.00, US$10, C$3 A$2 5$ 10€. £1,000.50 (¥300) 5US$",
    "hyphens and dashes": "well-known -- a--b x---y pre—post a – b 1990–1995 10-20 -5 ~x a~b",
    "operators": "2+2=4 2^-3 1*2 a+b +1 -1 +x a=b 1<2 a<b x>=y key:value 10:30am",
    "dots": "Wait... what?.. yes…no …… a.b a.B end.Begin U.S.A. ...x x... . .. ...",
    "brackets and quotes": "(\"quoted\") ((twice)) [a]b{c} «x» “y” 'z' `code` ''w''",
    "addresses": "See http://a.b.com/x?y=1#z, https://example.org. or me@example.com; (www.site.co.uk/)",
    "hosts and ports": "8.8.8.8 10.0.0.1 192.168.1.1:80 host.org:8080/p host.org:1 a_b-c.de x.y",
    "emoticons": "Hi :) bye:-) ok;-) no :( <3 </3 x:D o.O ^_^ (^_^) :-(( done:))) =) 8-) (:",
    "emoticons that meet": ":):) :-):-( :)) ) : ) (: ( : :'-( >:( :(:",
    "special cases that rejoin": "x(a.m.) (Mr.)y and/or w/o foo/Mr. (it's) \"that's\" -vs. 'cause 'em",
    "white space": "  two  spaces\tTab\n\nlines\r\nend\u00a0nbsp\u3000wide\u2003em\u001cfs\u0085nel ",
    "sentences": 'One. Two! Three? "Four." Five... Six.Seven. Eight!? (Nine.) Ten: eleven; 3.5.',
    "sentences of white space": ". \n\n . \n",
    "sentences of other scripts": "第一句。第二句！ पहला वाक्य। दूसरा। Ուր է։ ماذا؟ نعم۔",
    "marks alone": "! ? . , ; : - -- — ( ) [ ] { } ' \" … / \\ | @ # $ % ^ & * + = ~ ` < > _",
    "symbols": "100°F. a©b ™ ® ♥love♥ 😀hi😀 x→y ½ ² §5 ¶ •item ★★★ 👍🏽 é́",
    "code": "if (a[i]<=b->c) { return foo(x,y); } // C++ --flag=1 #include <stdio.h> $HOME/bin",
    "mentions and tags": "@user #tag AT&T R&D rock'n'roll o'clock ma'am c'mon Let's let's",
    "case": "HE'S IT'S DON'T CANNOT Cant cant Ill ill Well well Were were Im im",
    "no text": "",
}


def pieces(tokenizer: spacy.tokenizer.Tokenizer) -> list[str]:
    """What random texts are made of: special cases, marks, letters of many kinds."""
    marks = list(".,;:!?'\"()[]{}<>-_/\\=+*^~#@&%$…—–’‘“”aAbBzZ015éÉ°ß中ಠ²٣\n\t  ")
    words = [
        "...",
        "http://",
        "www.",
        "a.b",
        "10",
        "US$",
        "'s",
        "’S",
        "\u3000",
        "\u00a0",
    ]
    words += [
        "km",
        "com",
        ".co",
        ":80",
        "😀",
        "1.2.3.4",
        "10.0.0.1",
        "user",
        "\u0085",
        "m/s",
    ]
    return [*marks, *words, *sorted(tokenizer.rules)[::9]]


def texts(tokenizer: spacy.tokenizer.Tokenizer) -> dict[str, str]:
    """Every case: those written here, and as many at random as make a few hundred."""
    rng = random.Random(1)
    choices = pieces(tokenizer)
    made = {
        f"random {number}": "".join(
            rng.choice(choices) for _ in range(rng.randrange(2, 20))
        )
        for number in range(300)
    }
    return WRITTEN | made


def split(nlp: spacy.Language, text: str) -> tuple[list[str], int]:
    """Words of a text and its number of sentences, as datatrove takes them."""
    doc = nlp(text)
    words = [token.text.strip() for token in doc]
    sentences = [sentence.text.strip() for sentence in doc.sents]
    return [word for word in words if word], sum(map(bool, sentences))


def make_cases() -> list[dict[str, object]]:
    """The rows of the table."""
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    rows = []
    for name, text in texts(nlp.tokenizer).items():
        words, num_sentences = split(nlp, text)
        rows.append(
            {"name": name, "text": text, "words": words, "num_sentences": num_sentences}
        )
    return rows


if __name__ == "__main__":
    lines = [json.dumps(row, ensure_ascii=False) for row in make_cases()]
    CASES.write_text("\n".join(lines) + "\n", encoding="utf-8")
