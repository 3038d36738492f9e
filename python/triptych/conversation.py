"""Conversations and preferences as tokens, with the mask of what is supervised.

A message is `<|role|>` content `<|end|>`; a conversation starts with `<|bos|>` and ends
with `<|eos|>`. Supervised are the assistant's words and the `<|end|>` that closes
them, nothing else. The content is encoded apart from the markers, so a marker spelled
out in somebody's text never becomes one. `CHAT_TEMPLATE` says the same in Jinja for
other programs; a test proves that both give the same ids.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from triptych.errors import ConfigError, InputError, escaped, placed

if TYPE_CHECKING:
    from triptych._core import Tokenizer

ROLES = ("system", "user", "assistant")
END_OF_TURN = "<|end|>"
MARKERS = ("<|bos|>", *(f"<|{role}|>" for role in ROLES), END_OF_TURN, "<|eos|>")

CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' ~ message['role']) }}"
    "{% endif %}"
    "{{ '<|' ~ message['role'] ~ '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}{{ '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

Message = Mapping[str, str]
Read = TypeVar("Read")


@dataclass(frozen=True)
class Rendered:
    """A conversation as token ids, and for each id whether it is supervised (0 or 1)."""

    ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)

    def extend(self, ids: Sequence[int], *, supervised: bool) -> None:
        """Appends ids that are all supervised or all not."""
        self.ids.extend(ids)
        self.mask.extend([int(supervised)] * len(ids))


@dataclass(frozen=True)
class Conversation:
    """A conversation read from a file: its id, its source and its messages."""

    id: str
    source: str
    messages: list[Message]


@dataclass(frozen=True)
class Preference:
    """Two replies to one prompt, of which readers preferred the first."""

    id: str
    source: str
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    supervise_from: int = 0,
    add_generation_prompt: bool = False,
) -> Rendered:
    """Renders messages to ids and mask.

    Args:
        messages: role and content each.
        tokenizer: must have all of `MARKERS`.
        supervise_from: index of the first message whose assistant words count; 0
            supervises every assistant turn, `len(prompt)` only those of a reply.
        add_generation_prompt: end with `<|assistant|>` for the model to go on from,
            instead of `<|eos|>`.

    Raises:
        InputError: for an unknown role.
        ConfigError: the tokenizer has no such marker.
    """
    bos, *_, end, eos = (_marker(name, tokenizer) for name in MARKERS)
    out = Rendered()
    out.extend([bos], supervised=False)
    contents = tokenizer.encode_batch([message["content"] for message in messages])
    for index, (message, content) in enumerate(zip(messages, contents, strict=True)):
        supervised = message["role"] == "assistant" and index >= supervise_from
        out.extend([_role_marker(message["role"], tokenizer)], supervised=False)
        out.extend([*content, end], supervised=supervised)
    if add_generation_prompt:
        out.extend([_role_marker("assistant", tokenizer)], supervised=False)
    else:
        out.extend([eos], supervised=False)
    return out


def _role_marker(role: str, tokenizer: Tokenizer) -> int:
    if role not in ROLES:
        raise InputError(f"role: expected one of {', '.join(ROLES)}, found `{role}`")
    return _marker(f"<|{role}|>", tokenizer)


def _marker(name: str, tokenizer: Tokenizer) -> int:
    """The id of a marker, and of no other token that would end a turn or a text.

    Falcon 3 and Phi have tokens for the roles, but close and open otherwise: their models
    would learn conversations that neither their template nor ours writes.
    """
    marker = tokenizer.token_to_id(name)
    if marker is None:
        raise _no_marker(name, "none")
    return marker


def _no_marker(name: str, found: str) -> ConfigError:
    return ConfigError(
        f"tokenizer: expected a token `{name}`, as triptych's conversations have it, "
        f"found {found}: take a model whose tokenizer was trained by triptych"
    )


def has_markers(tokenizer: Tokenizer) -> bool:
    """Whether conversations can be rendered with a tokenizer."""
    try:
        require_markers(tokenizer)
    except ConfigError:
        return False
    return True


def require_markers(tokenizer: Tokenizer) -> None:
    """Refuses a tokenizer that conversations cannot be rendered with.

    Raises:
        ConfigError: naming the first marker that it has no token for, or one that a text
            may spell, as it is not declared special.
    """
    for name in MARKERS:
        if _marker(name, tokenizer) in tokenizer.encode(name):
            raise _no_marker(name, "one that is not special, which any text can spell")


def read_conversations(paths: Iterable[str | Path]) -> Iterator[Conversation]:
    """Reads `{"id", "messages": [{"role", "content"}…]}`, one JSON object a line.

    Raises:
        InputError: naming file and line of the first record that is not one, or the
            first file without any.
    """
    yield from _read(paths, _conversation)


def read_preferences(paths: Iterable[str | Path]) -> Iterator[Preference]:
    """Reads `{"id", "prompt", "chosen", "rejected"}`, lists of messages, one a line.

    Raises:
        InputError: naming file and line of the first record that is not one, or the
            first file without any.
    """
    yield from _read(paths, _preference)


def _read(
    paths: Iterable[str | Path], made_of: Callable[[dict[str, Any], str], Read]
) -> Iterator[Read]:
    from triptych.documents import read_records

    for path in paths:
        number = 0
        for number, record in read_records(path):
            with placed(path, number):
                made = made_of(record, f"{path}:{number}")
            yield made
        if not number:
            with placed(path):
                raise InputError(f"{path}: expected at least one record, found none")


def _conversation(record: dict[str, Any], where: str) -> Conversation:
    messages = _messages(record, "messages", where)
    if not any(message["role"] == "assistant" for message in messages):
        raise InputError(f"{where}: `messages` has no assistant turn: nothing to learn")
    for index, item in enumerate(record["messages"]):
        _refuse_weighed(item, f"{where}: `messages[{index}]`")
    return Conversation(_id(record, where), _source(record, where), messages)


def _preference(record: dict[str, Any], where: str) -> Preference:
    prompt, chosen, rejected = (
        _messages(record, key, where) for key in ("prompt", "chosen", "rejected")
    )
    for key, reply in (("chosen", chosen), ("rejected", rejected)):
        if not any(message["role"] == "assistant" for message in reply):
            raise InputError(
                f"{where}: `{key}` has no assistant turn: nothing to compare"
            )
    if chosen == rejected:
        raise InputError(f"{where}: `chosen` and `rejected` are the same reply")
    return Preference(
        _id(record, where), _source(record, where), prompt, chosen, rejected
    )


def _messages(record: dict[str, Any], key: str, where: str) -> list[Message]:
    value = record.get(key)
    if not isinstance(value, list) or not value:
        raise InputError(
            f"{where}: `{key}`: expected a list of messages, found {_told(value)}"
        )
    _refuse_unread(record, _UNREAD_OF_RECORDS, where)
    return [_message(item, f"{where}: `{key}[{i}]`") for i, item in enumerate(value)]


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise InputError(f"{where}: expected an object, found {_told(item)}")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise InputError(
            f"{where}: expected a `role` of {', '.join(ROLES)}, found {_told_role(role)}"
        )
    _refuse_unread(item, _UNREAD_OF_MESSAGES, where)
    if not isinstance(content, str):
        raise InputError(
            f"{where}: expected a string `content`, found {_told(content)}"
        )
    return {"role": role, "content": _text(content, where)}


_KINDS = {str: "a text", list: "a list", dict: "an object", type(None): "none"}


def _told(value: Any) -> str:
    """What a value is, not what it says: no message may tell somebody's personal data."""
    kind = _KINDS.get(type(value))
    if kind is not None:
        return kind
    return str(value) if abs(value) < 1000 else "a number"


