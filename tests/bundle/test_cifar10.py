"""Finding and downloading CIFAR-10, against servers of this process: no network, no real data."""

import contextlib
import dataclasses
import errno
import hashlib
import io
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bundle import paths
from bundle.__main__ import main
from bundle.dataset import cifar10
from lib.errors import UserError

FOLDER = "cifar-10-batches-py"
NOISE = random.Random(0)
FILES = {
    "data_batch_1": NOISE.randbytes(200_000),
    "test_batch": NOISE.randbytes(50_000),
    "batches.meta": b"meta",
}


def md5(content):
    return hashlib.md5(content).hexdigest()


def packed(files):
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name if "/" in name else f"{FOLDER}/{name}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()


CONTENT = packed(FILES | {"readme.html": b"not wanted", "../escape": b"not wanted"})
MEMBERS = {name: (len(content), md5(content)) for name, content in FILES.items()}
ARCHIVE = cifar10.Archive(size=len(CONTENT), md5=md5(CONTENT), members=MEMBERS)
LIMITS = cifar10.Limits(connect_s=1.0, slow_bytes_s=100_000, slow_s=0.4, reconnects=5, report_s=0.1)


class Mirror:
    """A server on 127.0.0.1; answers are cut, slowed or falsified as told, requests remembered."""

    def __init__(
        self, content=CONTENT, *, cut=None, pause=0, hang=0, ranges=True, status=None, length=None
    ):
        self.content, self.cut, self.pause, self.ranges = content, cut, pause, ranges
        self.status, self.length, self.hang, self.requests = status, length, hang, []
        self.wake = threading.Event()
        handler = type("Handler", (_Handler,), {"mirror": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}/cifar-10-python.tar.gz"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.wake.set()
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        mirror, asked = self.mirror, self.headers.get("Range")
        mirror.requests.append(asked)
        mirror.wake.wait(mirror.hang)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and mirror.ranges else 0
        status = mirror.status or (416 if start >= len(mirror.content) else 206 if start else 200)
        self.send_response(status)
        body = mirror.content[start:] if status < 400 else b""
        if status == 206:
            size = len(mirror.content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(mirror.length or len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            for at in range(0, len(body), 8192)[: mirror.cut]:
                self.wfile.write(body[at : at + 8192])
                mirror.wake.wait(mirror.pause)


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def start(*arguments, **options):
            mirror = Mirror(*arguments, **options)
            stack.callback(mirror.close)
            return mirror

        yield start


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A bundle of its own, whose data directory is returned."""
    for name in (
        "CIFAR10_ROOT",
        "BUNDLE_OFFLINE",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    return tmp_path / "data"


def get(target, *mirrors, said=None, deadline_s=None, archive=ARCHIVE, **limits):
    urls = [getattr(mirror, "url", mirror) for mirror in mirrors]
    say = said.append if said is not None else lambda line: None
    limits = dataclasses.replace(LIMITS, **limits)
    return cifar10.download(target, urls, deadline_s, archive=archive, limits=limits, say=say)


def put(root, files=FILES):
    (root / FOLDER).mkdir(parents=True)
    for name, content in files.items():
        (root / FOLDER / name).write_bytes(content)
    return root


def whole(target):
    names = sorted(path.name for path in target.iterdir() if path.name != ".fetch.lock")
    inside = {path.name: path.read_bytes() for path in (target / FOLDER).iterdir()}
    return names == [FOLDER] and inside == FILES


def refusal(call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def partial(target, content):
    target.mkdir(exist_ok=True)
    (target / "cifar-10-python.tar.gz.partial").write_bytes(content)


def dead_port():
    mirror = Mirror()
    mirror.close()
    return mirror.url


# What is here


def test_constants_are_torchvisions():
    from torchvision.datasets import CIFAR10

    listed = dict(
        [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    )
    assert {name: digest for name, (_, digest) in cifar10.CIFAR10.members.items()} == listed
    assert (cifar10.CIFAR10.md5, cifar10.CIFAR10.folder) == (CIFAR10.tgz_md5, CIFAR10.base_folder)
    assert cifar10.CIFAR10.name == CIFAR10.filename and cifar10.CIFAR10.size == 170_498_071


def test_the_import_is_light():
    code = (
        "import sys, bundle.dataset.cifar10; "
        "print([one for one in ('torch', 'numpy', 'rich') if one in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_order_of_places(here, tmp_path, monkeypatch):
    assert cifar10.locate(archive=ARCHIVE) is None
    put(here)
    assert cifar10.locate(archive=ARCHIVE) == here
    elsewhere = put(tmp_path / "elsewhere")
    for given in (str(elsewhere), "elsewhere"):
        monkeypatch.setenv("CIFAR10_ROOT", given)
        assert cifar10.locate(archive=ARCHIVE) == elsewhere
    monkeypatch.setenv("CIFAR10_ROOT", "")
    assert cifar10.locate(archive=ARCHIVE) == here


def test_a_root_without_the_folder(here, monkeypatch):
    put(here)
    monkeypatch.setenv("CIFAR10_ROOT", "/nowhere")
    assert "CIFAR10_ROOT=/nowhere: no folder cifar-10-batches-py" in refusal(
        cifar10.locate, archive=ARCHIVE
    )
    monkeypatch.setenv("CIFAR10_ROOT", str(here / FOLDER))
    assert f"set CIFAR10_ROOT to {here}," in refusal(cifar10.locate, archive=ARCHIVE)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(FILES["test_batch"][:-1]), "49,999 bytes, expected 50,000"),
        (
            lambda path: path.write_bytes(bytes(50_000)),
            f"MD5 {md5(bytes(50_000))}, expected {MEMBERS['test_batch'][1]}",
        ),
        (lambda path: path.unlink() or path.mkdir(), "missing"),
    ],
    ids=["missing", "truncated", "changed", "folder"],
)
def test_a_damaged_file_is_named_and_never_replaced(here, monkeypatch, serve, damage, said):
    mirror = serve()
    damage(put(here) / FOLDER / "test_batch")
    for dataset in ("auto", "cifar10"):
        message = refusal(cifar10.resolve, dataset, mirrors=[mirror.url], archive=ARCHIVE)
        assert message.startswith(f"data/{FOLDER}/test_batch: ") and said in message
        assert f"delete data/{FOLDER} and run `make data`" in message
    assert "test_batch" in refusal(get, here, mirror)
    assert "test_batch" in refusal(cifar10.checksum, here, ARCHIVE)
    assert cifar10.locate(verify=False, archive=ARCHIVE) == here
    shutil.move(here, here.with_name("other"))
    monkeypatch.setenv("CIFAR10_ROOT", "other")
    assert "correct CIFAR10_ROOT" in refusal(cifar10.locate, archive=ARCHIVE)
    assert mirror.requests == []


def test_checksum_is_the_contents(here, tmp_path):
    other = put(tmp_path / "other", FILES | {"further": b"file"})
    assert cifar10.checksum(put(here), ARCHIVE) == cifar10.checksum(other, ARCHIVE)
    assert re.fullmatch(r"[0-9a-f]{64}", cifar10.checksum(here, ARCHIVE))
    files = FILES | {"test_batch": b"other"}
    changed = {name: (len(content), md5(content)) for name, content in files.items()}
    third = cifar10.checksum(
        put(tmp_path / "third", files), dataclasses.replace(ARCHIVE, members=changed)
    )
    assert third != cifar10.checksum(here, ARCHIVE)


# Downloading


def test_download(here, serve):
    mirror, said = serve(), []
    assert get(here, mirror, said=said) == here
    assert whole(here) and mirror.requests == [None]
    assert get(here, mirror) == here and len(mirror.requests) == 1


def test_a_cut_connection_is_resumed(here, serve):
    mirror = serve(cut=9)
    get(here, mirror)
    assert whole(here)
    assert mirror.requests == [None, "bytes=73728-", "bytes=147456-", "bytes=221184-"]


def test_a_server_that_ignores_the_range_starts_over(here, serve):
    partial(here, b"\0" * 5000)
    mirror = serve(ranges=False)
    get(here, mirror)
    assert whole(here) and mirror.requests == ["bytes=5000-"]


def test_a_cut_server_that_ignores_the_range_is_left(here, serve):
    bad, mirror = serve(ranges=False, cut=3), serve()
    get(here, bad, mirror)
    assert (
        whole(here)
        and len(bad.requests) <= LIMITS.reconnects
        and mirror.requests == ["bytes=24576-"]
    )


@pytest.mark.parametrize("kept", [CONTENT, b"\0" * len(CONTENT), b"\0" * (len(CONTENT) + 1)])
def test_a_complete_partial_is_only_verified(here, serve, kept):
    partial(here, kept)
    mirror = serve()
    get(here, mirror)
    assert whole(here) and mirror.requests == ([] if kept == CONTENT else [None])


def test_a_416_starts_over(here, serve):
    partial(here, b"\0" * 5000)
    refusing = serve(status=416)
    assert "HTTP 416" in refusal(get, here, refusing)
    assert refusing.requests == ["bytes=5000-", None]
    partial(here, b"\0" * (len(CONTENT) - 10))
    short, mirror = serve(CONTENT[:-50]), serve()
    get(here, short, mirror)
    assert whole(here) and short.requests[1] is None


def test_wrong_md5_then_the_next_mirror_from_zero(here, serve):
    bad, mirror, said = serve(bytes(len(CONTENT))), serve(), []
    get(here, bad, mirror, said=said)
    assert whole(here) and bad.requests == mirror.requests == [None]
    assert f"{bad.host}: its file has the wrong MD5" in said


def test_a_bad_beginning_is_not_blamed_on_the_mirror(here, serve):
    partial(here, b"\0" * 5000)
    mirror = serve()
    get(here, mirror)
    assert whole(here) and mirror.requests == ["bytes=5000-", None]


def test_all_md5s_wrong(here, serve):
    message = refusal(get, here, serve(bytes(len(CONTENT))), serve(bytes(len(CONTENT))))
    assert message.count("wrong MD5") == 2
    assert [path.name for path in here.iterdir()] == [".fetch.lock"]


def test_a_login_page_does_not_touch_the_partial(here, serve):
    partial(here, CONTENT[:5000])
    page, mirror, said = serve(b"<html>log in</html>", ranges=False), serve(), []
    get(here, page, mirror, said=said)
    assert whole(here) and mirror.requests == ["bytes=5000-"]
    assert said[0] == f"{page.host}: sends 19 bytes, not {len(CONTENT)}"


def test_a_slow_mirror_is_left_and_its_part_kept(here, serve):
    slow, mirror, said = serve(pause=0.2), serve(), []
    get(here, slow, mirror, said=said)
    assert whole(here) and len(slow.requests) == 1
    assert re.fullmatch(r"bytes=\d+-", mirror.requests[0])
    assert any(re.search(r": only \d+ kB/s$", line) for line in said)


@pytest.mark.slow
def test_all_slow_ends_with_the_fastest(here, serve):
    slower, faster = serve(pause=0.25), serve(pause=0.1)
    get(here, slower, dead_port(), faster)
    assert whole(here) and (len(slower.requests), len(faster.requests)) == (1, 2)


def test_all_too_slow_for_the_deadline_is_known_early(here, serve):
    began = time.monotonic()
    slow = serve(pause=0.3)
    message = refusal(get, here, slow, deadline_s=3)
    assert re.search(r"only 0\.\d of 0\.3 MB came in the time given", message)
    assert time.monotonic() - began < 2.9 and len(slow.requests) == 1


def test_deadline(here, serve):
    began = time.monotonic()
    with pytest.raises(cifar10.Unavailable, match="in the time given"):
        get(here, serve(pause=0.05), deadline_s=0.4, slow_bytes_s=0)
    assert time.monotonic() - began < 1.4
    get(here, mirror := serve())
    assert whole(here) and mirror.requests[0].startswith("bytes=")


def test_offline_is_known_in_time(here, serve, monkeypatch):
    def hang(*_):  # a name server that does not answer
        time.sleep(60)

    def no_name(host, *_, **__):
        raise (
            OSError(errno.ENOENT, "Name or service not known")
            if "invalid" in host
            else AssertionError
        )

    began, url = time.monotonic(), "http://mirror.invalid/a"
    silent = serve(hang=30)
    message = refusal(get, here, dead_port(), silent, connect_s=0.5)
    assert "Connection refused" in message and re.search("no answer within|timed out", message)
    monkeypatch.setattr("socket.getaddrinfo", no_name)
    assert "mirror.invalid: Name or service not known" in refusal(get, here, url)
    monkeypatch.setattr("socket.getaddrinfo", hang)
    message = refusal(get, here, url, url, url, connect_s=0.3)
    assert "offline, or no mirror works (mirror.invalid: no answer" in message
    assert "run `make data`" in message and "set CIFAR10_ROOT" in message
    assert time.monotonic() - began < 4
    assert len(cifar10.MIRRORS) * cifar10.LIMITS.connect_s < 20


def test_a_silent_server_after_the_beginning(here, serve):
    silent, mirror = serve(pause=30), serve()
    get(here, silent, mirror, connect_s=0.2)
    assert whole(here)


def test_errors_of_a_server(here, serve):
    message = refusal(get, here, serve(status=503), serve(status=404), serve(length=12))
    assert "HTTP 503" in message and "HTTP 404" in message and "sends 12 bytes" in message


def test_a_proxy_of_the_environment_is_used(here, serve, monkeypatch):
    proxy = serve()
    monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    get(here, "http://mirror.invalid/cifar-10-python.tar.gz")
    assert whole(here) and len(proxy.requests) == 1


def test_progress_is_told_without_a_terminal(here, serve):
    said, mirror = [], serve(pause=0.02)
    get(here, mirror, said=said, slow_bytes_s=0)
    pattern = rf"CIFAR-10: 0\.\d of 0\.3 MB, \d\.\d\d MB/s, \d+ s left \({mirror.host}\)"
    assert len(said) >= 2 and all(re.fullmatch(pattern, line) for line in said)


def test_a_bar_on_a_terminal(here, serve, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    said = []
    get(here, serve(), said=said)
    assert whole(here) and said == [] and "CIFAR-10" in capsys.readouterr().out


# What the user puts there, faults of the disk, interruptions


def test_an_archive_put_there_by_hand(here):
    here.mkdir()
    (here / ARCHIVE.name).write_bytes(CONTENT)
    assert cifar10.resolve("cifar10", network=False, archive=ARCHIVE) == ("cifar10", here)
    assert (here / ARCHIVE.name).exists() and (here / FOLDER).is_dir()
    shutil.rmtree(here / FOLDER)
    (here / ARCHIVE.name).write_bytes(CONTENT[:-1])
    message = refusal(cifar10.resolve, "auto", archive=ARCHIVE, mirrors=[])
    assert (
        message.startswith("data/cifar-10-python.tar.gz: ")
        and f"expected {len(CONTENT):,}" in message
    )


@pytest.mark.parametrize(
    "content", [b"no archive", packed({"test_batch": b"x"}), packed(FILES)[:-2000]]
)
def test_an_archive_that_is_right_by_its_md5_only(here, serve, content):
    wrong = dataclasses.replace(ARCHIVE, size=len(content), md5=md5(content))
    assert "delete data/cifar-10-python.tar.gz.partial" in refusal(
        get, here, serve(content), archive=wrong
    )
    assert not (here / FOLDER).exists() and not (here / ".unpacking").exists()


def test_a_link_in_the_archive_is_no_member(here, serve):
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name in FILES:
                entry = tarfile.TarInfo(f"{FOLDER}/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
                tar.addfile(entry)
        content = buffer.getvalue()
    wrong = dataclasses.replace(ARCHIVE, size=len(content), md5=md5(content))
    assert "missing" in refusal(get, here, serve(content), archive=wrong)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk(here, serve):
    here.mkdir()
    (here / f"{ARCHIVE.name}.partial").symlink_to("/dev/full")
    message = refusal(cifar10.resolve, "auto", mirrors=[serve().url], archive=ARCHIVE)
    assert message.startswith("data: No space left on device") and "400 MB" in message


def test_a_target_that_cannot_be_written(here, serve):
    here.write_text("a file")
    assert refusal(get, here, serve()).startswith("data: File exists")


SCRIPT = """
import sys
from pathlib import Path
from bundle.dataset import cifar10 as fetch
members = {name: (size, md5) for name, size, md5 in %r}
archive = fetch.Archive(size=%d, md5=%r, members=members)
try:
    fetch.download(Path(sys.argv[1]), [sys.argv[2]], archive=archive)
except KeyboardInterrupt:
    sys.exit(130)
""" % ([(name, *rest) for name, rest in MEMBERS.items()], ARCHIVE.size, ARCHIVE.md5)  # noqa: UP031


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interruption_leaves_no_dataset(here, serve, sign):
    slow = serve(pause=0.05)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, here, slow.url],
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # a background job ignores it
    )
    kept = here / f"{ARCHIVE.name}.partial"
    until = time.monotonic() + 10
    while not (kept.exists() and kept.stat().st_size) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(sign)
    assert process.wait(5) == (130 if sign == signal.SIGINT else -sign)
    assert cifar10.locate(archive=ARCHIVE) is None
    assert {path.name for path in here.iterdir()} == {kept.name, ".fetch.lock"}
    (here / ".unpacking" / FOLDER).mkdir(parents=True)  # as a kill during the unpacking leaves it
    get(here, mirror := serve())
    assert whole(here) and mirror.requests[0].startswith("bytes=")


def test_two_at_the_same_time(here, serve):
    mirror, said = serve(pause=0.03), []
    first = threading.Thread(target=get, args=(here, mirror), kwargs={"slow_bytes_s": 0})
    first.start()
    while not mirror.requests:
        time.sleep(0.005)
    with pytest.raises(cifar10.Unavailable, match="another process"):
        get(here, mirror, deadline_s=0.05)
    get(here, mirror, said=said)
    first.join()
    assert whole(here) and len(mirror.requests) == 1
    assert said == ["data: another process is fetching CIFAR-10; waiting for it"]


# What a run gets


def test_digits_need_nothing(here):
    assert cifar10.resolve("digits") == ("digits", None) and not here.exists()
    assert "cifar10, auto or digits" in refusal(cifar10.resolve, "cifar")


def test_both_take_the_local_copy(here, serve):
    put(here)
    mirror = serve()
    for dataset in ("auto", "cifar10"):
        assert cifar10.resolve(dataset, mirrors=[mirror.url], archive=ARCHIVE) == ("cifar10", here)
    assert mirror.requests == []


@pytest.mark.parametrize("dataset", ["auto", "cifar10"])
def test_both_download(here, serve, dataset):
    options = {"mirrors": [serve().url], "archive": ARCHIVE, "limits": LIMITS}
    assert cifar10.resolve(dataset, **options) == ("cifar10", here) and whole(here)


def test_auto_falls_back_loudly(here, monkeypatch, serve):
    said, options = [], {"archive": ARCHIVE, "limits": LIMITS}
    assert cifar10.resolve("auto", mirrors=[dead_port()], say=said.append, **options) == (
        "digits",
        None,
    )
    (box,) = said  # why there is no mirror stands in it, and nowhere else
    assert "handwritten digits, not CIFAR-10" in box and max(map(len, box.splitlines())) <= 72
    told = " ".join(box.split())
    assert "`make data`" in told and "CIFAR10_ROOT" in told
    assert told.count("Connection refused") == 1
    assert "Connection refused" in refusal(
        cifar10.resolve, "cifar10", mirrors=[dead_port()], **options
    )
    monkeypatch.setattr(cifar10, "AUTO_WAIT_S", 0.3)
    slow = serve(pause=0.1)
    assert cifar10.resolve("auto", mirrors=[slow.url], say=said.append, **options) == (
        "digits",
        None,
    )
    assert "in the time given" in said[-1]


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_without_network_nothing_is_asked(here, monkeypatch, serve, how):
    mirror, said = serve(), []
    options = {
        "mirrors": [mirror.url],
        "archive": ARCHIVE,
        "network": how != "argument",
        "say": said.append,
    }
    if how == "environment":
        monkeypatch.setenv("BUNDLE_OFFLINE", "1")
    assert cifar10.resolve("auto", **options) == ("digits", None)
    assert "handwritten digits, not CIFAR-10" in said[0]
    assert "nothing is downloaded" in refusal(cifar10.resolve, "cifar10", **options)
    assert mirror.requests == [] and not here.exists()


def test_command(here, monkeypatch, capsys):
    monkeypatch.setenv("BUNDLE_OFFLINE", "1")
    assert main(["data", "--auto"]) == 0
    assert "handwritten digits, not CIFAR-10" in capsys.readouterr().out
    assert "nothing is downloaded" in refusal(main, ["data"])
    monkeypatch.setattr(cifar10, "resolve", lambda *_, **__: ("cifar10", here))
    assert main(["data"]) == 0 and capsys.readouterr().out == f"CIFAR-10 is in data/{FOLDER}\n"

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cifar10, "resolve", interrupted)
    assert main(["data"]) == 130
    assert "goes on from there" in capsys.readouterr().err


def test_command_as_a_process(tmp_path):
    environment, command = (
        {**os.environ, "CIFAR10_ROOT": str(tmp_path)},
        [sys.executable, "-m", "bundle", "data"],
    )
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: CIFAR10_ROOT=")
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def real():
    """The root of the real CIFAR-10, or None; of a wider scope than `here`, which hides it."""
    return cifar10.locate()


@pytest.mark.cifar10
def test_the_real_dataset(real):
    if (root := real) is None:
        pytest.skip("no CIFAR-10 here: set CIFAR10_ROOT or run `make data`")
    from torchvision.datasets import CIFAR10

    assert len(CIFAR10(root, train=True, download=False)) == 50_000
    with (root / FOLDER / "test_batch").open("rb") as file:
        labels = pickle.load(file, encoding="bytes")[b"labels"]
    assert np.bincount(labels).tolist() == [1000] * 10
    assert cifar10.checksum(root) == cifar10.checksum(root)
