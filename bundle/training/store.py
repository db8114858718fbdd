"""The training state on disk: the contract between training, wherever, and all after it.

``results/RUN/training/`` is complete: weights.pt, history.jsonl and state.json (identity, hashes,
time). ``results/RUN/training.partial/`` is on its way: checkpoint.bin, the one before it,
history.jsonl. It becomes the former only when the last epoch is done, so that an earlier complete
state stays until then.
"""

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any, NoReturn

import torch

from bundle import paths
from bundle.files import write_atomically, write_json
from bundle.fingerprint import differences
from lib.errors import UserError

CHECKPOINT, PREVIOUS = "checkpoint.bin", "checkpoint.previous.bin"
DIGEST_BYTES = 32


def complete_folder(run_folder: Path) -> Path:
    """Return where a finished training of the run lies."""
    return run_folder / "training"


def partial_folder(run_folder: Path) -> Path:
    """Return where an unfinished training of the run lies."""
    return run_folder / "training.partial"


def save_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Write the checkpoint, its SHA-256 before it, and keep the one there as the previous."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    if (folder / CHECKPOINT).exists():
        (folder / CHECKPOINT).replace(folder / PREVIOUS)
    write_atomically(folder / CHECKPOINT, hashlib.sha256(data).digest() + data)


def load_checkpoint(folder: Path, say=print) -> dict[str, Any] | None:
    """Return the newest undamaged checkpoint (on the CPU), None without one; name damaged ones."""
    for name in (CHECKPOINT, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        data = path.read_bytes()
        digest, data = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(data).digest() == digest:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        say(f"{paths.shown(path)}: damaged; the checkpoint before it is used")
    return None


def refuse_other(
    found: dict[str, Any], wanted: dict[str, Any], folder: Path, epoch: int
) -> NoReturn:
    """Raise UserError that spells out how an unfinished training differs from the one wanted."""
    parts = [phrase for key in wanted for phrase in differences(found.get(key) or {}, wanted[key])]
    shown = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
    raise UserError(
        f"{paths.shown(folder)}: epoch {epoch} of an unfinished training that differs ({shown}); "
        "undo the change to go on with it, or RETRAIN=1 to start afresh"
    )


def weights_digest(model: torch.nn.Module) -> str:
    """Return the SHA-256 over names, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def finish(run_folder: Path, weights: dict[str, Any], summary: dict[str, Any]) -> None:
    """Turn the partial state into the complete one: weights and summary, then an exchange.

    The last checkpoint goes only afterwards, so that a training stopped here is finished by the
    next call.
    """
    partial, complete = partial_folder(run_folder), complete_folder(run_folder)
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    write_atomically(partial / "weights.pt", buffer.getvalue())
    write_json(partial / "state.json", summary)
    replaced = run_folder / "training.replaced"
    shutil.rmtree(replaced, ignore_errors=True)
    if complete.exists():
        complete.rename(replaced)
    partial.rename(complete)
    for name in (CHECKPOINT, PREVIOUS, "progress.json"):
        (complete / name).unlink(missing_ok=True)
    shutil.rmtree(replaced, ignore_errors=True)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of history.jsonl, one an epoch; a line cut off in writing is left out."""
    path = folder / "history.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
