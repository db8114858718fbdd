"""Train a tiny network in children that are killed: ``python kill_driver.py FOLDER MODE=N ...``.

Used by tests/notebooks/test_kill.py. MODE random: N children in turn are killed (SIGKILL) at
random moments, another ends the training. MODE operation: for each n up to N a child kills itself
before its n-th last operation on files, another ends that training; an older complete training of
another seed lies there before. MODE move: as well, before each of the operations by which a
notebook's files take the place of an earlier state's, or each N-th. Prints JSON, for each mode: how
many kills hit, and the SHA-256 of the weights, or of all files, in the end, first of what nobody
killed, then one for each time.
"""

import dataclasses
import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # the first step of an optimiser loads it, else in each child

from bundle import fingerprint
from bundle.runs import execute, params, status
from bundle.runs.graph import Node
from bundle.training import session
from lib import data
from lib.settings import Train

SETTINGS = Train(
    run="killed",
    dataset="digits",
    blocks=(1, 1),
    widths=(8, 16),
    strides=(1, 2),
    train_images=60,
    epochs=2,
    batch_size=20,
    erasing=0.5,
    holdout_images=20,
    ema=0.9,
    device="cpu",
    threads=1,
)
EPOCHS = 10  # between two kills at random moments, at most
OPERATIONS = ("replace", "rename", "unlink", "mkdir", "open")
NODE = Node("04_predict_tta", writes=("predictions.npz",))
STATES = (  # of its results: an earlier one, and the one that takes its place
    ("figures/kept.svg", "figures/old.svg", "predictions.npz", "submission.csv"),
    ("figures/kept.svg", "figures/new.svg", "predictions.npz"),
)
# Before anything is computed: a process that has begun threads must not fork.
torch.set_num_threads(1)
DIGITS = data.load("digits", None, SETTINGS.train_images)
fingerprint.of_loop()  # the code is read once, not by each child
session.HEARTBEAT_SECONDS = float("inf")  # else the number of operations would depend on the clock


def in_child(work, *arguments) -> int:
    """Fork and do the work in the child: imports are paid for once. Return its number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(*arguments)
            status = 0
        finally:
            os._exit(status)
    return child


def was_killed(child: int) -> bool:
    """Wait for a child; whether a signal ended it."""
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def train_in(folder: Path, settings: Train) -> None:
    """Train, or go on, in silence."""
    session.train(settings, DIGITS, folder, say=lambda line: None)


def finish(folder: Path, settings: Train) -> str:
    """End a training in a child and return the hash of its weights."""
    assert not was_killed(in_child(train_in, folder, settings))
    return json.loads((folder / "training" / "state.json").read_text())["weights_sha256"]


def count_operations(kill_at: int | None) -> list[int]:
    """Count this process's operations on files; kill it before number `kill_at`."""
    counter = [0]

    def counted(real):
        def call(*arguments, **named):
            counter[0] += 1
            if counter[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in OPERATIONS:
        setattr(Path, name, counted(getattr(Path, name)))
    os.fsync = counted(os.fsync)
    return counter


def kill_randomly(folder: Path, count: int) -> tuple[int, list[str]]:
    long, begun = dataclasses.replace(SETTINGS, epochs=count * EPOCHS), time.monotonic()
    never_killed, hits = finish(folder / "whole", long), 0
    longest = (time.monotonic() - begun) / count  # all together take less than the training
    for _ in range(count):
        child = in_child(train_in, folder / "killed", long)
        time.sleep(random.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        hits += was_killed(child)
    return hits, [never_killed, finish(folder / "killed", long)]


def kill_at_operations(folder: Path, count: int) -> tuple[int, list[str]]:
    def older_then(work, place):
        finish(place, dataclasses.replace(SETTINGS, seed=1))
        return was_killed(in_child(work, place))

    def counting(place):
        counter = count_operations(None)
        train_in(place, SETTINGS)
        (place / "count").write_text(str(counter[0]))

    older_then(counting, folder / "counted")
    total, hits = int((folder / "counted" / "count").read_text()), 0
    digests = [finish(folder / "counted", SETTINGS)]
    for last in range(count):

        def killed(place, last=last):
            count_operations(total - last)
            train_in(place, SETTINGS)

        hits += older_then(killed, folder / str(last))
        digests.append(finish(folder / str(last), SETTINGS))
    return hits, digests


def move_in(folder: Path, state: int, kill_at: int | None = None) -> int:
    """Have a notebook leave files of a state, by way of the runner; return how many operations."""
    metrics = {"part": {"state": state}}
    stage, text = folder / ".stage" / NODE.name, f"{state}\n"
    for name, content in {**dict.fromkeys(STATES[state], text), NODE.metrics: metrics}.items():
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).write_text(content if content is text else json.dumps(content))
    parameters = params.load("smoke")
    before = status.fingerprint_of(NODE, parameters, folder)
    counter = count_operations(kill_at)
    execute._move_into_place(NODE, stage, folder, before, 1.0)
    status.settle(folder)
    return counter[0]


def contents(folder: Path) -> str:
    """Return one SHA-256 of the names and contents of all files below a folder."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes().hex()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def is_believed(folder: Path) -> bool:
    """Whether the next run would take what is there for a notebook's whole result."""
    return not status.reasons(NODE, params.load("smoke"), folder)


def kill_at_moves(folder: Path, step: int) -> tuple[int, list[str]]:
    def move(place, state):
        assert not was_killed(in_child(move_in, place, state))
        return place

    def counting(place):
        (folder / "count").write_text(str(move_in(place, 1)))

    assert not was_killed(in_child(counting, move(folder / "whole", 0)))
    wanted = [contents(folder / "whole")]
    assert is_believed(folder / "whole")
    hits = 0
    for kill_at in range(1, int((folder / "count").read_text()) + 1, step):
        place = move(folder / str(kill_at), 0)
        hits += was_killed(in_child(move_in, place, 1, kill_at))
        if is_believed(place):  # then it is one whole state: nothing was moved yet, or all
            names = {*STATES[0], *STATES[1]}
            found = {name: (place / name).read_text() for name in names if (place / name).exists()}
            assert any(found == dict.fromkeys(s, f"{n}\n") for n, s in enumerate(STATES)), kill_at
        wanted.append(contents(move(place, 1)))
    return hits, wanted


MODES = {"random": kill_randomly, "operation": kill_at_operations, "move": kill_at_moves}

if __name__ == "__main__":
    found = {}
    for mode, number in (argument.split("=") for argument in sys.argv[2:]):
        place = Path(sys.argv[1]) / mode
        place.mkdir(parents=True, exist_ok=True)
        found[mode] = MODES[mode](place, int(number))
    print(json.dumps(found))
