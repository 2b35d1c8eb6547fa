"""Text to token ids: a tokenizer trained on the shards' captions, or a published vocabulary given by its path."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from pairloom.errors import ConfigError, InputError
from pairloom.loader.batch import IGNORE, Words
from pairloom.loader.plan import Text

VERSION = f"{tokenizers.__version__}, unigram by SentencePiece"  # another one may train another vocabulary
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# What published vocabularies call the same things, the most frequent name first.
PAD_NAMES = ("[PAD]", "<pad>", "<|endoftext|>")
START_NAMES = ("[CLS]", "<s>", "<|startoftext|>")
END_NAMES = ("[SEP]", "</s>", "<|endoftext|>")
MASK_NAMES = ("[MASK]", "<mask>")
KEPT_TEXTS = 1 << 14  # whose tokens a process keeps: 10 MB


class Tokenizer:
    """Token ids with their words, start and end around them, cut to max_tokens."""

    def __init__(self, backend: tokenizers.Tokenizer, max_tokens: int, where: str = "trained") -> None:
        self.backend = backend
        self._encoded: dict[str, tuple[list[int], list[int]]] = {}
        self.max_tokens = max_tokens
        self.pad = self._id(PAD_NAMES, where)
        self.start = self._id(START_NAMES, where)
        self.end = self._id(END_NAMES, where)
        self.mask = next((i for name in MASK_NAMES if (i := backend.token_to_id(name)) is not None), None)
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        names = backend.get_vocab(with_added_tokens=True)
        # what may stand in for a masked token: no special one, none of BERT's [unused…]
        self.ordinary = np.array(sorted(i for name, i in names.items() if not _special(name)), dtype=np.int64)

    def _id(self, candidates: tuple[str, ...], where: str) -> int:
        for name in candidates:
            if (number := self.backend.token_to_id(name)) is not None:
                return int(number)
        raise InputError(f"the vocabulary has none of {', '.join(candidates)}", where, "name a complete tokenizer.json")

    def words(self, text: str, second: str | None = None) -> Words:
        """A caption's tokens, and after another end those of a second text. An empty text is start and end alone.

        What is too long loses tokens at the end, with two texts the longer one of them (BERT's rule, and Oscar's).
        """
        return self.many([text], [second])[0]

    def many(self, texts: Sequence[str], seconds: Sequence[str | None]) -> tuple[Words, list[int]]:
        """The same of many captions: their tokens one caption after the other, and how many each has."""
        ids: list[int] = []
        word_ids: list[int] = []
        segments: list[int] = []
        counts = []
        for text, second in zip(texts, seconds, strict=True):
            before = len(ids)
            self._append(text, second, ids, word_ids, segments)
            counts.append(len(ids) - before)
        labels = np.full(len(ids), IGNORE, np.int64)
        words = Words(np.array(ids, np.int64), np.array(word_ids, np.int64), labels, np.array(segments, np.int64))
        return words, counts

    def _append(self, text: str, second: str | None, ids: list[int], word_ids: list[int], segments: list[int]) -> None:
        parts = [self._pieces(part) for part in (text, second) if part is not None]
        lengths = fitting([len(pieces) for pieces, _ in parts], self.max_tokens - 1 - len(parts))
        ids.append(self.start)
        word_ids.append(-1)
        segments.append(0)
        words = 0
        for segment, ((pieces, numbers), length) in enumerate(zip(parts, lengths, strict=True)):
            numbers = numbers[:length]
            if segment:  # the second text's words are counted after the first's
                numbers = [number if number < 0 else number + words for number in numbers]
            ids += [*pieces[:length], self.end]
            word_ids += [*numbers, -1]
            segments += [segment] * (length + 1)
            words = max(words, *numbers) + 1 if numbers else words

    def _pieces(self, text: str) -> tuple[list[int], list[int]]:
        """(ids, number of the word of each, −1 for none) of a text. Few captions are read again and again."""
        found = self._encoded.get(text)
        if found is None:
            if len(self._encoded) >= KEPT_TEXTS:
                self._encoded.clear()
            encoding = self.backend.encode(text, add_special_tokens=False)
            numbers = [-1 if word is None else word for word in encoding.word_ids]
            found = self._encoded[text] = encoding.ids, numbers
        return found

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_encoded": {}}  # a worker has its own

    def save(self, path: Path) -> None:
        self.backend.save(str(path), pretty=False)


def fitting(lengths: list[int], room: int) -> list[int]:
    """Lengths cut to fit into the room together: one by one from the longest, the last of equal ones."""
    left = list(lengths)
    while sum(left) > max(room, 0):
        longest = max(range(len(left)), key=lambda i: (left[i], i))
        left[longest] -= 1
    return left


def _special(name: str) -> bool:
    return len(name) > 2 and (name[0] + name[-1]) in ("[]", "<>")


def train(captions: Iterable[str], text: Text) -> Tokenizer:
    """A tokenizer of the recipe's kind, trained on these captions. The same captions give the same tokenizer."""
    trained = {"wordpiece": _wordpiece, "byte_bpe": _byte_bpe, "unigram": _unigram}[text.tokenizer](captions, text)
    return Tokenizer(trained, text.max_tokens)


def of_json(content: str, text: Text) -> Tokenizer:
    """A tokenizer that was trained here, from what its backend's `to_str` gave."""
    return Tokenizer(tokenizers.Tokenizer.from_str(content), text.max_tokens)


