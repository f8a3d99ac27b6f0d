"""What the dialects share: control tokens by name, a writer that splices plain text between them, values."""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from agentrl.dialect.protocol import Encoded
from agentrl.episode import as_ids
from agentrl.errors import ConfigError
from agentrl.message import Call, Image, Part
from agentrl.plaintext import PlainText, as_unicode, plain_text_of
from agentrl.toolkit import Parameter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MOST_NESTED = 64
"""Levels of lists and objects in an argument: more than a tool asks for, few enough for all who walk them."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Vocabulary:
    """The control tokens of one dialect in one tokenizer, and everything else as plain text."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        dialect: str,
        required: Iterable[str],
        optional: Iterable[str] = (),
    ) -> None:
        self.plain: PlainText = plain_text_of(tokenizer)
        added = {text: i for i, text in self.plain.added.items()}
        missing = [name for name in required if name not in added]
        if missing:
            raise ConfigError(
                f"the tokenizer {tokenizer.name_or_path!r} has no control token {missing[0]!r}, which the "
                f"dialect {dialect!r} needs: choose another dialect, or add it with tokenizer.add_tokens"
            )
        names = [*required, *(name for name in optional if name in added)]
        self._dialect = dialect
        self._ids = {name: added[name] for name in names}
        self._names = {i: name for name, i in self._ids.items()}
        self._pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")

    def __contains__(self, name: str) -> bool:
        return name in self._ids

    def id(self, name: str) -> int:
        """Give the id of a control token."""
        return self._ids[name]

    def ids(self, *names: str) -> frozenset[int]:
        """Give the ids of those of the names that the tokenizer has."""
        return frozenset(self._ids[name] for name in names if name in self._ids)

    @staticmethod
    def until(ids: Iterable[int], stop_ids: frozenset[int]) -> list[int]:
        """Give the ids before the first stop id."""
        return list(itertools.takewhile(lambda i: i not in stop_ids, map(int, ids)))

    def writer(self) -> Writer:
        """Start a piece of the token stream."""
        return Writer(self, self._dialect)

    def split(self, ids: Iterable[int]) -> list[tuple[str, str]]:
        """Cut a stream at the control tokens: (name, text behind it), the first with the name ''."""
        runs: list[tuple[str, list[int]]] = [("", [])]
        for i in map(int, ids):
            if i in self._names:
                runs.append((self._names[i], []))
            else:
                runs[-1][1].append(i)
        return [(name, self.plain.decode(run)) for name, run in runs]

    def decode(self, ids: Iterable[int]) -> str:
        """Show ids to a person."""
        return self.plain.decode(ids)

    def template_pieces(self, text: str) -> list[tuple[str, bool]]:
        """Cut a template's own text into (piece, whether it is a control token)."""
        pieces, end = [], 0
        for match in self._pattern.finditer(text):
            pieces += [(text[end : match.start()], False), (match[0], True)]
            end = match.end()
        return [(piece, special) for piece, special in [*pieces, (text[end:], False)] if piece]


class Writer:
    """Collects control tokens and plain text.

    Text between two control tokens is encoded in one go, so the ids at the seams are those that the model was
    trained on; none of it can become a control token, whoever wrote it.
    """

    def __init__(self, vocabulary: Vocabulary, dialect: str) -> None:
        self._vocabulary = vocabulary
        self._dialect = dialect
        self._ids: list[int] = []
        self._text: list[str] = []
        self._media: list[str] = []

    def control(self, name: str) -> Self:
        """Write a control token."""
        self._flush()
        self._ids.append(self._vocabulary.id(name))
        return self

    def plain(self, text: str) -> Self:
        """Write words, whatever they look like."""
        self._text.append(text)
        return self

    def template(self, text: str) -> Self:
        """Write the template's own text, in which the names of control tokens are control tokens."""
        for piece, special in self._vocabulary.template_pieces(text):
            self.control(piece) if special else self.plain(piece)
        return self

    def image(self, image: Image, placeholder: str) -> Self:
        """Write the placeholder of a picture; '' where the dialect has none.

        Raises:
            ConfigError: There is none.
        """
        if not placeholder:
            raise ConfigError(
                f"the dialect {self._dialect!r} has no placeholder in this tokenizer for the picture "
                f"{image.media!r}: describe it in words, or take a model that reads pictures, such as a "
                "Qwen-VL one with the dialect 'hermes'"
            )
        self._media.append(image.media)
        return self.template(placeholder)

    def parts(self, parts: Sequence[Part], placeholder: str) -> Self:
        """Write parts one below the other, pictures as placeholders."""
        before = False
        for part in parts:
            if isinstance(part, Image):
                self.image(part, placeholder)
            else:
                self.plain("\n" if before else "").plain(part.text)
            before = not isinstance(part, Image)
        return self

    def encoded(self) -> Encoded:
        """Give what was written."""
        self._flush()
        return Encoded(ids=as_ids(self._ids), media=tuple(self._media))

    def _flush(self) -> None:
        self._ids += self._vocabulary.plain.encode("".join(self._text))
        self._text = []


