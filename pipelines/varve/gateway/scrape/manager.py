"""Keeps a loop for each target of a configuration, whatever discovery and reloads change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from varve.gateway.scrape.assembly import Assembly, Report
from varve.gateway.scrape.config import Configuration, ScrapeConfig
from varve.gateway.scrape.consul import ConsulDiscovery
from varve.gateway.scrape.discovery import Discovery, DnsDiscovery, FileDiscovery, HttpDiscovery
from varve.gateway.scrape.fetch import TargetClient
from varve.gateway.scrape.kubernetes.discovery import KubernetesDiscovery
from varve.gateway.scrape.loop import Deliver, TargetLoop
from varve.gateway.scrape.targets import Target, TargetGroup, Targets, static_groups, targets_of
from varve.model.clock import Clock
from varve.model.errors import NeedsOperator
from varve.notify.config.http_client import HttpConfig
from varve.notify.receivers.addresses import Networks

C = TypeVar("C", bound=HttpConfig)
TargetKey = tuple[str, tuple[tuple[str, str], ...]]

# Groups that change at once are looked at together.
_SETTLE_S = 0.1

log = logging.getLogger("varve.scrape")


@dataclass
class Pool:
    """A job as it runs."""

    job: ScrapeConfig
    client: TargetClient
    discoveries: list[Discovery]
    groups: dict[int, Sequence[TargetGroup]] = field(default_factory=dict)
    """What each discovery says, by its number; -1 for the static groups."""
    targets: Targets = field(default_factory=lambda: Targets({}, [], []))
    loops: dict[TargetKey, TargetLoop] = field(default_factory=dict)
    tasks: dict[TargetKey, asyncio.Task[None]] = field(default_factory=dict)
    watching: list[asyncio.Task[None]] = field(default_factory=list)
    error: str = ""
    """Why none of its targets is scraped."""


class ScrapeManager:
    """For one event loop."""

    def __init__(
        self,
        deliver: Deliver,
        clock: Clock,
        networks: Networks,
        seed: str,
        scraped: Callable[[str, Report], None] = lambda _job, _report: None,
        *,
        owns: Callable[[int], bool] = lambda _number: True,
    ) -> None:
        """networks: those that may be scraped. seed: spreads targets over their intervals. scraped:
        is told of each scrape, with its job. owns: whether the target of a number is to be scraped
        here, and not by another instance.
        """
        self._owns = owns
        self._deliver = deliver
        self._clock = clock
        self._networks = networks
        self._seed = seed
        self._scraped = scraped
        self.pools: dict[str, Pool] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._settling: dict[str, asyncio.TimerHandle] = {}

    async def apply(self, configuration: Configuration) -> None:
        """Goes by a configuration from now on. Jobs that did not change go on undisturbed. Raises
        NeedsOperator for one that cannot be run; then nothing has changed.
        """
        new = {}
        for job in configuration.jobs:
            old = self.pools.get(job.job_name)
            if old is None or old.job != job:
                new[job.job_name] = self._pool(job, configuration.folder)
        wanted = {job.job_name for job in configuration.jobs}
        for name in [name for name in self.pools if name not in wanted]:
            await self._stop(self.pools.pop(name), ends=True)
        for name, pool in new.items():
            old = self.pools.get(name)
            self.pools[name] = pool
            if old is not None:
                await self._stop(old, ends=False)
            self._start(pool, old)

    def share(self) -> None:
        """Begins with the targets that are this instance's now and leaves those that are not, which
        go on elsewhere.
        """
        for pool in self.pools.values():
            self._sync(pool, None)

    async def close(self) -> None:
        """Stops without telling that series end: they go on after a restart."""
        for task in self._ending:
            task.cancel()
        for pool in self.pools.values():
            await self._stop(pool, ends=False)

    def _pool(self, job: ScrapeConfig, folder: Path) -> Pool:
        try:
            client = TargetClient(_with_paths(job, folder), self._networks)
            discoveries: list[Discovery] = [
                *(FileDiscovery(config, folder) for config in job.file_sd_configs),
                *(
                    HttpDiscovery(_with_paths(config, folder), self._networks)
                    for config in job.http_sd_configs
                ),
                *(DnsDiscovery(config) for config in job.dns_sd_configs),
                *(
                    ConsulDiscovery(_with_paths(config, folder), self._networks)
                    for config in job.consul_sd_configs
                ),
                *(
                    KubernetesDiscovery(_with_paths(config, folder), self._networks, folder)
                    for config in job.kubernetes_sd_configs
                ),
            ]
        except (OSError, ValueError) as err:
            raise NeedsOperator(f"job {job.job_name}: {err}") from err
        return Pool(job, client, discoveries)

    def _start(self, pool: Pool, old: Pool | None) -> None:
        """Starts discovery and loops. old: the pool whose place it takes: series of targets that
        are still there go on, and what discovery said counts until it speaks again.
        """
        if old is not None and old.job.discoveries() == pool.job.discoveries():
            pool.groups = dict(old.groups)
        pool.groups[-1] = list(static_groups(pool.job))
        self._sync(pool, old)
        for number, discovery in enumerate(pool.discoveries):
            watching = discovery.run(self._publisher(pool, number))
            pool.watching.append(asyncio.create_task(watching))

    def _publisher(self, pool: Pool, number: int) -> Callable[[Sequence[TargetGroup]], None]:
        def publish(groups: Sequence[TargetGroup]) -> None:
            if pool.groups.get(number) == groups:
                return
            pool.groups[number] = groups
            name = pool.job.job_name
            if name not in self._settling:
                loop = asyncio.get_running_loop()
                self._settling[name] = loop.call_later(_SETTLE_S, self._settled, pool)

        return publish

    def _settled(self, pool: Pool) -> None:
        self._settling.pop(pool.job.job_name, None)
        if self.pools.get(pool.job.job_name) is pool:
            self._sync(pool, None)

    def _sync(self, pool: Pool, old: Pool | None) -> None:
        """Starts loops of new targets and ends those of targets that are gone."""
        job = pool.job
        groups = [group for number in sorted(pool.groups) for group in pool.groups[number]]
        found = targets_of(job, groups)
        _note(pool, found)
        wanted: Mapping[TargetKey, Target] = {
            key: target
            for key, target in found.active.items()
            if not pool.error and self._owns(target.number)
        }
        for key in [key for key in pool.loops if key not in wanted]:
            loop = pool.loops.pop(key)
            pool.tasks.pop(key).cancel()
            if pool.error or key not in found.active:
                self._end(loop)
        for key, target in wanted.items():
            if key in pool.loops:
                continue
            assembly = Assembly(job, target)
            before = old.loops.get(key) if old is not None else None
            if before is not None:
                assembly.adopt(before.assembly)
            loop = self._loop(pool, target, assembly)
            if before is not None:
                loop.state = before.state
            pool.loops[key] = loop
            pool.tasks[key] = asyncio.create_task(loop.run())
        if old is not None:
            for key, before in old.loops.items():
                if key not in pool.loops and (pool.error or key not in found.active):
                    self._end(before)

    def _loop(self, pool: Pool, target: Target, assembly: Assembly) -> TargetLoop:
        name = pool.job.job_name
        return TargetLoop(
            target, pool.client, assembly, self._deliver, self._clock, self._seed,
            lambda report: self._scraped(name, report),
        )  # fmt: skip

    def _end(self, loop: TargetLoop) -> None:
        labels = dict(loop.target.labels)

        def came_back() -> bool:
            return any(
                other.target.labels == labels
                for pool in self.pools.values()
                for other in pool.loops.values()
            )

        task = asyncio.create_task(loop.end(came_back))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _stop(self, pool: Pool, *, ends: bool) -> None:
        """ends: whether the series of its targets end."""
        tasks = [*pool.watching, *pool.tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if ends:
            for loop in pool.loops.values():
                self._end(loop)
        for discovery in pool.discoveries:
            await discovery.close()
        await pool.client.close()


def _note(pool: Pool, found: Targets) -> None:
    """Notes the targets of a job, and why they cannot be scraped."""
    for text in found.failures:
        if text not in pool.targets.failures:
            log.warning("a target cannot be scraped: %s", text)
    pool.targets = found
    limit = pool.job.target_limit
    pool.error = ""
    if limit and len(found.active) > limit:
        pool.error = f"target_limit exceeded: {len(found.active)} targets, {limit} allowed"
        log.warning("job %s: %s", pool.job.job_name, pool.error)


def _with_paths(job: C, folder: Path) -> C:
    """A configuration with its files of certificates and secrets relative to the folder of its
    file.
    """
    tls = job.tls_config.model_copy(update=_resolved(job.tls_config, folder, _TLS_FILES))
    changes: dict[str, object] = {"tls_config": tls}
    if job.bearer_token_file:
        changes["bearer_token_file"] = str(folder / job.bearer_token_file)
    if job.basic_auth is not None:
        files = _resolved(job.basic_auth, folder, ("username_file", "password_file"))
        changes["basic_auth"] = job.basic_auth.model_copy(update=files)
    if job.authorization is not None:
        files = _resolved(job.authorization, folder, ("credentials_file",))
        changes["authorization"] = job.authorization.model_copy(update=files)
    return job.model_copy(update=changes)


_TLS_FILES = ("ca_file", "cert_file", "key_file")


def _resolved(part: object, folder: Path, names: Sequence[str]) -> dict[str, str]:
    return {name: str(folder / file) for name in names if (file := getattr(part, name))}
