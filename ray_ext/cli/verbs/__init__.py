"""The verbs of ``ray-ext``, a file each, named after it. A file here is a verb: nothing else lists them.

Each has ``command``, made with :func:`ray_ext.cli.verb.verb` or :func:`ray_ext.cli.verb.verb_group`. Nothing heavy is
imported at module level: ``--help`` imports them all.
"""
