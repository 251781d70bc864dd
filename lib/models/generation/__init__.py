"""Generation, from any model: read `sampling`, `decoder`, `generate`; `beam`, `speculative`."""

from lib.models.generation.beam import Hypothesis, beam_search
from lib.models.generation.decoder import Decoder, EncoderDecoder, new_caches
from lib.models.generation.generate import generate, prepare, stream
from lib.models.generation.sampling import GREEDY, Sampling
from lib.models.generation.speculative import Speculation, generate_speculatively

__all__ = [
    "GREEDY",
    "Decoder",
    "EncoderDecoder",
    "Hypothesis",
    "Sampling",
    "Speculation",
    "beam_search",
    "generate",
    "generate_speculatively",
    "new_caches",
    "prepare",
    "stream",
]
