"""The documented command, on two processes of this machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lib.parallel.torchrun_example import main

ROOT = Path(__file__).parents[3]


def test_ddp_and_fsdp_train_as_one_process_does():
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [sys.executable, *command, "-m", "lib.parallel.torchrun_example", "--steps", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    alone, *ways = run.stdout.splitlines()
    losses = re.search(r"loss (\S+ -> \S+)", alone)[1]
    before, after = map(float, losses.split(" -> "))
    assert after < before
    assert [way.split()[0] for way in ways] == ["DDP", "FSDP"]
    for way in ways:
        assert f"on 2: loss {losses}," in way
        assert float(way.split()[-1]) < 1e-11


def test_without_torchrun_it_says_how_to_start_it(monkeypatch, capsys):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(SystemExit):
        main([])
    assert "torchrun --standalone --nproc-per-node 2" in capsys.readouterr().err
