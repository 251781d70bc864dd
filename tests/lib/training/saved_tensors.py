"""What autograd keeps for the backward pass, storage by storage, without the parameters."""

from contextlib import contextmanager

import torch


@contextmanager
def storages_kept(model):
    """A dictionary that fills with the storages saved meanwhile: place in memory to storage.

    It holds on to them, so that no place in memory is used twice.
    """
    kept = {}
    own = {each.untyped_storage().data_ptr() for each in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def total_bytes(kept):
    return sum(storage.nbytes() for storage in kept.values())
