"""The training state on disk: the contract between training, wherever, and all after it.

``results/RUN/training/`` is complete: weights.pt, history.jsonl and state.json (identity, hashes,
time). ``results/RUN/training.partial/`` is on its way: checkpoint.bin, the one before it,
history.jsonl. It becomes the former only when the last epoch is done, so that an earlier complete
state stays until then.
"""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle import paths
from bundle.files import Damaged, exchange, read_sealed, remedy, seal, write_atomically, write_json

if TYPE_CHECKING:  # what holds or reads tensors loads PyTorch, 3 s, then: many commands only look
    from torch import nn

CHECKPOINT, PREVIOUS = "checkpoint.bin", "checkpoint.previous.bin"
WEIGHTS, STATE, HISTORY, LOGITS = "weights.pt", "state.json", "history.jsonl", "logits.npz"
DIGEST_BYTES = 32


def complete_folder(run_folder: Path) -> Path:
    """Return where a finished training of the run lies."""
    return run_folder / "training"


def partial_folder(run_folder: Path) -> Path:
    """Return where an unfinished training of the run lies."""
    return run_folder / "training.partial"


def saved(content: dict[str, Any]) -> bytes:
    """Return the file that `torch.save` makes of a content."""
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def save_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Write the checkpoint, its SHA-256 before it, and keep the one there as the previous."""
    data = saved(content)
    if (folder / CHECKPOINT).exists():
        (folder / CHECKPOINT).replace(folder / PREVIOUS)
    write_atomically(folder / CHECKPOINT, hashlib.sha256(data).digest() + data)


def load_checkpoint(folder: Path, say: Callable[[str], None] = print) -> dict[str, Any] | None:
    """Return the newest undamaged checkpoint (on the CPU), None without one; name damaged ones."""
    for name in (CHECKPOINT, PREVIOUS):
        if not (path := folder / name).is_file():
            continue
        content = path.read_bytes()
        digest, data = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(data).digest() == digest and (state := _state(data)) is not None:
            return state
        before = name == CHECKPOINT and (folder / PREVIOUS).is_file()
        then = "the checkpoint before it is used" if before else "the training begins anew"
        say(f"{paths.shown(path)}: damaged; {then}")
    return None


def _state(data: bytes) -> dict[str, Any] | None:
    """Return the state in a checkpoint, None where it holds something else."""
    import torch

    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # what torch.load raises for bytes that are no such file is not told
        return None
    needed = {"identity", "epoch", "history", "model", "optimiser"}
    return state if isinstance(state, dict) and needed <= state.keys() else None


def weights_digest(model: "nn.Module") -> str:
    """Return the SHA-256 over names, shapes and bytes of all parameters and buffers."""
    import torch

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
    write_atomically(partial / WEIGHTS, saved(weights))
    write_json(partial / STATE, summary)
    seal(partial, WEIGHTS, STATE, HISTORY)
    exchange(partial, complete)
    left = map(complete.joinpath, (CHECKPOINT, PREVIOUS, "progress.json"))
    for path in (*left, *complete.glob("*.writing")):
        path.unlink(missing_ok=True)


def load_weights(folder: Path) -> dict[str, Any]:
    """Return the content of a finished training's weights.pt, on the CPU; Damaged if it is not."""
    import torch

    content = read_sealed(folder / WEIGHTS)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what torch.load raises for bytes that are no such file is not told
        raise damaged(folder / WEIGHTS, "no file of weights") from error


def finished_history(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """Return a finished training's rows; Damaged where they are not as sealed, one an epoch."""
    path = folder / HISTORY
    rows = rows_of(read_sealed(path).decode(errors="replace")) if path.is_file() else []
    if [row.get("epoch") for row in rows] != list(range(1, epochs + 1)):
        raise damaged(path, f"not the {epochs} epochs that {STATE} has")
    return rows


def damaged(path: Path, what: str) -> Damaged:
    """Return the error for a file of a training that does not fit the others."""
    return Damaged(f"{paths.shown(path)}: {what}; {remedy(path)}")


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of history.jsonl of a training that may be under way, [] without one."""
    path = folder / HISTORY
    return rows_of(path.read_text("utf-8", errors="replace")) if path.is_file() else []


def rows_of(text: str) -> list[dict[str, Any]]:
    """Return the rows of a history, one an epoch; a line cut off in writing is left out."""
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows
