"""Setup: what is checked before anything is downloaded, and what is installed; made-up wheels."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bundle import install

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")

# A build backend in the project's own folder: it makes an editable wheel of nothing.
BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "project-0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as file:
        for path, text in {
            "METADATA": "Metadata-Version: 2.1\\nName: project\\nVersion: 0\\n", "RECORD": "",
            "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        }.items():
            file.writestr(f"project-0.dist-info/{path}", text)
    return name
"""


def wheel(folder: Path, name: str, version: str) -> str:
    """Write a wheel of one empty module into a simple index, and return its SHA-256."""
    info = f"{name}-{version}.dist-info"
    digest = base64.urlsafe_b64encode(hashlib.sha256().digest())
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{name}.py,sha256={digest.decode().rstrip('=')},0\n{info}/RECORD,,\n",
    }
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with (place / "index.html").open("a") as index:
        index.write(f'<a href="{path.name.replace("+", "%2B")}#sha256={digest}">{path.name}</a>\n')
    return digest


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A project with its lock, PyPI and PyTorch's index as folders; returns its folder and make."""
    pypi, cpu = tmp_path / "pypi", tmp_path / "cpu"
    pins = {"small": "1.0", "torch": "2.11.0", "torchvision": "0.26.0", "triton": "3.6.0"}
    hashes = {name: wheel(pypi, name, version) for name, version in pins.items()}
    of_cpu = {name: wheel(cpu, name, f"{pins[name]}+cpu") for name in ("torch", "torchvision")}
    folder = tmp_path / "project"
    (folder / "bundle").mkdir(parents=True)
    for name in ("Makefile", "bundle/install.py"):
        shutil.copy(ROOT / name, folder / name)
    lines = [f"{name}=={pins[name]} \\\n    --hash=sha256:{hashes[name]}" for name in pins]
    (folder / "requirements.txt").write_text("\n    # via x\n".join(lines) + "\n")
    lines = [f"{name}=={pins[name]}+cpu --hash=sha256:{of_cpu[name]}\n" for name in of_cpu]
    (folder / "requirements-cpu.txt").write_text("".join(lines))
    (folder / "backend.py").write_text(BACKEND)
    system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (folder / "pyproject.toml").write_text(system + '[project]\nname = "project"\nversion = "0"\n')
    programs = tmp_path / "programs"  # no uv, unless a test puts one here
    programs.mkdir()
    for name in ("make", "sh", "cat", "cksum", "cut", "test", "rm", "touch", "env", "lscpu"):
        if path := shutil.which(name):
            (programs / name).symlink_to(path)

    def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
        environment = {
            "PATH": str(programs), "HOME": str(tmp_path), "PIP_INDEX_URL": pypi.as_uri(),
            "PIP_CONFIG_FILE": os.devnull, "UV_DEFAULT_INDEX": pypi.as_uri(),
            "UV_CACHE_DIR": str(tmp_path / "uv"), "UV_LINK_MODE": "copy",
            "TORCH_INDEX": cpu.as_uri(), "PIP_NO_CACHE_DIR": "1", **variables,
        }  # fmt: skip
        return subprocess.run(
            ["make", f"PYTHON={sys.executable}", *arguments], cwd=folder, env=environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return SimpleNamespace(folder=folder, make=make, programs=programs)


def installed(folder: Path) -> dict[str, str]:
    code = (
        "import importlib.metadata as m\n"
        "for d in m.distributions(): print(d.metadata['Name'], d.version)"
    )
    python = folder / ".venv" / "bin" / "python"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    found = dict(line.split() for line in done.stdout.splitlines())
    return {name: version for name, version in found.items() if name not in ("pip", "setuptools")}


def mark(folder: Path) -> str:
    (path,) = (folder / ".venv").glob(".installed-*")
    return re.sub(r"\d+", "N", path.name)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_setup_installs_the_lock_and_either_build_of_pytorch(site, tool):
    if tool == "uv":
        if not (uv := shutil.which("uv")):
            pytest.skip("uv is not here")
        (site.programs / "uv").symlink_to(uv)
    common = {"project": "0", "small": "1.0"}
    done = site.make("setup", "TORCH=cpu")
    assert done.returncode == 0 and f"with {tool}" in done.stdout, done.stderr
    of_cpu = {"torch": "2.11.0+cpu", "torchvision": "0.26.0+cpu"}
    assert installed(site.folder) == common | of_cpu and mark(site.folder) == ".installed-N-cpu"
    done = site.make("setup")  # keeps that build
    assert (done.returncode, done.stdout) == (0, "make: Nothing to be done for 'setup'.\n")
    of_gpu = {"torch": "2.11.0", "torchvision": "0.26.0", "triton": "3.6.0"}
    assert site.make("setup", "TORCH=cuda").returncode == 0
    assert installed(site.folder) == common | of_gpu and mark(site.folder) == ".installed-N"
    path = site.folder / "requirements-cpu.txt"
    right = path.read_text()
    path.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", right))
    done = site.make("setup", "TORCH=cpu")
    assert done.returncode == 2 and "error: install failed" in done.stderr
    assert mark(site.folder) == ".installed-N"
    path.write_text(re.sub(" --hash=.*", "", right))
    done = site.make("setup", "TORCH=cpu")
    assert "holds no hashes" in done.stdout and installed(site.folder) == common | of_cpu


@pytest.mark.parametrize("code", [0, 2, None])
def test_pip_is_taken_where_uv_is_not_or_fails(tmp_path, monkeypatch, capfd, code):
    record = f'#!/bin/sh\necho "$(basename $0) $@" >> {tmp_path}/calls\n'
    for name, status in (("uv", code), ("python", 0)):
        if status is not None:
            (tmp_path / name).write_text(f"{record}exit {status}\n")
            (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("UV_CONSTRAINT", "elsewhere")
    install.pip(tmp_path / "python", "uninstall", "torch", "triton")
    calls = (tmp_path / "calls").read_text().splitlines()
    of_uv = f"uv pip uninstall --quiet --python {tmp_path}/python torch triton"
    of_pip = "python -m pip uninstall --quiet --disable-pip-version-check --yes torch triton"
    assert calls == {0: [of_uv], 2: [of_uv, of_pip], None: [of_pip]}[code]
    assert ("uv could not do it" in capfd.readouterr().err) == (code == 2)
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    if code != 0:
        with pytest.raises(install.Refused, match="uninstall failed"):
            install.pip(tmp_path / "python", "uninstall", "torch")


def test_what_would_lead_packages_elsewhere_is_left_out(monkeypatch):
    diverting = ("PIP_TARGET", "PIP_CONSTRAINT", "PYTHONPATH", "UV_CONSTRAINT", "UV_TORCH_BACKEND")
    for name in {*diverting, *install.DIVERTING}:
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "of the site")
    kept = install.clean()
    assert "elsewhere" not in kept.values() and kept["PIP_USER"] == "0"
    assert kept["PIP_INDEX_URL"] == "of the site" and kept["PATH"]


# What is refused before anything is downloaded


def fake_python(path: Path, code: int) -> None:
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("kept", [True, False])
def test_a_python_that_is_not_supported_is_told_before_anything_happens(site, kept):
    fake_python(site.programs / "python3.15", 1)
    if kept:
        (site.folder / ".venv").mkdir()
        (site.folder / ".venv" / "own").touch()
    before = sorted(site.folder.rglob("*"))
    for name in ("python3.15", "python3.99", ""):
        done = site.make("setup", f"PYTHON={name}")
        said = f"PYTHON={name}: no Python" if name else "no Python 3.11 to 3.14 found"
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode == 2 and said in lines[0] and len(lines) == 1, done.stderr
    assert sorted(site.folder.rglob("*")) == before


def test_make_refuses_another_build_of_pytorch(site):
    done = site.make("setup", "TORCH=rocm")
    assert done.returncode == 2 and "TORCH must be cuda or cpu" in done.stderr


@pytest.fixture
def venv(tmp_path, monkeypatch):
    """An environment of a Python that is not supported any more; making one is recorded."""
    folder = tmp_path / ".venv"
    (folder / "bin").mkdir(parents=True)
    fake_python(folder / "bin" / "python", 1)
    called = []

    def run(command, **_):
        called.append(command)
        return SimpleNamespace(returncode=int(command[-2] == "-c"), stdout="")

    monkeypatch.setattr(install.subprocess, "run", run)
    return SimpleNamespace(folder=folder, called=called)


def test_an_environment_that_a_user_made_stays(venv):
    with pytest.raises(install.Refused, match=r"\.venv: no Python 3\.11 .* it is not setup's own"):
        install.make(venv.folder)
    assert (venv.folder / "bin" / "python").is_file() and len(venv.called) == 1


@pytest.mark.parametrize("name", [install.OWN, ".installed-123", ".installed-123-cpu"])
def test_an_environment_that_setup_made_is_made_anew(venv, name):
    (venv.folder / name).touch()
    install.make(venv.folder)
    assert venv.called[-1] == [sys.executable, "-m", "venv", venv.folder]
    assert [path.name for path in venv.folder.iterdir()] == [install.OWN]


def test_an_environment_whose_python_works_is_taken_whoever_made_it(venv, monkeypatch):
    monkeypatch.setattr(install, "works", lambda python, code="": True)
    install.make(venv.folder)
    assert not venv.called and not (venv.folder / install.OWN).exists()


def test_an_environment_that_was_left_without_pip_is_made_anew(venv, monkeypatch):
    """As an interruption while venv puts pip in leaves it: its Python starts, nothing installs."""
    (venv.folder / install.OWN).touch()
    monkeypatch.setattr(install, "works", lambda python, code="": "pip" not in code)
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    install.make(venv.folder)
    assert venv.called


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"find_spec": lambda name: None}, "Windows: the bundle runs in WSL2"),
        ({"sys.platform": "darwin", "platform.machine": lambda: "x86_64"}, "an Intel Mac"),
        ({"sys.platform": "darwin", "platform.machine": lambda: "arm64"}, ""),
        ({"sys.platform": "linux", "platform.libc_ver": lambda: ("", "")}, "no glibc"),
        ({"sys.platform": "linux", "platform.libc_ver": lambda: ("glibc", "2.17")}, "glibc 2.17"),
        ({"sys.platform": "linux", "platform.libc_ver": lambda: ("glibc", "2.28")}, ""),
        ({"sys.maxsize": 2**31 - 1}, "a 32-bit Python"),
        ({"shutil.disk_usage": lambda folder: SimpleNamespace(free=4e9)}, "4.0 GB free"),
    ],
)  # fmt: skip
def test_a_machine_without_a_build_of_pytorch_is_told(monkeypatch, tmp_path, changed, said):
    room = lambda folder: SimpleNamespace(free=1e12)  # noqa: E731
    for name, value in {"shutil.disk_usage": room, **changed}.items():
        monkeypatch.setattr(f"bundle.install.{name}", value)
    told = list(install.obstacles(tmp_path / ".venv", "cuda"))
    assert len(told) == bool(said) and all(said in line and "\n" not in line for line in told)
    if "shutil.disk_usage" in changed:
        assert not list(install.obstacles(tmp_path / ".venv", "cpu"))


