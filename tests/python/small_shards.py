"""A tokenizer of a few words and shards of a few documents, for runs of seconds."""

from pathlib import Path

from triptych._core import train_tokenizer, write_token_shards


def varied(number, source=0):
    """So many documents of 5 to 27 ids, which differ from those of another source."""
    return [
        [
            7 + (document * 31 + token + source) % 200
            for token in range(5 + document % 23)
        ]
        for document in range(number)
    ]


def alike(number=60):
    """So many documents of 23 to 31 ids that count up, which a model learns at once."""
    return [list(range(7, 30 + document % 9)) for document in range(number)]


def write_sources(folder: Path, **sources):
    """Writes `tokenizer.json` and a folder of shards for each source; gives `folder`."""
    tokenizer = train_tokenizer(None, ["some words to learn"] * 3, 300)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, documents in sources.items():
        rows = [(f"{name}-{i}", name, ids, None) for i, ids in enumerate(documents)]
        write_token_shards(rows, tokenizer, str(folder / name), 1)
    return folder
