"""The commit points: every place where a kill could come between two things that belong together.

A name stands for one function or several that are called in a row; a process is killed before
or after the nth call.
"""

from collections.abc import Mapping

_LOG = "playhead.eventlog.sqlite:SqliteEventLog"
_STATE = "playhead.speed.state:StateStore"
_IDS = "playhead.speed.idfiles:IdFiles"
_SEALER = "playhead.speed.seal:Sealer"
_INGEST = "playhead.batch.ingest:Ingest"
_RECOMPUTER = "playhead.batch.recompute:Recomputer"

LOG = {
    "log append": f"{_LOG}.append",
    "log blocks stored": f"{_LOG}._store",
}
LAKE = {
    "parquet written": "playhead.lake.parquet:write",
    "parquet file written": "playhead.lake.parquet:_write_file",
    "lake table created": "playhead.lake.lake:create_table",
    "lake files committed": "playhead.lake.lake:commit_files",
    "lake metadata written": "playhead.lake.sqlcatalog:DatabaseCatalog._write_metadata",
    "catalog commit": "playhead.lake.sqlcatalog:DatabaseCatalog._swap",
    "lake write": "playhead.lake.lake:Lake._write",
    "lake publish": "playhead.lake.lake:Lake.publish",
}
SPEED = {
    "state owned": f"{_STATE}.own",
    "state registered": f"{_STATE}.register",
    "state begun": f"{_STATE}.begin",
    "state commit": f"{_STATE}.commit",
    "windows raised": f"{_STATE}.raise_alerts",
    "alerts published": f"{_STATE}.published",
    "seal begun": f"{_STATE}.cut",
    "seal appended": f"{_SEALER}._append",
    "seal noted": f"{_STATE}.sealed",
    "seal finished": f"{_SEALER}._finish",
    "seal resumed": f"{_SEALER}.resume",
    "log offsets committed": f"{_LOG}.commit",
    "state compacted": f"{_STATE}.replace",
    "log retained": f"{_LOG}._delete_some",
    "ids kept": f"{_IDS}.keep",
    "ids listed": f"{_IDS}._write_list",
}
BATCH = {
    "clean written": "playhead.batch.clean:Cleaning._publish",
    "topic cleaned": "playhead.assemble:clean_topic",
    "rating pairs replaced": "playhead.batch.dimensions:replace_dimension",
    "state recomputed": f"{_RECOMPUTER}._write",
    "coverage noted": f"{_RECOMPUTER}._cover",
    "other states dropped": f"{_RECOMPUTER}._drop_others",
    "state pruned": f"{_STATE}.prune",
}
LOAD = {
    "load staged": "playhead.batch.ingest:stage",
    "load files copied": "playhead.lake.files:LocalFiles.copy",
    "load appended": f"{_INGEST}._append",
    "load cleaned": "playhead.batch.landing:Landing.publish_clean",
    "dimension replaced": "playhead.batch.ingest:replace_dimension",
    "load recorded": f"{_INGEST}._record",
    "quality kept": "playhead.batch.quality:keep",
}
REPLAY = {"recording made": "playhead.batch.recording:Recorder.from_files"}
MAINTENANCE = {
    "lake expired": "playhead.lake.lake:Lake.expire",
    "lake swept": "playhead.lake.lake:Lake.sweep",
    "lake file removed": "playhead.lake.files:remove",
}

POINTS: Mapping[str, Mapping[str, str]] = {
    "append": LOG,
    "replay": LOG | REPLAY,
    "speed": SPEED | LOG | LAKE,
    "batch": BATCH | LAKE,
    "load": LOAD | LAKE,
    "maintenance": MAINTENANCE | {"lake metadata written": LAKE["lake metadata written"]},
}
"""By role, the commit points that its process comes to, and the function of each."""
