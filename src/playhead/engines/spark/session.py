"""Starting Spark: what it needs is looked for first, and its settings are Playhead's."""

import atexit
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING

from playhead.config import SparkSettings
from playhead.engines.spark.conf import Setting, is_secret, session_settings
from playhead.errors import EngineError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["is_running", "spark_home", "spark_session"]

logger = logging.getLogger(__name__)

_ANSWER_S = 10.0
_LOGGING = Path(__file__).with_name("log4j2.properties")


def spark_home() -> Path:
    """The folder of the installed pyspark package, where Spark's programs and jars are too.

    Raises:
        EngineError: pyspark or Java is not installed.
    """
    found = util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise EngineError(
            "Spark is not installed", hint='It comes with pip install "playhead[spark]".'
        )
    if not _has_java():
        raise EngineError(
            "Spark needs Java, which is not installed",
            hint="Install Java 17 or 21 (Debian: apt-get install openjdk-17-jre-headless), "
            "or say where it is by JAVA_HOME.",
        )
    return Path(found.origin).parent


def _has_java() -> bool:
    home = os.environ.get("JAVA_HOME")
    if home:
        return os.access(Path(home) / "bin" / "java", os.X_OK)
    return shutil.which("java") is not None


def spark_session(
    settings: Iterable[Setting] | None = None, *, name: str = "playhead"
) -> "SparkSession":
    """The process's Spark session; it is stopped when the process ends.

    A process has one driver. A session that it has already is given again, with these settings
    as far as they can change while it runs.

    Args:
        settings: of `session_settings`; None: those of one machine, or of the session that is
            there.
        name: the application's, which the cluster's pages show.

    Raises:
        EngineError: pyspark or Java is missing, the driver runs for another master, or Spark
            cannot start.
    """
    home = spark_home()
    given = {s.name: s.value for s in settings or session_settings(SparkSettings())}
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    is_first = not _runs_at("" if settings is None else given.get("spark.master", ""))
    if settings is None and not is_first:
        return SparkSession.Builder().getOrCreate()
    if is_first:
        _check_master(given.get("spark.master", ""))
    # What starts the driver is on its command line, which all users of a machine can read.
    late = {k: v for k, v in given.items() if k.startswith("spark.sql.") and _is_secret(k)}
    # What fails is raised; pyspark would write it to stderr as well, once for each caller.
    logging.getLogger("SQLQueryContextLogger").disabled = True
    # Another Spark on this machine must not be started by this one's Python.
    os.environ["SPARK_HOME"] = str(home)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    options = f"-Dlog4j2.configurationFile={_LOGGING.as_uri()}"
    if own := given.get("spark.driver.extraJavaOptions"):
        options = f"{options} {own}"
    given["spark.driver.extraJavaOptions"] = options
    if is_first:
        # Spark makes a folder for tables of its own at once, by default where it was started.
        scratch = tempfile.mkdtemp(prefix="playhead-spark-")
        given.setdefault("spark.sql.warehouse.dir", scratch)
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    builder = SparkSession.Builder().appName(name)
    for key, value in given.items():
        if key not in late:
            builder = builder.config(key, value)
    # Raised by the gateway to Java; it has no types of its own.
    gateway: type[Exception] = import_module("py4j.protocol").Py4JError
    try:
        session = builder.getOrCreate()
        for key, value in late.items():
            session.conf.set(key, value)
    except (PySparkException, gateway, OSError) as error:
        raise EngineError(
            f"Spark cannot start: {str(error).splitlines()[0]}",
            hint="Do spark.master and the options of spark.options_file fit this machine?",
        ) from error
    if is_first:
        atexit.register(_stop, session)
    logger.info("Spark %s runs at %s", session.version, session.sparkContext.master)
    return session


def _is_secret(name: str) -> bool:
    return is_secret(Setting(name, "", ""))


def _check_master(master: str) -> None:
    """Ask a standalone master for its port: Spark itself would try for a minute, and say little.

    Raises:
        EngineError: nobody answers at any of its addresses.
    """
    if not master.startswith("spark://"):
        return
    wrong: Exception | None = None
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
        except (OSError, ValueError) as error:
            wrong = error
        else:
            return
    raise EngineError(
        f"spark.master = {master!r} does not answer: {wrong}",
        hint="Start the cluster, or set spark.master to where it is; `playhead doctor` looks.",
    )


def is_running() -> bool:
    """Whether this process has a Spark driver."""
    return _runs_at("") if util.find_spec("pyspark") else False


def _stop(session: "SparkSession") -> None:
    # A signal to the whole group may have ended Spark's own process before.
    with suppress(OSError):
        session.stop()


def _runs_at(wanted: str) -> bool:
    """Whether this process has a driver already, which has to be for the same master."""
    from pyspark import SparkContext

    running = SparkContext._active_spark_context
    if running is not None and wanted and running.master != wanted:
        raise EngineError(
            f"this process runs Spark at {running.master}, not at {wanted}",
            hint="A process has one Spark driver: stop its session first.",
        )
    return running is not None
