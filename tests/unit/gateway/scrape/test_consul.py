"""Discovery follows a Consul through changes of services, outages and an index that goes back."""

from __future__ import annotations

import asyncio

from tests.unit.gateway.scrape.consul_server import ConsulServer, instance
from varve.gateway.scrape.consul import ConsulDiscovery
from varve.gateway.scrape.discovery_config import ConsulSdConfig

WAIT_S = 60


def follow(server, script, **config):
    """Runs the script beside a discovery; it is given a function that waits for addresses."""
    given = {"server": server.address, "refresh_interval": "10ms"} | config
    discovery = ConsulDiscovery(ConsulSdConfig.model_validate(given), (), retry_s=0.02)
    published = []

    def addresses():
        groups = published[-1] if published else []
        return sorted(t["__address__"] for group in groups for t in group.targets)

    async def until(wanted):
        async with asyncio.timeout(WAIT_S):
            while not published or addresses() != wanted:  # noqa: ASYNC110 - of a thread
                await asyncio.sleep(0.01)

    async def main():
        running = asyncio.create_task(discovery.run(published.append))
        try:
            await script(until)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await discovery.close()
        return published[-1]

    return asyncio.run(main())


def test_instances_come_change_and_go():
    with ConsulServer() as server:
        server.put("web", instance(1), instance(2, address="192.168.0.2"))

        async def script(until):
            await until(["10.0.0.1:8001", "192.168.0.2:8002"])
            server.put("web", instance(1))
            await until(["10.0.0.1:8001"])
            server.put("db", instance(3))
            await until(["10.0.0.1:8001", "10.0.0.3:8003"])
            server.put("web")
            await until(["10.0.0.3:8003"])

        follow(server, script)


def test_what_was_known_stays_while_it_is_away_or_begins_anew():
    with ConsulServer() as server:
        server.put("web", instance(1))

        async def script(until):
            await until(["10.0.0.1:8001"])
            asked = len(server.asked)
            server.is_away = True
            server.put("web", instance(2))
            async with asyncio.timeout(WAIT_S):
                while len(server.asked) < asked + 6:  # noqa: ASYNC110 - of a thread
                    await asyncio.sleep(0.01)
            await until(["10.0.0.1:8001"])
            server.is_away = False
            await until(["10.0.0.2:8002"])
            server.begin_anew()
            server.put("web", instance(3))
            await until(["10.0.0.3:8003"])

        follow(server, script)


def test_services_tags_and_logins_choose_what_is_asked():
    with ConsulServer() as server:
        server.put("web", instance(1, tags=["prod", "x"]), instance(2, tags=["test"]))
        server.put("db", instance(3, tags=["test"]))

        async def script(until):
            await until(["10.0.0.1:8001"])

        groups = follow(
            server, script, tags=["prod"], token="t", node_meta={"rack": "1"}, path_prefix=""
        )

        assert {path.partition("?")[0] for path in server.asked} == {
            "/v1/agent/self",
            "/v1/catalog/services",
            "/v1/health/service/web",
        }
        assert server.tokens == {"t"}
        assert any("node-meta=rack%3A1" in path and "stale=" in path for path in server.asked)
        assert groups[0].labels == {"__meta_consul_service": "web", "__meta_consul_dc": "dc9"}
