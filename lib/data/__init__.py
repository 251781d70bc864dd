"""Data to learn from: real texts and their tokens, words and how they sound, tasks made up.

A text in the public domain comes with the book. Whole data sets come with packages that a reader
may install; `lib.data` reads their files and never imports them.
"""

from lib.data.batches import Batch, make_batch, pad_sequences
from lib.data.byte_pairs import encode_byte_pairs, train_byte_pairs
from lib.data.corpora import CORPORA, Document, read_corpus, split_by_document
from lib.data.packages import installed_file, installed_files
from lib.data.pronunciations import Pronunciation, read_pronunciations, split_by_word
from lib.data.reviews import Review, read_plots, read_reviews, split_by_film
from lib.data.splits import split_by_name
from lib.data.token_streams import consecutive_windows, shuffled_windows, token_stream
from lib.data.tokenizer_training import (
    sentinel_ids,
    train_byte_level_bpe,
    train_unigram,
    train_wordpiece,
)
from lib.data.toy_sequences import copy_task, reverse_task
from lib.data.vocabularies import read_bert_vocabulary, read_gpt2_tokens
from lib.data.vocabulary import Vocabulary

__all__ = [
    "CORPORA",
    "Batch",
    "Document",
    "Pronunciation",
    "Review",
    "Vocabulary",
    "consecutive_windows",
    "copy_task",
    "encode_byte_pairs",
    "installed_file",
    "installed_files",
    "make_batch",
    "pad_sequences",
    "read_bert_vocabulary",
    "read_corpus",
    "read_gpt2_tokens",
    "read_plots",
    "read_pronunciations",
    "read_reviews",
    "reverse_task",
    "sentinel_ids",
    "shuffled_windows",
    "split_by_document",
    "split_by_film",
    "split_by_name",
    "split_by_word",
    "token_stream",
    "train_byte_level_bpe",
    "train_byte_pairs",
    "train_unigram",
    "train_wordpiece",
]
