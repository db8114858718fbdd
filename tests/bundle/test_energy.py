"""Energy: faked counters of a CPU's packages and a GPU's board, and their sum over a training."""

import math

import pytest
import torch

from bundle import words
from bundle.training import energy, outcome, session
from bundle.training.energy import Counter
from lib import data
from lib.settings import Train

RANGE = 262_143_328_850  # microjoules after which a common package's counter begins again
UUID = "GPU-01234567-89ab-cdef-0123-456789abcdef"
TINY = Train(
    run="tiny",
    dataset="digits",
    blocks=(1,),
    widths=(4,),
    strides=(1,),
    train_images=40,
    epochs=3,
    batch_size=20,
    holdout_images=20,
    device="cpu",
)


def zone(root, name, kind, microjoules):
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (
        ("name", kind),
        ("energy_uj", microjoules),
        ("max_energy_range_uj", RANGE),
    ):
        (folder / file).write_text(f"{content}\n")
    return folder / "energy_uj"


@pytest.fixture
def packages(tmp_path):
    """Two packages as Linux shows them, with parts and the whole board, which do not count."""
    files = [
        zone(tmp_path, f"intel-rapl:{number}", f"package-{number}", 1_000_000) for number in (0, 1)
    ]
    zone(tmp_path, "intel-rapl:0:0", "core", 500_000)
    zone(tmp_path, "intel-rapl:0:1", "dram", 500_000)
    zone(tmp_path, "intel-rapl:2", "psys", 9_000_000)
    (tmp_path / "intel-rapl").mkdir()
    return files


def meter_of(root):
    made = energy.Meter(lambda: energy.cpu_counters(root))
    made.start()
    return made


def test_only_packages_are_counted(packages, tmp_path):
    assert energy.cpu_counters(tmp_path) == {
        f"intel-rapl:{number}": Counter(1.0, RANGE / 1e6) for number in (0, 1)
    }
    meter = meter_of(tmp_path)
    packages[0].write_text("3500000\n")
    packages[1].write_text("1250000\n")
    assert meter.joules() == pytest.approx(2.5 + 0.25)


def test_a_counter_that_wrapped_around_goes_on(packages, tmp_path):
    packages[0].write_text(f"{RANGE - 2_000_000}\n")
    meter = meter_of(tmp_path)
    packages[0].write_text("5000000\n")
    assert meter.joules() == pytest.approx(7.0)


def test_looks_in_between_catch_every_turn(packages, tmp_path):
    """Twice around within an epoch, which its first and last reading alone cannot tell."""
    meter = meter_of(tmp_path)
    for number in range(1, 9):
        packages[0].write_text(f"{(1_000_000 + number * RANGE // 4) % RANGE}\n")
        meter.look()
    assert meter.joules() == pytest.approx(2 * RANGE / 1e6, rel=1e-6)


def test_start_forgets_what_was_before(packages, tmp_path):
    meter = meter_of(tmp_path)
    packages[0].write_text("50000000\n")
    meter.look()
    meter.start()
    packages[0].write_text("51000000\n")
    assert meter.joules() == pytest.approx(1.0)


def damage(kind, files, root):
    if (
        kind == "unreadable"
    ):  # as for a user who may not: reading a folder fails in the same way, also for root
        files[1].unlink()
        files[1].mkdir()
    elif kind == "no number":
        files[1].write_text("\n")
    elif kind == "gone":
        files[1].unlink()
    else:
        (root / "intel-rapl:1" / "max_energy_range_uj").unlink()


@pytest.mark.parametrize("kind", ["unreadable", "no number", "gone", "no range"])
def test_one_package_that_cannot_be_read_makes_the_sum_unknown(packages, tmp_path, kind):
    meter = meter_of(tmp_path)
    packages[0].write_text("3500000\n")
    damage(kind, packages, tmp_path)
    assert energy.cpu_counters(tmp_path) == {}
    assert meter.joules() is None
    assert meter_of(tmp_path).joules() is None


def test_without_counters_there_is_none(tmp_path):
    assert meter_of(tmp_path).joules() is None
    assert meter_of(tmp_path / "missing").joules() is None


def test_counters_that_stand_still_count_nothing(packages, tmp_path):
    assert meter_of(tmp_path).joules() is None


class Nvml:
    """The three functions of NVML that are called, with its ways to fail (any code but 0)."""

    def __init__(self, **codes):
        self.codes, self.millijoules, self.asked = codes, 5_000_000, []

    def nvmlInit_v2(self):
        return self.codes.get("init", 0)

    def nvmlDeviceGetHandleByUUID(self, uuid, handle):
        self.asked.append(uuid)
        handle._obj.value = 7
        return self.codes.get("handle", 0)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, count):
        assert handle.value == 7
        count._obj.value = self.millijoules
        return self.codes.get("energy", 0)