def _wordpiece(captions: Iterable[str], text: Text) -> tokenizers.Tokenizer:
    """BERT's: words and punctuation, then the longest pieces, those inside a word marked ##."""
    counts = Counter(word for caption in captions for word in caption.split())
    model = partial(models.WordPiece, unk_token="[UNK]", max_input_chars_per_word=100)
    # BERT strips accents where it lower-cases. Ours keeps them, they tell words apart in German and Spanish
    backend = _bert(model({}), text, strip_accents=False)
    # The trainer numbers ##a, ##b … as it meets them in a hash table, and its ties go by number: the same captions gave
    # another vocabulary each time (tokenizers issue 1794). Named beforehand, they are numbered in order.
    inner = sorted({f"##{letter}" for word in counts for piece in _cut(backend, word) for letter in piece[1:]})
    trainer = trainers.WordPieceTrainer(
        vocab_size=text.vocab_size,
        special_tokens=[*SPECIAL, *inner],
        continuing_subword_prefix="##",
        show_progress=False,
    )
    backend.train_from_iterator(_repeated(counts), trainer)
    trained = _bert(model(backend.get_vocab()), text, strip_accents=False)  # in which ##a is nothing special
    trained.add_special_tokens(list(SPECIAL))
    return trained


def _bert(model: models.WordPiece, text: Text, strip_accents: bool | None) -> tokenizers.Tokenizer:
    """A model with all that BERT puts around it; strip_accents None: where it lower-cases."""
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=text.lowercase, strip_accents=strip_accents)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def _cut(backend: tokenizers.Tokenizer, word: str) -> list[str]:
    """The normalised word, apart from its punctuation."""
    return [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(word))]


def _repeated(counts: Mapping[str, int], most: int = 1000) -> Iterator[str]:
    """Texts in which each word is as often as it was counted."""
    for word, count in counts.items():
        for done in range(0, count, most):
            yield " ".join(repeat(word, min(most, count - done)))


def _byte_bpe(captions: Iterable[str], text: Text) -> tokenizers.Tokenizer:
    """Byte-level BPE, as CLIP's: no text is unknown."""
    backend = tokenizers.Tokenizer(models.BPE())
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if text.lowercase else [])]
    backend.normalizer = normalizers.Sequence(steps)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=text.vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(captions, trainer)
    return backend


def _unigram(captions: Iterable[str], text: Text) -> tokenizers.Tokenizer:
    """SentencePiece's unigram model (arXiv:1804.10959): a space is the letter ▁ of the word that follows it.

    Trained by SentencePiece itself: the trainer of tokenizers walks a hash table in random order, and gives other
    pieces each time. Raises ConfigError where the vocabulary is smaller than the alphabet.
    """
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if text.lowercase else [])]
    normalizer = normalizers.Sequence(steps)
    pieces = _sentencepieces((normalizer.normalize_str(caption) for caption in captions), text)
    vocabulary = [*((name, 0.0) for name in SPECIAL), *pieces]
    backend = tokenizers.Tokenizer(models.Unigram(vocabulary, SPECIAL.index("[UNK]")))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(list(SPECIAL))
    return backend


def _sentencepieces(texts: Iterable[str], text: Text) -> list[tuple[str, float]]:
    """(piece, log-probability) of each piece but the special ones."""
    import sentencepiece

    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=filter(str.strip, texts),
            model_writer=written,
            model_type="unigram",
            vocab_size=text.vocab_size - len(SPECIAL) + 1,  # with its own unknown piece
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            character_coverage=1.0,  # no letter of the captions is unknown
            max_sentence_length=1 << 20,
            num_threads=1,  # more add up the same numbers in another order
            bos_id=-1,
            eos_id=-1,
            minloglevel=3,
        )
    except RuntimeError as error:
        what = f"no tokenizer of {text.vocab_size} pieces comes from these captions: {error}"
        fix = "set it above the number of letters, or name a vocabulary"
        raise ConfigError(what, "text.vocab_size", fix) from error
    trained = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    return [(trained.id_to_piece(number), trained.get_score(number)) for number in range(1, len(trained))]


def clips(path: Path) -> tokenizers.Tokenizer:
    """CLIP's own vocabulary of 49,408 pieces from its list of merges (bpe_simple_vocab_16e6.txt.gz).

    The texts are to be clean before (curate does what CLIP's code does here: ftfy and HTML). Spaces are joined here.
    """
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda letter: (ord(letter) > 255, ord(letter)))
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges)]
    names = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, *names])}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>"))
    spaces = [normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Lowercase()]
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), *spaces])
    words = tokenizers.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    split = pre_tokenizers.Split(words, behavior="removed", invert=True)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(names)
    return backend


def load(path: Path, text: Text) -> Tokenizer:
    """A published vocabulary: a tokenizer.json of any kind, BERT's vocab.txt, or CLIP's merges (.txt.gz)."""
    if not path.exists():
        raise InputError("there is no vocabulary", str(path), "name a tokenizer.json or a vocab.txt")
    if path.suffixes[-2:] == [".txt", ".gz"]:
        return Tokenizer(clips(path), text.max_tokens, str(path))
    if path.suffix == ".txt":
        backend = _bert(models.WordPiece.from_file(str(path), unk_token="[UNK]"), text, strip_accents=None)
        return Tokenizer(backend, text.max_tokens, str(path))
    try:
        backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises a bare Exception, whatever is wrong with the file
        raise InputError(f"not a tokenizer: {error}", str(path), "name a tokenizer.json or a vocab.txt") from error
    backend.no_truncation()
    backend.no_padding()
    return Tokenizer(backend, text.max_tokens, str(path))
