"""How the papers initialise their weights. Norms start at gain 1 and bias 0 in all of them."""

from math import sqrt

from torch import nn

from lib.attention.multi_head import MultiHeadAttention
from lib.models.layer import TransformerLayer
from lib.positions.t5_buckets import T5RelativeBias


def initialise_normal(model: nn.Module, standard_deviation: float = 0.02) -> None:
    """Matrices and embeddings from N(0, 0.02²), biases 0 (GPT, 2018; BERT, 2019).

    BERT cuts the normal off at two standard deviations; published re-implementations do not.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=standard_deviation)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def scale_residual_projections(model: nn.Module, num_layers: int) -> None:
    """Divide what writes to the residual stream by √(2 num_layers) (GPT-2, 2019).

    Each layer adds two terms. Their variances add up, and with this the sum's does not grow with
    the depth.
    """
    for layer in model.modules():
        if isinstance(layer, TransformerLayer):
            attention, feed_forward = layer.self_attention.sublayer, layer.feed_forward.sublayer
            for projection in (attention.output, feed_forward.down):
                nn.init.normal_(projection.weight, std=0.02 / sqrt(2 * num_layers))


def initialise_t5(model: nn.Module) -> None:
    """T5's, without 1/√head_dim in the scores: the queries' matrix has it (Raffel et al., 2020).

    Each matrix has the standard deviation 1/√(its inputs), the queries' 1/√(inputs · head_dim).
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, T5RelativeBias):
            nn.init.normal_(module.weight, std=model.config.hidden_size**-0.5)
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            nn.init.normal_(
                module.query.weight, std=(module.query.in_features * module.head_dim) ** -0.5
            )


def initialise_xavier(model: nn.Module) -> None:
    """Matrices uniform with variance 2 / (inputs + outputs) (Glorot and Bengio, 2010).

    The original Transformer's code does so. Its embeddings have variance 1 / hidden_size.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
