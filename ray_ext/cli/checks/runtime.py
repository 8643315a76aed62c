"""The runtime that is up, and what one that ended badly has left."""

from __future__ import annotations

import os

from ray_ext.cli.checking import Finding, Patient, check, fail, ok, skip, warn
from ray_ext.errors import RayExtError, RuntimeUnreachable

__all__ = ["leftovers", "system_actors"]

_SHOWN = 5
#: A runtime that lives answers sooner; a doctor who waits longer tells nobody anything.
_PATIENCE_S = 5.0
_RESTART = "ray-ext down && ray-ext up"


@check("system-actors", "System actors", limit_s=10.0, late_fix=_RESTART)
def system_actors(patient: Patient) -> Finding:
    """The keeper, the registry, the node agents and control answer, and what is, is what should be."""
    from ray_ext.control.remote import remote_runtime

    try:
        with remote_runtime(patience_s=_PATIENCE_S) as runtime:
            status = runtime.status()
    except RuntimeUnreachable as error:
        if patient.record is not None:
            kept = f"process {patient.record.pid} keeps a runtime"
            return fail(f"{kept}, but control does not answer: {error.what}", _RESTART)
        if os.environ.get("RAY_EXT_CONTROL"):
            return fail(error.what, error.fix)
        return skip("no runtime is up with this state home", "ray-ext up")
    except RayExtError as error:
        return fail(f"{error.what} [{error.code}]", error.fix or _RESTART)
    away = [
        f"{each.name} ({each.detail})" if each.detail else each.name for each in status.actors if each.state == "away"
    ]
    if away:
        return fail(f"away: {', '.join(away)}", _RESTART)
    answering = ", ".join(f"{each.name} (pid {each.pid})" for each in status.actors)
    if status.differences:
        more = [f"and {len(status.differences) - _SHOWN} more"] if len(status.differences) > _SHOWN else []
        return warn("; ".join([*status.differences[:_SHOWN], *more]), "ray-ext status")
    return ok(f"they answer: {answering}")


@check("leftovers", "Leftovers of a crash")
def leftovers(patient: Patient) -> Finding:
    """Processes, files and records of a runtime that did not end in order."""
    from ray_ext.client.leftovers import keepers_of, processes_of
    from ray_ext.runtime_record import RuntimeLock

    home = patient.home
    if RuntimeLock(home).is_held_elsewhere() or keepers_of(home):
        return skip("a runtime is up, or just starting")
    found = []
    if processes := processes_of(home):
        more = ", …" if len(processes) > _SHOWN else ""
        found.append(f"{len(processes)} processes of Ray ({', '.join(map(str, processes[:_SHOWN]))}{more})")
    if home.ray_temp.exists():
        found.append(f"the folder {home.ray_temp}")
    if (home.run / "last.json").exists():
        found.append(f"the record {home.run / 'last.json'}")
    if found:
        return warn(f"a runtime that did not end in order has left {'; '.join(found)}", "ray-ext down")
    return ok("nothing is left of an earlier runtime")
