"""Tokenizers as GPT-2, BERT and T5 have them, trained on a text of ours.

The training itself is that of the library `tokenizers`; here stands what makes each of them the
model's own: how text is split, which special tokens there are, and where. What is returned is a
`tokenizers.Tokenizer`.

Byte pairs come out the same every time. In the other two the library leaves the order of a few
pieces, and so their ids, to chance: keep the tokenizer (`save`) beside a model that learned it.
"""

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from lib.data.byte_pairs import check_vocab_size
from lib.data.packages import import_optional

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token."""

BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
T5_SPECIAL = ("<pad>", "</s>", "<unk>")


def train_byte_level_bpe(texts: Iterable[str], vocab_size: int) -> Any:
    """GPT-2's tokenizer (Radford et al., 2019): byte pairs; `<|endoftext|>` has the last id.

    Nothing is unknown, and decoding gives every text back as it was. `lib.data.byte_pairs` is the
    same loop to read. Raises `ValueError` if `vocab_size` does not hold the 256 bytes and the end.
    """
    check_vocab_size(vocab_size, at_least=257)
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    byte_level = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer, tokenizer.decoder = byte_level, library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size - 1, initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def train_wordpiece(texts: Iterable[str], vocab_size: int) -> Any:
    """BERT's tokenizer (Schuster and Nakajima, 2012; Devlin et al., 2019), uncased.

    Lower case without accents; words and single punctuation marks; pieces that continue a word
    begin with ##. [PAD], [UNK], [CLS], [SEP] and [MASK] have the ids 0 to 4. Encoding puts [CLS]
    before and [SEP] after a text, unless `add_special_tokens=False`. Raises `ValueError` for a
    `vocab_size` that holds no more than these.
    """
    check_vocab_size(vocab_size, at_least=len(BERT_SPECIAL) + 1)
    library = _library()
    tokenizer = library.Tokenizer(library.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = library.decoders.WordPiece()
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=list(BERT_SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def train_unigram(texts: Iterable[str], vocab_size: int, *, num_sentinels: int = 100) -> Any:
    """T5's tokenizer (Kudo, 2018; Raffel et al., 2020): a unigram model, and the sentinels.

    <pad>, </s> and <unk> have the ids 0 to 2. The sentinels count down from the last id, which is
    <extra_id_0>, as T5's do. A space is part of the word after it. Encoding puts </s> after a
    text, unless `add_special_tokens=False`. Raises `ValueError` if `vocab_size` holds no more than
    the special tokens and the sentinels.
    """
    check_vocab_size(vocab_size, at_least=len(T5_SPECIAL) + num_sentinels + 1)
    library = _library()
    tokenizer = library.Tokenizer(library.models.Unigram())
    tokenizer.normalizer = library.normalizers.NFKC()
    tokenizer.pre_tokenizer = library.pre_tokenizers.Metaspace()
    tokenizer.decoder = library.decoders.Metaspace()
    trainer = library.trainers.UnigramTrainer(
        vocab_size=vocab_size - num_sentinels,
        special_tokens=list(T5_SPECIAL),
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([f"<extra_id_{n}>" for n in reversed(range(num_sentinels))])
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single="$A </s>",
        pair="$A </s> $B </s>",
        special_tokens=[("</s>", tokenizer.token_to_id("</s>"))],
    )
    return tokenizer


def train_shared_bpe(texts: Iterable[str], vocab_size: int, *, num_sentinels: int = 16) -> Any:
    """One tokenizer for all three, so that they can be compared: byte pairs, and the rest after.

    After `<|endoftext|>` come [PAD], [MASK] and the sentinels, down to <extra_id_0>, the last id.
    Raises `ValueError` if `vocab_size` does not hold these and the 256 bytes.
    """
    after = ["[PAD]", "[MASK]", *(f"<extra_id_{n}>" for n in reversed(range(num_sentinels)))]
    check_vocab_size(vocab_size, at_least=257 + len(after))
    tokenizer = train_byte_level_bpe(texts, vocab_size - len(after))
    tokenizer.add_special_tokens(after)
    return tokenizer


def sentinel_ids(tokenizer: Any) -> list[int]:
    """The ids of <extra_id_0>, <extra_id_1> and so on, as many as the tokenizer has."""
    ids: list[int] = []
    while (index := tokenizer.token_to_id(f"<extra_id_{len(ids)}>")) is not None:
        ids.append(index)
    return ids


def _library() -> ModuleType:
    return import_optional("tokenizers")
