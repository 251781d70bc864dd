"""Sequence to sequence: one recurrent network reads, another writes.

The two are the same whichever way they are joined. What the writer knows of what was read is its
*context*, and the models differ in that alone:

- `FixedContext`: the reader's last state, at every step (Sutskever et al., 2014; Cho et al.,
  2014). All that was read must fit into this one vector, however long it was: the bottleneck.
- `AttendedContext`: an average over all of the reader's states, its weights decided anew at every
  step by a score function (Bahdanau et al., 2015; Luong et al., 2015).

The fixed context too is an average over the states: one whose weights never change, all on the
last. Attention removes the bottleneck, not the waiting: every state still needs the one before.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lib import masks
from lib.attention.attend import attend
from lib.memory.sizes import check_sizes

CELLS = {"rnn": (nn.RNN, nn.RNNCell), "lstm": (nn.LSTM, nn.LSTMCell), "gru": (nn.GRU, nn.GRUCell)}
"""Recurrent networks by name: over a whole sequence, and one step of it."""

Score = Callable[[Tensor, Tensor], Tensor]
State = Float[Tensor, "batch hidden"] | tuple[Float[Tensor, "batch hidden"], ...]
"""What a recurrent network carries from step to step; an LSTM carries two: output and memory."""


class Encoded(NamedTuple):
    """What was read: a state for each position, which of them are real, and the last state."""

    states: Float[Tensor, "batch source hidden"]
    mask: Bool[Tensor, "batch 1 source"]
    final: State


class FixedContext(nn.Module):
    """The reader's last state, whatever the writer is about to write."""

    def forward(
        self,
        query: Float[Tensor, "batch 1 hidden"],
        states: Float[Tensor, "batch source hidden"],
        mask: Bool[Tensor, "batch 1 source"],
    ) -> tuple[Float[Tensor, "batch 1 hidden"], Float[Tensor, "batch 1 source"]]:
        """The context and its weights: 1 for the last position that is no padding, 0 elsewhere."""
        last = mask & (mask.cumsum(dim=-1) == mask.sum(dim=-1, keepdim=True))
        weights = last.to(states.dtype)
        return weights @ states, weights


class AttendedContext(nn.Module):
    """The reader's states, averaged by how well each matches the state of the writer."""

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.score = score

    def forward(
        self,
        query: Float[Tensor, "batch 1 hidden"],
        states: Float[Tensor, "batch source hidden"],
        mask: Bool[Tensor, "batch 1 source"],
    ) -> tuple[Float[Tensor, "batch 1 hidden"], Float[Tensor, "batch 1 source"]]:
        """The context and its weights: the states are the keys, and the values too."""
        return attend(self.score(query, states), states, mask)


