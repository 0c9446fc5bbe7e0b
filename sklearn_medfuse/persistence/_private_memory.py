"""joblib.Memory that does not write its input."""

from functools import partial
from pathlib import Path

import joblib

from .._private_files import load_key, make_private_folder, write_private
from ._private_function import PrivateFunction

# joblib marks a cache folder so for git; the first to write it decides its mode
_GITIGNORE = b"# Created by sklearn-medfuse automatically.\n*\n"


class PrivateMemory(joblib.Memory):
    """Cache fitted encoders for ``Pipeline(memory=...)`` without writing their input.

    In a search over `medfuse__*` the encoders are fitted once per fold, whatever the grid. Plain
    :class:`joblib.Memory`, which ``Pipeline(memory="folder")`` makes, writes the start of its
    input in clear text beside each result, names results by a hash that anybody can compute from
    a guessed text, quotes the input when a result cannot be read, and leaves its files open to
    whom the umask admits. Here

    - a result's folder is named by a keyed hash (HMAC-SHA256) of the input, so a guess cannot be
      tried without the key;
    - nothing is written but the result, and that only if its rows are numbers: a step that gives
      text, as one that cleans notes does, is computed each time;
    - nothing about the input is printed or logged;
    - folders are open to their owner alone (mode 0700), files too (0600), whatever the umask;
    - a result is signed with the key and read only if the signature fits, so a torn or altered
      file is computed again and never unpickled.

    Parameters
    ----------
    location : str or path
        Folder of the cache, made if need be. All is kept in a subfolder ``sklearn_medfuse`` that
        is made private; the folder itself keeps its mode.

    key_file : str or path, default=None
        File of the secret key, written if there is none. None puts it into the cache, where the
        file modes protect it. A file elsewhere, which backups of the cache leave out, makes the
        hashes useless to whom gets such a backup.

    See Also
    --------
    joblib.Memory : Its methods `clear`, `reduce_size` and `eval` work here too.

    Notes
    -----
    What is kept is what the encoder gives: transformed rows and the fitted encoder. Ours hold
    vectors, weights and parameters, no note and no lab value. That need not be so of others: a
    fitted `TfidfVectorizer` holds words of the notes, a `KNNImputer` the lab values, and
    ``"passthrough"`` gives the column itself. A row index of the input, which often holds stay or
    patient identifiers, is not written: the result gets it back from the input. Vectors still are
    made from patients' data, so guard the folder as you guard the data.

    Results of one version of scikit-learn or of this package are not read by another. A change in
    the code of an encoder of your own goes unnoticed, as with joblib: call `clear`.

    On Windows the modes have no effect; put the folder where you alone have access.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_medfuse.persistence import PrivateMemory
    >>> X, y = [[1.0], [2.0], [3.0], [4.0]], [0, 0, 1, 1]
    >>> with TemporaryDirectory() as folder:
    ...     pipe = Pipeline(
    ...         [("scale", StandardScaler()), ("classify", LogisticRegression())],
    ...         memory=PrivateMemory(folder),
    ...     )
    ...     pipe.fit(X, y).predict([[1.5]])
    array([0])
    """

    def __init__(self, location, *, key_file=None):
        folder = Path(location).expanduser().absolute() / "sklearn_medfuse"
        make_private_folder(folder)
        if not (folder / ".gitignore").exists():
            write_private(folder / ".gitignore", _GITIGNORE)
        self.key_file = Path(folder / "key" if key_file is None else key_file)
        self.key_file = self.key_file.expanduser().absolute()
        load_key(self.key_file)  # made here, before workers could make several
        super().__init__(location=folder, verbose=0)

    def cache(self, func=None, ignore=None):
        """Wrap a function so that its results are cached.

        Parameters
        ----------
        func : callable, default=None
            A function whose source can be read. None gives a decorator.

        ignore : list of str, default=None
            Arguments that do not tell results apart.

        Returns
        -------
        function : callable
            Takes the arguments of `func`, and gives the cached result where there is one.

        Raises
        ------
        ValueError
            If the source of `func` cannot be read.
        """
        if func is None:
            return partial(self.cache, ignore=ignore)
        return PrivateFunction(func, self.location, self.key_file, ignore or ())
