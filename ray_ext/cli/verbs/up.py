"""``up``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ray_ext.cli.verb import verb

if TYPE_CHECKING:
    from ray_ext.client.start_options import StartOptions
    from ray_ext.home import Home

__all__ = ["command"]


@verb(
    section="Runtime",
    examples=(
        "ray-ext up",
        "ray-ext up --spares 4",
        "ray-ext up --listen 127.0.0.1:8443",
        "ray-ext up --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem",
        "ray-ext up --address auto",
    ),
)
@click.option(
    "--spares",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many hosts are kept ready, so that loading is fast.  [default: 1]",
)
@click.option("--address", metavar="ADDRESS", help="Join this running Ray cluster instead of starting one, or `auto`.")
@click.option(
    "--listen", metavar="HOST:PORT", help="Serve the control API here too, for bearers of the token run/control-token."
)
@click.option("--tls-cert", type=click.Path(dir_okay=False), metavar="FILE", help="PEM certificate for --listen.")
@click.option("--tls-key", type=click.Path(dir_okay=False), metavar="FILE", help="PEM key of the certificate.")
def command(
    spares: int | None, address: str | None, listen: str | None, tls_cert: str | None, tls_key: str | None
) -> None:
    """Start the runtime: Ray, the system actors, and every extension that was loaded.

    A runtime that is up already is found and left as it is. Ends when every system actor answers.
    """
    from ray_ext.client.start_options import StartOptions
    from ray_ext.control.listening import parse_listen
    from ray_ext.home import Home

    if listen is None and (tls_cert or tls_key):
        raise click.UsageError("--tls-cert and --tls-key are for --listen")
    options = StartOptions(
        spares=1 if spares is None else spares,
        address=address or "",
        listen=None if listen is None else parse_listen(listen, tls_cert=tls_cert, tls_key=tls_key),
    )
    is_asking = any(each is not None for each in (spares, address, listen))
    _bring_up(Home.default(), options, is_asking=is_asking)


def _bring_up(home: Home, options: StartOptions, *, is_asking: bool) -> None:
    from ray_ext.cli.exits import Interrupted
    from ray_ext.cli.output import note
    from ray_ext.cli.runtime_parts import await_parts, print_parts
    from ray_ext.cli.waiting import waiting
    from ray_ext.client.starting import start_runtime
    from ray_ext.runtime_record import RuntimeLock

    started = None
    try:
        with waiting() as waits:
            record, started = start_runtime(home, options, waits.tell)
            try:
                status = await_parts(home, record, waits.tell)
            except BaseException:
                if started is not None:
                    waits.tell("what was started to end")
                    started.end()
                raise
    except KeyboardInterrupt:
        is_left = RuntimeLock(home).is_held_elsewhere()
        raise Interrupted(
            "Interrupted: a runtime of this state home is up, or still ending: see ray-ext status"
            if is_left
            else "Interrupted: what was started has been ended; nothing is left of it."
        ) from None
    if started is not None:
        note("The runtime is up.")
    else:
        note("The runtime is already up.")
        if is_asking:
            note("Its options are those of its start; to change them: ray-ext down && ray-ext up …")
    print_parts(status)