def test_gpu_s_millijoules():
    nvml = Nvml()
    read = energy.gpu_counter(UUID, lambda name: nvml)
    assert nvml.asked == [UUID.encode()]
    assert read() == {UUID: Counter(5000.0, math.inf)}
    meter = energy.Meter(read)
    meter.start()
    nvml.millijoules += 123_456
    assert meter.joules() == pytest.approx(123.456)
    nvml.codes["energy"] = 3
    assert meter.joules() is None


def test_gpu_s_counter_that_began_again_is_unknown():
    nvml = Nvml()
    meter = energy.Meter(energy.gpu_counter(UUID, lambda name: nvml))
    meter.start()
    nvml.millijoules = 1_000
    assert meter.joules() is None


@pytest.mark.parametrize("failing", ["init", "handle", "energy"])
def test_nvml_that_fails_reads_nothing(failing):
    assert energy.gpu_counter(UUID, lambda name: Nvml(**{failing: 1}))() == {}


def test_no_driver_and_an_old_one_read_nothing():
    def missing(name):
        assert name == "libnvidia-ml.so.1"
        raise OSError("cannot open shared object file")

    assert energy.gpu_counter(UUID, missing)() == {}
    assert energy.gpu_counter(UUID, lambda name: object())() == {}


def test_this_machine_is_asked_without_an_error():
    assert all(
        0 <= counter.joules <= counter.wraps_at for counter in energy.cpu_counters().values()
    )
    assert energy.gpu_counter(UUID)() == {}  # no machine has this GPU


@pytest.mark.parametrize("told", [UUID, UUID.removeprefix("GPU-")])
def test_meter_of_a_gpu_asks_for_the_one_that_computes(monkeypatch, told):
    class Properties:
        uuid = told

    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(energy, "gpu_counter", lambda uuid: asked.append(uuid) or dict)
    energy.meter(torch.device("cuda"))
    assert asked == [UUID]


def test_total_needs_every_epoch():
    assert energy.total([{"joules": 1.5}, {"joules": 2.0}]) == 3.5
    assert energy.total([{"joules": 1.5}, {}]) is None


@pytest.mark.parametrize(
    ("joules", "said"),
    [
        (None, "not readable"),
        (0.4, "0.400 J"),
        (512, "512 J"),
        (41_234, "41.2 kJ"),
        (2.5e6, "2.50 MJ"),
    ],
)
def test_in_words(joules, said):
    assert words.energy(joules) == said


# In a training


def counting(monkeypatch, joules=10.0):
    """A meter that advances by `joules` with each reading; heartbeats are too rare to read it."""
    shown = {"now": 0.0}

    def read():
        shown["now"] += joules
        return {"package": Counter(shown["now"], math.inf)}

    monkeypatch.setattr(energy, "meter", lambda device: energy.Meter(read))
    monkeypatch.setattr(session, "HEARTBEAT_SECONDS", math.inf)


def test_training_sums_the_energy_of_its_epochs_and_resumes_the_sum(monkeypatch, tmp_path):
    digits = data.load("digits", None, TINY.train_images, TINY.holdout)
    counting(monkeypatch)

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.train(TINY, digits, tmp_path, stop)
    done = session.train(TINY, digits, tmp_path)
    assert [row["joules"] for row in done.history] == [10.0, 10.0, 10.0]
    assert outcome.of_training(done)["joules"] == 30.0


def test_training_without_counters_says_none_and_has_the_same_weights(monkeypatch, tmp_path):
    digits = data.load("digits", None, TINY.train_images, TINY.holdout)
    monkeypatch.setattr(energy, "meter", lambda device: energy.Meter(dict))
    done = session.train(TINY, digits, tmp_path / "without")
    assert all("joules" not in row for row in done.history)
    assert outcome.of_training(done)["joules"] is None
    counting(monkeypatch)
    counted = session.train(TINY, digits, tmp_path / "with")
    assert counted.summary["weights_sha256"] == done.summary["weights_sha256"]


def test_sharpness_aware_steps_cost_twice_and_those_at_half_resolution_a_quarter(tmp_path):
    digits = data.load("digits", None, TINY.train_images, TINY.holdout)
    plain = outcome.of_training(session.train(TINY, digits, tmp_path / "plain"))
    done = session.train(TINY, digits, tmp_path / "plain")
    done.summary["parameters"]["sam"] = 0.05
    assert outcome.of_training(done)["tflop"] == pytest.approx(2 * plain["tflop"])
    parameters, epochs = done.summary["parameters"], done.summary["epochs"]
    parameters |= {"sam": 0.0, "half_resolution": 0.8}  # of the first phase's steps
    share = parameters["epochs"] / epochs
    part = (1 - share) + share * (0.2 + 0.8 / 4)
    assert outcome.of_training(done)["tflop"] == pytest.approx(part * plain["tflop"])
