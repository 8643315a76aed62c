"""Whatever is written, refused and reopened, the store holds what a plain model of it holds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ray_ext.errors import ExtensionNotFound, InstallationConflict, OperationConflict, ReleaseConflict, StoreFailed
from ray_ext.store.store import AuditEntry, Claim, Release, ReleaseFacts, Store, StoredRoute, Tombstone

IDS = st.sampled_from(["a", "b"])
VERSIONS = st.sampled_from(["1", "2"])
BYTES = st.sampled_from(["x", "x", "x", "x", "y"])
CLAIMS = st.frozensets(st.sampled_from([Claim("topic", "t"), Claim("topic", "u"), Claim("endpoint", "t")]), max_size=2)
OPERATIONS = st.sampled_from(["o1", "o2"])
FACTS = ReleaseFacts(requires_runtime=">=0.1")


@dataclass(frozen=True)
class Chosen:
    version: str
    configuration: int
    desired: str = "unloaded"
    claims: frozenset[Claim] = frozenset()


@dataclass
class Model:
    releases: dict[tuple[str, str], tuple[str, str | None]] = field(default_factory=dict)
    installations: dict[str, Chosen] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    routes: dict[str, int] = field(default_factory=dict)
    tombstones: dict[str, int] = field(default_factory=dict)
    epoch: int = 0
    operations: dict[str, str | None] = field(default_factory=dict)
    audit: int = 0

    def claimed_by_others(self, extensions: set[str]) -> frozenset[Claim]:
        return union(each.claims for extension, each in self.installations.items() if extension not in extensions)


def union(claims: Iterable[frozenset[Claim]]) -> frozenset[Claim]:
    return frozenset[Claim]().union(*claims)


def release_of(extension: str, version: str, sha256: str) -> Release:
    return Release(extension=extension, version=version, sha256=sha256, manifest=b"m", source="s")


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.store = Store(f"sqlite:///{self.folder}/store.db")
        self.model = Model()
        self.revision = 0
        self.planned: tuple[object, ...] = ({}, {})
        self.snapshots: dict[str, tuple[set[str], dict[str, Chosen]]] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @rule()
    def reopen(self) -> None:
        old, self.store = self.store, Store(f"sqlite:///{self.folder}/store.db")
        assert self.store.writer_epoch == old.writer_epoch + 1
        with pytest.raises(StoreFailed, match="a newer registry has taken over"):
            old.next_epoch()
        with pytest.raises(StoreFailed, match="a newer registry has taken over"):
            old.remove("a")
        old.close()

    @rule(extension=IDS, version=VERSIONS, sha256=BYTES)
    def register(self, extension: str, version: str, sha256: str) -> None:
        known = self.model.releases.get((extension, version))
        if known is not None and known[0] != sha256:
            with pytest.raises(ReleaseConflict):
                self.store.register(release_of(extension, version, sha256), FACTS)
            return
        self.store.register(release_of(extension, version, sha256), FACTS)
        self.model.releases.setdefault((extension, version), (sha256, None))

    @rule(extension=IDS, version=VERSIONS, reason=st.sampled_from(["bad", "worse", None]))
    def yank(self, extension: str, version: str, reason: str | None) -> None:
        def write() -> None:
            if reason is None:
                self.store.unyank(extension, version)
            else:
                self.store.yank(extension, version, reason)

        known = self.model.releases.get((extension, version))
        if known is None:
            with pytest.raises(ExtensionNotFound):
                write()
        else:
            write()
            self.model.releases[extension, version] = (known[0], reason)

    @rule(extension=IDS, version=VERSIONS)
    def forget_release(self, extension: str, version: str) -> None:
        chosen = self.model.installations.get(extension)
        if chosen is not None and chosen.version == version:
            with pytest.raises(InstallationConflict):
                self.store.forget_release(extension, version)
        elif None in self.model.operations.values():
            with pytest.raises(OperationConflict):
                self.store.forget_release(extension, version)
        else:
            self.store.forget_release(extension, version)
            self.model.releases.pop((extension, version), None)

    @rule(extension=IDS, version=VERSIONS, sha256=BYTES, configuration=st.integers(0, 3), claims=CLAIMS)
    def install(self, extension: str, version: str, sha256: str, configuration: int, claims: frozenset[Claim]) -> None:
        def write() -> None:
            self.store.install(
                release_of(extension, version, sha256), {"n": configuration}, "g", facts=FACTS, claims=claims
            )

        known = self.model.releases.get((extension, version))
        if known is not None and known[0] != sha256:
            with pytest.raises(ReleaseConflict):
                write()
        elif claims & self.model.claimed_by_others({extension}):
            with pytest.raises(InstallationConflict):
                write()
        else:
            write()
            self.model.releases.setdefault((extension, version), (sha256, None))
            old = self.model.installations.get(extension)
            desired = "unloaded" if old is None else old.desired
            self.model.installations[extension] = Chosen(version, configuration, desired, claims)
            self.model.generations.setdefault(extension, 0)

    @rule(extension=IDS, version=VERSIONS)
    def install_anew(self, extension: str, version: str) -> None:
        """The count of generations goes on where it was."""
        self.remove(extension)
        self.install(extension, version, "x", 0, frozenset())

    @rule(extension=IDS)
    def remove(self, extension: str) -> None:
        self.store.remove(extension)
        self.model.installations.pop(extension, None)
        self.model.routes.pop(extension, None)

    @rule(extension=IDS, desired=st.sampled_from(["loaded", "unloaded"]))
    def set_desired(self, extension: str, desired: str) -> None:
        if extension in self.model.installations:
            self.store.set_desired(extension, desired)
            self.model.installations[extension] = replace(self.model.installations[extension], desired=desired)
        else:
            with pytest.raises(ExtensionNotFound):
                self.store.set_desired(extension, desired)

    @rule(extension=IDS)
    def count_and_route(self, extension: str) -> None:
        if extension not in self.model.installations:
            with pytest.raises(ExtensionNotFound):
                self.store.next_generation(extension)
            return
        generation = self.store.next_generation(extension)
        self.model.generations[extension] += 1
        assert generation == self.model.generations[extension]
        epoch = self.store.next_epoch()
        self.model.epoch += 1
        assert epoch == self.model.epoch
        self.store.put_route(StoredRoute(extension=extension, generation=generation, epoch=epoch, host="h", route=b""))
        self.model.routes[extension] = generation

    @rule(extension=IDS, generation=st.integers(1, 4))
    def retire(self, extension: str, generation: int) -> None:
        self.store.retire(Tombstone(extension=extension, generation=generation, kind="crashed", cause="", ended_at=1.0))
        if self.model.routes.get(extension) == generation:
            del self.model.routes[extension]
        self.model.tombstones[extension] = max(generation, self.model.tombstones.get(extension, 0))

    @rule(operation=OPERATIONS, extensions=st.sets(IDS, min_size=1))
    def begin(self, operation: str, extensions: set[str]) -> None:
        if operation not in self.model.operations:
            self.model.operations[operation] = None
            chosen = {key: each for key, each in self.model.installations.items() if key in extensions}
            self.snapshots[operation] = (extensions, chosen)
        begun = self.store.begin_operation(operation, "verb", "subject", b"plan", self.store.snapshot(extensions))
        assert begun.outcome == self.model.operations[operation]
        assert begun == self.store.begin_operation(operation, "verb", "subject", b"", b"", revision=-1)

    @rule(operation=OPERATIONS, outcome=st.sampled_from(["done", "failed"]))
    def finish(self, operation: str, outcome: str) -> None:
        if self.model.operations.get(operation, outcome) is None:
            self.store.advance_operation(operation, 1)
            entry = AuditEntry(actor="me", verb="verb", outcome=outcome)
            self.store.finish_operation(operation, outcome, {"n": 1}, audit_entry=entry)
            self.model.operations[operation] = outcome
            self.model.audit += 1
        else:
            with pytest.raises(OperationConflict):
                self.store.finish_operation(operation, outcome, {})

    @rule()
    def undo(self) -> None:
        """Whatever has happened since the operation began, its releases are still there to be restored."""
        for operation in self.store.unfinished_operations():
            extensions, chosen = self.snapshots[operation.operation]
            if union(each.claims for each in chosen.values()) & self.model.claimed_by_others(extensions):
                with pytest.raises(InstallationConflict):
                    self.store.restore(operation.before)
                continue
            self.store.restore(operation.before)
            for extension in extensions - chosen.keys():
                self.model.installations.pop(extension, None)
                self.model.routes.pop(extension, None)
            self.model.installations |= chosen

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        model, store = self.model, self.store
        assert {
            (each.extension, each.version): (each.sha256, each.yanked_reason) for each in store.list_releases()
        } == (model.releases)
        held = store.list_claims()
        assert {
            each.extension: Chosen(
                each.version,
                each.configuration["n"],
                each.desired,
                frozenset(claim for claim, holder in held.items() if holder == each.extension),
            )
            for each in store.list_installations()
        } == model.installations
        for installation in store.list_installations():
            assert installation.last_generation == model.generations[installation.extension]
        assert {each.extension: each.generation for each in store.list_routes()} == model.routes
        for extension in ("a", "b"):
            grave = store.last_tombstone(extension)
            assert (grave.generation if grave else None) == model.tombstones.get(extension)
        assert {each.operation for each in store.unfinished_operations()} == {
            operation for operation, outcome in model.operations.items() if outcome is None
        }
        assert len(store.list_audit()) == model.audit

    @invariant()
    def the_revision_never_goes_back_and_grows_with_every_change(self) -> None:
        revision = self.store.revision()
        planned = (dict(self.model.releases), dict(self.model.installations))
        assert revision >= self.revision + (planned != self.planned)
        self.revision, self.planned = revision, planned


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
