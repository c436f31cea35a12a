"""The service in a process that may open few files: `python -m tests.hostile.few_files`."""

from __future__ import annotations

import resource
from typing import Final

FILES: Final = 64

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    from service.__main__ import main

    main()
