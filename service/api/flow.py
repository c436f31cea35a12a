"""When a connection is read, and when it is not."""

from __future__ import annotations

from uvicorn.protocols.http.flow_control import FlowControl


class Flow(FlowControl):
    """Pauses and resumes reading; while `held`, only this connection resumes it, and not uvicorn."""

    held = False

    def resume_reading(self) -> None:
        """Read again, unless the connection holds back what it has read already."""
        if not self.held:
            super().resume_reading()
