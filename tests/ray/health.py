"""Print what the health check of a replica says, of one that is ready and of one that is not: `.ray/bin/python`."""

from __future__ import annotations

import asyncio

from service import ray_serve


async def main() -> None:
    replica_class = ray_serve.DEPLOYMENT.func_or_class
    replica = replica_class.__new__(replica_class)
    await replica_class.__init__(replica)
    print(await replica.check_health())
    replica.app.service.state.health.drain()
    try:
        await replica.check_health()
    except ray_serve.Unhealthy as reason:
        print(reason)


if __name__ == "__main__":
    asyncio.run(main())
