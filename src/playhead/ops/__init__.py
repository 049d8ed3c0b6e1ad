"""Operations: what is wrong with a workspace, and how it is made whole again."""

from playhead.ops.findings import Finding, Severity, VerifyReport
from playhead.ops.rebuild import RebuildReport, rebuild
from playhead.ops.verify import verify

__all__ = ["Finding", "RebuildReport", "Severity", "VerifyReport", "rebuild", "verify"]
