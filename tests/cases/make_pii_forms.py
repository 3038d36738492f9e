# ruff: noqa: E501 - tables of forms
"""Writes `pii_forms.jsonl`: personal data in the forms and surroundings in which people write it.

    python tests/cases/make_pii_forms.py

Independent of `pii_labelled.jsonl`: other templates, other forms, other near misses. All
values are made up; checksums are right, so that only form and surroundings are hard.
Same script, same file.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).parent / "pii_forms.jsonl"
RNG = random.Random(411)

EMAILS = """maria.lopez@correo.example.es|J.Doe+news@Example.COM|first_last@sub.mail.example.co.uk|x@y.io|support@xn--mnchen-3ya.de|jörg@müller.de
bill-ing@acme-corp.biz|o'brien@irish.ie|99problems@jay.fm|TEAM@AGENCY.GOV|k.o@uni-köln.de|иванов@пример.рф|abuse@192-0-2-1.isp.net|a.b.c.d.e@f.museum
info@Stadt.Bremen.De|Ann@Office.Gov|postmaster@EXAMPLE.org|_svc@build.dev|dr.who@tardis.space|nina@mail.ac.jp|sales@shop.store|me@zażółć.pl|who@host.info""".replace(
    "\n", "|"
).split("|")
AROUND_EMAIL = """Write to {} today|reach me at {}.|({})|<{}>|mailto:{}|[mail](mailto:{})|From: "A B" <{}>, cc|请联系{}谢谢|メールは{}まで。|문의: {}로 보내세요|Adresse : {} ;|e-mail={}&x=1|"{}"|'{}'
{}, or call|{}; {{}}|contact:{}|Email:{}!|Is it {}?|**{}**|`{}`|- {}|{}⏎Regards|/{}/|Kontakt: {}|https://example.com/?to={}|{}:|…{}…""".replace(
    "\n", "|"
).split("|")
IPS = "8.8.4.4 192.168.1.254 10.20.30.40 203.0.113.77 172.16.254.1 255.255.255.0 127.0.0.1 100.64.12.9 93.184.216.34 66.249.66.1 54.239.28.85".split()
AROUND_IP = """ssh root@{}|ping {} -c 3|http://{}/index.html|https://{}:8443/x|{}:8080 refused|({})|[{}]|from {}.|{}, {{}}|inet {}/24 brd|"{}"|addr={};|{}/16|client {} - -|サーバー{}に接続|주소는 {}입니다|host {}!|IP:{}
tcp://{}:22|{} -> eth0|Received: from x ([{}])|<{}>|the IP is {}...|{}⏎|allow {}/32;|{},{{}}""".replace(
    "\n", "|"
).split("|")
PHONES = {
    "US": "(415) 555-2671|415-555-2671|415.555.2671|+1 415 555 2671|+1 (415) 555-2671|1-415-555-2671|+14155552671|(415)555-2671|415 555 2671|415-555-2671 x12|415/555-2671|1 (415) 555-2671|800-555-0199|1-888-555-0123 ext. 45",
    "GB": "020 7946 0958|+44 20 7946 0958|+44 (0)20 7946 0958|+44 (0) 20 7946 0958|07700 900123|0131 496 0123|(0131) 496 0123|+447700900123|01632 960 001|0044 20 7946 0958|07700 900 123",
    "DE": "030 901820|030/901820|+49 30 901820|0151 23456789|+49 (0)151 23456789|089 / 1234567|(030) 901820|0049 30 901820|+49-30-901820",
    "FR": "01 42 68 53 00|01.42.68.53.00|+33 1 42 68 53 00|06 12 34 56 78|+33 (0)6 12 34 56 78|01-42-68-53-00|0142685300",
    "ES": "912 345 678|91 234 56 78|+34 912 345 678|612 34 56 78|+34 612345678",
    "IT": "06 6982 1234|+39 06 6982 1234|347 123 4567|02 1234567",
    "IN": "+91 98765 43210|98765 43210|+91-9876543210|022 2272 4000",
    "AU": "(02) 9374 4000|0412 345 678|+61 2 9374 4000|1300 975 707",
    "XX": "+41 44 668 18 00|+48 22 123 45 67|+81 3-1234-5678|+86 10 8888 8888|+55 11 91234-5678|+7 495 123-45-67|+46 8 123 456 78|+82 2-312-3456|+353 1 234 5678|+52 55 1234 5678|+27 21 123 4567|+971 4 123 4567",
}
AROUND_PHONE = """Call {} now|Tel: {}|tel. {}|Phone: {}.|Telefon {}|Tél. : {}|fax {}|You can reach us on {}.|my number is {}, thanks|(T) {}|Mobile: {}|ring {} between 9 and 5|Ph: {}|contact {}|[{}](tel:{{}})|phone number is {}
text {} for info|office: {}|WhatsApp {}|Dial {} today!|Telefono: {}|Móvil: {}|Hotline {} (24h)|cell {}|Their phone is {}.|電話{}|call us: {}""".replace(
    "\n", "|"
).split("|")
NEAR_MISSES = """DOI 10.1016/j.cell.2008.10.017|doi:10.1145/3292500.3330701|ISBN 978-3-16-148410-0|ISBN 0-306-40615-2|version 1.2.3.4|v2.10.0.1 is out|Section 4.4.3.2 says|§ 7.1.4.5 applies|2021-03-04 10:15:30|04/03/2021 18:00|2011-01-26 17:59:11
3514 2011-01-26 17:59|Washington, DC 20405-0001|NJ 07062-2054|5000/500 = 10 reams for the office|3300 - 1100 = 2200|974000 / 1000 = 974|call f(2147483647)|pages 1024-1048|1,234,567.89 EUR|0.1234567890|ratio 16:9, 1920x1080
arXiv:1706.03762|RFC 2822, section 3.4.1|SKU 12345-67890|order #4155552671|error 0x80070005|UUID 123e4567-e89b-12d3-a456-426614174000|sha256:9f86d081884c7d659a2feaa0c55ad015|commit 4a5b6c7d8e9f|libssl.so.1.1.0.2|nginx/1.18.0.1|build 10.0.19041.1
Mozilla/5.0 (Windows NT 10.0; Win64) Chrome/91.0.4472.124|pkg-3.4.5.6-1.x86_64.rpm|@property def x(self)|foo@bar in the code|a @ b matmul|git@github.com:owner/repo.git|user@localhost:~$|icon@2x.png|npm i lodash@4.17.21|@decorator(args)|x@y
postgres 15.2.0.0 released|ISO 8601 2004-12-05|1998-2004|from 1914 to 1918|10-12 people|chapter 12.3.4.5|192.168.0.256 is not valid|999.1.1.1|1.2.3|300.300.300.300|12:34:56:78|00:00:00|10:20:30.123456|std::vector<int>|a::b::c|Python 3000::
card number 4111 1111 1111 1112|4111-1111-1111-1113|1234 5678 9012 3456|IBAN DE89 3704 0044 0532 0130 01|GB82WEST12345698765433|XX12 3456 7890 1234|pid 12345 uid 1000|timestamp 1412806084|epoch 1577836800|EAN 4006381333931|Item 4-8-15-16-23-42
$4,155,552 spent|500 000 000 people|12 345 678 km|3.14159265358979|1 000 000 000|2^31 = 2147483648|0800-1200 hours|7.1 7.1 5.4 5.1 3.9|the years 1950 1960 1970|coordinates 40.712776, -74.005974|room 101, floor 12|x = 1234567890""".replace(
    "\n", "|"
).split("|")


