"""The contention filter, on a machine whose clock and whose load are made up."""

from dataclasses import dataclass, field

import pytest

from lib.memory.contention import (
    Meters,
    Race,
    Sample,
    Timing,
    judge,
    machine_seconds,
    race,
    take_sample,
    time_operation,
)


@dataclass
class FakeMachine:
    """Two cores. Its clock moves only while an operation runs."""

    cores: int = 2
    now: float = 0.0
    machine: float = 0.0
    own: float = 0.0
    log: list[str] = field(default_factory=list)

    def meters(self) -> Meters:
        return Meters(
            clock=lambda: self.now,
            machine=lambda: self.machine,
            own=lambda: self.own,
            synchronize=lambda: self.log.append("synchronize"),
            cores=self.cores,
        )

    def operation(self, seconds=(0.125,), others=(0.0,), name="run"):
        """Each call takes the next of `seconds`, with the next share of `others`; then the last."""
        calls = []

        def run() -> None:
            turn = len(calls)
            calls.append(turn)
            self.log.append(name)
            elapsed = seconds[min(turn, len(seconds) - 1)]
            share = others[min(turn, len(others) - 1)]
            self.now += elapsed
            self.own += elapsed
            self.machine += elapsed + share * elapsed * self.cores

        return run


# The first two calls warm up and find out how many calls a sample needs.
FIRST = (0.0, 0.0)


def test_a_sample_is_seconds_per_call_and_the_share_of_the_others():
    machine = FakeMachine()
    sample = take_sample(machine.operation([0.25], [0.5]), calls=4, meters=machine.meters())
    assert sample == Sample(seconds=0.25, others=0.5)


def test_both_ends_of_a_sample_wait_for_the_device():
    machine = FakeMachine()
    take_sample(machine.operation(), calls=2, meters=machine.meters())
    assert machine.log == ["synchronize", "run", "run", "synchronize"]


@pytest.mark.parametrize(("others", "clean"), [(0.0, True), (0.049, True), (0.05, False)])
def test_a_sample_counts_below_five_percent(others, clean):
    assert Sample(1.0, others).clean is clean


def test_more_work_of_ours_than_of_the_machine_is_rounding():
    machine = FakeMachine()
    sample = take_sample(machine.operation([0.125], [-0.03]), calls=1, meters=machine.meters())
    assert sample.others == 0.0


def test_a_meter_that_does_not_see_us_cannot_vouch_for_others():
    machine = FakeMachine()
    meters = Meters(
        clock=lambda: machine.now, machine=lambda: 0.0, own=lambda: machine.own, cores=2
    )
    assert take_sample(machine.operation(), calls=1, meters=meters).others == 1.0


def test_clean_samples_are_kept_and_contended_ones_dropped():
    machine = FakeMachine()
    run = machine.operation(
        seconds=(0.125, 0.125, 0.25, 9.0, 0.125, 8.0, 0.5),
        others=(*FIRST, 0.0, 0.5, 0.0, 0.06, 0.0),
    )
    timing = time_operation(run, samples=3, meters=machine.meters())
    assert timing == Timing(seconds=0.25, samples=(0.25, 0.125, 0.5), clean=True)
    assert timing.best == 0.125


def test_it_stops_at_enough_clean_samples():
    machine = FakeMachine()
    time_operation(machine.operation(), samples=3, meters=machine.meters())
    assert machine.log.count("run") == 2 + 3


def test_without_a_clean_sample_the_best_is_returned_and_said_so():
    machine = FakeMachine()
    run = machine.operation(seconds=(1.0, 1.0, 4.0, 2.0, 3.0), others=(0.5,))
    timing = time_operation(run, samples=2, tries=3, meters=machine.meters())
    assert timing == Timing(seconds=2.0, samples=(4.0, 2.0, 3.0), clean=False)


def test_one_clean_sample_is_enough_to_be_clean():
    machine = FakeMachine()
    run = machine.operation(seconds=(1.0, 1.0, 4.0, 2.0), others=(*FIRST, 0.0, 0.5))
    timing = time_operation(run, samples=2, tries=5, meters=machine.meters())
    assert timing == Timing(seconds=4.0, samples=(4.0,), clean=True)


def test_four_tries_for_each_sample_by_default():
    machine = FakeMachine()
    timing = time_operation(machine.operation(others=(0.9,)), samples=2, meters=machine.meters())
    assert len(timing.samples) == 8


def test_the_median_of_an_even_number_lies_between_the_middle_two():
    assert judge([Sample(seconds, 0.0) for seconds in (1.0, 4.0, 2.0, 9.0)]).seconds == 3.0


def test_a_short_operation_is_repeated_until_a_sample_is_long_enough():
    machine = FakeMachine()
    timing = time_operation(machine.operation([2**-10]), samples=1, meters=machine.meters())
    assert timing.seconds == 2**-10
    # Warm-up; 1, 10, 100 calls to find out; then 0.11 s worth of calls, as trial and as sample.
    assert machine.log.count("run") == 1 + 1 + 10 + 100 + 113 + 113


def test_an_operation_that_takes_no_time_does_not_end_in_a_division_by_zero():
    machine = FakeMachine()
    run = machine.operation(seconds=(0.0, 0.0, 0.125))
    assert time_operation(run, samples=1, meters=machine.meters()).seconds == 0.125


def test_a_race_takes_turns():
    machine = FakeMachine()
    fast = machine.operation([0.125], name="fast")
    slow = machine.operation([0.5], name="slow")
    result = race({"fast": fast, "slow": slow}, rounds=2, meters=machine.meters())
    turns = [name for name in machine.log if name != "synchronize"]
    assert turns == ["fast", "fast", "slow", "slow"] + ["fast", "slow"] * 2
    assert result.ratio("slow", to="fast") == 4.0
    assert result.timings["slow"] == Timing(0.5, (0.5, 0.5), clean=True)


def test_a_race_goes_on_for_those_that_lack_clean_samples():
    machine = FakeMachine()
    disturbed = machine.operation(others=(*FIRST, 0.5, 0.0, 0.0), name="disturbed")
    quiet = machine.operation(name="quiet")
    result = race({"disturbed": disturbed, "quiet": quiet}, rounds=2, meters=machine.meters())
    assert machine.log.count("disturbed") == 2 + 3
    assert machine.log.count("quiet") == 2 + 2
    assert [len(timing.samples) for timing in result.timings.values()] == [2, 2]


def test_a_race_ends_after_its_tries():
    machine = FakeMachine()
    run = machine.operation(others=(0.5,))
    result = race({"run": run}, rounds=1, tries=3, meters=machine.meters())
    assert result == Race({"run": Timing(0.125, (0.125,) * 3, clean=False)})


def test_bad_arguments_are_named():
    machine = FakeMachine()
    run, meters = machine.operation(), machine.meters()
    with pytest.raises(ValueError, match=r"min_seconds must be at least 0.1.*got 0.01"):
        time_operation(run, min_seconds=0.01, meters=meters)
    with pytest.raises(ValueError, match="got 0 samples in 0 tries"):
        time_operation(run, samples=0, meters=meters)
    with pytest.raises(ValueError, match="got 5 samples in 2 tries"):
        time_operation(run, samples=5, tries=2, meters=meters)
    with pytest.raises(ValueError, match="at least one operation"):
        race({}, meters=meters)
    assert machine.log == []


def test_the_real_meters_do_not_run_backwards():
    before, after = Meters().read(), Meters().read()
    assert all(later >= earlier for earlier, later in zip(before, after, strict=True))
    assert Meters().cores >= 1
    assert machine_seconds() >= 0