def _told_role(role: Any) -> str:
    """The same; a role of one word is no name of anybody, and helps to mend the file."""
    is_word = isinstance(role, str) and len(role) <= 24 and role.isidentifier()
    return repr(role) if is_word else _told(role)


# What other formats keep beside the words. Without it something else would be learnt: an
# answer without the call that it is, or without the thoughts before it.
_UNREAD_OF_RECORDS = ("tools", "functions")
_UNREAD_OF_MESSAGES = ("tool_calls", "function_call", "reasoning_content", "thinking")
# What OpenAI, Mistral and axolotl have beside a turn that is not to be learnt, as a 0.
_WEIGHTS = ("weight", "train")


def _refuse_unread(item: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Raises `InputError` for a key that says something which no text is made of."""
    found = [name for name in names if item.get(name)]
    if found:
        raise InputError(
            f"{where}: expected all words in `content`, found also `{found[0]}`, which "
            "is not read: write it into a `content`, or leave it out"
        )


def _refuse_weighed(item: Mapping[str, Any], where: str) -> None:
    """Raises `InputError` for a turn of the assistant that is not to count in full."""
    for name in _WEIGHTS if item["role"] == "assistant" else ():
        if item.get(name) not in (None, 1):
            raise InputError(
                f"{where}: `{name}`: expected 1, as every turn of the assistant is "
                f"learnt, found {_told(item[name])}: leave out the key to learn the turn, "
                "or else the turn"
            )


def _id(record: dict[str, Any], where: str) -> str:
    given = record.get("id")
    return where if given is None else _text(str(given), f"{where}: `id`")


def _source(record: dict[str, Any], where: str) -> str:
    given = record.get("source")
    return "" if given is None else _text(str(given), f"{where}: `source`")


def _text(value: str, where: str) -> str:
    r"""The same text; JSON can spell what is none, half of a pair as in `"\ud83d"`."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: expected text, found `{escaped(error)}`, half of a pair"
        ) from None
    return value


