"""Writes tests/cases/datatrove_pii.jsonl from datatrove's PIIFormatter.

python tests/parity/make_datatrove_pii_cases.py
"""

from __future__ import annotations

from datatrove_filters import judge_pii
from tables import Table

EMAILS = (
    "a@b.c",
    "to first.last@mail.example.com, or x+y@z.org.",
    "!a@b.c #a@b.c (a@b.c) <a@b.c> 'a@b.c'",
    "..a@b.c a..b@c.d .a.@b.c a.b.@c.d",
    "a@b a@b. a@.b a@-b.c a@b-.c a@b.-c a@b.c- a@b.c.",
    "a@b@c.d a@b.c@d.e @b.c a@@b.c",
    "é@b.c aé@b.c éa@b.c a@é.c a@b.é a@b.cé",
    "a@[1.2.3.4] a@[1.2.3.400] a@[1.2.3.x:] a@[1.2.3.-x:] a@[1.2.3.x] a@[256.1.1.1]",
    "a@b.c a@b.c a@b.c: in turn",
    "first@example.com from 8.8.8.8",
)

ADDRESSES = (
    "8.8.8.8 9.9.9.9 1.1.1.1 2.2.2.2 3.3.3.3 4.4.4.4 5.5.5.5: in turn",
    "10.0.0.1 127.0.0.1 192.168.1.1 172.16.0.1 172.32.0.1 169.254.1.1 100.64.0.1 100.128.0.1",
    "0.1.2.3 240.1.1.1 255.255.255.255 224.0.0.1 192.0.2.1"
    " 198.18.0.1 198.20.0.1 198.51.100.7 203.0.113.9",
    "999.8.8.8 300.8.8.8 8.8.8.300 8.8.8.256 8.8.256.8 08.8.8.8 8.8.8.08 8.8.8.8.8.8.8.8.8",
    "1.2.3.4567.8.9.10 v8.8.8.8 8.8.8.8x 8..8.8.8 .8.8.8.8. 8.8.8",
    "٨.8.8.8 8.8.8.٨",
)


def main():
    table = Table("datatrove-pii", judge_pii)
    table.add("empty", "")
    for text in [*EMAILS, *ADDRESSES]:
        table.add(text, text)
    table.write("datatrove_pii.jsonl")


if __name__ == "__main__":
    main()
