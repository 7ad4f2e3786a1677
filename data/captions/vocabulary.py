"""The vocabulary: the words of captions, in the order of their token ids."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from multispace.data.cache.format.canonical_json import canonical_digest
from multispace.data.cache.format.keys import is_unicode
from multispace.data.files import atomic_write, json_bytes, read_file
from multispace.data.tokenizers import get_tokenizer
from multispace.errors import DataError, VocabularyError, brief

FORMAT = "multispace-vocabulary"
VERSION = 2  # 1 has another digest
MAX_BYTES = 64 << 20  # about a million words

PAD, BOS, EOS, UNK = range(4)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")


@dataclass(frozen=True)
class Vocabulary:
    """Words in the order of their ids, the four special ones first, and how they were counted.

    :param source_digest: the digest of the collection that was counted
    :raises VocabularyError: a word or an option is not valid.
    """

    words: tuple[str, ...]
    tokenizer: str
    min_count: int
    source_digest: str

    def __post_init__(self) -> None:
        get_tokenizer(self.tokenizer)
        _check_min_count(self.min_count)
        if self.words[: len(SPECIALS)] != SPECIALS:
            first = list(self.words[: len(SPECIALS)])
            raise VocabularyError(f"words begin with {first}, expected {list(SPECIALS)}")
        for word in self.words:
            if word.split() != [word]:
                raise VocabularyError(f"word {word!r} is empty or holds white space")
            if not is_unicode(word):
                raise VocabularyError(f"word {word!r} cannot be written as UTF-8")
        if len(set(self.words)) < len(self.words):
            word = Counter(self.words).most_common(1)[0][0]
            raise VocabularyError(f"word {word!r} occurs twice")

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the canonical JSON of what gives token ids their meaning."""
        return canonical_digest({"words": self.words, "tokenizer": self.tokenizer})

    @cached_property
    def digest_1(self) -> str:
        """The digest as version 1 has it; it differs where a word is not ASCII."""
        meaning = {"words": self.words, "tokenizer": self.tokenizer}
        text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def has_digest(self, digest: object) -> bool:
        """Whether ``digest`` is that of this vocabulary, in this version or in version 1."""
        return digest in (self.digest, self.digest_1)

    @cached_property
    def _ids(self) -> dict[str, int]:
        # Without the special words: text that spells one is an unknown word, not the token.
        return {word: i for i, word in enumerate(self.words) if i >= len(SPECIALS)}

    def encode(self, text: str) -> list[int]:
        """Return the ids of the words of ``text``, without BOS and EOS."""
        get = self._ids.get
        return [get(word, UNK) for word in get_tokenizer(self.tokenizer)(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words of ``ids`` up to EOS, joined by spaces; PAD and BOS are left out.

        :raises VocabularyError: an id is outside the vocabulary.
        """
        words = []
        for token in map(int, ids):
            if not 0 <= token < len(self):
                raise VocabularyError(
                    f"token {token} is outside the vocabulary of {len(self)} words",
                    hint="use the vocabulary that the tokens were made with",
                )
            if token == EOS:
                break
            if token not in (PAD, BOS):
                words.append(self.words[token])
        return " ".join(words)

    def to_bytes(self) -> bytes:
        """Return the content of the vocabulary's file, JSON."""
        head = {"format": FORMAT, "version": VERSION, "digest": self.digest}
        return json_bytes({**head, **asdict(self)})

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON."""
        with atomic_write(path) as file:
            file.write(self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read a vocabulary file whose digest is not listed anywhere, such as that of a run.

        :raises VocabularyError: it is missing, cannot be read, or is damaged; names the file.
        """
        try:
            content = read_file(path, MAX_BYTES)
        except DataError as error:
            raise VocabularyError(error.what, where=path, hint="restore the file") from error
        except FileNotFoundError:
            raise VocabularyError(
                "no vocabulary",
                where=path,
                hint="run `multispace preprocess` on the training split first",
            ) from None
        except OSError as error:
            raise VocabularyError(
                f"cannot be read ({error.strerror})", where=path, hint="check its permissions"
            ) from error
        return cls.parse(content, path)

    @classmethod
    def parse(cls, content: bytes, source: Path) -> "Vocabulary":
        """Read the bytes of a vocabulary file.

        :param source: where the bytes are from; for messages
        :raises VocabularyError: they are damaged.
        """
        try:
            return _from_document(json.loads(content.decode("utf-8")))
        except VocabularyError as error:
            what = brief(error)
        except UnicodeDecodeError as error:
            what = f"byte {error.start} is not UTF-8"
        except (ValueError, RecursionError) as error:
            what = f"not whole JSON ({brief(error)})"
        raise VocabularyError(
            what,
            where=source,
            hint="restore the file, or run `multispace preprocess` into an empty cache",
        )


def build_vocabulary(
    captions: Iterable[str], tokenizer: str, min_count: int, source_digest: str
) -> Vocabulary:
    """Count the words of the training captions and keep those that occur ``min_count`` times.

    Words are in descending order of their counts, then in alphabetical order.

    :raises VocabularyError: ``min_count`` or ``tokenizer`` is not valid, or no word is kept.
    """
    _check_min_count(min_count)
    tokenize = get_tokenizer(tokenizer)
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(tokenize(caption))
    for special in SPECIALS:
        counts.pop(special, None)
    kept = [word for word, count in counts.items() if count >= min_count]
    if not kept:
        highest = max(counts.values(), default=0)
        raise VocabularyError(
            f"no word occurs {min_count} times (the most common one {highest} times)",
            hint="lower --min-count",
        )
    kept.sort(key=lambda word: (-counts[word], word))
    return Vocabulary((*SPECIALS, *kept), tokenizer, min_count, source_digest)


def _check_min_count(min_count: int) -> None:
    if type(min_count) is not int or min_count < 1:
        raise VocabularyError(f"min-count is {min_count!r}, expected 1 or more")


def _from_document(document: Any) -> Vocabulary:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise VocabularyError(f"not a vocabulary (its format is not {FORMAT!r})")
    version = document.get("version")
    if type(version) is not int or version not in (1, VERSION):
        raise VocabularyError(
            f"version {version!r} is unknown, this software reads 1 and {VERSION}"
        )
    fields = {"words": list, "tokenizer": str, "min_count": int, "source_digest": str}
    unknown = document.keys() - fields.keys() - {"format", "version", "digest"}
    if unknown:
        raise VocabularyError(f"unknown entries {sorted(unknown)}")
    for name, kind in fields.items():
        if not isinstance(document.get(name), kind):
            there = "missing" if name not in document else f"not of type {kind.__name__}"
            raise VocabularyError(f"{name} is {there}")
    for index, word in enumerate(document["words"]):
        if not isinstance(word, str):
            raise VocabularyError(f"words[{index}] is {word!r}, expected text")
    vocabulary = Vocabulary(
        tuple(document["words"]),
        document["tokenizer"],
        document["min_count"],
        document["source_digest"],
    )
    right = vocabulary.digest_1 if version == 1 else vocabulary.digest
    if document.get("digest") != right:
        raise VocabularyError(f"digest is {document.get('digest')!r}, but its words have {right!r}")
    return vocabulary
