"""BERT, GPT and T5, and their kin, from one set of blocks.

Read the blocks first: `norms`, `activations`, `feed_forward`, `residual`, `layer`, `embeddings`.
Then `bert`, `gpt2` and `t5` side by side: what differs between the files is the lecture.

Their variants are a few lines each: `gpt1` (norms after the sums), `gpt3` (every second layer looks
near by), `llama` (RMSNorm, rotary positions, a gate, fewer key-value heads), `albert` (one layer
for all), `electra` (which tokens were replaced?), `transformer` (the original), `vit` and `mae`
(images). `heads` stand on BERT. `generation` writes; `packed`, with `panels`, `tiles` and `int8`,
makes it fast; `inspect` looks inside.
"""

from lib.models.albert import Albert
from lib.models.bert import Bert
from lib.models.configs import PRESETS, preset
from lib.models.electra import Electra
from lib.models.gpt1 import Gpt1
from lib.models.gpt2 import Gpt2
from lib.models.gpt3 import Gpt3
from lib.models.heads import (
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from lib.models.inspect import watch
from lib.models.int8 import Int8Map, Int8PanelMap
from lib.models.llama import Llama
from lib.models.mae import Mae
from lib.models.packed import pack_model
from lib.models.panels import PanelMap
from lib.models.t5 import T5
from lib.models.tiles import TileMap
from lib.models.transformer import Transformer
from lib.models.vit import Vit

__all__ = [
    "PRESETS",
    "T5",
    "Albert",
    "Bert",
    "BertForPreTraining",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "Electra",
    "Gpt1",
    "Gpt2",
    "Gpt3",
    "Int8Map",
    "Int8PanelMap",
    "Llama",
    "Mae",
    "PanelMap",
    "TileMap",
    "Transformer",
    "Vit",
    "pack_model",
    "preset",
    "watch",
]
