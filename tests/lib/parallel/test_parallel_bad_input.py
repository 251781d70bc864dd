"""What cannot be divided, started or planned is refused, with what was given and expected."""

import re

import pytest
import torch

from tests.lib.parallel.parallel_steps import SIZES


def refused(*parts):
    """Expect a `ValueError` whose message has these parts in this order."""
    return pytest.raises(ValueError, match="(?s)" + ".*".join(map(re.escape, parts)))


@pytest.fixture(scope="module")
def parallel(import_unchecked):
    return import_unchecked("lib.parallel")


@pytest.fixture(scope="module")
def models(import_unchecked):
    return import_unchecked("lib.models")


@pytest.fixture(scope="module")
def memory(import_unchecked):
    import_unchecked("lib.memory.parallel_plan")
    return import_unchecked("lib.memory")


def on_ranks(parallel, worker, num_ranks=2):
    return parallel.run_on_threads(worker, num_ranks)


def gpt2(models, **options):
    return models.Gpt2(models.configs.GptConfig(**{**SIZES, **options}))


@pytest.mark.parametrize("number", [1, 0, -2, 2.0, True, "2", None])
def test_fewer_than_two_processes(parallel, number):
    with refused("num_processes must be a whole number, 2 or more", f"got {number!r}"):
        parallel.run_on_processes(on_ranks, number)


@pytest.mark.parametrize("number", [0, 1])
def test_fewer_than_two_ranks(parallel, number):
    with refused("num_ranks must be 2 or more", f"got {number}"):
        on_ranks(parallel, print, number)
    with refused("a group needs at least 2 ranks", str(list(range(number)))):
        on_ranks(parallel, lambda group: group.subgroup(*range(number)))


@pytest.mark.parametrize("places", [(0, 0), (0, 1)])
def test_a_subgroup_without_this_rank_or_with_one_twice(parallel, places):
    def worker(group):
        if group.index == 2:
            group.subgroup(*places)

    with refused("each rank once and one's own rank, 2", str(list(places))):
        on_ranks(parallel, worker, 3)


def test_a_worker_that_cannot_be_sent(parallel, monkeypatch):
    with refused("a function of a module"):
        parallel.run_on_processes(lambda group: None, 2)
    main = __import__("sys").modules["__main__"]
    monkeypatch.delattr(main, "__file__", raising=False)
    monkeypatch.setattr(refused, "__module__", "__main__")
    with refused("refused is defined in a notebook", "run_on_threads"):
        parallel.run_on_processes(refused, 2)


@pytest.mark.parametrize(("rows", "parts"), [(7, 2), (2, 4), (0, 2)])
def test_a_batch_that_cannot_be_split(parallel, models, rows, parts):
    batch = torch.zeros(rows, 3, dtype=torch.long)
    with refused(f"a batch of {rows} rows cannot be split into {parts} equal parts"):
        parallel.equal_parts(batch, parts)

    def worker(group):
        stage = parallel.PipelineStage(gpt2(models), group.index, group.size)
        parallel.pipeline_step(group, stage, batch, batch, None, num_micro_batches=parts)

    with refused(f"a batch of {rows} rows"):
        on_ranks(parallel, worker)


@pytest.mark.parametrize(
    ("sizes", "what"),
    [
        ({"hidden_size": 15, "num_attention_heads": 3}, "num_attention_heads"),
        ({"intermediate_size": 33}, "intermediate_size"),
        ({"vocab_size": 49}, "vocab_size"),
    ],
)
def test_matrices_that_ranks_do_not_divide(parallel, models, sizes, what):
    with refused("the number of ranks must divide", what, "leaves 1"):
        on_ranks(parallel, lambda group: parallel.split_tensors(group, gpt2(models, **sizes)))


def test_key_value_heads_that_ranks_do_not_divide(parallel, models):
    config = models.configs.LlamaConfig(**SIZES, num_key_value_heads=1)
    with refused("the number of ranks must divide num_key_value_heads", "1 / 2 leaves 1"):
        on_ranks(parallel, lambda group: parallel.split_tensors(group, models.Llama(config)))


def test_models_that_ranks_cannot_share(parallel, models):
    with refused("needs a dropout of 0, got 0.1"):
        on_ranks(parallel, lambda group: parallel.split_tensors(group, gpt2(models, dropout=0.1)))
    config = models.configs.LlamaConfig(**SIZES, num_key_value_heads=4, tied=False)
    with refused("a head of its own", "a tied embedding"):
        on_ranks(parallel, lambda group: parallel.split_tensors(group, models.Llama(config)))


