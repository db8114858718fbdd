"""A kernel that is there already: it was forked and waits for its command (bundle.runs.warm)."""

import json
import os
from importlib.metadata import EntryPoint
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from traitlets import Integer

from bundle.runs.launch import Process

NAME = "forked"


def stanza(forked: dict[str, int]) -> dict[str, Any]:
    """Return the metadata of a kernel's specification that lets jupyter_client take this kernel.

    forked: its process `child`, and the end of a pipe by which it hears, `pipe`.
    """
    group = KernelProvisionerFactory.GROUP_NAME
    own = EntryPoint(NAME, f"{__name__}:{Forked.__name__}", group)
    KernelProvisionerFactory.provisioners[NAME] = own
    return {"kernel_provisioner": {"provisioner_name": NAME, "config": forked}}


class Forked(LocalProvisioner):
    """Tells the kernel that waits what LocalProvisioner would start, and watches it as that does.

    child: its process. pipe: the file descriptor by which it hears its command and environment.
    """

    child = Integer()
    pipe = Integer()
    process: Any = None  # shown as a Popen is

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Let the kernel begin; it ends with this process, whose number it is told."""
        parent = str(os.getpid())
        # A launcher sets the variable alone, which ipykernel has read when it was imported.
        command = [*cmd, f"--IPKernelApp.parent_handle={parent}"]
        with os.fdopen(self.pipe, "w") as pipe:
            json.dump([command, kwargs["env"] | {"JPY_PARENT_PID": parent}], pipe)
        self.process, self.pid, self.pgid = Process(self.child, self._ended), self.child, self.child
        return self.connection_info

    def _ended(self, timeout: float | None) -> int | None:
        pid, status = os.waitpid(self.child, 0 if timeout is None else os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None