class Seq2Seq(nn.Module):
    """An encoder and a decoder, each one recurrent layer of `hidden_size`.

    `cell` is "rnn", "lstm" or "gru". `score(q, k)` makes it attend: `dot_scores`,
    `GeneralScores(hidden_size, hidden_size)`, `AdditiveScores(hidden_size, hidden_size, size)`;
    without it the context is fixed.

    The decoder asks with the state *before* its step, as Bahdanau's does: its next state is made
    of the context and cannot ask for it. (Luong's steps first, asks then, and uses the context
    for the output alone.) The encoder reads in one direction; Bahdanau's reads in both.

    Raises `ValueError` for an unknown cell and for sizes that are not positive.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        hidden_size: int,
        *,
        cell: str = "gru",
        score: Score | None = None,
    ) -> None:
        super().__init__()
        check_sizes(source_vocab_size=source_vocab_size, target_vocab_size=target_vocab_size)
        check_sizes(hidden_size=hidden_size)
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
        layer, step = CELLS[cell]
        self.source_embedding = nn.Embedding(source_vocab_size, hidden_size)
        self.target_embedding = nn.Embedding(target_vocab_size, hidden_size)
        self.encoder = layer(hidden_size, hidden_size, batch_first=True)
        self.context = FixedContext() if score is None else AttendedContext(score)
        self.decoder = step(2 * hidden_size, hidden_size)
        self.output = nn.Linear(2 * hidden_size, target_vocab_size)

    def encode(
        self, source: Int[Tensor, "batch source"], lengths: Int[Tensor, " batch"]
    ) -> Encoded:
        """Read each sequence up to its length. What stands in the padding changes nothing.

        Raises `ValueError` for lengths below 1 or beyond the source.
        """
        longest = source.shape[1]
        if lengths.min() < 1 or lengths.max() > longest:
            raise ValueError(f"lengths must lie between 1 and {longest}, got {lengths.tolist()}")
        packed = pack_padded_sequence(
            self.source_embedding(source), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, final = self.encoder(packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=longest)
        mask = masks.padding(lengths, longest)[:, 0]
        return Encoded(states, mask, _of_one_layer(final))

    def step(
        self, token: Int[Tensor, " batch"], state: State, encoded: Encoded
    ) -> tuple[Float[Tensor, "batch vocab"], State, Float[Tensor, "batch source"]]:
        """Write one token after `token`: its logits, the next state, and where it looked."""
        query = _hidden(state)[:, None]
        context, weights = self.context(query, encoded.states, encoded.mask)
        context = context[:, 0]
        state = self.decoder(torch.cat([self.target_embedding(token), context], -1), state)
        logits = self.output(torch.cat([_hidden(state), context], dim=-1))
        return logits, state, weights[:, 0]

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        lengths: Int[Tensor, " batch"],
        inputs: Int[Tensor, "batch target"],
    ) -> tuple[Float[Tensor, "batch target vocab"], Float[Tensor, "batch target source"]]:
        """Teacher forcing: each step is given the true token before it, not the one it wrote.

        Logits and alignments of every step. The true tokens are known beforehand, and still the
        steps come one after the other: each needs the state that the one before it leaves.
        """
        encoded = self.encode(source, lengths)
        state, steps = encoded.final, []
        for token in inputs.unbind(dim=1):
            logits, state, weights = self.step(token, state, encoded)
            steps.append((logits, weights))
        logits, weights = zip(*steps, strict=True)
        return torch.stack(logits, dim=1), torch.stack(weights, dim=1)

    @torch.no_grad()
    def greedy_decode(
        self,
        source: Int[Tensor, "batch source"],
        lengths: Int[Tensor, " batch"],
        *,
        start: int,
        end: int,
        max_steps: int,
    ) -> tuple[Int[Tensor, "batch steps"], Float[Tensor, "batch steps source"]]:
        """Write the likeliest token, read it back, go on until every sequence has its `end`.

        The tokens, at most `max_steps` of them, and where each step looked. A sequence that is
        over repeats its end; where it looked then means nothing.
        """
        check_sizes(max_steps=max_steps)
        encoded = self.encode(source, lengths)
        token, state, steps = torch.full_like(lengths, start), encoded.final, []
        over = torch.zeros_like(lengths, dtype=torch.bool)
        while len(steps) < max_steps and not over.all():
            logits, state, weights = self.step(token, state, encoded)
            token = logits.argmax(dim=-1).masked_fill(over, end)
            over = over | (token == end)
            steps.append((token, weights))
        tokens, weights = zip(*steps, strict=True)
        return torch.stack(tokens, dim=1), torch.stack(weights, dim=1)


def _hidden(state: State) -> Float[Tensor, "batch hidden"]:
    """The part of the state that others see: of an LSTM's two, the output."""
    return state[0] if isinstance(state, tuple) else state


def _of_one_layer(final: Tensor | tuple[Tensor, ...]) -> State:
    """torch's layers return the last state of a stack of layers; here the stack is one high."""
    return tuple(part[0] for part in final) if isinstance(final, tuple) else final[0]