def write_conversations(
    conversations: Iterable[Conversation], tokenizer: Tokenizer, output: str | Path
) -> dict[str, Any]:
    """Renders conversations into a token shard folder and returns its manifest.

    Raises:
        InputError: if there are none.
        ConfigError: the tokenizer lacks a marker.
    """
    require_markers(tokenizer)
    rendered = [
        (c.id, c.source, *_parts(render(c.messages, tokenizer))) for c in conversations
    ]
    return _write(rendered, tokenizer, output, documents_per_unit=1)


def write_preferences(
    preferences: Iterable[Preference], tokenizer: Tokenizer, output: str | Path
) -> dict[str, Any]:
    """Renders pairs into a token shard folder, chosen and rejected adjacent.

    Supervised is the reply alone; what the assistant said in the prompt is not.

    Raises:
        InputError: if there are none.
        ConfigError: the tokenizer lacks a marker.
    """
    require_markers(tokenizer)
    rendered = []
    for pair in preferences:
        for name, reply in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            document = render(
                [*pair.prompt, *reply], tokenizer, supervise_from=len(pair.prompt)
            )
            rendered.append((f"{pair.id}#{name}", pair.source, *_parts(document)))
    return _write(rendered, tokenizer, output, documents_per_unit=2)


def _parts(document: Rendered) -> tuple[array[int], bytes]:
    """Ids and mask in 5 bytes a token: all of a run's are in memory together."""
    return array("I", document.ids), bytes(document.mask)


def _write(
    rendered: list[tuple[str, str, array[int], bytes]],
    tokenizer: Tokenizer,
    output: str | Path,
    *,
    documents_per_unit: int,
) -> dict[str, Any]:
    from triptych import _core

    if not rendered:
        raise InputError(
            f"nothing to write to `{output}`: expected at least one record"
        )
    manifest = _core.write_token_shards(
        rendered, tokenizer, str(output), documents_per_unit
    )
    return dict(json.loads(manifest))