def luhn(body: str) -> str:
    """`body` with its check digit."""
    total = sum(
        divmod(int(d) * (2 - i % 2), 10)[0] + int(d) * (2 - i % 2) % 10
        for i, d in enumerate(reversed(body))
    )
    return body + str(-total % 10)


def number(count: int) -> str:
    """Random digits."""
    return "".join(RNG.choice("0123456789") for _ in range(count))


def grouped(digits: str, sizes: tuple[int, ...], mark: str) -> str:
    """Digits in groups."""
    parts, at = [], 0
    for size in sizes:
        parts.append(digits[at : at + size])
        at += size
    return mark.join(parts)


def cards() -> Iterator[str]:
    """Numbers of five issuers in print and bare."""
    for _ in range(9):
        for prefix, length, sizes in (
            ("4", 16, (4, 4, 4, 4)),
            ("52", 16, (4, 4, 4, 4)),
            ("37", 15, (4, 6, 5)),
            ("6011", 16, (4, 4, 4, 4)),
            ("3530", 16, (4, 4, 4, 4)),
            ("36", 14, (4, 6, 4)),
            ("2223", 16, (4, 4, 4, 4)),
        ):
            digits = luhn(prefix + number(length - 1 - len(prefix)))
            yield RNG.choice(
                [digits, grouped(digits, sizes, " "), grouped(digits, sizes, "-")]
            )


