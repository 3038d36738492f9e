"""datatrove's filters by the names of our profiles, with its own words or with plain ones."""

from __future__ import annotations

import re
from unittest import mock

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4BadWordsFilter,
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.utils import text as datatrove_text

FILTERS = {
    "gopher-repetition": GopherRepetitionFilter,
    "gopher": GopherQualityFilter,
    "c4": C4QualityFilter,
    "fineweb": FineWebQualityFilter,
}


def judge_pii(_profile, text):
    """The text with its personal data replaced, the first replacement first; none is rejected."""
    return PIIFormatter().format(text), None


def has_bad_words(text, listed, language):
    """Whether datatrove's filter finds a phrase of this file, which it would have fetched."""
    bad_words = C4BadWordsFilter(default_language=language)
    fetched = "datatrove.pipeline.filters.c4_filters.cached_asset_path_or_download"
    with mock.patch(fetched, return_value=str(listed)):
        return bad_words.filter(Document(text=text, id="")) is not True


class PlainTokenizer:
    """White space parts words, and runs of end marks part sentences."""

    def word_tokenize(self, text):
        return text.split()

    def span_tokenize(self, text):
        sentences = re.findall(r"[^.!?]*[.!?]+|[^.!?]*[^.!?\s][^.!?]*$", text)
        return [(0, 0)] * len(sentences)


def judge(profile, text):
    """The text that a filter keeps, or None, and the reason."""
    document = Document(text=text, id="")
    result = FILTERS[profile]().filter(document)
    kept, reason = result if isinstance(result, tuple) else (result, None)
    return (document.text if kept else None), reason


def judge_plainly(profile, text):
    """The same with plain words: what it says does not hang on spaCy."""
    datatrove_text.split_into_parts.cache_clear()
    with mock.patch(
        "datatrove.utils.word_tokenizers.load_word_tokenizer",
        return_value=PlainTokenizer(),
    ):
        found = judge(profile, text)
    datatrove_text.split_into_parts.cache_clear()
    return found
