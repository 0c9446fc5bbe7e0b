"""The plugin by which an estimator comes to each worker of a cluster, later ones too."""

from distributed import WorkerPlugin

from ._held import forget, receive


class Parcel(WorkerPlugin):
    """An estimator on its way to workers.

    The scheduler keeps it and sends it once to each worker there is, and to each that starts
    later, in the place of one that died for instance.

    Parameters
    ----------
    key : str
        What the estimator is asked for by.
    data : bytes
        The estimator, pickled.
    """

    def __init__(self, key: str, data: bytes):
        self.key = key
        self.data = data
        self.name = plugin_name(key)

    def setup(self, worker) -> None:
        """Hand it to the worker's process."""
        receive(self.key, self.data)

    def teardown(self, worker) -> None:
        """Let the worker's process forget it."""
        forget(self.key)


def plugin_name(key: str) -> str:
    """Name of the plugin on scheduler and workers; no part of it is made from data."""
    return f"sklearn-medfuse-{key}"