@pytest.mark.parametrize("wrong", [48, -1])
def test_ids_that_no_rank_has(parallel, models, wrong):
    def embed(group):
        part = parallel.split_tensors(group, gpt2(models))
        part(torch.tensor([[3, wrong]]))

    def score(group):
        logits = torch.zeros(1, 2, 24)
        parallel.vocabulary_parallel_cross_entropy(group, logits, torch.tensor([[3, wrong]]))

    for worker in (embed, score):
        with refused("token ids must lie between 0 and 47", str(wrong)):
            on_ranks(parallel, worker)


def test_stages_that_layers_do_not_make(parallel, models):
    with refused("4 layers do not make 5 stages of at least one"):
        parallel.PipelineStage(gpt2(models), 0, 5)
    with refused("num_stages must divide num_layers", "4 / 3 leaves 1"):
        parallel.PipelineStage(gpt2(models), 0, 3)
    with refused("stage must lie between 0 and num_stages - 1, got 2 of 2"):
        parallel.PipelineStage(gpt2(models), 2, 2)


def test_schedules(parallel):
    with refused("schedule must be gpipe or 1f1b, got 'zigzag'"):
        parallel.pipeline_schedule("zigzag", 2, 2)
    for make in (parallel.gpipe_schedule, parallel.one_forward_one_backward_schedule):
        with refused("num_micro_batches must be a positive whole number", "got 0"):
            make(2, 0)


@pytest.mark.parametrize(
    ("stage", "message"), [(4, "0 for none; got 4"), ("1", "got '1'"), (0, "shards nothing")]
)
def test_stages_of_zero(parallel, models, stage, message):
    def worker(group):
        model = gpt2(models)
        options = {"stage": stage, "make_optimizer": torch.optim.SGD}
        parallel.ZeroSharding(group, model, list(model.layers), **options)

    with refused(message):
        on_ranks(parallel, worker)


def test_a_tensor_in_several_pieces(parallel):
    with refused("one block of memory", "(3, 4)", ".contiguous()"):
        on_ranks(parallel, lambda group: parallel.ring_all_reduce(group, torch.ones(4, 3).T))


def test_buckets_without_room(parallel):
    with refused("bucket_bytes must be a positive whole number", "got 0"):
        list(parallel.gradient_buckets([], 0))


def test_formulas(memory):
    sent, sharding = memory.communication, memory.sharding
    with refused("num_ranks must be a positive whole number", "got 0"):
        sent.all_reduce_bytes(8, 0)
    with refused("num_bytes must be a number above zero", "got -8"):
        sent.all_reduce_bytes(-8, 2)
    with refused("bandwidth must be a number above zero", "got 0"):
        sent.all_reduce_seconds(8, 2, bandwidth=0)
    for formula in (sent.zero_traffic_bytes, sharding.zero_state_bytes):
        with refused("ZeRO has the stages 1, 2 and 3", "got 5"):
            formula(100, 2, stage=5)
    with refused("num_ranks must divide num_attention_heads", "32 / 3 leaves 2"):
        sharding.tensor_parallel_shape(memory.EXERCISE_7B, 3)
    with refused("schedule must be gpipe or 1f1b"):
        sharding.micro_batches_in_flight("2f2b", stage=0, num_stages=2, num_micro_batches=2)
    with refused("num_micro_batches must be a positive whole number", "got 0"):
        sharding.pipeline_bubble(2, 0)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"num_devices": 0}, ("num_devices must be a positive whole number", "got 0")),
        ({"batch_size": 1.5}, ("batch_size", "got 1.5")),
        ({"schedule": "zigzag"}, ("schedule must be gpipe or 1f1b", "zigzag")),
        ({"dtype": "int3"}, ("no peak for 'int3'",)),
        ({"network_bandwidth": -1}, ("network_bandwidth must be a number above zero", "got -1")),
        ({"link_bandwidth": 0}, ("link_bandwidth must be a number above zero", "got 0")),
        ({"reserved_bytes": -1}, ("reserved_bytes", "got -1")),
    ],
)
def test_plans(memory, options, parts):
    options = {"num_devices": 8, "batch_size": 8, "seq_len": 128, **options}
    with refused(*parts):
        memory.parallel_plan.plan_parallel(memory.EXERCISE_7B, memory.device("H100"), **options)
