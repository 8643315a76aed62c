"""What ``ray-ext doctor`` looks at, a file per group: a :class:`ray_ext.cli.checking.Check` in a file here is a check.

Nothing else lists them. None imports Ray, and none changes anything but a file of its own that it removes again.
"""