# The files that setup reads


def test_the_lock_without_cuda_lacks_nothing_else():
    rest, names = install.split(LOCK)
    kept = re.findall(r"^([\w.-]+)==", rest, re.MULTILINE)
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-bindings"} <= set(names)
    assert len(kept) + len(names) == len(re.findall(r"^[\w.-]+==", LOCK, re.MULTILINE))
    assert not [name for name in kept if re.match("nvidia|cuda|triton|torch", name)]
    assert LOCK.count("--hash=") - rest.count("--hash=") > len(names) and {"numpy"} < set(kept)


def test_the_build_for_cpus_is_of_the_same_versions():
    wanted = re.findall(r"^(torch(?:vision)?==\S+)", (ROOT / "requirements.in").read_text(), re.M)
    given = (ROOT / "requirements-cpu.txt").read_text(encoding="utf-8")
    assert re.findall(r"^(torch\S+)", given, re.M) == [f"{pin}+cpu" for pin in wanted]
    assert len(wanted) == 2


def test_the_supported_pythons_are_the_same_everywhere():
    assert install.SUPPORTED in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.11,<3.15"' in (ROOT / "pyproject.toml").read_text()
    for page in ("README.md", "CONTRIBUTING.md"):
        assert install.VERSIONS in (ROOT / page).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## \[([\d.]+)\] - (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert (cited["version"], cited["date-released"]) == newest.groups() and version == newest[1]


def test_the_container_copies_what_is_there_and_calls_targets():
    text = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", "")
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY.*", text, re.M)]
    assert all((ROOT / name).exists() for names in copied for name in names)
    needed = {"Makefile", "requirements.txt", "requirements-cpu.txt", "pyproject.toml"}
    assert needed <= set(copied[0])
    assert set(re.findall(r"make (\w[\w-]*) TORCH", text)) | {"run-all"} <= targets
    assert re.search(r'^ENTRYPOINT \["make"\]\nCMD \["run-all"\]', text, re.M)
    version = re.search(r"FROM \S+python:(3\.\d+)-slim", text)[1]
    assert f"python{version}" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")))
def test_issue_forms_have_what_github_asks_for(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    ids = [item["id"] for item in form["body"]]
    assert len(set(ids)) == len(ids)
    for item in form["body"]:
        assert item["type"] in ("textarea", "input", "dropdown") and item["attributes"]["label"]
        assert (item["type"] == "dropdown") == ("options" in item["attributes"])
    assert any(item.get("validations", {}).get("required") for item in form["body"])
