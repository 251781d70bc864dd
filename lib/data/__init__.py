"""Data to learn from: symbols as numbers, tasks made up on the spot, words and how they sound.

Whole data sets come with packages that a reader may install; `lib.data` reads their files and
never imports them.
"""

from lib.data.batches import Batch, make_batch, pad_sequences
from lib.data.packages import installed_file
from lib.data.pronunciations import Pronunciation, read_pronunciations, split_by_word
from lib.data.toy_sequences import copy_task, reverse_task
from lib.data.vocabulary import Vocabulary

__all__ = [
    "Batch",
    "Pronunciation",
    "Vocabulary",
    "copy_task",
    "installed_file",
    "make_batch",
    "pad_sequences",
    "read_pronunciations",
    "reverse_task",
    "split_by_word",
]
