"""Paste this into a server of your own: each request goes to the better of two servers, and what it does is learned."""

import aibalance

pool = aibalance.Pool(["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"])
picker = aibalance.LeastRequest(pool)


async def handle(request, send):
    # An exception that leaves the block counts as a failure, a cancelled request as neither.
    async with picker.acquire() as lease:
        return await send(request, lease.endpoint.address)


# Call these from your health check and your deployment; no pick ever waits for them.
def checked(address, healthy):
    pool.set_health(address, "healthy" if healthy else "unhealthy")


def deployed(addresses):
    pool.update(addresses)