def ibans() -> Iterator[str]:
    """Numbers of countries with letters and digits, in three ways of print."""
    shapes = {
        "DE": "18",
        "AT": "16",
        "CH": "5n12",
        "NL": "a10",
        "GB": "a14",
        "FR": "23",
        "ES": "20",
        "IT": "b22",
        "BE": "12",
        "PL": "24",
        "SE": "20",
        "NO": "11",
        "IE": "a14",
        "PT": "21",
        "MT": "a5n18",
        "SA": "2n18",
    }
    for _ in range(4):
        for country, shape in shapes.items():
            bank = {"a": "ABNA", "b": "X"}.get(shape[0], "")
            length = sum(
                int(part) for part in shape.strip("ab").replace("n", " ").split()
            )
            body = bank + number(length)
            check = (
                98 - int("".join(str(int(c, 36)) for c in body + country + "00")) % 97
            )
            whole = f"{country}{check:02d}{body}"
            spaced = " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))
            yield RNG.choice(
                [
                    whole,
                    spaced,
                    spaced.lower(),
                    whole.lower(),
                    spaced.replace(" ", "-"),
                    spaced.replace(" ", "\u00a0"),
                ]
            )


AROUND_CARD = "Card: {}|paid by {} on Monday|({})|Visa {}, exp 04/27|cc={}&cvv=1|number {}.|Karte {}|'{}'|{} was declined|カード番号{}です".split(
    "|"
)
AROUND_IBAN = "IBAN: {}|IBAN {}, BIC X|transfer to {}.|({})|Konto {} bei|to {} by Friday|iban={};|{}⏎Bank|‘{}’".split(
    "|"
)


def put(template: str, value: str, kind: str) -> dict[str, object]:
    """A case: the value in its surroundings, with its bytes."""
    template = template.replace("{{}}", "etc").replace("⏎", "\n")
    before, after = template.split("{}")
    start = len(before.encode())
    return {
        "text": before + value + after,
        "spans": [[start, start + len(value.encode()), kind]],
        "source": "forms",
    }


def cases() -> Iterator[dict[str, object]]:
    """All cases, kind by kind."""
    for email in EMAILS:
        for around in RNG.sample(AROUND_EMAIL, 9):
            yield put(around, email, "email")
    for address in IPS:
        for around in RNG.sample(AROUND_IP, 14):
            yield put(around, address, "ip")
    for forms in PHONES.values():
        for phone in forms.split("|"):
            for around in RNG.sample(AROUND_PHONE, 5):
                yield put(around, phone, "phone")
    for card in cards():
        yield put(RNG.choice(AROUND_CARD), card, "card")
    for iban in ibans():
        yield put(RNG.choice(AROUND_IBAN), iban, "iban")
    for text in NEAR_MISSES:
        for around in ("{}", "See {} for more.", "the office wrote: {}, and so on"):
            yield {"text": around.format(text), "spans": [], "source": "forms"}


def main() -> None:
    lines = [
        json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases()
    ]
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
