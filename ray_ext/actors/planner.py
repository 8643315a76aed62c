"""From a command to a plan: what is known and installed, and what each step will record. Changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray_ext
from ray_ext.control.commands import Command, PlanView
from ray_ext.errors import ExtensionNotFound, GrantRequired, InstallationConflict, PlanStale
from ray_ext.manifests import (
    Manifest,
    ManifestSource,
    check_runtime_version,
    read_wheel,
    refuse_unlanded,
    validate_configuration,
)
from ray_ext.packages import CheckedPackage, PackageCache
from ray_ext.resolve.plans import Plan, Step, StepKind, make_plan
from ray_ext.resolve.rendering import render
from ray_ext.resolve.requests import Install, Load, Remove, Request, Unload, Upgrade
from ray_ext.resolve.universe import Installed, KnownRelease, Universe
from ray_ext.store.releases import release_conflict
from ray_ext.store.store import Claim, Installation, Release, ReleaseFacts, Store

__all__ = ["Arrival", "Planner", "Prepared", "claims_of", "facts_of", "release_of"]

#: The least of a plan's hash that names it.
_HASH_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What an ``install`` step records; ``offer`` is the package where it is not in the cache yet."""

    release: Release
    facts: ReleaseFacts
    claims: tuple[Claim, ...]
    configuration: dict[str, Any]
    grant: str
    offer: CheckedPackage | None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A plan with all that its steps need. ``hash`` also covers packages, configurations and grants."""

    command: Command
    plan: Plan
    arrivals: Mapping[str, Arrival]

    @property
    def subject(self) -> str:
        """The extension that the command is about."""
        return self.plan.request.id

    @property
    def hash(self) -> str:
        """SHA-256, in hexadecimal."""
        parts = [
            (extension, each.release.version, each.release.sha256, each.configuration, each.grant)
            for extension, each in sorted(self.arrivals.items())
        ]
        return hashlib.sha256(f"{self.plan.hash}\0{json.dumps(parts, sort_keys=True)}".encode()).hexdigest()

    @property
    def view(self) -> PlanView:
        """For clients."""
        return PlanView(plan=self.plan, hash=self.hash, text=render(self.plan, self.hash))


class Planner:
    """Reads the store and the packages; blocks."""

    def __init__(self, store: Store, packages: PackageCache) -> None:
        self._store = store
        self._packages = packages

    def prepare(self, command: Command, live: Collection[str]) -> Prepared:
        """The plan for a command; ``live`` are the extensions of which an instance serves.

        Raises what :func:`ray_ext.resolve.plans.make_plan` raises, PackageInvalid, ManifestInvalid, NotLanded,
        ReleaseConflict, ConfigurationInvalid and GrantRequired, and PlanStale when it is not the plan that the command
        was made for.
        """
        offer = None
        if command.wheel is not None:
            offer = self.check(command.wheel, command.source)
            check_runtime_version(offer.source.manifest, ray_ext.__version__)
        universe = self._universe(live, offer)
        request = _request(command, offer)
        plan = make_plan(universe, request)
        installed = {each.extension: each for each in self._store.list_installations()}
        arrivals = {
            step.extension: self._arrival(command, request, step, installed.get(step.extension), offer)
            for step in plan.steps
            if step.kind is StepKind.INSTALL
        }
        if isinstance(request, (Install, Upgrade)) and request.id not in arrivals:
            plan, more = self._reconfigured(command, request, plan, installed[request.id], offer, live)
            arrivals |= more
        prepared = Prepared(command=command, plan=plan, arrivals=arrivals)
        if command.plan is not None and not (
            len(command.plan) >= _HASH_DIGITS and prepared.hash.startswith(command.plan)
        ):
            raise PlanStale(
                f"the plan {command.plan[:12]} is not what {command.verb} {prepared.subject} would do now",
                where=f"now at revision {plan.revision}: plan {prepared.hash[:12]}",
                fix="look at the plan again, and give its hash",
                details={"planned": command.plan, "current": prepared.hash},
            )
        return prepared

    def subject(self, command: Command) -> str:
        """The id of the extension that a command is about; raises PackageInvalid and ManifestInvalid."""
        return command.extension if command.wheel is None else self._packages.check(command.wheel).source.manifest.id

    def check(self, wheel: bytes, source: str) -> CheckedPackage:
        """Look at a package that is offered; raises PackageInvalid, ManifestInvalid, NotLanded and ReleaseConflict."""
        offer = self._packages.check(wheel)
        manifest = offer.source.manifest
        refuse_unlanded(manifest)
        known = self._store.release(manifest.id, manifest.version)
        if known is not None and known.sha256 != offer.sha256:
            raise release_conflict(
                manifest.id,
                manifest.version,
                known=(known.sha256, known.source),
                offered=(offer.sha256, source),
            )
        return offer

    def _universe(self, live: Collection[str], offer: CheckedPackage | None) -> Universe:
        revision = self._store.revision()  # first: what is read later may only be newer, and is then refused
        releases: dict[str, list[KnownRelease]] = {}
        for listed in self._store.list_releases():
            releases.setdefault(listed.extension, []).append(
                _known(
                    listed.extension,
                    listed.version,
                    listed.sha256,
                    listed.facts,
                    is_yanked=listed.yanked_reason is not None,
                )
            )
        if offer is not None:
            manifest = offer.source.manifest
            others = [each for each in releases.get(manifest.id, []) if each.version != manifest.version]
            releases[manifest.id] = [*others, _known(manifest.id, manifest.version, offer.sha256, facts_of(manifest))]
        return Universe(
            runtime_version=ray_ext.__version__,
            releases={extension: tuple(known) for extension, known in releases.items()},
            installed={
                each.extension: Installed(
                    id=each.extension,
                    version=each.version,
                    is_wanted=each.desired == "loaded",
                    is_loaded=each.extension in live,
                )
                for each in self._store.list_installations()
            },
            revision=revision,
        )

    def _arrival(
        self,
        command: Command,
        request: Request,
        step: Step,
        old: Installation | None,
        offer: CheckedPackage | None,
    ) -> Arrival:
        is_target = step.extension == request.id
        is_offered = is_target and offer is not None
        if is_offered:
            assert offer is not None
            source, sha256, origin = offer.source, offer.sha256, command.source
        else:
            known = self._store.release(step.extension, step.version)
            assert known is not None, "plans choose among the known releases"
            source, sha256, origin = self._source(known.sha256), known.sha256, known.source
        configuration = command.configuration if is_target else None
        if configuration is None:
            configuration = old.configuration if old is not None else {}
        grant = command.grant if is_target else None
        if grant is None:
            grant = old.grant if old is not None else "none"
        _check_grant(source.manifest, grant, origin)
        return Arrival(
            release=release_of(source, sha256, origin),
            facts=facts_of(source.manifest),
            claims=claims_of(source.manifest),
            configuration=validate_configuration(source.configuration_schema, configuration),
            grant=grant,
            offer=offer if is_offered else None,
        )

    def _source(self, sha256: str) -> ManifestSource:
        return read_wheel(self._packages.wheel(sha256))

    def _reconfigured(
        self,
        command: Command,
        request: Install | Upgrade,
        plan: Plan,
        old: Installation,
        offer: CheckedPackage | None,
        live: Collection[str],
    ) -> tuple[Plan, dict[str, Arrival]]:
        """The plan where the version is installed already, but perhaps with another configuration or grant."""
        step = Step(
            kind=StepKind.INSTALL,
            extension=request.id,
            version=old.version,
            why="its configuration or grant changes",
        )
        arrival = self._arrival(command, request, step, old, offer)
        if (arrival.configuration, arrival.grant) == (old.configuration, old.grant):
            return plan, {}
        is_loading = isinstance(request, Install) and request.load
        if request.id in live or (old.desired == "loaded" and not is_loading):
            raise InstallationConflict(
                f"{old.extension} {old.version} is loaded; its configuration cannot change while it runs",
                where=arrival.release.source,
                fix=f"unload it first: ray-ext unload {old.extension}",
                details={"id": old.extension, "installed": old.version, "offered": old.version},
            )
        steps = [*plan.steps]
        # Right before its own load, where there is one.
        place = next((number for number, each in enumerate(steps) if each.extension == request.id), len(steps))
        steps.insert(place, step)
        left = tuple(each for each in plan.untouched if each.extension != request.id)
        return replace(plan, steps=tuple(steps), untouched=left), {request.id: arrival}


def _request(command: Command, offer: CheckedPackage | None) -> Request:
    extension = offer.source.manifest.id if offer is not None else command.extension
    version = offer.source.manifest.version if offer is not None else command.version
    match command.verb:
        case "install":
            if version is None:
                raise ExtensionNotFound(
                    f"which version of {extension} is to be installed?",
                    fix="give its folder, its wheel, or a version that is known",
                    details={"installed": []},
                )
            return Install(id=extension, version=version, load=command.load)
        case "load":
            return Load(id=extension)
        case "unload":
            return Unload(id=extension, is_cascading=command.is_cascading)
        case "remove":
            return Remove(id=extension, is_cascading=command.is_cascading, is_purging=command.is_purging)
        case "upgrade":
            return Upgrade(id=extension, version=version)


def facts_of(manifest: Manifest) -> ReleaseFacts:
    """What plans need to know of a manifest."""
    return ReleaseFacts(
        requires_runtime=manifest.requires_runtime,
        dependencies=dict(manifest.dependencies),
        optional_dependencies=dict(manifest.optional_dependencies),
        requirements=tuple(manifest.runtime_env.pip),
    )


def claims_of(manifest: Manifest) -> tuple[Claim, ...]:
    """What no other extension may have: the topics of its events, and its endpoints."""
    topics = [Claim("topic", topic) for topic in manifest.events]
    return (*topics, *(Claim("endpoint", scope) for scope in manifest.permissions.groups()["endpoint"].scopes))


def release_of(source: ManifestSource, sha256: str, origin: str) -> Release:
    """The release of a package."""
    return Release(
        extension=source.manifest.id,
        version=source.manifest.version,
        sha256=sha256,
        manifest=source.text.encode(),
        source=origin,
    )


def _known(extension: str, version: str, sha256: str, facts: ReleaseFacts, *, is_yanked: bool = False) -> KnownRelease:
    return KnownRelease(
        id=extension,
        version=version,
        sha256=sha256,
        requires_runtime=facts.requires_runtime,
        dependencies=facts.dependencies,
        optional_dependencies=facts.optional_dependencies,
        requirements=facts.requirements,
        is_yanked=is_yanked,
    )


def _check_grant(manifest: Manifest, grant: str, source: str) -> None:
    if manifest.isolation == "trusted" and grant != "requested":
        raise GrantRequired(
            f'{manifest.id} asks for isolation = "trusted": its code would run inside its host, without confinement',
            where=source,
            fix='grant exactly that with grant="requested" (CLI: --grant requested), or set isolation = "strict"',
            details={"missing": ["isolation: trusted"]},
        )