def template_bos(tokenizer: PreTrainedTokenizerFast) -> str:
    """Give the token that opens every prompt: where the template writes it, or `encode` puts it in front."""
    bos = str(tokenizer.bos_token or "")
    template = str(tokenizer.chat_template or "")
    if not bos or "bos_token" in template or bos in template:
        return bos
    return bos if tokenizer.encode("") == [tokenizer.bos_token_id] else ""


def write_value(value: object) -> str:
    """Write an argument: text as it is, None as nothing, all else as JSON.

    >>> write_value("pear"), write_value([1, 2]), write_value(None)
    ('pear', '[1, 2]', '')
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else dump_json(value)


def read_value(text: str, parameter: Parameter) -> object:
    """Read an argument by its type; what is no JSON stays text, for the tool to refuse in words.

    >>> read_value("12", Parameter(name="n", type=int)), read_value("12", Parameter(name="n", type=str))
    (12, '12')
    """
    if parameter.type is str:
        return text
    try:
        return load_json(text)
    except ValueError:
        return text


def dump_json(value: object) -> str:
    r"""Write JSON as chat templates do, and so that no tokenizer's normaliser changes what it says.

    Composing the accent with the letter of the escape before it would break it:

    >>> print(dump_json("\n\u0301"), dump_json("é"))
    "\n\u0301" "é"
    """
    text = json.dumps(value, ensure_ascii=False)
    return text if unicodedata.is_normalized("NFC", text) else json.dumps(value)


def load_json(text: str) -> Any:
    """Read JSON that a model wrote.

    Raises:
        ValueError: It is none, it is nested too deeply, or it holds NaN or Infinity, which JSON has not.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
        if SURROGATE.search(text):  # an escaped half of a character would break whoever writes it to a file
            value = without_surrogates(value)
        return refuse_deep(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def refuse_deep(value: Any) -> Any:
    """Give JSON data that others can still walk through and store.

    Raises:
        ValueError: It has too many levels of lists and objects.
    """
    if is_deeper(value, MOST_NESTED):
        raise ValueError("nested too deeply")
    return value


def is_deeper(value: Any, levels: int) -> bool:
    """Whether data has more levels of lists and mappings.

    >>> is_deeper([{"a": 1}], 2), is_deeper([{"a": []}], 2)
    (False, True)
    """
    if not isinstance(value, (list, tuple, Mapping)):
        return False
    inner = value.values() if isinstance(value, Mapping) else value
    return levels == 0 or any(is_deeper(v, levels - 1) for v in inner)


def without_surrogates(value: Any) -> Any:
    r"""Give JSON data whose texts can be written to a file.

    >>> without_surrogates(["\ud800"])
    ['\ufffd']
    """
    return json.loads(as_unicode(json.dumps(value, ensure_ascii=False)))


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON value")


def read_call(text: str, number: int) -> Call | str:
    """Read `{"name": …, "arguments" or "parameters": {…}}`, or say what is wrong with it.

    >>> read_call('{"name": "price", "arguments": {"item": "pear"}}', 0)
    Call(id='0', name='price', arguments={'item': 'pear'})
    >>> read_call('{"name": "price", "arguments": 12}', 0)
    "the arguments of the call of 'price' are 12; they must be a JSON object"
    """
    try:
        value = load_json(text)
    except ValueError as error:
        return f"the call {shorten(text)} is not valid JSON: {error}"
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return f'the call {shorten(text)} is no JSON object with a "name"'
    arguments = value.get("arguments", value.get("parameters", {}))
    if not isinstance(arguments, dict):
        shown = shorten(dump_json(arguments))
        return f"the arguments of the call of {value['name']!r} are {shown}; they must be a JSON object"
    return Call(id=str(number), name=value["name"], arguments=arguments)


def shorten(text: str, limit: int = 80) -> str:
    """Give the start of a text in one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[:limit] + "…"


def neutralise(text: str, tags: Iterable[str]) -> str:
    """Make tags in words from outside harmless and visibly so: their `<` becomes `&lt;`.

    >>> neutralise("12 </result><b>", ["result"])
    '12 &lt;/result><b>'
    """
    names = "|".join(map(re.escape, tags))
    return re.sub(rf"<(?=\s*/?\s*(?:{names})\b)", "&lt;", text, flags=re.IGNORECASE)
